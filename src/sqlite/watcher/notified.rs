//! File events told by a thread of the package `notify`.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::backend::FileEvents;
use super::names::{Happened, WatchedNames, meaning};
use crate::model::wakeup::{Waiter, Wakes};

/// All there may be to see.
const ANYTHING: Wakes = Wakes::FILE.union(Wakes::NEARBY).union(Wakes::REPLACED);

/// Keeps the thread that tells of events. It sets a flag of its own: the feed loop takes that when it takes the kernel's
/// queue elsewhere, so a commit's four writes wake it no more often.
pub(super) struct NotifyThread {
    watcher: RecommendedWatcher,
    told: Waiter,
    directories: Vec<PathBuf>,
}

impl NotifyThread {
    pub(super) fn start(directories: &[&Path], places: &[PathBuf]) -> io::Result<NotifyThread> {
        let told = Waiter::new()?;
        let wake = Arc::clone(told.wake());
        let directories: Vec<PathBuf> = directories.iter().map(|path| path.into()).collect();
        let names: Vec<WatchedNames> = places.iter().map(|path| WatchedNames::of(path)).collect();
        let watched = as_told(&directories);
        let tell = move |event: notify::Result<Event>| {
            // An error means that events were lost.
            let wakes = event.map_or(ANYTHING, |event| wakes(&event, &watched, &names));
            if !wakes.is_empty() {
                wake.signal(wakes);
            }
        };
        let mut events = NotifyThread {
            watcher: notify::recommended_watcher(tell).map_err(explained)?,
            told,
            directories,
        };
        events.resume()?;
        Ok(events)
    }
}

impl FileEvents for NotifyThread {
    fn readable(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    fn take(&mut self) -> Wakes {
        self.told.take_rung()
    }

    fn pause(&mut self) {
        for directory in &self.directories {
            // The watch of one that is gone has ended by itself.
            let _ = self.watcher.unwatch(directory);
        }
        // What was told until now is looked for without.
        self.told.take_rung();
    }

    fn resume(&mut self) -> io::Result<()> {
        for directory in &self.directories {
            self.watcher
                .watch(directory, RecursiveMode::NonRecursive)
                .map_err(explained)?;
        }
        Ok(())
    }
}

/// The directories by each name that events may call them: as given, whole, and without links.
fn as_told(directories: &[PathBuf]) -> Vec<PathBuf> {
    let whole = |path: &PathBuf| std::path::absolute(path).ok();
    let real = |path: &PathBuf| std::fs::canonicalize(path).ok();
    let others = directories
        .iter()
        .flat_map(|path| [whole(path), real(path)]);
    directories
        .iter()
        .cloned()
        .chain(others.flatten())
        .collect()
}

/// `notify` says in one word what the kernel said of its limits.
fn explained(error: notify::Error) -> io::Error {
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            io::Error::other("fs.inotify.max_user_watches is used up")
        }
        notify::ErrorKind::PathNotFound => rustix::io::Errno::NOENT.into(),
        notify::ErrorKind::Io(error) => error,
        _ => io::Error::other(error),
    }
}

/// What an event means. Opening, closing and reading are events too, the daemon's own among them: not for us.
fn wakes(event: &Event, directories: &[PathBuf], names: &[WatchedNames]) -> Wakes {
    if event.need_rescan() {
        return ANYTHING;
    }
    let happened = match event.kind {
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => Happened::Written,
        EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => Happened::Moved,
        _ => return Wakes::default(),
    };
    let of = |path: &PathBuf| match path.file_name() {
        // The directory itself is not what it was; its rights alone would not matter, and are rarely changed.
        _ if directories.contains(path) => ANYTHING,
        Some(name) => meaning(name, happened, names),
        None => Wakes::default(),
    };
    let paths = event.paths.iter().map(of);
    paths.fold(Wakes::default(), |all, one| all | one)
}
