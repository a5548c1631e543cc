//! Where a table ends, as a connection of its own sees it at this moment: for who comes while the feed loop has not seen
//! all that was committed, because there is too much of it or because somebody holds the file.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::sqlite::file::companion;
use crate::sqlite::open::open_reading;
use crate::sqlite::table::Table;
use crate::sqlite::uri::open_by_uri;

/// What a lock may cost one who only wants to know where the table ends.
const BUSY: Duration = Duration::from_millis(50);
/// A file that was written to more recently is not looked at beneath a lock, but waited for: what is in it may not be
/// committed.
const SETTLED: Duration = Duration::from_millis(100);
/// What a journal begins with while the transaction it belongs to is not committed (SQLite's file format, section 3).
const HOT: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// The highest id of the table that is committed; `None` where it can't be told. Takes a quarter of a second at most.
pub fn highest(path: &Path, table: &Table) -> Option<i64> {
    let connection = open_reading(path, BUSY).ok();
    let read = connection.and_then(|connection| table.max_key(&connection).ok());
    read.unwrap_or_else(|| beneath_lock(path, table))
}

/// The same without a lock, for a process may keep one between its transactions. With a rollback journal what it has
/// committed is in the file. In WAL mode that is as of the last checkpoint: an id that is too low, if any.
fn beneath_lock(path: &Path, table: &Table) -> Option<i64> {
    let before = settled(path)?;
    let connection = open_by_uri(path, "immutable=1").ok()?;
    let highest = table.max_key(&connection).ok()?;
    // Were it written to meanwhile, this would be of no moment at all.
    highest.filter(|_| settled(path) == Some(before))
}

/// When the file was last written to; `None` where a transaction may be half in it.
fn settled(path: &Path) -> Option<SystemTime> {
    let modified = || fs::metadata(path).ok()?.modified().ok();
    let written = modified()?;
    // A time in the future says nothing.
    let quiet = written.elapsed().ok()?;
    if quiet < SETTLED {
        std::thread::sleep(SETTLED - quiet);
    }
    (modified()? == written && !is_hot(path)).then_some(written)
}

fn is_hot(path: &Path) -> bool {
    // Locks are on the database file: to open its journal releases none of them.
    let Ok(mut journal) = fs::File::open(companion(path, "-journal")) else {
        return false;
    };
    let mut magic = [0; 8];
    journal.read_exact(&mut magic).is_ok() && magic == HOT
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_table_is_seen_beneath_a_lock_that_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b%?#.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch(
                "CREATE TABLE t(id INTEGER PRIMARY KEY); PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES (7)",
            )
            .unwrap();
        let table = Table::introspect(&writer, "t", None).unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - SETTLED * 2).unwrap();
        assert_eq!(highest(&path, &table), Some(7));
        // Not while a transaction may be in it.
        fs::write(companion(&path, "-journal"), HOT).unwrap();
        assert_eq!(highest(&path, &table), None);
    }
}
