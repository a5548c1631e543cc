//! Feeds published for other machines: each into a stream of NATS JetStream, in messages that form a chain. A publisher is one
//! more subscriber: a position in the table and a session of the hub. It keeps no state: where it goes on is where its
//! stream ends, so the stream may be lost, restored or doubled, and is mended from the table.

#[cfg(feature = "nats")]
mod broker;
#[cfg(feature = "nats")]
mod chain;
#[cfg(feature = "nats")]
mod credentials;
#[cfg(feature = "nats")]
mod feed;
mod findings;
#[cfg(feature = "nats")]
mod flow;
#[cfg(feature = "nats")]
mod link;
#[cfg(feature = "nats")]
mod look;
#[cfg(feature = "nats")]
mod prepared;
#[cfg(feature = "nats")]
mod publishing;
#[cfg(feature = "nats")]
mod rows;
#[cfg(feature = "nats")]
mod servers;
#[cfg(feature = "nats")]
mod standing;
#[cfg(feature = "nats")]
mod stream;
#[cfg(not(feature = "nats"))]
mod without;

pub use findings::{ServerFindings, StreamFinding};
#[cfg(not(feature = "nats"))]
pub use without::{PreparedPublish, PublishError, Publishing, look_at_servers};
#[cfg(feature = "nats")]
pub(crate) use {
    broker::{Connection, connect, root},
    link::{Link, LinkKind, Part},
    look::{is_ours, server, unanswered},
    servers::{NamedServers, PreparedServers},
    standing::Standing,
    stream::Names,
};
#[cfg(feature = "nats")]
pub use {
    look::look_at_servers, prepared::PreparedPublish, publishing::Publishing, servers::PublishError,
};
