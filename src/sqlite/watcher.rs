//! File events on the database's directory, turned into wakes. The directory, because `-wal` and `-shm` come and go;
//! the directory of the real file, because the database may be a symbolic link.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::sqlite::open::FileId;
use crate::wake::{Wake, Wakes};

/// Watches the directories in which the database file and a link to it live. Stops when dropped.
pub struct Watcher {
    _watcher: RecommendedWatcher,
    /// The directories watched, for noticing when the link, the file or the directory itself became another.
    directories: Vec<(PathBuf, Option<FileId>)>,
}

impl Watcher {
    /// Starts watching. Fails where the directory is missing or the system is out of watches; the safety poll serves alone then.
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
        for (directory, _) in &directories {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        Ok(Watcher {
            _watcher: watcher,
            directories,
        })
    }

    /// Whether these are still the directories to watch, and they are still there.
    pub fn is_current(&self, database: &Path) -> bool {
        self.directories == directories(&places(database))
    }
}

fn directories(places: &[PathBuf]) -> Vec<(PathBuf, Option<FileId>)> {
    let mut paths: Vec<PathBuf> = places.iter().map(|path| directory_of(path)).collect();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| (FileId::of(&path), path))
        .map(|(id, path)| (path, id))
        .collect()
}

/// The path as given and the real file behind it, where that is another.
fn places(database: &Path) -> Vec<PathBuf> {
    let mut places = vec![database.to_owned()];
    if let Ok(real) = std::fs::canonicalize(database)
        && std::path::absolute(database).ok().as_deref() != Some(&real)
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
