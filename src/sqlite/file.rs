//! The files of a database: which file a path names, and what SQLite keeps beside it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Which file a path names at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
    /// Nanoseconds since 1970; 0 where the file system keeps no birth time. Tells a reused inode number.
    pub born: u64,
}

impl FileId {
    /// The file behind `path`, through symbolic links; `None` where there is none.
    pub fn of(path: &Path) -> Option<FileId> {
        let meta = std::fs::metadata(path).ok()?;
        let born = meta
            .created()
            .ok()
            .and_then(|t: SystemTime| t.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |d| d.as_nanos() as u64);
        Some(FileId {
            device: meta.dev(),
            inode: meta.ino(),
            born,
        })
    }
}

/// The file that SQLite keeps beside a database under its name and this suffix, e.g. `-wal`.
pub fn companion(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The path without symbolic links; as it is where it can't be followed.
pub fn real_path(database: &Path) -> PathBuf {
    std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned())
}
