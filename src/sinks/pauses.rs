//! How long to wait before a delivery that failed is tried again.

use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::time::Duration;

/// The first pause. Long enough for a receiver that is being restarted, short enough to go unnoticed.
const FIRST: Duration = Duration::from_millis(500);
/// The longest one, whatever a receiver asks for: rows must not wait much longer than it is down.
pub(super) const LONGEST: Duration = Duration::from_secs(15);

/// The pauses between attempts, each twice as long as the one before, up to [`LONGEST`].
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    failures: u32,
}

impl Pauses {
    /// Returns the pause after another failure: no shorter than the receiver asks for in `Retry-After`, as far as that is
    /// not longer than [`LONGEST`].
    pub(crate) fn after_failure(&mut self, retry_after: Option<Duration>) -> Duration {
        let full = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.unwrap_or_default().min(LONGEST);
        spread(full, random()).max(asked)
    }

    /// It works again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between half and the whole of a pause, so that those who failed together do not come back together.
fn spread(full: Duration, random: u64) -> Duration {
    let half = full / 2;
    half + half.mul_f64(random as f64 / u64::MAX as f64)
}

/// A number that differs from call to call and from process to process; nothing secret hangs on it.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut pauses = Pauses::default();
        let mut most = FIRST;
        for _ in 0..40 {
            let pause = pauses.after_failure(None);
            assert!(pause >= most / 2 && pause <= most, "{pause:?} of {most:?}");
            most = (most * 2).min(LONGEST);
        }
        assert_eq!(most, LONGEST);
        pauses.reset();
        assert!(pauses.after_failure(None) <= FIRST);
    }

    #[test]
    fn what_the_receiver_asks_for_holds_within_the_bound() {
        let ask = |seconds| Pauses::default().after_failure(Some(Duration::from_secs(seconds)));
        assert_eq!(ask(7), Duration::from_secs(7));
        assert_eq!(ask(3600), LONGEST);
        assert!(ask(0) >= FIRST / 2);
    }

    #[test]
    fn a_spread_pause_is_at_least_half() {
        let second = Duration::from_secs(1);
        assert_eq!(spread(second, 0), second / 2);
        assert_eq!(spread(second, u64::MAX), second);
    }
}
