//! The database file as the feed loop holds it open.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::config::{Config, JournalMode};
use crate::probe::Probe;
use crate::sqlite::companions::{Companions, real_path};
use crate::sqlite::open::{
    FileId, Unavailable, companion, journal_mode, open_reading, schema_version, switch_to_wal,
    tidy_on_close,
};
use crate::sqlite::other_name::OtherName;
use crate::tracked::Tracked;

/// Statements of the connection, and as many of each feed, kept prepared: preparing one takes longer than running it.
const STATEMENTS: usize = 16;
/// A held connection never waits long: the next look comes soon, and other feeds wait meanwhile.
pub const BUSY: Duration = Duration::from_millis(5);

/// A row may wait for so long while others are written to a rollback journal.
const LONGEST_PUT_OFF: Duration = Duration::from_millis(30);

/// The open file.
pub struct Database {
    pub connection: Connection,
    pub file: FileId,
    /// The path as it was configured.
    path: PathBuf,
    /// The same without symbolic links.
    real: PathBuf,
    /// Why it is only read, and stays in its journal mode.
    pub other_name: Option<OtherName>,
    /// What the connection has open beside the file; `None` while that is not in WAL mode.
    companions: Option<Companions>,
    /// `None`: look whatever the version says.
    pub data_version: Option<i64>,
    pub schema_version: i64,
    /// The last look left rows unread.
    pub unfinished: bool,
    pub wal: bool,
    pub mode: String,
    pub next_wal_attempt: Instant,
    /// Since when looks are put off.
    put_off: Option<Instant>,
    /// `None` until it is needed under this schema.
    pub probe: Option<Probe>,
}

/// Whether the path still leads to what is open.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    Same,
    /// There is no such file any more.
    Gone,
    /// It names another file.
    Replaced,
    /// The file got another name, lost it, or was put in WAL mode although it has one.
    Renamed,
    /// Files beside it were removed or replaced: commits are written elsewhere now, and not seen.
    Apart(Apart),
}

/// What was open when files beside the database went away.
#[derive(Debug, PartialEq, Eq)]
pub struct Apart {
    file: FileId,
    real: PathBuf,
    companions: Companions,
}

impl Apart {
    /// Whether the database's path still names the same file.
    pub fn is_same_file(&self, database: &Path) -> bool {
        FileId::of(database) == Some(self.file)
    }

    /// The suffixes of the files that went away by now.
    pub fn suffixes(&self) -> Vec<&'static str> {
        self.companions.changed(&Companions::of(&self.real))
    }
}

impl Database {
    /// Opens the file that is configured, and switches it to WAL where that is wanted and can be done now.
    pub fn open(config: &Config) -> Result<Database, Unavailable> {
        let path = &config.database;
        let before = FileId::of(path);
        let connection = open_reading(path, BUSY)?;
        connection
            .set_prepared_statement_cache_capacity(STATEMENTS + STATEMENTS * config.feeds.len());
        let mode = journal_mode(&connection).map_err(|e| Unavailable::from_sqlite(&e, path))?;
        // A file replaced between the two looks would be served under the wrong identity.
        let file = FileId::of(path).filter(|after| Some(*after) == before);
        let file =
            file.ok_or_else(|| Unavailable::Busy(format!("{} is being replaced", path.display())))?;
        let wal = mode == "wal";
        let schema_version =
            schema_version(&connection).map_err(|e| Unavailable::from_sqlite(&e, path))?;
        let mut database = Database {
            connection,
            file,
            path: path.clone(),
            real: real_path(path),
            other_name: OtherName::of(path),
            companions: None,
            data_version: None,
            schema_version,
            unfinished: false,
            wal,
            mode,
            next_wal_attempt: Instant::now(),
            put_off: None,
            probe: None,
        };
        if let Some(other) = &database.other_name {
            tracing::warn!(
                "{} {other}: it is served in journal mode {}, never written, and not switched to WAL",
                path.display(),
                database.mode
            );
        } else if !database.wal && config.journal_mode == JournalMode::Wal {
            match switch_to_wal(path) {
                Ok(true) => (database.wal, database.mode) = (true, "wal".to_owned()),
                Ok(false) => {}
                Err(reason) => tracing::info!(
                    "in journal mode {} until it can be switched to WAL: {reason}",
                    database.mode
                ),
            }
        }
        if database.wal {
            database.note_companions()?;
        }
        Ok(database)
    }

