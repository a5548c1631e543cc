//! Addresses as clients and the configuration write them: hosts, browser origins and networks. Only text goes in and
//! comes out; nothing is ever asked of a resolver.

mod host;
mod network;
mod origin;

pub use host::{Host, HostName};
pub use network::{Network, client_network};
pub use origin::{AllowedOrigin, Origin};
