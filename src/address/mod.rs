//! Addresses as clients and the configuration write them: hosts, browser origins and networks. Only text goes in and
//! comes out; nothing is ever asked of a resolver.

mod daemon_url;
mod host;
mod nats_server;
mod network;
mod origin;
mod webhook;

pub use daemon_url::{DaemonUrl, DaemonUrlError};
pub use host::{Host, HostName};
pub use nats_server::NatsServer;
pub use network::{Network, client_network};
pub use origin::{AllowedOrigin, Origin};
pub use webhook::WebhookUrl;