    /// The file is in WAL mode: from now on `-wal` and `-shm` are to stay what they are. They were made by the first
    /// read at the latest.
    pub fn note_companions(&mut self) -> Result<(), Unavailable> {
        schema_version(&self.connection).map_err(|e| Unavailable::from_sqlite(&e, &self.path))?;
        self.companions = Some(Companions::of(&self.real));
        Ok(())
    }

    /// Whether a look is better put off, for a transaction is being written to a file with a rollback journal: the look
    /// takes a lock that its commit has to wait for. Of transactions without a pause between them each would put it off,
    /// so not for ever.
    pub fn is_being_written(&mut self, now: Instant) -> bool {
        let hot = !self.wal && journal_is_hot(&self.real);
        if !hot {
            self.put_off = None;
            return false;
        }
        let since = *self.put_off.get_or_insert(now);
        let put_off = now.saturating_duration_since(since) < LONGEST_PUT_OFF;
        if !put_off {
            self.put_off = None;
        }
        put_off
    }

    /// Compares what is open with what the path leads to.
    pub fn standing(&self) -> Standing {
        match FileId::of(&self.path) {
            None => return Standing::Gone,
            Some(now) if now != self.file => return Standing::Replaced,
            Some(_) => {}
        }
        // Where it has more names than one system call tells, that is looked into when it is opened.
        let other_name = OtherName::of_file(&self.path);
        let known = self.other_name.as_ref().filter(|other| other.is_of_file());
        if other_name.as_ref() != known || self.other_name.is_some() && self.wal {
            return Standing::Renamed;
        }
        let apart = self
            .companions
            .filter(|_| self.wal)
            .map(|companions| Apart {
                file: self.file,
                real: self.real.clone(),
                companions,
            });
        match apart.filter(|apart| !apart.suffixes().is_empty()) {
            Some(apart) => Standing::Apart(apart),
            None => Standing::Same,
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.other_name.is_none() && self.standing() == Standing::Same {
            // Where that fails the files stay, which SQLite does not mind.
            let _ = tidy_on_close(&self.connection);
        }
    }
}

/// The highest id of each feed's table, as far as [`Probe`] tells.
pub fn tops(
    connection: &Connection,
    probe: &mut Option<Probe>,
    feeds: &[Tracked],
) -> rusqlite::Result<Vec<Option<i64>>> {
    let probe = match probe {
        Some(probe) => probe,
        None => probe.insert(Probe::new(connection, feeds)?),
    };
    probe.tops(connection, feeds.len())
}

/// Moves whenever another connection committed. About 2 µs in WAL mode.
pub fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

/// Whether a transaction is being written to a file with a rollback journal: the journal begins with a header, which
/// the commit takes away, and was written just now. Its writer may be gone.
fn journal_is_hot(real: &Path) -> bool {
    const JUST_NOW: Duration = Duration::from_millis(20);
    // SQLite's locks are on the database, so a descriptor of the journal may be closed.
    let Ok(mut journal) = std::fs::File::open(companion(real, "-journal")) else {
        return false;
    };
    let mut magic = [0; 8];
    if journal.read_exact(&mut magic).is_err() || magic == [0; 8] {
        return false;
    }
    let written = journal.metadata().and_then(|meta| meta.modified()).ok();
    let age = written.and_then(|written| written.elapsed().ok());
    age.is_none_or(|age| age < JUST_NOW)
}
