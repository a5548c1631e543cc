//! How often somebody may be wrong.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::address::client_network;

/// Failures of one address that are answered as what they are, within [`WINDOW`].
const ALLOWED: u32 = 10;
/// For how long failures are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Most addresses that are remembered: about 1 MB. Beyond it the oldest are forgotten.
const MOST: usize = 10_000;

/// Failed credentials by the address they came from.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, Count>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    failures: u32,
}

impl Failures {
    /// Counts a failure. Returns for how long the address is told to wait, where it has failed too often. Peers of Unix
    /// sockets have no address, and are told apart by nothing.
    pub(super) fn count(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let address = client_network(address?);
        let mut counts = self.0.lock();
        if counts.len() >= MOST && !counts.contains_key(&address) {
            make_room(&mut counts, now);
        }
        let fresh = Count {
            since: now,
            failures: 0,
        };
        let count = counts.entry(address).or_insert(fresh);
        if now.duration_since(count.since) >= WINDOW {
            *count = fresh;
        }
        count.failures = count.failures.saturating_add(1);
        (count.failures > ALLOWED).then(|| WINDOW - now.duration_since(count.since))
    }
}

fn make_room(counts: &mut HashMap<IpAddr, Count>, now: Instant) {
    counts.retain(|_, count| now.duration_since(count.since) < WINDOW);
    if counts.len() >= MOST {
        let oldest = counts.iter().min_by_key(|(_, count)| count.since);
        if let Some(oldest) = oldest.map(|(address, _)| *address) {
            counts.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_a_minute_are_answered_and_others_are_not_disturbed() {
        let failures = Failures::default();
        let one = Some(IpAddr::from([192, 0, 2, 1]));
        let now = Instant::now();
        assert!((0..10).all(|_| failures.count(one, now).is_none()));
        let later = now + Duration::from_secs(20);
        assert_eq!(failures.count(one, later), Some(Duration::from_secs(40)));
        assert_eq!(failures.count(Some([192, 0, 2, 2].into()), later), None);
        assert_eq!(failures.count(None, later), None);
        assert_eq!(failures.count(one, now + WINDOW), None);
    }

    #[test]
    fn no_more_addresses_are_remembered_than_there_is_room_for() {
        let failures = Failures::default();
        let now = Instant::now();
        for n in 0..MOST as u32 + 10 {
            failures.count(Some(IpAddr::from(n.to_be_bytes())), now);
        }
        assert!(failures.0.lock().len() <= MOST);
    }
}
