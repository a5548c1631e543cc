//! File events on Linux, read where they are waited for.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{
    CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch,
};
use rustix::io::Errno;

use super::backend::FileEvents;
use super::names::{Happened, WatchedNames, meaning};
use crate::model::wakeup::Wakes;
use crate::sqlite::file::companion;

/// All that may put another file in the place of one, or a new one there. Writing is not among them: a log file beside
/// the database may be written to all the time, and the kernel does not choose by name.
const COMINGS_AND_GOINGS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Opening, reading and closing are left out: they tell nothing, and the daemon's own would wake it for ever.
const WRITES: WatchFlags = WatchFlags::MODIFY;

/// Room for some dozens of events; what does not fit is read by the next call.
const BUFFER: usize = 4096;

/// From so many events in a row that were of other files, they are let gather.
const NOISE: u32 = 8;
/// So long: 200 wake-ups a second, and no row later than that.
const GATHERED_FOR: Duration = Duration::from_millis(5);
/// More in one go are left to the next turn; the kernel keeps as many.
const GATHERED: usize = 16_384;

/// The kernel's queue of events.
pub(super) struct KernelQueue {
    queue: OwnedFd,
    directories: Vec<PathBuf>,
    directory_watches: Vec<i32>,
    /// Watched one by one for writes: the database, `-wal` and `-journal`, where they are there.
    files: Vec<FileWatch>,
    names: Vec<WatchedNames>,
    buffer: Box<[MaybeUninit<u8>]>,
    /// Takes in a row that brought nothing but events of other files.
    noise: u32,
    /// Until then events are let gather.
    deaf_until: Option<Instant>,
    ended: bool,
}

struct FileWatch {
    path: PathBuf,
    watch: Option<i32>,
}

impl FileWatch {
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

impl KernelQueue {
    pub(super) fn start(directories: &[&Path], places: &[PathBuf]) -> io::Result<KernelQueue> {
        let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(explained)?;
        let files = places.iter().flat_map(|place| {
            ["", "-wal", "-journal"].map(|suffix| FileWatch {
                path: companion(place, suffix),
                watch: None,
            })
        });
        let mut events = KernelQueue {
            queue,
            directories: directories.iter().map(|path| path.into()).collect(),
            directory_watches: Vec::new(),
            files: files.collect(),
            names: places.iter().map(|path| WatchedNames::of(path)).collect(),
            buffer: Box::new_uninit_slice(BUFFER),
            noise: 0,
            deaf_until: None,
            ended: false,
        };
        events.resume()?;
        Ok(events)
    }

    /// Watches the files of such names, those of them that are there.
    fn watch_files(&mut self, wanted: impl Fn(&OsStr) -> bool) -> io::Result<()> {
        for file in self.files.iter_mut().filter(|file| wanted(file.name())) {
            file.watch = match add_watch(&self.queue, &file.path, WRITES) {
                Ok(watch) => Some(watch),
                Err(Errno::NOSPC) => return Err(explained(Errno::NOSPC)),
                // Not there, or gone again.
                Err(_) => None,
            };
        }
        Ok(())
    }

    /// The same; where there are no watches left, this queue is of no use any more.
    fn watch_files_or_end(&mut self, wanted: impl Fn(&OsStr) -> bool) {
        self.ended |= self.watch_files(wanted).is_err();
    }

    fn tell_noise(&mut self, noise: bool) {
        self.noise = if noise {
            self.noise.saturating_add(1)
        } else {
            0
        };
        self.deaf_until = (self.noise >= NOISE).then(|| Instant::now() + GATHERED_FOR);
    }
}

impl FileEvents for KernelQueue {
    fn readable(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    fn take(&mut self) -> Wakes {
        let gathered = self.deaf_until.take().is_some();
        let (mut found, mut taken) = (Wakes::default(), 0);
        let (mut came, mut lost) = (Vec::new(), false);
        let mut events = Reader::new(self.queue.as_fd(), &mut self.buffer);
        // An error says that there are none. More than one buffer of them are taken at the next turn: a call to hear
        // that there are no more would cost as much as the first one.
        while let Ok(event) = events.next() {
            taken += 1;
            let (flags, watch) = (event.events(), event.wd());
            if flags.contains(ReadFlags::IGNORED) && !self.directory_watches.contains(&watch) {
                // A file that was watched is gone, which its directory told as well; or the watch was paused.
                self.files
                    .iter_mut()
                    .filter(|file| file.watch == Some(watch))
                    .for_each(|file| file.watch = None);
            } else if let Some(file) = self.files.iter().find(|file| file.watch == Some(watch)) {
                found = found | meaning(file.name(), Happened::Written, &self.names);
            } else {
                let name = event
                    .file_name()
                    .map(|name| OsStr::from_bytes(name.to_bytes()));
                let wakes = comings_and_goings(flags, name, &self.names);
                found = found | wakes;
                lost |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
                if !wakes.is_empty() && flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                    came.extend(name.map(OsStr::to_owned));
                }
            }
            if events.is_buffer_empty() && !(gathered && taken < GATHERED) {
                break;
            }
        }
        if lost || !came.is_empty() {
            self.watch_files_or_end(|name| lost || came.iter().any(|came| came == name));
        }
        self.tell_noise(taken > 0 && found.is_empty());
        found
    }

    /// The queue stays: to close it would wait for the kernel to be done with its watches.
    fn pause(&mut self) {
        let files = self.files.iter_mut().filter_map(|file| file.watch.take());
        for watch in self.directory_watches.drain(..).chain(files) {
            // One whose file is gone has ended by itself.
            let _ = remove_watch(&self.queue, watch);
        }
    }

    fn resume(&mut self) -> io::Result<()> {
        // Before the files, so that one that comes meanwhile is heard of.
        for directory in &self.directories {
            let watch = add_watch(&self.queue, directory, COMINGS_AND_GOINGS).map_err(explained)?;
            self.directory_watches.push(watch);
        }
        self.watch_files(|_| true)
    }

    /// Watches the files that are there now. Of one mounted over another no event tells.
    fn refresh(&mut self) {
        if !self.directory_watches.is_empty() {
            self.watch_files_or_end(|_| true);
        }
    }

    fn deaf_until(&self) -> Option<Instant> {
        self.deaf_until
    }

    /// Some file is not watched for want of watches.
    fn is_ended(&self) -> bool {
        self.ended
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

/// What it means that this happened to a file of this name in a directory that is watched.
fn comings_and_goings(events: ReadFlags, name: Option<&OsStr>, names: &[WatchedNames]) -> Wakes {
    // Events were lost, or the directory itself is not what it was.
    let gone = ReadFlags::QUEUE_OVERFLOW
        | ReadFlags::DELETE_SELF
        | ReadFlags::MOVE_SELF
        | ReadFlags::UNMOUNT
        | ReadFlags::IGNORED;
    if events.intersects(gone) {
        return Wakes::FILE | Wakes::NEARBY | Wakes::REPLACED;
    }
    name.map_or_else(Wakes::default, |name| meaning(name, Happened::Moved, names))
}
