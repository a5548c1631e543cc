//! The files of a database: which file a path names, and what SQLite keeps beside it.

use std::path::{Path, PathBuf};

pub use crate::os::file_id::FileId;

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

/// The directory a path lies in, as far as its text tells.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
