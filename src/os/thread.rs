//! Threads that must not end by a panic.

/// Runs a thread the daemon can't do without. Were it to end in a panic, its connections would hang in silence for
/// ever; a restart serves them again.
pub fn or_abort(body: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
        tracing::error!(
            "a thread the daemon needs has panicked; ending at once, to be started again"
        );
        std::process::abort();
    }
}
