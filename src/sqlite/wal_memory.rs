//! Which file was in WAL mode, kept in the state directory: one that is not any more was set back by somebody.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sqlite::file::FileId;
use crate::sqlite::state_file::{absolute, state_file};

/// Remembers which file of a database's path was in WAL mode last.
#[derive(Debug)]
pub struct WalMemory {
    path: PathBuf,
    database: PathBuf,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Kept {
    database: PathBuf,
    file: FileId,
}

impl WalMemory {
    /// A file of its own for each database.
    pub fn new(directory: &Path, database: &Path) -> WalMemory {
        WalMemory {
            path: state_file(directory, database, "database", "wal.json"),
            database: absolute(database),
        }
    }

    /// Returns whether this file was in WAL mode while walcast had it open.
    pub fn knows(&self, file: FileId) -> bool {
        let kept = std::fs::read(&self.path).ok();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        kept.is_some_and(|kept| kept == self.with(file))
    }

    /// Notes that the file is in WAL mode. Where that can't be written, the log says so.
    pub fn note(&self, file: FileId) {
        if self.knows(file) {
            return;
        }
        let written = serde_json::to_vec(&self.with(file))
            .map_err(std::io::Error::from)
            .and_then(|bytes| {
                let mut open = OpenOptions::new();
                open.write(true).create(true).truncate(true).mode(0o600);
                open.open(&self.path)?.write_all(&bytes)
            });
        if let Err(e) = written {
            tracing::warn!(
                "{} can't be written ({e}): a writer that sets the journal mode back while walcast is down is not noticed",
                self.path.display()
            );
        }
    }

    fn with(&self, file: FileId) -> Kept {
        Kept {
            database: self.database.clone(),
            file,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::identity::Sample;
    use crate::sqlite::identity_store::{Identity, IdentityFiles};

    #[test]
    fn a_file_is_known_beside_a_feed_of_the_same_name() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("app.db");
        std::fs::write(&database, "").unwrap();
        let file = FileId::of(&database).unwrap();
        let memory = WalMemory::new(directory.path(), &database);
        assert!(!memory.knows(file));
        memory.note(file);
        let identity = Identity {
            database: database.clone(),
            table: "wal".to_owned(),
            epoch: "e".to_owned(),
            file: None,
            capture: None,
            head: 1,
            sample: Sample::default(),
        };
        let mut feed = IdentityFiles::new(directory.path(), &database, "wal");
        // It is kept in two files, in turn.
        for _ in 0..2 {
            feed.store(&identity).unwrap();
        }
        assert!(memory.knows(file));
        memory.note(file);
        let mut feed = IdentityFiles::new(directory.path(), &database, "wal");
        assert_eq!(feed.load().unwrap(), Some(identity));
    }
}
