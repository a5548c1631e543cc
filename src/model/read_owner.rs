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
            read_owner: None,
        }
    }
}

/// A client that wants to know something. Dropping it withdraws everything that was asked for on its behalf.
#[derive(Debug)]
pub struct ReadOwner(Arc<Client>);

impl ReadOwner {
    /// An owner on behalf of a client. When it is dropped, what was asked for under it is wanted no more.
    pub fn new(client: Client) -> ReadOwner {
        ReadOwner(Arc::new(client))
    }

    /// To be kept with what is asked for.
    pub fn claim(&self) -> Claim {
        Claim {
            client: *self.0,
            read_owner: Some(Arc::downgrade(&self.0)),
        }
    }
}

/// On whose behalf something is read, and whether it still matters.
#[derive(Debug, Clone)]
pub struct Claim {
    pub client: Client,
    read_owner: Option<Weak<Client>>,
}

impl Claim {
    /// Returns whether nobody waits for it any more.
    pub fn is_void(&self) -> bool {
        let read_owner = self.read_owner.as_ref();
        read_owner.is_some_and(|read_owner| read_owner.strong_count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_void_once_its_asker_is_gone() {
        let read_owner = ReadOwner::new(Client::of_connection());
        let claim = read_owner.claim();
        assert!(!claim.is_void());
        drop(read_owner);
        assert!(claim.is_void());
    }
}
