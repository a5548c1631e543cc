//! Ctrl-C for the commands: ends them in order, so that no open database is left behind.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `act`, on a thread of its own, at the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once,
/// with exit code 0.
///
/// # Errors
/// There are no descriptors or threads left.
pub(crate) fn on_interrupt(act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let wait = move || {
        let mut coming = signals.forever();
        coming.next();
        act();
        coming.next();
        std::process::exit(0);
    };
    std::thread::Builder::new()
        .name("walcast-signal".into())
        .spawn(wait)
        .map(drop)
}
