//! What the daemon tells systemd about itself.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells systemd, where it listens. What it does not hear it will find out.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {e}");
    }
}

/// Feeds the watchdog of systemd each time it is called, as often as systemd wants to hear.
pub fn watchdog() -> Box<dyn FnMut() + Send> {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return Box::new(|| {});
    };
    let mut last = None::<std::time::Instant>;
    Box::new(move || {
        // Twice as often as needed, as its documentation recommends.
        let due = last.is_none_or(|last| {
            last.elapsed() >= period / 2 - Duration::from_millis(1).min(period / 4)
        });
        if due {
            last = Some(std::time::Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
    })
}
