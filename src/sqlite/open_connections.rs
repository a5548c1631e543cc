//! The connections of this process beside the feed loop's, which it can have closed.
//!
//! SQLite maps `-shm` once for all connections of a process. Where that file was removed or replaced, a connection opened
//! beside an old one sees what the old one sees: all have to be closed before any is fresh.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Closes what is idle; what is in use is closed by who uses it. Must not block.
pub type CloseIdle = Box<dyn Fn() + Send + Sync>;

/// Counts this process's connections to the file, beside the feed loop's, and has them closed.
#[derive(Default)]
pub struct OpenConnections {
    /// Grows with each [`close_all`](Self::close_all).
    generation: AtomicU64,
    counts: Mutex<Counts>,
    closed: Condvar,
    idle: Mutex<Vec<CloseIdle>>,
}

/// Open connections.
#[derive(Default)]
struct Counts {
    current: usize,
    /// Told to close.
    stale: usize,
}

impl OpenConnections {
    /// Counts a connection that is about to be opened.
    pub fn enter(self: &Arc<Self>) -> OpenConnection {
        let mut counts = self.counts.lock();
        counts.current += 1;
        OpenConnection {
            generation: self.generation.load(Ordering::Acquire),
            open_connections: Arc::clone(self),
        }
    }

    /// Has `close_idle` called whenever all are to close.
    pub fn on_close(&self, close_idle: CloseIdle) {
        self.idle.lock().push(close_idle);
    }

    /// Tells all connections to close, and waits for that no longer than `patience`. Returns whether all have; those
    /// that have not are waited for by the next call, too.
    pub fn close_all(&self, patience: Duration) -> bool {
        let mut counts = self.counts.lock();
        self.generation.fetch_add(1, Ordering::AcqRel);
        counts.stale += std::mem::take(&mut counts.current);
        drop(counts);
        self.idle.lock().iter().for_each(|close| close());
        let deadline = Instant::now() + patience;
        let mut counts = self.counts.lock();
        while counts.stale > 0 && !self.closed.wait_until(&mut counts, deadline).timed_out() {}
        counts.stale == 0
    }
}

/// An open connection. Drop it after the connection.
pub struct OpenConnection {
    open_connections: Arc<OpenConnections>,
    generation: u64,
}

impl OpenConnection {
    /// Returns whether the connection may go on being used; if not it is to be closed.
    pub fn is_current(&self) -> bool {
        self.generation == self.open_connections.generation.load(Ordering::Acquire)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut counts = self.open_connections.counts.lock();
        if self.is_current() {
            counts.current -= 1;
        } else {
            counts.stale -= 1;
            self.open_connections.closed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn all_that_are_open_are_told_and_waited_for() {
        let open_connections = Arc::new(OpenConnections::default());
        let (first, second) = (open_connections.enter(), open_connections.enter());
        assert!(first.is_current());
        assert!(!open_connections.close_all(Duration::ZERO));
        assert!(!first.is_current() && !second.is_current());
        let third = open_connections.enter();
        drop((first, third));
        assert!(
            !open_connections.close_all(Duration::ZERO),
            "one is still open"
        );
        let closing = std::thread::spawn(move || drop(second));
        assert!(open_connections.close_all(LONG));
        closing.join().unwrap();
    }

    #[test]
    fn idle_ones_are_closed_by_their_owner() {
        let open_connections = Arc::new(OpenConnections::default());
        let idle = Arc::new(Mutex::new(Some(open_connections.enter())));
        let kept = Arc::clone(&idle);
        open_connections.on_close(Box::new(move || drop(kept.lock().take())));
        assert!(open_connections.close_all(LONG));
        assert!(idle.lock().is_none());
    }
}
