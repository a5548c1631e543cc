//! File events on the database, `-wal` and `-journal`, turned into wakes; and on the directory, because those come and
//! go: the directory of the real file, because the database may be a symbolic link.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::WatchMode;
use crate::model::wakeup::{Waiter, Wakes};
use crate::sqlite::file::FileId;

/// On Linux the feed loop reads the events itself, unless it is told otherwise. A thread between the two costs a
/// wake-up, preempts the writer on its own core, and takes each of a commit's four writes for itself.
#[cfg(target_os = "linux")]
mod inotify;
/// Not where `notify` uses kqueue: that opens the files it watches, and to close one of them drops SQLite's locks on it.
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod notified;

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
trait FileEvents: Send {
    /// As [`Watcher::readable`].
    fn readable(&self) -> BorrowedFd<'_>;
    /// As [`Watcher::take`].
    fn take(&mut self) -> Wakes;
    /// As [`Watcher::pause`].
    fn pause(&mut self);
    /// As [`Watcher::resume`].
    fn resume(&mut self) -> io::Result<()>;

    /// As [`Watcher::refresh`]. Nothing is to be done where directories alone are watched.
    fn refresh(&mut self) {}

    /// As [`Watcher::deaf_until`].
    fn deaf_until(&self) -> Option<Instant> {
        None
    }

    /// Returns whether something is not told of any more, and another start may mend it.
    fn is_ended(&self) -> bool {
        false
    }
}

/// Watches the directories in which the database file and the links to it live. Stops when dropped.
pub struct Watcher {
    events: Box<dyn FileEvents>,
    /// The paths whose events count, for noticing when a link came to point elsewhere, be it in the same directory.
    places: Vec<PathBuf>,
    /// The directories watched, for noticing when one of them became another.
    directories: Vec<(PathBuf, Option<FileId>)>,
}

/// As many links in a row as the kernel follows.
const MAX_LINKS: usize = 40;

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

fn directories(places: &[PathBuf]) -> Vec<(PathBuf, Option<FileId>)> {
    let mut paths: Vec<PathBuf> = places.iter().map(|path| directory_of(path)).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| {
            let id = FileId::of(&path);
            (path, id)
        })
        .collect()
}

/// The path as given, what each link on the way points to (there or not: a writer may be about to make it), and the
/// real file, where links to directories make that another path still.
fn places(database: &Path) -> Vec<PathBuf> {
    let mut places = vec![database.to_owned()];
    let mut last = database.to_owned();
    while places.len() <= MAX_LINKS
        && let Ok(target) = std::fs::read_link(&last)
    {
        last = directory_of(&last).join(target);
        places.push(last.clone());
    }
    if let Ok(real) = std::fs::canonicalize(database)
        && std::path::absolute(&last).ok().as_deref() != Some(&real)
    {
        places.push(real);
    }
    places
}

/// The directory a path lies in, as far as its text tells.
pub fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The names in a directory whose events matter.
struct WatchedNames {
    database: OsString,
    written: [OsString; 2],
    /// They stay the same for as long as anybody has the database open in WAL mode.
    lasting: [OsString; 2],
}

impl WatchedNames {
    fn of(path: &Path) -> WatchedNames {
        let database = path.file_name().unwrap_or_default().to_owned();
        let with = |suffix: &str| {
            let mut name = database.clone();
            name.push(suffix);
            name
        };
        WatchedNames {
            written: [with("-wal"), with("-journal")],
            lasting: [with("-wal"), with("-shm")],
            database,
        }
    }
}

/// What happened to a file of some name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    Written,
    /// It came, went, was renamed or got other rights.
    Moved,
}

