//! Who sent a request.

use std::net::IpAddr;
use std::sync::Arc;

use crate::access::Grant;
use crate::http::timeouts::Timeouts;
use crate::model::read_owner::Client;
use crate::net::connection_limits::Ticket;

/// The client behind a request; put into the request's extensions.
#[derive(Clone)]
pub(super) struct Peer {
    /// Keeps the client counted for as long as what its request became lives.
    pub(super) ticket: Arc<Ticket>,
    /// Who is on its other side, as far as taking turns goes.
    pub(super) client: Client,
    /// Its address for the log, as far as known: that of a proxy's client where the proxy is trusted; `None` on a Unix
    /// socket.
    pub(super) address: Option<IpAddr>,
    pub(super) timeouts: Arc<Timeouts>,
    pub(super) grant: Arc<Grant>,
    /// It takes answers in gzip.
    pub(super) takes_gzip: bool,
}
