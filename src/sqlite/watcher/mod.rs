//! File events on the database, `-wal` and `-journal`, turned into wakes; and on the directory, because those come and
//! go: the directory of the real file, because the database may be a symbolic link.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::wakeup::{Waiter, Wake, Wakes};
use crate::sqlite::file::FileId;

/// On Linux the feed loop reads the events itself. A thread between the two costs a wake-up, preempts the writer on its
/// own core, and takes each of a commit's four writes for itself.
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(target_os = "linux")]
use inotify::Source;
#[cfg(not(target_os = "linux"))]
mod notified;
#[cfg(not(target_os = "linux"))]
use notified::Source;

/// Watches the directories in which the database file and the links to it live. Stops when dropped.
pub struct Watcher {
    source: Source,
    /// The paths whose events count, for noticing when a link came to point elsewhere, be it in the same directory.
    places: Vec<PathBuf>,
    /// The directories watched, for noticing when one of them became another.
    directories: Vec<(PathBuf, Option<FileId>)>,
}

/// As many links in a row as the kernel follows.
const MAX_LINKS: usize = 40;

impl Watcher {
    /// Starts watching. Fails where no directory is there or the system is out of watches; the safety poll serves alone then.
    ///
    /// Where the events can't be read from a descriptor, `wake` is told of them.
    pub fn start(database: &Path, wake: Arc<Wake>) -> io::Result<Watcher> {
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
            source: Source::start(&watched, &places, wake)?,
            places,
            directories,
        })
    }

    /// What can be read when there are events to [`take`](Self::take); `None` where `wake` is told of them.
    pub fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.source.readable()
    }

    /// Until when it is not worth while to read events, which are other files' and many; `None` where it always is.
    pub fn deaf_until(&self) -> Option<Instant> {
        self.source.deaf_until()
    }

    /// Brings no further events until [`resume`](Self::resume): each costs who makes it, and so does a watch by itself.
    pub fn pause(&mut self) {
        self.source.pause();
    }

    /// Brings events again. Of what happened meanwhile there are none.
    ///
    /// # Errors
    /// As [`start`](Self::start); the watcher is of no use then.
    pub fn resume(&mut self) -> io::Result<()> {
        self.source.resume()
    }

    /// Watches the files that are there now, where no event may have told of their coming.
    pub fn refresh(&mut self) {
        self.source.refresh();
    }

    /// Takes the events there are, without waiting.
    pub fn take(&mut self) -> Wakes {
        self.source.take()
    }

    /// Returns whether these are still the files and directories to watch, and the directories are still there.
    pub fn is_current(&self, database: &Path) -> bool {
        let places = places(database);
        !self.source.is_ended() && self.places == places && self.directories == directories(&places)
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

/// Whether file events arrive for a change in `directory`, tried with a file of our own; for `walcast check`.
pub fn events_arrive(directory: &Path) -> io::Result<bool> {
    let probe = directory.join(format!(".walcast-check-{}", std::process::id()));
    let created = std::fs::File::create(&probe);
    let tried = created.and_then(|mut file| write_and_hear(&probe, &mut file));
    let _ = std::fs::remove_file(&probe);
    tried
}

fn write_and_hear(probe: &Path, file: &mut std::fs::File) -> io::Result<bool> {
    let waiter = Waiter::new()?;
    let mut watcher = Watcher::start(probe, Arc::clone(waiter.wake()))?;
    io::Write::write_all(file, b"walcast check: do file events arrive here?")?;
    let deadline = Instant::now() + PROBE_PATIENCE;
    loop {
        let wakes = waiter.wait_until(deadline, watcher.readable()) | watcher.take();
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
        let (dir, database) = linked();
        let watcher = Watcher::start(&database, Arc::default()).unwrap();
        assert!(watcher.is_current(&database));
        symlink("second", dir.path().join("new")).unwrap();
        std::fs::rename(dir.path().join("new"), dir.path().join("link")).unwrap();
        assert!(!watcher.is_current(&database));
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
        assert!(Watcher::start(&database, Arc::default()).is_ok());
    }

    #[test]
    fn a_link_into_a_directory_still_to_be_made_is_watched_itself() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("db");
        symlink("later/db", &database).unwrap();
        let watcher = Watcher::start(&database, Arc::default()).unwrap();
        assert!(watcher.is_current(&database));
        std::fs::create_dir(dir.path().join("later")).unwrap();
        assert!(!watcher.is_current(&database));
    }
}
