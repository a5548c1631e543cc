//! "Look again", nothing more: the one flag all detection sources set and the feed loop waits on. It never blocks a
//! source; many wakes in a row are one. A wake is a hint, the query is the truth.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What woke the feed loop; a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wakes(u32);

impl Wakes {
    /// The WAL or the journal was written: a commit may follow.
    pub const FILE: Wakes = Wakes(1);
    /// The daemon's own writing connection committed.
    pub const HOOK: Wakes = Wakes(2);
    /// Files came, went or were renamed, or events were lost: is it still the same file?
    pub const REPLACED: Wakes = Wakes(4);
    /// Somebody needs to know that everything committed so far was seen.
    pub const SYNC: Wakes = Wakes(8);
    /// The daemon stops.
    pub const STOP: Wakes = Wakes(16);
    /// Something else happened to the files: a checkpoint, or, with a rollback journal, a commit.
    pub const NEARBY: Wakes = Wakes(32);

    /// Returns both.
    pub const fn union(self, other: Wakes) -> Wakes {
        Wakes(self.0 | other.0)
    }

    /// Returns whether any of `other` is among them.
    pub fn contains(self, other: Wakes) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether there is nothing to look at.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOr for Wakes {
    type Output = Wakes;
    fn bitor(self, other: Wakes) -> Wakes {
        self.union(other)
    }
}

/// The flag, as those who set it see it.
#[derive(Debug, Default)]
pub struct Wake {
    pending: AtomicU32,
    bell: OnceLock<PipeWriter>,
}

impl Wake {
    /// Adds wakes to those pending, and wakes whoever waits. Never blocks.
    pub fn signal(&self, wakes: Wakes) {
        let before = self.pending.fetch_or(wakes.0, Ordering::AcqRel);
        if before & wakes.0 != wakes.0
            && let Some(mut bell) = self.bell.get()
        {
            // The pipe never blocks. When it is full the waiting thread has enough to wake from.
            let _ = bell.write(&[0]);
        }
    }

    /// Takes the wakes that are pending, without waiting.
    fn take(&self) -> Wakes {
        Wakes(self.pending.swap(0, Ordering::AcqRel))
    }
}

/// The flag, as the one thread that waits on it sees it.
#[derive(Debug)]
pub struct Waiter {
    wake: Arc<Wake>,
    bell: PipeReader,
}

impl Waiter {
    /// The waiting end of a new flag.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn new() -> io::Result<Waiter> {
        let (reader, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        let wake = Wake {
            pending: AtomicU32::new(0),
            bell: OnceLock::from(writer),
        };
        Ok(Waiter {
            wake: Arc::new(wake),
            bell: reader,
        })
    }

    /// Returns the end that signals.
    pub fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// Takes the wakes that are pending, without waiting.
    pub fn take(&self) -> Wakes {
        self.wake.take()
    }

    /// Takes the wakes that are pending, for who waits on this one's descriptor: it can't be read any more until the next.
    pub fn take_rung(&self) -> Wakes {
        // Before the flag: what is told in between rings again.
        self.silence();
        self.take()
    }

    /// Takes what rang the bell. More of it than this only costs one more turn of who waits.
    fn silence(&self) {
        let _ = (&self.bell).read(&mut [0; 64]);
    }

    /// Waits until something is pending, `source` can be read or `deadline` has come, and takes what is pending.
    pub fn wait_until(&self, deadline: Instant, source: Option<BorrowedFd<'_>>) -> Wakes {
        loop {
            let wakes = self.take();
            let left = deadline.saturating_duration_since(Instant::now());
            if !wakes.is_empty() || left.is_zero() {
                return wakes;
            }
            let bell = PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN);
            // Without a source the bell is asked for twice, which changes nothing.
            let other = source.unwrap_or(self.bell.as_fd());
            let mut both = [bell, PollFd::from_borrowed_fd(other, PollFlags::IN)];
            // An error is an interruption by a signal; whatever else it might be, the deadline bounds the wait.
            let ready = poll(&mut both, Timespec::try_from(left).ok().as_ref());
            if !both[0].revents().is_empty() {
                self.silence();
            } else if source.is_some() && ready.is_ok_and(|ready| ready > 0) {
                return self.take();
            }
        }
    }

    /// [`wait_until`](Self::wait_until) from now, without a source.
    pub fn wait(&self, timeout: Duration) -> Wakes {
        self.wait_until(Instant::now() + timeout, None)
    }
}

impl AsFd for Waiter {
    /// Can be read once something is pending.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_signal_before_the_wait_is_not_lost_and_is_taken_once() {
        let waiter = Waiter::new().unwrap();
        waiter.wake().signal(Wakes::FILE);
        waiter.wake().signal(Wakes::SYNC);
        assert_eq!(waiter.wait(LONG), Wakes::FILE | Wakes::SYNC);
        assert!(waiter.wait(Duration::from_millis(1)).is_empty());
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let waiter = Waiter::new().unwrap();
        let wake = Arc::clone(waiter.wake());
        let other = std::thread::spawn(move || wake.signal(Wakes::STOP));
        assert_eq!(waiter.wait(LONG), Wakes::STOP);
        other.join().unwrap();
    }

    #[test]
    fn a_readable_source_ends_the_wait_with_nothing_pending() {
        let waiter = Waiter::new().unwrap();
        let (source, mut end) = io::pipe().unwrap();
        end.write_all(b"x").unwrap();
        let wakes = waiter.wait_until(Instant::now() + LONG, Some(source.as_fd()));
        assert!(wakes.is_empty());
    }

    #[test]
    fn one_waiter_waits_for_another_and_what_is_taken_ends_no_second_wait() {
        let (waiter, other) = (Waiter::new().unwrap(), Waiter::new().unwrap());
        other.wake().signal(Wakes::FILE);
        other.wake().signal(Wakes::NEARBY);
        let wakes = waiter.wait_until(Instant::now() + LONG, Some(other.as_fd()));
        assert!(wakes.is_empty());
        assert_eq!(other.take_rung(), Wakes::FILE | Wakes::NEARBY);
        let soon = Instant::now() + Duration::from_millis(1);
        waiter.wait_until(soon, Some(other.as_fd()));
        assert!(Instant::now() >= soon);
        assert!(other.take_rung().is_empty());
    }

    #[test]
    fn nobody_who_signals_is_ever_held_up() {
        let waiter = Waiter::new().unwrap();
        for _ in 0..100_000 {
            waiter.wake().signal(Wakes::FILE);
            assert_eq!(waiter.take(), Wakes::FILE);
        }
    }
}
