//! File events on the database's directory, turned into wakes. The directory, because `-wal` and `-shm` come and go;
//! the directory of the real file, because the database may be a symbolic link.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::sqlite::open::FileId;
use crate::wake::{Wake, Wakes};

/// Watches the directories in which the database file and the links to it live. Stops when dropped.
pub struct Watcher {
    _watcher: RecommendedWatcher,
    /// The paths whose events count, for noticing when a link came to point elsewhere, be it in the same directory.
    places: Vec<PathBuf>,
    /// The directories watched, for noticing when one of them became another.
    directories: Vec<(PathBuf, Option<FileId>)>,
}

/// As many links in a row as the kernel follows.
const MAX_LINKS: usize = 40;

impl Watcher {
    /// Starts watching. Fails where no directory is there or the system is out of watches; the safety poll serves alone then.
    pub fn start(database: &Path, wake: Arc<Wake>) -> notify::Result<Watcher> {
        let places = places(database);
        let names: Vec<Names> = places.iter().map(|path| Names::of(path)).collect();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let wakes = match event {
                Ok(event) => wakes(&event, &names),
                // An error means events were lost, the same as an overflow.
                Err(_) => Wakes::FILE | Wakes::REPLACED,
            };
            if !wakes.is_empty() {
                wake.signal(wakes);
            }
        })?;
        let directories = directories(&places);
        // A dangling link may lead into a directory that is still to be made: the others are watched meanwhile.
        let none_there = directories.iter().all(|(_, id)| id.is_none());
        for (directory, id) in &directories {
            if id.is_some() || none_there {
                watcher.watch(directory, RecursiveMode::NonRecursive)?;
            }
        }
        Ok(Watcher {
            _watcher: watcher,
            places,
            directories,
        })
    }

    /// Whether these are still the files and directories to watch, and the directories are still there.
    pub fn is_current(&self, database: &Path) -> bool {
        let places = places(database);
        self.places == places && self.directories == directories(&places)
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

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The names in a directory whose events matter.
struct Names {
    database: OsString,
    written: [OsString; 2],
}

impl Names {
    fn of(path: &Path) -> Names {
        let database = path.file_name().unwrap_or_default().to_owned();
        let with = |suffix: &str| {
            let mut name = database.clone();
            name.push(suffix);
            name
        };
        Names {
            written: [with("-wal"), with("-journal")],
            database,
        }
    }
}

/// What an event means. Opening, closing and reading are events too, the daemon's own among them: not for us.
fn wakes(event: &Event, names: &[Names]) -> Wakes {
    if event.need_rescan() {
        return Wakes::FILE | Wakes::REPLACED;
    }
    let moved = match event.kind {
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => false,
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
            true
        }
        // The directory itself lost its rights or was moved away.
        EventKind::Modify(ModifyKind::Metadata(_)) => true,
        _ => return Wakes::default(),
    };
    let mut found = Wakes::default();
    for name in event.paths.iter().filter_map(|path| path.file_name()) {
        for names in names {
            if name == names.database {
                found = found | Wakes::FILE;
                if moved {
                    found = found | Wakes::REPLACED;
                }
            } else if names.written.iter().any(|written| name == written) {
                found = found | Wakes::FILE;
            }
        }
    }
    found
}

/// Whether file events arrive for a change in `directory`, tried with a file of our own; for `walcast check`.
pub fn events_arrive(directory: &Path) -> anyhow::Result<bool> {
    let probe = directory.join(format!(".walcast-check-{}", std::process::id()));
    let (sender, receiver) = std::sync::mpsc::channel();
    let name = probe.file_name().unwrap_or_default().to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if let Ok(event) = event
            && matches!(event.kind, EventKind::Modify(ModifyKind::Data(_)))
            && event
                .paths
                .iter()
                .any(|path| path.file_name() == Some(&name))
        {
            let _ = sender.send(());
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    let written = std::fs::write(&probe, b"walcast check: do file events arrive here?");
    let arrived = receiver
        .recv_timeout(std::time::Duration::from_secs(1))
        .is_ok();
    let _ = std::fs::remove_file(&probe);
    written?;
    Ok(arrived)
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
