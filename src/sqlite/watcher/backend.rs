//! What tells of file events, and what it has to do.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::config::WatchMode;
use crate::model::wakeup::Wakes;

/// What tells of file events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's own queue, read where it is waited for.
    #[cfg(target_os = "linux")]
    Inotify,
    /// A thread of the package `notify`.
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    Notify,
}

impl Backend {
    /// Returns what tells of events under this setting; `None` where nothing is to, or can.
    pub fn of(mode: WatchMode) -> Option<Backend> {
        match mode {
            WatchMode::Poll => None,
            #[cfg(target_os = "linux")]
            WatchMode::Auto => Some(Backend::Inotify),
            #[cfg(target_os = "linux")]
            WatchMode::Notify => Some(Backend::Notify),
            #[cfg(target_os = "macos")]
            WatchMode::Auto | WatchMode::Notify => Some(Backend::Notify),
            #[cfg(not(any(target_os = "linux", target_os = "macos")))]
            WatchMode::Auto | WatchMode::Notify => None,
        }
    }
}

/// What every back end does for the watcher.
pub(super) trait FileEvents: Send {
    /// As [`Watcher::readable`](super::Watcher::readable).
    fn readable(&self) -> BorrowedFd<'_>;
    /// As [`Watcher::take`](super::Watcher::take).
    fn take(&mut self) -> Wakes;
    /// As [`Watcher::pause`](super::Watcher::pause).
    fn pause(&mut self);
    /// As [`Watcher::resume`](super::Watcher::resume).
    fn resume(&mut self) -> io::Result<()>;

    /// As [`Watcher::refresh`](super::Watcher::refresh). Nothing is to be done where directories alone are watched.
    fn refresh(&mut self) {}

    /// As [`Watcher::deaf_until`](super::Watcher::deaf_until).
    fn deaf_until(&self) -> Option<Instant> {
        None
    }

    /// Returns whether something is not told of any more, and another start may mend it.
    fn is_ended(&self) -> bool {
        false
    }
}
