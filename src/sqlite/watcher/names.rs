//! Which file names matter, and what an event on one of them means.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::model::wakeup::Wakes;

/// The names in a directory whose events matter.
pub(super) struct WatchedNames {
    database: OsString,
    written: [OsString; 2],
    /// They stay the same for as long as anybody has the database open in WAL mode.
    lasting: [OsString; 2],
}

impl WatchedNames {
    pub(super) fn of(path: &Path) -> WatchedNames {
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
pub(super) enum Happened {
    Written,
    /// It came, went, was renamed or got other rights.
    Moved,
}

/// What an event means for the names watched.
pub(super) fn meaning(name: &OsStr, happened: Happened, names: &[WatchedNames]) -> Wakes {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
