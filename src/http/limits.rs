//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Descriptors kept free of connections: database, WAL and shm of each reader, log, listeners, epolls.
const RESERVED_DESCRIPTORS: u64 = 64;
/// Connections beyond the limit that are still answered, with 503 or with health and metrics, before they are dropped.
const BEYOND: usize = 32;

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
}

/// What becomes of a connection.
pub enum Admission {
    Welcome(Arc<Ticket>),
    /// Over a limit: only told so, or asked about the daemon's health. Says which limit.
    Refused(Arc<Ticket>, &'static str),
    /// So far over it that there is no descriptor to spare for an answer.
    Dropped,
}

/// A counted connection; dropping it undoes the count.
#[derive(Debug)]
pub struct Ticket {
    connections: Arc<Connections>,
    ip: Option<IpAddr>,
}

impl Connections {
    pub fn new(bounds: Bounds) -> Arc<Connections> {
        Arc::new(Connections {
            bounds: Mutex::new(bounds),
            total: AtomicUsize::new(0),
            by_ip: Mutex::default(),
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
        let ticket = Arc::new(Ticket {
            connections: Arc::clone(self),
            ip,
        });
        if before >= bounds.total + BEYOND {
            return Admission::Dropped;
        }
        if before >= bounds.total {
            return Admission::Refused(
                ticket,
                "the server has as many connections as it may have (`max_connections`)",
            );
        }
        if from_ip > bounds.per_ip {
            return Admission::Refused(
                ticket,
                "this address has as many connections as it may have (`max_connections_per_ip`)",
            );
        }
        Admission::Welcome(ticket)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.connections.total.fetch_sub(1, Ordering::Relaxed);
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
pub fn descriptors_allow() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls only read or write the struct behind the pointer, which outlives them.
    let soft = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 960;
        }
        let raised = libc::rlimit {
            rlim_cur: limit.rlim_max,
            rlim_max: limit.rlim_max,
        };
        match libc::setrlimit(libc::RLIMIT_NOFILE, &raised) {
            0 => limit.rlim_max,
            _ => limit.rlim_cur,
        }
    };
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
