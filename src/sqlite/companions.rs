//! The files that SQLite keeps beside a database in WAL mode, while a connection has them open: which they are, for
//! noticing that somebody removed them or put others in their place.

use std::path::Path;

use crate::sqlite::file::{FileId, companion};

/// The companions that an open connection in WAL mode uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Companions {
    wal: Option<FileId>,
    shm: Option<FileId>,
}

impl Companions {
    /// Those beside `real`, which is a database's path without symbolic links: SQLite follows them before it names these.
    pub fn of(real: &Path) -> Companions {
        Companions {
            wal: FileId::of(&companion(real, "-wal")),
            shm: FileId::of(&companion(real, "-shm")),
        }
    }

    /// The suffixes of those that are not what they were.
    pub fn changed(&self, now: &Companions) -> Vec<&'static str> {
        let files = [("-wal", self.wal, now.wal), ("-shm", self.shm, now.shm)];
        let changed = files.iter().filter(|(_, before, now)| before != now);
        changed.map(|(suffix, ..)| *suffix).collect()
    }
}
