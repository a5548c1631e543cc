//! Opening connections with the right pragmas.
//!
//! The file is never opened with plain file calls: closing any descriptor of it would drop all POSIX locks SQLite
//! holds on it in this process. `stat` by path is safe.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::sqlite::error::{BrokenKind, Unavailable, missing};
use crate::sqlite::mounts_and_links::SharedFile;
use crate::sqlite::wal_permissions;

/// Opens a connection that only reads. `busy` is how long a statement waits for locks.
///
/// It is opened read-write where rights allow, so that it can recover a WAL left by a crash, and then forbidden to write.
/// Closed, it leaves the WAL alone, see [`tidy_on_close`].
pub fn open_reading(path: &Path, busy: Duration) -> Result<Connection, Unavailable> {
    let unavailable = |e: rusqlite::Error| Unavailable::from_sqlite(&e, path);
    // Asked first, for SQLite would say "unable to open" of a missing file, a directory and missing rights alike.
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return Err(Unavailable::Broken {
                kind: BrokenKind::NotADatabase,
                reason: format!(
                    "{} is a directory; `database` must name a file",
                    path.display()
                ),
            });
        }
        Ok(_) => {}
        Err(_) => return Err(missing(path)),
    }
    wal_permissions::check_opening(path)?;
    let access = match SharedFile::of(path) {
        None => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Some(other) if wal_permissions::is_wal(path) => return Err(other.unreadable(path)),
        // Nothing is rolled back either: the journal of this name may not be the one that belongs to the file.
        Some(_) => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(unavailable)?;
    connection.busy_timeout(busy).map_err(unavailable)?;
    names_are_names(&connection).map_err(unavailable)?;
    connection
        .execute_batch(
            "PRAGMA query_only = ON; PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY;",
        )
        .map_err(unavailable)?;
    leave_on_close(&connection, true).map_err(unavailable)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Makes a double-quoted name that is no column an error. SQLite would take it for a string, and a column renamed between
/// two reads would come as its own name in every row.
///
/// Not for a connection that writes: the triggers of the user's own that fire there may be written that way.
pub fn names_are_names(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    Ok(())
}

/// Has the connection do as SQLite's usually do when they are the last to close: write the WAL to the database and
/// remove `-wal` and `-shm`.
///
/// SQLite does that to the files of these names, whatever files they are by then. Where somebody put others in their
/// place, commits would be lost, and the database be garbled by pages of another time; so only who has just made sure
/// that they are the same may ask for it.
pub fn tidy_on_close(connection: &Connection) -> rusqlite::Result<()> {
    leave_on_close(connection, false)
}

/// Whether the connection leaves the WAL alone when it closes.
pub fn leave_on_close(connection: &Connection, leave: bool) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, leave)
        .map(drop)
}

/// Opens a connection that writes, creating the file when `create`. It closes as SQLite's usually do. A file that goes
/// by two names is not written to.
pub fn open_writing(path: &Path, busy: Duration, create: bool) -> Result<Connection, Unavailable> {
    let unavailable = |e: rusqlite::Error| Unavailable::from_sqlite(&e, path);
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    if let Some(other) = SharedFile::of(path) {
        return Err(other.unwritable(path));
    }
    wal_permissions::check_opening(path)?;
    let connection = Connection::open_with_flags(path, flags).map_err(unavailable)?;
    connection.busy_timeout(busy).map_err(unavailable)?;
    Ok(connection)
}

/// The file's journal mode in lower case: `wal`, `delete`, `truncate`, `persist`, ...
pub fn journal_mode(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))
}

/// Switches the file to WAL; needs a moment in which nobody else has it open. Returns whether it is in WAL now.
pub fn switch_to_wal(path: &Path) -> Result<bool, Unavailable> {
    wal_permissions::check_switching(path)?;
    let connection = open_writing(path, Duration::ZERO, false)?;
    let mode: rusqlite::Result<String> =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
    match mode {
        Ok(mode) => Ok(mode == "wal"),
        Err(e) => Err(Unavailable::from_sqlite(&e, path)),
    }
}

/// A read transaction: everything read while it lives is of one moment. Keep it short: no checkpoint gets past it.
pub struct Snapshot<'c>(&'c Connection);

impl<'c> Snapshot<'c> {
    /// Begins it. What it sees is fixed by the first statement that reads.
    pub fn begin(connection: &'c Connection) -> rusqlite::Result<Snapshot<'c>> {
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Snapshot(connection))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // Nothing was written, so there is nothing that could fail to commit; and a connection that can't even end a
        // read is found out by its next statement.
        let _ = self
            .0
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]));
    }
}

/// Changes whenever any table, index or view of the file does.
pub fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA schema_version")?
        .query_row([], |row| row.get(0))
}
