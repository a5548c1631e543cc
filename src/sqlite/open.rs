//! Opening connections with the right pragmas, and saying in words why a file can't be opened or read.
//!
//! The file is never opened with plain file calls: closing any descriptor of it would drop all POSIX locks SQLite
//! holds on it in this process. `stat` by path is safe.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::ffi::SQLITE_READONLY_ROLLBACK;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::{Deserialize, Serialize};

use crate::sqlite::mounts_and_links::{self, SharedFile};
use crate::sqlite::wal_permissions;

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

/// Why the database can't be served right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// The file is not there (yet). Normal: the writer may create it later.
    NoFile(PathBuf),
    /// The file is there, and has nothing in it (yet): its writer is about to make it a database, and is left alone.
    Empty(PathBuf),
    /// The file is there, the table is not (yet). Normal as well.
    NoTable(String),
    /// Somebody holds a lock; passes by itself.
    Busy(String),
    /// Something an operator has to mend.
    Broken { kind: &'static str, reason: String },
}

impl Unavailable {
    /// Label of `walcast_database_errors_total`; `None` for states that are no error.
    pub fn error_kind(&self) -> Option<&'static str> {
        match self {
            Unavailable::NoFile(_) | Unavailable::Empty(_) | Unavailable::NoTable(_) => None,
            Unavailable::Busy(_) => Some("busy"),
            Unavailable::Broken { kind, .. } => Some(kind),
        }
    }

    /// What is said of it to clients. It names no path of this machine; the log has the rest.
    pub fn public_message(&self) -> String {
        let message = match self {
            Unavailable::NoFile(_) => {
                "the database does not exist yet; it is served as soon as a writer creates it"
            }
            Unavailable::Empty(_) => {
                "the database is empty; it is served as soon as a writer has made a table in it"
            }
            Unavailable::NoTable(_) => return self.to_string(),
            Unavailable::Busy(_) => "the database is locked by another process",
            Unavailable::Broken { kind, reason } => match *kind {
                "unfit_table" | "unreadable" | "corrupt_table" => return reason.clone(),
                "not_a_database" => "the database file is not a SQLite database",
                "corrupt" => "the database is corrupt",
                "permission" => "the daemon has no right to open the database",
                other => {
                    mounts_and_links::public_message(other).unwrap_or("the database can't be read")
                }
            },
        };
        match self {
            Unavailable::Broken { .. } => format!("{message}; the daemon's log says more"),
            _ => message.to_owned(),
        }
    }

    /// Why one table can't be read, though the file can.
    pub fn of_table(error: &rusqlite::Error, table: &str) -> Unavailable {
        let (kind, reason) = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => (
                "corrupt_table",
                format!(
                    "the table {table} is corrupt ({error}); restore it from a backup or run `.recover` in the sqlite3 shell"
                ),
            ),
            Some(ErrorCode::SystemIoFailure) => (
                "unreadable",
                format!("the table {table} can't be read ({error})"),
            ),
            _ => (
                "unreadable",
                format!(
                    "the table {table} can't be read ({error}); a column that needs what only its writer's process has, such \
                     as a function or a collation, can be left out with `exclude`"
                ),
            ),
        };
        Unavailable::Broken { kind, reason }
    }

    /// Puts what SQLite said into words an operator can act on.
    pub fn from_sqlite(error: &rusqlite::Error, path: &Path) -> Unavailable {
        let code = error.sqlite_error_code();
        let shown = path.display();
        let extended = error.sqlite_error().map(|error| error.extended_code);
        let broken = |kind, reason| Unavailable::Broken { kind, reason };
        match code {
            _ if FileId::of(path).is_none() && code != Some(ErrorCode::PermissionDenied) => {
                missing(path)
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Unavailable::Busy(format!("{shown} is locked by another process ({error})"))
            }
            Some(ErrorCode::NotADatabase) => broken(
                "not_a_database",
                format!("{shown} is not a SQLite database; point `database` at the right file"),
            ),
            Some(ErrorCode::DatabaseCorrupt) => broken(
                "corrupt",
                format!(
                    "{shown} is corrupt ({error}); restore it from a backup or run `sqlite3 {shown} .recover`"
                ),
            ),
            _ if extended == Some(SQLITE_READONLY_ROLLBACK) => broken(
                "half_done",
                format!(
                    "{shown} holds a transaction that a crash left half done; the next writer that opens it undoes it"
                ),
            ),
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                broken(
                    "permission",
                    format!(
                        "{shown} can't be opened ({error}); the daemon's user must be able to read and write the file and its directory"
                    ),
                )
            }
            _ => broken("io", format!("{shown} can't be read ({error})")),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::NoFile(path) => write!(
                f,
                "the database {} does not exist yet; it is served as soon as a writer creates it",
                path.display()
            ),
            Unavailable::Empty(path) => write!(
                f,
                "{} is empty; it is served as soon as a writer has made a table in it",
                path.display()
            ),
            Unavailable::NoTable(table) => write!(
                f,
                "the table {table} does not exist yet; it is served as soon as a writer creates it"
            ),
            Unavailable::Busy(reason) | Unavailable::Broken { reason, .. } => f.write_str(reason),
        }
    }
}

/// A path that can't be looked at is not the same as one that isn't there.
fn missing(path: &Path) -> Unavailable {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Unavailable::Broken {
            kind: "permission",
            reason: format!(
                "{} can't be looked up ({e}); the daemon's user needs search rights on every directory above it",
                path.display()
            ),
        },
        _ => Unavailable::NoFile(path.to_owned()),
    }
}

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
                kind: "not_a_database",
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
