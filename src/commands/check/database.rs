//! Looks into the file without leaving a trace: no sidecar is created, no journal rolled back, no page written.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;

use super::DatabasePlace;
use super::report::{Report, quoted, size};
use super::{captures, feeds};
use crate::config::{Config, JournalMode};
use crate::os::users::{Owned, User};
use crate::sqlite::error::Unavailable;
use crate::sqlite::file::FileId;
use crate::sqlite::mounts_and_links::SharedFile;
use crate::sqlite::open::{names_are_names, open_reading, tidy_on_close};
use crate::sqlite::rollback_journal;
use crate::sqlite::uri::open_by_uri;
use crate::sqlite::wal_memory::WalMemory;
use crate::sqlite::wal_permissions;

/// How long a look waits for locks.
const BUSY: Duration = Duration::from_secs(2);
/// Above this a look at every page takes longer than somebody at a terminal, or a start, wants to wait.
const PROBED_UP_TO: u64 = 100 << 20;
/// Checkpoints keep a WAL at 4 MiB; one so much larger means that some reader keeps them from finishing.
const LARGE_WAL: u64 = 64 << 20;
/// SQLITE_READONLY_ROLLBACK: a journal has to be rolled back, by someone who may write.
const NEEDS_ROLLBACK: i32 = 776;

/// The opened file.
struct Opened {
    connection: Connection,
    wal: bool,
    /// Read as if nobody could write it: what is seen is the database file alone, and a write in the meantime may
    /// garble the view.
    frozen: bool,
}

/// Reports what the file is and what the feeds find in it. `Some(true)`: it is in WAL mode.
pub(super) fn look(config: &Config, place: &DatabasePlace, report: &mut Report) -> Option<bool> {
    if !place.exists {
        feeds::expect(config, report);
        return None;
    }
    let other_name = SharedFile::of(&place.real);
    if let Some(other) = other_name
        .as_ref()
        .filter(|_| wal_permissions::is_wal(&place.real))
    {
        report.problem("names", other.unreadable(&place.given).to_string(), &[]);
        return Some(true);
    }
    let (before, wal_before) = (version(&place.real), FileId::of(&place.companion("-wal")));
    let opened = match open(place, BUSY) {
        Ok(opened) => opened,
        Err(reason) => {
            reason.report(place, report);
            return None;
        }
    };
    let Opened {
        connection, wal, ..
    } = &opened;
    let wal = *wal;
    match other_name {
        Some(other) => names(&other, place, report),
        None => journal_mode(config, place, wal, report),
    }
    pages(place, &opened, before, report);
    feeds::look(config, place, connection, report);
    captures::look(config, connection, report);
    drop(opened);
    tidy(place, wal_before);
    Some(wal)
}

