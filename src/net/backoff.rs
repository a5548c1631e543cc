//! How long to wait before a connection is tried again.

use std::time::Duration;

/// The first pause before connecting again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Pauses that double, with jitter, so that many clients of one daemon don't come back at the same moment.
pub struct Backoff(Duration);

impl Backoff {
    /// Begins with the shortest pause.
    #[expect(
        clippy::new_without_default,
        reason = "nothing is said of what a default would be"
    )]
    pub fn new() -> Backoff {
        Backoff(BACKOFF.0)
    }

    /// A connection worked: the next pause is the shortest again.
    pub fn reset(&mut self) {
        self.0 = BACKOFF.0;
    }

    /// The next pause: between half of its nominal length and all of it.
    pub fn next_pause(&mut self) -> Duration {
        use std::hash::{BuildHasher, RandomState};
        let pause = self.0;
        self.0 = (pause * 2).min(BACKOFF.1);
        let share = (RandomState::new().hash_one(pause) % 1000) as u32;
        pause / 2 + pause / 2 * share / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..10).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] >= BACKOFF.0 / 2 && pauses[0] <= BACKOFF.0);
        assert!(pauses[9] >= BACKOFF.1 / 2 && pauses[9] <= BACKOFF.1);
    }
}
