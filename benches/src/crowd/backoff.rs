//! How long a client waits before it comes again, as the npm client does.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);

/// Waits that double with each failure.
pub struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Of the client with this number: each has jitter of its own, the same in every run.
    pub fn new(number: usize) -> Self {
        Self {
            failures: 0,
            random: (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// The last connection was a good one.
    pub fn forget_failures(&mut self) {
        self.failures = 0;
    }

    /// The wait before the next attempt: half of it fixed, half random.
    pub fn next(&mut self) -> Duration {
        let ceiling = LONGEST.min(SHORTEST * 2_u32.saturating_pow(self.failures.min(8)));
        self.failures += 1;
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        ceiling / 2 + (ceiling / 2).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(0);
        for ceiling in [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000] {
            let ceiling = Duration::from_millis(ceiling);
            let wait = backoff.next();
            assert!(ceiling / 2 <= wait && wait <= ceiling, "{wait:?}");
        }
        backoff.forget_failures();
        assert!(backoff.next() <= SHORTEST);
    }
}