/// Asks something of the file, and leaves it and its directory as they were.
pub fn look_into<T>(
    path: &Path,
    ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Unavailable> {
    look_into_within(path, BUSY, ask)
}

/// The same, waiting for locks no longer than this.
pub fn look_into_within<T>(
    path: &Path,
    patience: Duration,
    ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Unavailable> {
    let place = DatabasePlace::of(path);
    if !place.exists {
        return Err(Unavailable::NoFile(path.to_owned()));
    }
    if let Some(other) =
        SharedFile::of(&place.real).filter(|_| wal_permissions::is_wal(&place.real))
    {
        return Err(other.unreadable(path));
    }
    let wal_before = FileId::of(&place.companion("-wal"));
    let opened = open(&place, patience).map_err(|reason| match reason {
        Unopened::HalfDone => Unavailable::Busy(format!(
            "{} holds a transaction that a crash left half done; walcast or the next writer undoes it",
            path.display()
        )),
        Unopened::Unavailable(reason) => reason,
    })?;
    let answer = ask(&opened.connection).map_err(|e| Unavailable::from_sqlite(&e, path));
    drop(opened);
    tidy(&place, wal_before);
    answer
}

/// A writer that was the last to close, just before it was joined here, took its sidecars along; SQLite made new ones
/// for this process then, which could lock that writer out. A connection that may write removes them when it is the last.
fn tidy(place: &DatabasePlace, before: Option<FileId>) {
    let wal = place.companion("-wal");
    let mine =
        std::fs::metadata(&wal).is_ok_and(|meta| Owned::of(&meta).uid == User::current().uid);
    if mine && FileId::of(&wal) != before {
        // Where this fails, somebody else has the file open, and removes them when it closes.
        let _ = open_reading(&place.real, BUSY)
            .map(|connection| tidy_on_close(&connection).and_then(|()| first_read(&connection)));
    }
}

/// Why the file can't be looked into.
#[derive(Debug)]
enum Unopened {
    /// A transaction that a crash left half done has to be undone first, which a look must not do.
    HalfDone,
    Unavailable(Unavailable),
}

impl Unopened {
    fn from(error: rusqlite::Error, path: &Path) -> Unopened {
        match error.sqlite_error().map(|error| error.extended_code) {
            Some(NEEDS_ROLLBACK) => Unopened::HalfDone,
            _ => Unopened::Unavailable(Unavailable::from_sqlite(&error, path)),
        }
    }

    fn report(&self, place: &DatabasePlace, report: &mut Report) {
        const LABEL: &str = "contents";
        match self {
            Unopened::HalfDone => report.note(
                LABEL,
                "not looked at: a crash left a transaction half done, which walcast or the next writer undoes",
            ),
            Unopened::Unavailable(Unavailable::Broken { reason, .. }) => {
                report.problem(LABEL, reason, &[]);
            }
            Unopened::Unavailable(Unavailable::Busy(reason)) => report.warn(
                LABEL,
                format!("{reason}; walcast waits for it"),
                &[format!("see who holds it: fuser -v {}", quoted(&place.real))],
            ),
            Unopened::Unavailable(missing) => report.note(LABEL, missing.to_string()),
        }
    }
}

/// Opens the file so that nothing is left behind. A connection that may only read creates `-wal` and `-shm` all the
/// same where they are missing, and can't remove them; so a WAL file that nobody has open is read as an immutable one.
fn open(place: &DatabasePlace, patience: Duration) -> Result<Opened, Unopened> {
    let path = &place.real;
    let refused = |e| Unopened::from(e, path);
    let in_use = place.companion("-wal").exists() && place.companion("-shm").exists();
    let (wal, parameters) = match () {
        _ if in_use => (true, ""),
        _ if is_wal(path, patience).map_err(refused)? => (true, "immutable=1"),
        _ => (false, ""),
    };
    let connection = connect(path, parameters, patience).map_err(refused)?;
    first_read(&connection).map_err(refused)?;
    Ok(Opened {
        connection,
        wal,
        frozen: !parameters.is_empty(),
    })
}

/// Without locks SQLite refuses a file in WAL mode, and only that; so its header tells the mode without a shared memory
/// being made for it.
fn is_wal(path: &Path, patience: Duration) -> rusqlite::Result<bool> {
    match connect(path, "nolock=1", patience).and_then(|connection| first_read(&connection)) {
        Ok(()) => Ok(false),
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) => {
            // It can't be opened in either way: then it is not for its mode.
            connect(path, "immutable=1", patience)
                .and_then(|connection| first_read(&connection))
                .map(|()| true)
        }
        Err(e) => Err(e),
    }
}

fn first_read(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

fn connect(path: &Path, parameters: &str, patience: Duration) -> rusqlite::Result<Connection> {
    let connection = open_by_uri(path, parameters)?;
    connection.busy_timeout(patience)?;
    names_are_names(&connection)?;
    Ok(connection)
}

/// What it means for a file with a rollback journal that it goes by two names.
fn names(other: &SharedFile, place: &DatabasePlace, report: &mut Report) {
    let text = format!(
        "the database {other}: it is served as long as it has a rollback journal; nothing is written to it, and it is never \
         switched to WAL"
    );
    report.warn("names", text, &[other.remedy(&place.given)]);
}

/// Returns whether walcast had the file open in WAL mode, by what the state directory holds.
fn is_set_back(config: &Config, place: &DatabasePlace) -> bool {
    let file = FileId::of(&place.real);
    let directory = config.state_dir.as_deref();
    let memory = directory.map(|directory| WalMemory::new(directory, &config.database));
    memory
        .zip(file)
        .is_some_and(|(memory, file)| memory.knows(file))
}

fn journal_mode(config: &Config, place: &DatabasePlace, wal: bool, report: &mut Report) {
    const LABEL: &str = "journal mode";
    match (wal, config.journal_mode) {
        (true, _) => report.ok(LABEL, "wal"),
        (false, JournalMode::Wal) if rollback_journal::at_rest(&place.real).is_some() => report.warn(
            LABEL,
            "rollback journal, which a writer keeps that sets journal_mode to PERSIST or TRUNCATE itself: walcast does not \
             switch it to WAL, where that writer would get \"database is locked\"",
            &["say journal_mode = \"keep\", or let the writer not set it and remove the -journal".to_owned()],
        ),
        (false, JournalMode::Wal) if is_set_back(config, place) => report.warn(
            LABEL,
            "rollback journal; it was in WAL mode, and somebody set it back, as a writer does that sets journal_mode itself: \
             walcast does not switch it again",
            &[format!(
                "say journal_mode = \"keep\", or, without such a writer: sqlite3 {} 'PRAGMA journal_mode = WAL'",
                quoted(&place.real)
            )],
        ),
        (false, JournalMode::Wal) => {
            report.ok(
                LABEL,
                "rollback journal; walcast switches it to WAL as soon as nobody else has it open. A writer that sets \
                 journal_mode or locking_mode itself gets \"database is locked\" then: with one, say journal_mode = \"keep\"",
            );
        }
        (false, JournalMode::Keep) => report.warn(
            LABEL,
            "rollback journal, and journal_mode = \"keep\": readers and writers wait for each other",
            &[format!("sqlite3 {} 'PRAGMA journal_mode = WAL'", quoted(&place.real))],
        ),
    }
    if wal && place.companion("-wal").exists() && !place.companion("-shm").exists() {
        report.note(
            LABEL,
            "a -wal without its -shm is there; the rows in it are not looked at here",
        );
    }
}

fn pages(place: &DatabasePlace, opened: &Opened, before: Option<Version>, report: &mut Report) {
    let number = |pragma: &str| {
        opened
            .connection
            .query_row(pragma, [], |row| row.get::<_, i64>(0))
            .unwrap_or_default()
    };
    let (count, bytes) = (number("PRAGMA page_count"), number("PRAGMA page_size"));
    let length = std::fs::metadata(&place.real).map_or(0, |meta| meta.len());
    let wal = std::fs::metadata(place.companion("-wal")).map_or(0, |meta| meta.len());
    let mut text = format!("{count} pages of {bytes} bytes");
    if wal > 0 {
        text.push_str(&format!(", {} in the WAL", size(wal)));
    }
    if length > PROBED_UP_TO {
        text.push_str(&format!(
            "; not probed, for it is larger than {}",
            size(PROBED_UP_TO)
        ));
        report.ok("contents", text);
    } else {
        probe(place, opened, before, text, report);
    }
    if wal > LARGE_WAL {
        report.warn(
            "contents",
            format!(
                "the WAL has grown to {}: some reader never ends, so no checkpoint does",
                size(wal)
            ),
            &[format!("find it: fuser -v {}", quoted(&place.real))],
        );
    }
}

fn probe(
    place: &DatabasePlace,
    opened: &Opened,
    before: Option<Version>,
    text: String,
    report: &mut Report,
) {
    let verdict: rusqlite::Result<String> =
        opened
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    let fault = match verdict {
        Ok(verdict) if verdict == "ok" => return report.ok("contents", format!("{text}, sound")),
        // Its heading and the fault are two lines.
        Ok(fault) => fault.trim().replace('\n', " "),
        Err(e) => e.to_string(),
    };
    if opened.frozen && (place.companion("-wal").exists() || version(&place.real) != before) {
        return report.note(
            "contents",
            format!("{text}; written to while it was probed, so nothing can be said of it"),
        );
    }
    let file = quoted(&place.real);
    let restore =
        format!("restore a backup, or: sqlite3 {file} .recover | sqlite3 {file}.recovered");
    report.problem("contents", format!("{text}, damaged: {fault}"), &[restore]);
}

/// Changes with every write to the file itself.
type Version = (u64, Option<SystemTime>);

fn version(path: &Path) -> Option<Version> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.len(), meta.modified().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn looking_leaves_no_trace_and_tells_the_mode() {
        for (mode, wal) in [("wal", true), ("delete", false)] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("odd ?#%.db");
            let writer = Connection::open(&path).unwrap();
            writer
                .execute_batch(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE t(a)"))
                .unwrap();
            let place = DatabasePlace::of(&path);
            let while_open = open(&place, BUSY).unwrap();
            assert_eq!(
                (while_open.wal, while_open.frozen),
                (wal, false),
                "{mode}, open elsewhere"
            );
            drop((while_open, writer));
            let before = (names(directory.path()), version(&path));
            let opened = open(&place, BUSY).unwrap();
            assert_eq!((opened.wal, opened.frozen), (wal, wal), "{mode}");
            drop(opened);
            assert_eq!((names(directory.path()), version(&path)), before, "{mode}");
        }
    }
}
