//! File events where the kernel has no queue to read them from: told by a thread of `notify`'s.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::{Happened, WatchedNames, meaning};
use crate::model::wakeup::{Wake, Wakes};

/// Keeps the thread that tells of events.
pub struct Source {
    _watcher: RecommendedWatcher,
}

impl Source {
    pub fn start(directories: &[&Path], places: &[PathBuf], wake: Arc<Wake>) -> io::Result<Source> {
        let names: Vec<WatchedNames> = places.iter().map(|path| WatchedNames::of(path)).collect();
        let told = move |event: notify::Result<Event>| {
            let wakes = match event {
                Ok(event) => wakes(&event, &names),
                // An error means events were lost, the same as an overflow.
                Err(_) => Wakes::FILE | Wakes::REPLACED,
            };
            if !wakes.is_empty() {
                wake.signal(wakes);
            }
        };
        let mut watcher = notify::recommended_watcher(told).map_err(io::Error::other)?;
        for directory in directories {
            watcher
                .watch(directory, RecursiveMode::NonRecursive)
                .map_err(io::Error::other)?;
        }
        Ok(Source { _watcher: watcher })
    }

    /// Goes on all the same.
    pub fn pause(&mut self) {}

    pub fn resume(&mut self) -> io::Result<()> {
        Ok(())
    }

    pub fn refresh(&mut self) {}

    pub fn is_ended(&self) -> bool {
        false
    }

    pub fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    pub fn deaf_until(&self) -> Option<Instant> {
        None
    }

    pub fn take(&mut self) -> Wakes {
        Wakes::default()
    }
}

/// What an event means. Opening, closing and reading are events too, the daemon's own among them: not for us.
fn wakes(event: &Event, names: &[WatchedNames]) -> Wakes {
    if event.need_rescan() {
        return Wakes::FILE | Wakes::NEARBY | Wakes::REPLACED;
    }
    let happened = match event.kind {
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => Happened::Written,
        EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) => Happened::Moved,
        _ => return Wakes::default(),
    };
    let names_of_files = event.paths.iter().filter_map(|path| path.file_name());
    names_of_files
        .map(|name| meaning(name, happened, names))
        .fold(Wakes::default(), |all, one| all | one)
}
