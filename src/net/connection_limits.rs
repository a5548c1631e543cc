//! How many connections there may be, in all and from one address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

use crate::address::client_network;

/// Descriptors kept free of connections: database, WAL and shm of each reader, log, listeners, epolls.
const RESERVED_DESCRIPTORS: u64 = 64;
/// Connections beyond a limit that are still answered, with 503 or with health and metrics. A further one takes the
/// place of the oldest, so that those who ask nothing keep no one from asking.
const BEYOND: usize = 8;

/// Between two looks at whether those evicted have gone.
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// The bounds in force; a reload may change them.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    pub total: usize,
    pub per_ip: usize,
}

/// Counts connections, in all and by client, and says which are over a limit.
#[derive(Debug)]
pub struct Connections {
    bounds: Mutex<ConnectionLimits>,
    total: AtomicUsize,
    /// By [`client_network`].
    by_client: Mutex<HashMap<IpAddr, usize>>,
    refused: AtomicUsize,
    /// Ends those refused, oldest first. Some may have ended already.
    evictions: Mutex<VecDeque<Arc<Notify>>>,
    /// A refused connection has ended.
    released: Notify,
}

/// Whether a new connection is served, or only told that it is over a limit.
pub enum Admission {
    Welcome(Arc<Ticket>),
    /// Over a limit: only told so, or asked about the daemon's health.
    Refused(Arc<Ticket>, OverLimit),
}

/// What a connection over a limit needs to know.
#[derive(Debug)]
pub struct OverLimit {
    /// Which limit.
    pub limit: &'static str,
    /// Tells it to end at once: others need its place.
    pub evicted: Arc<Notify>,
}

/// A counted connection, or a counted request of one of the clients that share a proxy's connection; dropping it undoes
/// the count.
#[derive(Debug)]
pub struct Ticket {
    connections: Arc<Connections>,
    client: Option<IpAddr>,
    kind: TicketKind,
}

/// What a ticket counts.
#[derive(Debug)]
enum TicketKind {
    Connection {
        refused: bool,
    },
    /// Keeps the connection counted that it came in on.
    Request {
        _on: Arc<Ticket>,
    },
    /// The same, and counts as a connection itself.
    Stream {
        _on: Arc<Ticket>,
    },
}

/// Why there is no room, and the key that makes some.
const NO_ROOM: &str = "the server has as many connections as it may have (`max_connections`)";
const NO_ROOM_FOR_CLIENT: &str = "this address has as many connections as it may have (`max_connections_per_ip`; where \
    it is a proxy's, name it in `trusted_proxies`)";

impl Connections {
    /// Counts from nothing, up to these limits.
    pub fn new(bounds: ConnectionLimits) -> Arc<Connections> {
        Arc::new(Connections {
            bounds: Mutex::new(bounds),
            total: AtomicUsize::new(0),
            by_client: Mutex::default(),
            refused: AtomicUsize::new(0),
            evictions: Mutex::default(),
            released: Notify::new(),
        })
    }

    /// Puts other limits in force. Connections that are open stay, be there more than these allow.
    pub fn set_bounds(&self, bounds: ConnectionLimits) {
        *self.bounds.lock() = bounds;
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts a connection in. `client` is `None` where many may share it: on Unix sockets, and from trusted proxies.
    pub fn admit(self: &Arc<Self>, client: Option<IpAddr>) -> Admission {
        let bounds = *self.bounds.lock();
        let before = self.total.fetch_add(1, Ordering::Relaxed);
        let client = client.and_then(counted_as);
        let of_client = client.map_or(0, |client| self.count_client(client));
        let limit = if before >= bounds.total {
            Some(NO_ROOM)
        } else if of_client > bounds.per_ip {
            Some(NO_ROOM_FOR_CLIENT)
        } else {
            None
        };
        let refused = limit.is_some();
        let ticket = Arc::new(Ticket {
            connections: Arc::clone(self),
            client,
            kind: TicketKind::Connection { refused },
        });
        match limit {
            None => Admission::Welcome(ticket),
            Some(limit) => Admission::Refused(ticket, self.refuse(limit)),
        }
    }

    /// Counts a connection in for which there is not even a descriptor of its own.
    pub fn admit_without_room(self: &Arc<Self>) -> (Arc<Ticket>, OverLimit) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let ticket = Arc::new(Ticket {
            connections: Arc::clone(self),
            client: None,
            kind: TicketKind::Connection { refused: true },
        });
        (ticket, self.refuse(NO_ROOM))
    }

