//! What the files of a state directory are called.

use std::path::{Path, PathBuf};

use super::fingerprint::fingerprint;

/// Returns the database's path as it is written down: from the root on, wherever the daemon is started.
pub fn absolute(database: &Path) -> PathBuf {
    std::path::absolute(database).unwrap_or_else(|_| database.to_owned())
}

/// Returns where something is kept of a database: one file for each, so that several daemons can share a directory. `name` is
/// a feed's or a sink's, and `ending` says what is kept: two things that may have the same name have other endings.
pub fn state_file(directory: &Path, database: &Path, name: &str, ending: &str) -> PathBuf {
    let hash = fingerprint(absolute(database).as_os_str().as_encoded_bytes());
    directory.join(format!("{name}-{hash:016x}.{ending}"))
}
