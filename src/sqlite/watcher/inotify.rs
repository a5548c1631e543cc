//! File events on Linux, read where they are waited for.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{
    CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch,
};
use rustix::io::Errno;

use super::{Happened, Names, meaning};
use crate::wake::{Wake, Wakes};

/// Written, and all that may put another file in the place of one. Opening, reading and closing are left out: they tell
/// nothing, and the daemon's own would wake it for ever.
const EVENTS: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Room for some dozens of events; what does not fit is read by the next call.
const BUFFER: usize = 4096;

/// The kernel's queue of events.
pub struct Source {
    queue: OwnedFd,
    directories: Vec<PathBuf>,
    watches: Vec<i32>,
    names: Vec<Names>,
    buffer: Box<[MaybeUninit<u8>]>,
}

impl Source {
    pub fn start(directories: &[&Path], names: Vec<Names>, _: Arc<Wake>) -> io::Result<Source> {
        let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(explained)?;
        let mut source = Source {
            queue,
            directories: directories.iter().map(|path| path.into()).collect(),
            watches: Vec::new(),
            names,
            buffer: Box::new_uninit_slice(BUFFER),
        };
        source.resume()?;
        Ok(source)
    }

    /// The queue stays: to close it would wait for the kernel to be done with its watches.
    pub fn pause(&mut self) {
        for watch in self.watches.drain(..) {
            // One whose directory is gone has ended by itself.
            let _ = remove_watch(&self.queue, watch);
        }
    }

    pub fn resume(&mut self) -> io::Result<()> {
        for directory in &self.directories {
            let watch = add_watch(&self.queue, directory, EVENTS).map_err(explained)?;
            self.watches.push(watch);
        }
        Ok(())
    }

    pub fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.as_fd())
    }

    pub fn take(&mut self) -> Wakes {
        let mut found = Wakes::default();
        let mut events = Reader::new(self.queue.as_fd(), &mut self.buffer);
        // An error says that there are none. More than one buffer of them are taken at the next turn: a call to hear
        // that there are no more would cost as much as the first one.
        while let Ok(event) = events.next() {
            let ended = event.events().contains(ReadFlags::IGNORED);
            // The kernel tells of the end of a watch that was paused, too.
            if !ended || self.watches.contains(&event.wd()) {
                found = found | wakes(event.events(), event.file_name(), &self.names);
            }
            if events.is_buffer_empty() {
                break;
            }
        }
        found
    }
}

/// The kernel says "no space left on device" and "too many open files" of limits of its own.
fn explained(error: Errno) -> io::Error {
    let limit = match error {
        Errno::NOSPC => "fs.inotify.max_user_watches",
        Errno::MFILE => "fs.inotify.max_user_instances, or the descriptor limit,",
        _ => return error.into(),
    };
    io::Error::other(format!("{limit} is used up"))
}

fn wakes(events: ReadFlags, name: Option<&std::ffi::CStr>, names: &[Names]) -> Wakes {
    // Events were lost, or the directory itself is not what it was.
    let gone = ReadFlags::QUEUE_OVERFLOW
        | ReadFlags::DELETE_SELF
        | ReadFlags::MOVE_SELF
        | ReadFlags::UNMOUNT
        | ReadFlags::IGNORED;
    if events.intersects(gone) {
        return Wakes::FILE | Wakes::NEARBY | Wakes::REPLACED;
    }
    let Some(name) = name else {
        return Wakes::default();
    };
    let happened = if events.contains(ReadFlags::MODIFY) {
        Happened::Written
    } else {
        Happened::Moved
    };
    meaning(OsStr::from_bytes(name.to_bytes()), happened, names)
}
