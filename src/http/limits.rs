//! How many connections there may be, in all and from one address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

/// Descriptors kept free of connections: database, WAL and shm of each reader, log, listeners, epolls.
const RESERVED_DESCRIPTORS: u64 = 64;
/// Connections beyond a limit that are still answered, with 503 or with health and metrics. A further one takes the
/// place of the oldest, so that those who ask nothing keep no one from asking.
const BEYOND: usize = 8;

/// Between two looks at whether those evicted have gone.
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// The bounds in force; a reload may change them.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub total: usize,
    pub per_ip: usize,
}

/// Counts connections.
#[derive(Debug)]
pub struct Connections {
    bounds: Mutex<Bounds>,
    total: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
    refused: AtomicUsize,
    /// Ends those refused, oldest first. Some may have ended already.
    evictions: Mutex<VecDeque<Arc<Notify>>>,
    /// A refused connection has ended.
    released: Notify,
}

/// What becomes of a connection.
pub enum Admission {
    Welcome(Arc<Ticket>),
    /// Over a limit: only told so, or asked about the daemon's health.
    Refused(Arc<Ticket>, Refusal),
}

/// What a connection over a limit needs to know.
#[derive(Debug)]
pub struct Refusal {
    /// Which limit.
    pub limit: &'static str,
    /// Tells it to end at once: others need its place.
    pub evicted: Arc<Notify>,
}

/// A counted connection; dropping it undoes the count.
#[derive(Debug)]
pub struct Ticket {
    connections: Arc<Connections>,
    ip: Option<IpAddr>,
    refused: bool,
}

impl Connections {
    pub fn new(bounds: Bounds) -> Arc<Connections> {
        Arc::new(Connections {
            bounds: Mutex::new(bounds),
            total: AtomicUsize::new(0),
            by_ip: Mutex::default(),
            refused: AtomicUsize::new(0),
            evictions: Mutex::default(),
            released: Notify::new(),
        })
    }

    pub fn set_bounds(&self, bounds: Bounds) {
        *self.bounds.lock() = bounds;
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts a connection in. `ip` is `None` for Unix sockets.
    pub fn admit(self: &Arc<Self>, ip: Option<IpAddr>) -> Admission {
        let bounds = *self.bounds.lock();
        // Loopback is where proxies connect from, for everybody.
        let ip = ip
            .map(|ip| ip.to_canonical())
            .filter(|ip| !ip.is_loopback());
        let before = self.total.fetch_add(1, Ordering::Relaxed);
        let from_ip = ip.map_or(0, |ip| {
            let mut by_ip = self.by_ip.lock();
            let count = by_ip.entry(ip).or_default();
            *count += 1;
            *count
        });
        let limit = if before >= bounds.total {
            Some("the server has as many connections as it may have (`max_connections`)")
        } else if from_ip > bounds.per_ip {
            Some("this address has as many connections as it may have (`max_connections_per_ip`)")
        } else {
            None
        };
        let ticket = Arc::new(Ticket {
            connections: Arc::clone(self),
            ip,
            refused: limit.is_some(),
        });
        match limit {
            None => Admission::Welcome(ticket),
            Some(limit) => Admission::Refused(ticket, self.refuse(limit)),
        }
    }

    fn refuse(&self, limit: &'static str) -> Refusal {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let evicted = Arc::new(Notify::new());
        let mut evictions = self.evictions.lock();
        evictions.push_back(Arc::clone(&evicted));
        if evictions.len() > BEYOND
            && let Some(oldest) = evictions.pop_front()
        {
            oldest.notify_one();
        }
        Refusal { limit, evicted }
    }

    /// Resolves when those evicted are gone, and with them their descriptors, so that one more may come.
    pub async fn room(&self) {
        while self.refused.load(Ordering::Relaxed) > BEYOND {
            // Several listeners may wait; one wakes at once, the others look again.
            let _ = tokio::time::timeout(RELEASE_PAUSE, self.released.notified()).await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.connections.total.fetch_sub(1, Ordering::Relaxed);
        if self.refused {
            self.connections.refused.fetch_sub(1, Ordering::Relaxed);
            self.connections.released.notify_one();
        }
        if let Some(ip) = self.ip {
            let mut by_ip = self.connections.by_ip.lock();
            if let Some(count) = by_ip.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    by_ip.remove(&ip);
                }
            }
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
        let connections = Connections::new(Bounds {
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
        assert!(connections.by_ip.lock().is_empty());
    }
}
