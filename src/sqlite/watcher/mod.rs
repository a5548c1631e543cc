//! File events on the database, `-wal` and `-journal`, turned into wakes; and on the directory, because those come and
//! go: the directory of the real file, because the database may be a symbolic link.

mod backend;
mod names;
mod places;
pub mod probe;

/// On Linux the feed loop reads the events itself, unless it is told otherwise. A thread between the two costs a
/// wake-up, preempts the writer on its own core, and takes each of a commit's four writes for itself.
#[cfg(target_os = "linux")]
mod inotify;
/// Not where `notify` uses kqueue: that opens the files it watches, and to close one of them drops SQLite's locks on it.
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod notified;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use self::backend::Backend;
use self::backend::FileEvents;
use self::places::{directories, places};
use crate::model::wakeup::Wakes;
use crate::sqlite::file::FileId;

/// Watches the directories in which the database file and the links to it live. Stops when dropped.
pub struct Watcher {
    events: Box<dyn FileEvents>,
    /// The paths whose events count, for noticing when a link came to point elsewhere, be it in the same directory.
    places: Vec<PathBuf>,
    /// The directories watched, for noticing when one of them became another.
    directories: Vec<(PathBuf, Option<FileId>)>,
}

impl Watcher {
    /// Starts watching.
    ///
    /// # Errors
    /// No directory is there, or the system is out of watches; the safety poll serves alone then.
    pub fn start(database: &Path, backend: Backend) -> io::Result<Watcher> {
        let places = places(database);
        let directories = directories(&places);
        // A dangling link may lead into a directory that is still to be made: the others are watched meanwhile.
        let none_there = directories.iter().all(|(_, id)| id.is_none());
        let watched: Vec<&Path> = directories
            .iter()
            .filter(|(_, id)| id.is_some() || none_there)
            .map(|(directory, _)| directory.as_path())
            .collect();
        Ok(Watcher {
            events: begin(backend, &watched, &places)?,
            places,
            directories,
        })
    }

    /// Returns what can be read when there are events to [`take`](Self::take).
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.events.readable()
    }

    /// Until when it is not worth while to read events, which are other files' and many; `None` where it always is.
    pub fn deaf_until(&self) -> Option<Instant> {
        self.events.deaf_until()
    }

    /// Brings no further events until [`resume`](Self::resume): each costs who makes it, and so does a watch by itself.
    pub fn pause(&mut self) {
        self.events.pause();
    }

    /// Brings events again. Of what happened meanwhile there are none.
    ///
    /// # Errors
    /// As [`start`](Self::start); the watcher is of no use then.
    pub fn resume(&mut self) -> io::Result<()> {
        self.events.resume()
    }

    /// Watches the files that are there now, where no event may have told of their coming.
    pub fn refresh(&mut self) {
        self.events.refresh();
    }

    /// Takes the events there are, without waiting.
    pub fn take(&mut self) -> Wakes {
        self.events.take()
    }

    /// Returns whether these are still the files and directories to watch, and the directories are still there.
    pub fn is_current(&self, database: &Path) -> bool {
        let places = places(database);
        !self.events.is_ended() && self.places == places && self.directories == directories(&places)
    }
}

/// Starts to watch `directories` for what happens to the files at `places`.
fn begin(
    backend: Backend,
    directories: &[&Path],
    places: &[PathBuf],
) -> io::Result<Box<dyn FileEvents>> {
    match backend {
        #[cfg(target_os = "linux")]
        Backend::Inotify => Ok(Box::new(inotify::KernelQueue::start(directories, places)?)),
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        Backend::Notify => Ok(Box::new(notified::NotifyThread::start(
            directories,
            places,
        )?)),
    }
}