/// What an event means for the names watched.
fn meaning(name: &OsStr, happened: Happened, names: &[WatchedNames]) -> Wakes {
    let mut found = Wakes::default();
    for names in names {
        let moved = happened == Happened::Moved;
        if moved && names.lasting.iter().any(|lasting| lasting == name) {
            found = found | Wakes::REPLACED;
        }
        if *name == names.database {
            found = found | Wakes::NEARBY;
            if moved {
                found = found | Wakes::REPLACED;
            }
        } else if names.written.iter().any(|written| written == name) {
            found = found | if moved { Wakes::NEARBY } else { Wakes::FILE };
        }
    }
    found
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// What the system has.
    fn backends() -> impl Iterator<Item = Backend> {
        let chosen = [WatchMode::Auto, WatchMode::Notify].map(Backend::of);
        chosen.into_iter().flatten()
    }

    /// A directory with `db`, a link to `link`, a link to `first`, which is not there yet.
    fn linked() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        symlink("link", dir.path().join("db")).unwrap();
        symlink("first", dir.path().join("link")).unwrap();
        let database = dir.path().join("db");
        (dir, database)
    }

    #[test]
    fn every_link_and_what_it_points_to_is_a_place() {
        let (dir, database) = linked();
        let dangling = places(&database);
        let expected = ["db", "link", "first"].map(|name| dir.path().join(name));
        assert_eq!(dangling, expected);
        std::fs::write(dir.path().join("first"), "").unwrap();
        assert_eq!(places(&database)[..3], expected);
    }

    #[test]
    fn a_link_pointed_elsewhere_in_its_directory_is_noticed() {
        for backend in backends() {
            let (dir, database) = linked();
            let watcher = Watcher::start(&database, backend).unwrap();
            assert!(watcher.is_current(&database));
            symlink("second", dir.path().join("new")).unwrap();
            std::fs::rename(dir.path().join("new"), dir.path().join("link")).unwrap();
            assert!(!watcher.is_current(&database));
        }
    }

    #[test]
    fn only_a_write_to_wal_or_journal_can_be_followed_by_a_commit() {
        let names = [WatchedNames::of(Path::new("/dir/db"))];
        let of = |name: &str, happened| meaning(OsStr::new(name), happened, &names);
        assert_eq!(of("db-wal", Happened::Written), Wakes::FILE);
        assert_eq!(of("db-journal", Happened::Written), Wakes::FILE);
        // A checkpoint; a journal that is deleted, which is the commit; another file put in place.
        assert_eq!(of("db", Happened::Written), Wakes::NEARBY);
        assert_eq!(of("db-journal", Happened::Moved), Wakes::NEARBY);
        assert_eq!(of("db", Happened::Moved), Wakes::NEARBY | Wakes::REPLACED);
        for other in ["db-shm", "db2", "other-wal"] {
            assert_eq!(of(other, Happened::Written), Wakes::default());
        }
    }

    #[test]
    fn links_in_a_circle_come_to_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("db");
        symlink("db", &database).unwrap();
        assert!(places(&database).len() <= MAX_LINKS + 1);
        for backend in backends() {
            assert!(Watcher::start(&database, backend).is_ok());
        }
    }

    #[test]
    fn a_link_into_a_directory_still_to_be_made_is_watched_itself() {
        for backend in backends() {
            let dir = tempfile::tempdir().unwrap();
            let database = dir.path().join("db");
            symlink("later/db", &database).unwrap();
            let watcher = Watcher::start(&database, backend).unwrap();
            assert!(watcher.is_current(&database));
            std::fs::create_dir(dir.path().join("later")).unwrap();
            assert!(!watcher.is_current(&database));
        }
    }

    /// Takes events until there are such ones.
    fn hear(watcher: &mut Watcher, wanted: Wakes) {
        let waiter = Waiter::new().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !watcher.take().contains(wanted) {
            waiter.wait_until(deadline, Some(watcher.readable()));
            assert!(Instant::now() < deadline, "{wanted:?} never came");
        }
    }

    #[test]
    fn each_back_end_tells_of_the_same() {
        for backend in backends() {
            let parent = tempfile::tempdir().unwrap();
            let directory = parent.path().join("directory");
            std::fs::create_dir(&directory).unwrap();
            let database = directory.join("db");
            let mut watcher = Watcher::start(&database, backend).unwrap();
            std::fs::write(&database, "a").unwrap();
            hear(&mut watcher, Wakes::REPLACED);
            std::fs::write(directory.join("db-wal"), "a").unwrap();
            hear(&mut watcher, Wakes::REPLACED);
            std::fs::write(directory.join("db-wal"), "b").unwrap();
            hear(&mut watcher, Wakes::FILE);
            std::fs::remove_file(directory.join("db-wal")).unwrap();
            hear(&mut watcher, Wakes::REPLACED);
            std::fs::rename(&directory, parent.path().join("elsewhere")).unwrap();
            hear(&mut watcher, Wakes::REPLACED);
            assert!(!watcher.is_current(&database));
        }
    }

    #[test]
    fn nothing_is_told_while_paused_and_all_again_afterwards() {
        for backend in backends() {
            let dir = tempfile::tempdir().unwrap();
            let (database, wal) = (dir.path().join("db"), dir.path().join("db-wal"));
            std::fs::write(&database, "a").unwrap();
            std::fs::write(&wal, "a").unwrap();
            let mut watcher = Watcher::start(&database, backend).unwrap();
            watcher.pause();
            std::fs::write(&wal, "b").unwrap();
            watcher.resume().unwrap();
            // Events come in their order: one of the time of the pause would be here before this.
            std::fs::write(&database, "b").unwrap();
            let waiter = Waiter::new().unwrap();
            let mut heard = Wakes::default();
            while !heard.contains(Wakes::NEARBY) {
                waiter.wait_until(
                    Instant::now() + Duration::from_secs(1),
                    Some(watcher.readable()),
                );
                heard = heard | watcher.take();
            }
            assert!(!heard.contains(Wakes::FILE), "{backend:?}: {heard:?}");
            std::fs::write(&wal, "c").unwrap();
            hear(&mut watcher, Wakes::FILE);
        }
    }
}
