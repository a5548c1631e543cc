//! Why a database can't be opened or read, in words for operators, and in others for clients.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_READONLY_ROLLBACK;

use crate::sqlite::file::FileId;

/// What an operator has to mend: the label of `walcast_database_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenKind {
    /// The database is corrupt.
    Corrupt,
    /// One table is corrupt, or what finds its rows is.
    CorruptTable,
    /// A crash left a transaction half done, and this process may not undo it.
    HalfDone,
    /// In WAL mode, and it has several hard links.
    HardLinks,
    /// Whatever else SQLite says of a file that can't be read.
    Io,
    /// In WAL mode, and the file is a mount point of its own.
    MountPoint,
    /// The file is no SQLite database.
    NotADatabase,
    /// The daemon's user may not open it, or must not.
    Permission,
    /// The table can't be a feed as it is.
    UnfitTable,
    /// The table can't be read, though the file can.
    Unreadable,
}

impl BrokenKind {
    /// Every kind.
    pub const ALL: [BrokenKind; 10] = [
        BrokenKind::Corrupt,
        BrokenKind::CorruptTable,
        BrokenKind::HalfDone,
        BrokenKind::HardLinks,
        BrokenKind::Io,
        BrokenKind::MountPoint,
        BrokenKind::NotADatabase,
        BrokenKind::Permission,
        BrokenKind::UnfitTable,
        BrokenKind::Unreadable,
    ];

    /// Returns the label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            BrokenKind::Corrupt => "corrupt",
            BrokenKind::CorruptTable => "corrupt_table",
            BrokenKind::HalfDone => "half_done",
            BrokenKind::HardLinks => "hard_links",
            BrokenKind::Io => "io",
            BrokenKind::MountPoint => "mount_point",
            BrokenKind::NotADatabase => "not_a_database",
            BrokenKind::Permission => "permission",
            BrokenKind::UnfitTable => "unfit_table",
            BrokenKind::Unreadable => "unreadable",
        }
    }

    /// Returns whether the file goes by more than one name.
    pub fn is_of_names(self) -> bool {
        matches!(self, BrokenKind::MountPoint | BrokenKind::HardLinks)
    }
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
    /// An edge has not had all of the feed from its origin yet.
    Filling,
    /// An edge of streams alone can't have a feed of changes, which begins with the table as it is.
    OutOfReach,
    /// Rows that an edge has no more are its upstream's to give, which does not answer.
    Upstream,
    /// Something an operator has to mend.
    Broken { kind: BrokenKind, reason: String },
}

impl Unavailable {
    /// Label of `walcast_database_errors_total`; `None` for states that are no error.
    pub fn error_kind(&self) -> Option<&'static str> {
        match self {
            Unavailable::NoFile(_)
            | Unavailable::Empty(_)
            | Unavailable::NoTable(_)
            | Unavailable::Filling
            | Unavailable::OutOfReach
            | Unavailable::Upstream => None,
            Unavailable::Busy(_) => Some("busy"),
            Unavailable::Broken { kind, .. } => Some(kind.label()),
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
            Unavailable::NoTable(_)
            | Unavailable::Filling
            | Unavailable::OutOfReach
            | Unavailable::Upstream => return self.to_string(),
            Unavailable::Busy(_) => "the database is locked by another process",
            Unavailable::Broken { kind, reason } => match kind {
                BrokenKind::UnfitTable | BrokenKind::Unreadable | BrokenKind::CorruptTable => {
                    return reason.clone();
                }
                BrokenKind::NotADatabase => "the database file is not a SQLite database",
                BrokenKind::Corrupt => "the database is corrupt",
                BrokenKind::Permission => "the daemon has no right to open the database",
                BrokenKind::MountPoint => {
                    "the database is in WAL mode, and its file is a mount point of its own; mount the directory instead of the file"
                }
                BrokenKind::HardLinks => {
                    "the database is in WAL mode, and has several names (hard links); remove the others"
                }
                BrokenKind::HalfDone | BrokenKind::Io => "the database can't be read",
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
                BrokenKind::CorruptTable,
                format!(
                    "the table {table} is corrupt ({error}); restore it from a backup or run `.recover` in the sqlite3 shell"
                ),
            ),
            Some(ErrorCode::SystemIoFailure) => (
                BrokenKind::Unreadable,
                format!("the table {table} can't be read ({error})"),
            ),
            _ => (
                BrokenKind::Unreadable,
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
                BrokenKind::NotADatabase,
                format!("{shown} is not a SQLite database; point `database` at the right file"),
            ),
            Some(ErrorCode::DatabaseCorrupt) => broken(
                BrokenKind::Corrupt,
                format!(
                    "{shown} is corrupt ({error}); restore it from a backup or run `sqlite3 {shown} .recover`"
                ),
            ),
            _ if extended == Some(SQLITE_READONLY_ROLLBACK) => broken(
                BrokenKind::HalfDone,
                format!(
                    "{shown} holds a transaction that a crash left half done; the next writer that opens it undoes it"
                ),
            ),
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                broken(
                    BrokenKind::Permission,
                    format!(
                        "{shown} can't be opened ({error}); the daemon's user must be able to read and write the file and its directory"
                    ),
                )
            }
            _ => broken(BrokenKind::Io, format!("{shown} can't be read ({error})")),
        }
    }
}

/// Why an edge of streams alone can't have a feed of changes, and what can be done.
pub const OUT_OF_REACH: &str = "a feed of changes begins with the table as it is, which a stream can't give: name the daemon that has it in \
                                edge.upstream, beside edge.nats";

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
            Unavailable::Filling => f.write_str(
                "rows are being had from the origin; they are served once all have come",
            ),
            Unavailable::OutOfReach => f.write_str(OUT_OF_REACH),
            Unavailable::Upstream => f.write_str(
                "rows older than the edge's own are asked of its upstream, which does not answer",
            ),
            Unavailable::Busy(reason) | Unavailable::Broken { reason, .. } => f.write_str(reason),
        }
    }
}

/// Why there is nothing at `path`: a path that can't be looked at is not the same as one that isn't there.
pub(super) fn missing(path: &Path) -> Unavailable {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Unavailable::Broken {
            kind: BrokenKind::Permission,
            reason: format!(
                "{} can't be looked up ({e}); the daemon's user needs search rights on every directory above it",
                path.display()
            ),
        },
        _ => Unavailable::NoFile(path.to_owned()),
    }
}
