//! For whom something is read: clients take turns, and what a client asked for goes when it goes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The unit that takes turns: all connections of one address, or one connection where addresses tell nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// However many connections come from one address, as [`client_network`](crate::address::client_network) counts
    /// addresses, they are one client.
    Address(IpAddr),
    /// A connection, by a number never given twice in a process. From loopback and over Unix sockets proxies connect for
    /// everybody, so there each connection is a client.
    Connection(u64),
}

impl Client {
    /// A new connection whose address does not tell who it is.
    pub fn of_connection() -> Client {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        Client::Connection(CONNECTIONS.fetch_add(1, Ordering::Relaxed))
    }

    /// For what is done on a client's turn and matters to others too.
    pub fn claim(self) -> Claim {
        Claim {
            client: self,
            asker: None,
        }
    }
}

/// A client that wants to know something. Dropping it withdraws everything that was asked for on its behalf.
#[derive(Debug)]
pub struct Asker(Arc<Client>);

impl Asker {
    pub fn new(client: Client) -> Asker {
        Asker(Arc::new(client))
    }

    /// To be kept with what is asked for.
    pub fn claim(&self) -> Claim {
        Claim {
            client: *self.0,
            asker: Some(Arc::downgrade(&self.0)),
        }
    }
}

/// On whose behalf something is read, and whether it still matters.
#[derive(Debug, Clone)]
pub struct Claim {
    pub client: Client,
    asker: Option<Weak<Client>>,
}

impl Claim {
    /// Returns whether nobody waits for it any more.
    pub fn is_void(&self) -> bool {
        let asker = self.asker.as_ref();
        asker.is_some_and(|asker| asker.strong_count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_void_once_its_asker_is_gone() {
        let asker = Asker::new(Client::of_connection());
        let claim = asker.claim();
        assert!(!claim.is_void());
        drop(asker);
        assert!(claim.is_void());
    }
}
