//! Whether file events arrive at all.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Backend, Watcher};
use crate::model::wakeup::{Waiter, Wakes};

/// How long `walcast check` waits for the event of its own write.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// Returns whether `backend` tells of a change in `directory`, tried with a file of our own; for `walcast check`.
///
/// # Errors
/// The file can't be made, or nothing can be watched.
pub fn events_arrive(directory: &Path, backend: Backend) -> io::Result<bool> {
    let probe = directory.join(format!(".walcast-check-{}", std::process::id()));
    let created = std::fs::File::create(&probe);
    let tried = created.and_then(|mut file| write_and_hear(&probe, &mut file, backend));
    let _ = std::fs::remove_file(&probe);
    tried
}

fn write_and_hear(probe: &Path, file: &mut std::fs::File, backend: Backend) -> io::Result<bool> {
    let waiter = Waiter::new()?;
    let mut watcher = Watcher::start(probe, backend)?;
    io::Write::write_all(file, b"walcast check: do file events arrive here?")?;
    let deadline = Instant::now() + PROBE_PATIENCE;
    loop {
        let wakes = waiter.wait_until(deadline, Some(watcher.readable())) | watcher.take();
        if wakes.contains(Wakes::NEARBY) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
}
