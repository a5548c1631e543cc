//! TLS of the daemon's own: what clients are shown, what they are refused, and that rows come as they do without.

#[path = "../common/mod.rs"]
mod common;

mod activated;
mod certificates;
mod client;
mod compressed;
mod floods;
mod http2;
mod limits;
mod mtls;
mod multi;
mod redirect;
mod rows;
mod start;
mod versions;
