//! One client's life in the log: everything that happens to a connection is told inside a span of its own.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Span;

/// Returns the span of a new subscription, at level debug: `connection{id=7 peer=192.0.2.1 feed=orders path=/ws/orders}`.
/// `id` is never given twice in a process; `peer` is `None` on a Unix socket, where nobody has an address. The query stays
/// out of it, for it may hold a client's secrets.
///
/// While the log's level leaves debug out, the span is empty: nothing is recorded then, nor later for this connection.
pub fn connection_span(feed: &str, path: &str, peer: Option<IpAddr>) -> Span {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    let id = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    tracing::debug_span!(
        parent: None,
        "connection",
        id,
        peer = %Shown(peer),
        %feed,
        %path,
    )
}

/// An address, or that there is none.
struct Shown(Option<IpAddr>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}
