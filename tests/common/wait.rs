//! Waiting for a condition, the only place of the tests that sleeps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything that must happen may take before the test fails. A bound for failures, not a promise of the
/// daemon: a loaded machine with two cores must not fail a correct build, and pauses before another try add up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Returns when `condition` holds. Panics, naming `what`, when it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain until {what}"
        );
        std::thread::sleep(PAUSE);
    }
}

/// One such pause, for loops that have their own end.
pub fn pause() {
    std::thread::sleep(PAUSE);
}

/// Raises a flag when dropped, so that threads that run until then also end where the test fails.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
