//! "Look again", nothing more: the one flag all detection sources set and the feed loop waits on. It never blocks a
//! source; many wakes in a row are one. A wake is a hint, the query is the truth.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// What woke the feed loop; a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wakes(u32);

impl Wakes {
    /// The WAL, the journal or the database file was written.
    pub const FILE: Wakes = Wakes(1);
    /// The daemon's own writing connection committed.
    pub const HOOK: Wakes = Wakes(2);
    /// Files came, went or were renamed, or events were lost: is it still the same file?
    pub const REPLACED: Wakes = Wakes(4);
    /// Somebody needs to know that everything committed so far was seen.
    pub const SYNC: Wakes = Wakes(8);
    /// The daemon stops.
    pub const STOP: Wakes = Wakes(16);

    pub fn contains(self, other: Wakes) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOr for Wakes {
    type Output = Wakes;
    fn bitor(self, other: Wakes) -> Wakes {
        Wakes(self.0 | other.0)
    }
}

/// The flag. One thread waits, any number signal.
#[derive(Debug, Default)]
pub struct Wake {
    pending: AtomicU32,
    waiter: OnceLock<Thread>,
}

impl Wake {
    /// Makes the calling thread the one that waits.
    pub fn attach_current_thread(&self) {
        // A second call would find the first thread there; only the feed loop calls this, once.
        let _ = self.waiter.set(std::thread::current());
    }

    pub fn signal(&self, wakes: Wakes) {
        let before = self.pending.fetch_or(wakes.0, Ordering::AcqRel);
        if before & wakes.0 != wakes.0
            && let Some(thread) = self.waiter.get()
        {
            thread.unpark();
        }
    }

    /// Takes what is pending without waiting.
    pub fn take(&self) -> Wakes {
        Wakes(self.pending.swap(0, Ordering::AcqRel))
    }

    /// Waits until something is pending or `deadline` has come, and takes it.
    pub fn wait_until(&self, deadline: Instant) -> Wakes {
        loop {
            let wakes = self.take();
            let now = Instant::now();
            if !wakes.is_empty() || now >= deadline {
                return wakes;
            }
            std::thread::park_timeout(deadline - now);
        }
    }

    /// [`wait_until`](Self::wait_until) from now.
    pub fn wait(&self, timeout: Duration) -> Wakes {
        self.wait_until(Instant::now() + timeout)
    }
}