    /// Counts a client in whose request came on a connection that it shares with others.
    ///
    /// # Errors
    /// It has as many connections as it may have; the error says so in words.
    pub fn admit_request(
        self: &Arc<Self>,
        client: IpAddr,
        on: &Arc<Ticket>,
    ) -> Result<Arc<Ticket>, &'static str> {
        let client = counted_as(client);
        let of_client = client.map_or(0, |client| self.count_client(client));
        let ticket = Arc::new(Ticket {
            connections: Arc::clone(self),
            client,
            kind: TicketKind::Request {
                _on: Arc::clone(on),
            },
        });
        match of_client > self.bounds.lock().per_ip {
            true => Err(NO_ROOM_FOR_CLIENT),
            false => Ok(ticket),
        }
    }

    /// Counts a stream in, as a connection of the client that made the one it came on.
    ///
    /// # Errors
    /// There are as many connections as there may be, in all or of the client; the error says so in words.
    pub fn admit_stream(self: &Arc<Self>, on: &Arc<Ticket>) -> Result<Arc<Ticket>, &'static str> {
        let bounds = *self.bounds.lock();
        let before = self.total.fetch_add(1, Ordering::Relaxed);
        let of_client = on.client.map_or(0, |client| self.count_client(client));
        let ticket = Arc::new(Ticket {
            connections: Arc::clone(self),
            client: on.client,
            kind: TicketKind::Stream {
                _on: Arc::clone(on),
            },
        });
        match (before >= bounds.total, of_client > bounds.per_ip) {
            (true, _) => Err(NO_ROOM),
            (false, true) => Err(NO_ROOM_FOR_CLIENT),
            (false, false) => Ok(ticket),
        }
    }

    fn count_client(&self, client: IpAddr) -> usize {
        let mut by_client = self.by_client.lock();
        let count = by_client.entry(client).or_default();
        *count += 1;
        *count
    }

    fn refuse(&self, limit: &'static str) -> OverLimit {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let evicted = Arc::new(Notify::new());
        let mut evictions = self.evictions.lock();
        evictions.push_back(Arc::clone(&evicted));
        if evictions.len() > BEYOND
            && let Some(oldest) = evictions.pop_front()
        {
            oldest.notify_one();
        }
        OverLimit { limit, evicted }
    }

    /// Resolves when those evicted are gone, and with them their descriptors, so that one more may come.
    pub async fn room(&self) {
        while self.refused.load(Ordering::Relaxed) > BEYOND {
            // Several listeners may wait; one wakes at once, the others look again.
            let _ = tokio::time::timeout(RELEASE_PAUSE, self.released.notified()).await;
        }
    }
}

/// What a client is counted as; `None` for loopback, which is where proxies connect from, for everybody.
fn counted_as(client: IpAddr) -> Option<IpAddr> {
    let client = client.to_canonical();
    (!client.is_loopback()).then(|| client_network(client))
}

impl Ticket {
    /// The address that counts; `None` where it tells nobody apart.
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let connections = &self.connections;
        if let Some(client) = self.client {
            let mut by_client = connections.by_client.lock();
            if let Some(count) = by_client.get_mut(&client) {
                *count -= 1;
                if *count == 0 {
                    by_client.remove(&client);
                }
            }
        }
        match self.kind {
            TicketKind::Connection { refused } => {
                connections.total.fetch_sub(1, Ordering::Relaxed);
                if refused {
                    connections.refused.fetch_sub(1, Ordering::Relaxed);
                    connections.released.notify_one();
                }
            }
            TicketKind::Stream { .. } => {
                connections.total.fetch_sub(1, Ordering::Relaxed);
            }
            TicketKind::Request { .. } => {}
        }
    }
}

/// Raises the soft descriptor limit to the hard one and says how many connections that leaves room for.
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let soft = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let soft = soft.unwrap_or(u64::MAX);
    usize::try_from(soft.saturating_sub(RESERVED_DESCRIPTORS).max(16))
        .unwrap_or(usize::MAX - BEYOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_count_and_uncount() {
        let connections = Connections::new(ConnectionLimits {
            total: 3,
            per_ip: 1,
        });
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let first = connections.admit(Some(ip));
        assert!(matches!(first, Admission::Welcome(_)));
        let second = connections.admit(Some(ip));
        assert!(matches!(second, Admission::Refused(..)));
        drop(first);
        drop(second);
        let loopback: Vec<Admission> = (0..3)
            .map(|_| connections.admit(Some("::ffff:127.0.0.1".parse().unwrap())))
            .collect();
        assert!(loopback.iter().all(|a| matches!(a, Admission::Welcome(_))));
        assert!(matches!(connections.admit(None), Admission::Refused(..)));
        drop(loopback);
        assert!(matches!(connections.admit(Some(ip)), Admission::Welcome(_)));
        assert!(connections.by_client.lock().is_empty());
    }

    #[test]
    fn a_slash_64_is_one_client() {
        let bounds = ConnectionLimits {
            total: 100,
            per_ip: 1,
        };
        let connections = Connections::new(bounds);
        let admit = |text: &str| connections.admit(Some(text.parse().unwrap()));
        let _first = admit("2001:db8::1");
        assert!(matches!(admit("2001:db8::ffff:2"), Admission::Refused(..)));
        assert!(matches!(admit("2001:db8:0:1::1"), Admission::Welcome(_)));
    }

    #[test]
    fn clients_of_one_proxy_are_counted_apart() {
        let bounds = ConnectionLimits {
            total: 100,
            per_ip: 2,
        };
        let connections = Connections::new(bounds);
        let Admission::Welcome(proxy) = connections.admit(None) else {
            panic!("there is room")
        };
        let [one, other]: [IpAddr; 2] =
            ["198.51.100.1", "198.51.100.2"].map(|ip| ip.parse().unwrap());
        let tickets: Vec<_> = (0..2)
            .map(|_| connections.admit_request(one, &proxy).unwrap())
            .collect();
        assert!(connections.admit_request(one, &proxy).is_err());
        assert!(connections.admit_request(other, &proxy).is_ok());
        assert!(
            connections
                .admit_request([127, 0, 0, 1].into(), &proxy)
                .is_ok()
        );
        drop(proxy);
        assert_eq!(connections.open(), 1, "the requests keep it counted");
        drop(tickets);
        assert_eq!(connections.open(), 0);
        assert!(connections.by_client.lock().is_empty());
    }
}
