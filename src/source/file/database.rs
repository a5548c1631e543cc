//! The database file while it is open.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::config::Config;
use crate::source::schedule::{OpenFile, Seen};
use crate::sqlite::companions::Companions;
use crate::sqlite::error::Unavailable;
use crate::sqlite::file::{FileId, real_path};
use crate::sqlite::mounts_and_links::{Mounts, SharedFile};
use crate::sqlite::open::{
    journal_mode, open_reading, schema_version, switch_to_wal, tidy_on_close,
};
use crate::sqlite::rollback_journal;
use crate::sqlite::wal_memory::WalMemory;

/// Statements of the connection, and as many of each feed, kept prepared: preparing one takes longer than running it.
const STATEMENTS: usize = 16;
/// A held connection never waits long: the next look comes soon, and other feeds wait meanwhile.
pub(crate) const BUSY: Duration = Duration::from_millis(5);

/// The open file.
pub(crate) struct Database {
    pub connection: Connection,
    pub file: FileId,
    /// The path as it was configured.
    path: PathBuf,
    /// The same without symbolic links.
    real: PathBuf,
    /// Why it is only read, and stays in its journal mode.
    other_name: Option<SharedFile>,
    /// Since before it was looked for other names.
    mounts: Mounts,
    /// What the connection has open beside the file; `None` while that is not in WAL mode.
    companions: Option<Companions>,
    pub seen: Seen,
    pub schema_version: i64,
    is_wal: bool,
    pub mode: String,
    /// A journal that was there without a transaction.
    resting_journal: Option<FileId>,
    /// `None` without a state directory.
    wal_memory: Option<WalMemory>,
    /// It was said why it is not in WAL mode.
    told: bool,
}

/// Whether the path still leads to what is open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathState {
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
pub(super) struct Apart {
    file: FileId,
    real: PathBuf,
    companions: Companions,
}

impl Apart {
    /// Returns whether the database's path still names the same file.
    pub(super) fn is_same_file(&self, database: &Path) -> bool {
        FileId::of(database) == Some(self.file)
    }

    /// The suffixes of the files that went away by now.
    pub(super) fn suffixes(&self) -> Vec<&'static str> {
        self.companions.changed(&Companions::of(&self.real))
    }
}

impl Database {
    /// Opens the file that is configured. An empty one is left alone: to open it costs nothing, but what is in it by the
    /// time is not read before there is something.
    pub(crate) fn open(config: &Config, feeds: usize) -> Result<Database, Unavailable> {
        let path = &config.database;
        let before = FileId::of(path);
        if std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0) {
            return Err(Unavailable::Empty(path.clone()));
        }
        let connection = open_reading(path, BUSY)?;
        keep_statements(&connection, feeds);
        let mode = journal_mode(&connection).map_err(|e| Unavailable::from_sqlite(&e, path))?;
        // A file replaced between the two looks would be served under the wrong identity.
        let file = FileId::of(path).filter(|after| Some(*after) == before);
        let file =
            file.ok_or_else(|| Unavailable::Busy(format!("{} is being replaced", path.display())))?;
        let schema_version =
            schema_version(&connection).map_err(|e| Unavailable::from_sqlite(&e, path))?;
        let real = real_path(path);
        let state_dir = config.state_dir.as_deref();
        let mut database = Database {
            connection,
            file,
            path: path.clone(),
            wal_memory: state_dir.map(|directory| WalMemory::new(directory, path)),
            real,
            mounts: Mounts::watch(),
            other_name: SharedFile::of(path),
            companions: None,
            seen: Seen::Unknown,
            schema_version,
            is_wal: mode == "wal",
            mode,
            resting_journal: None,
            told: false,
        };
        if let Some(other) = &database.other_name {
            tracing::warn!(
                "{} {other}: it is served in journal mode {}, never written, and not switched to WAL",
                path.display(),
                database.mode
            );
        }
        if database.is_wal {
            database.note_companions()?;
        }
        Ok(database)
    }

    /// The file is in WAL mode: from now on `-wal` and `-shm` are to stay what they are. They were made by the first
    /// read at the latest.
    fn note_companions(&mut self) -> Result<(), Unavailable> {
        schema_version(&self.connection).map_err(|e| Unavailable::from_sqlite(&e, &self.path))?;
        self.companions = Some(Companions::of(&self.real));
        if let Some(memory) = &self.wal_memory {
            memory.note(self.file);
        }
        Ok(())
    }

    /// Has the next look read the schema again, though nobody changed it.
    pub(crate) fn forget_schema(&mut self) {
        // SQLite counts in 32 bits.
        self.schema_version = i64::MIN;
        self.seen = Seen::Unknown;
    }

    /// What the schedule has to know of it.
    pub(crate) fn situation(&self) -> OpenFile {
        OpenFile {
            is_wal: self.is_wal,
            seen: self.seen,
        }
    }

    /// Looks up the journal mode, which is walcast's or somebody else's to change.
    pub(super) fn look_up_mode(&mut self) -> Result<(), Unavailable> {
        let mode = schema_version(&self.connection).and_then(|_| journal_mode(&self.connection));
        let mode = mode.map_err(|e| Unavailable::from_sqlite(&e, &self.path))?;
        let was_wal = std::mem::replace(&mut self.is_wal, mode == "wal");
        self.mode = mode;
        match self.is_wal && !was_wal {
            true => self.note_companions(),
            false => Ok(()),
        }
    }

    /// Switches the file to WAL where that can be done now. In the log it says what it did, or once why not. Returns
    /// whether it is done, or may be done some time soon.
    pub(super) fn switch_to_wal(&mut self) -> bool {
        if self.other_name.is_some() || self.is_journal_kept() || self.is_set_back() {
            return true;
        }
        let (path, mode) = (self.path.display(), &self.mode);
        match switch_to_wal(&self.path) {
            Ok(true) => tracing::info!(
                "{path} switched from {mode} to wal; back with: sqlite3 {path} 'PRAGMA journal_mode = {mode}' while walcast is \
                 stopped, and journal_mode = \"keep\", which a writer needs that sets journal_mode or locking_mode itself"
            ),
            Ok(false) => return false,
            Err(reason) if !self.told => {
                tracing::info!("in journal mode {mode} until it can be switched to WAL: {reason}");
                self.told = true;
            }
            Err(reason) => tracing::debug!("not in WAL mode yet: {reason}"),
        }
        true
    }

    /// Returns whether a writer keeps its journal when it commits: it sets `journal_mode` to PERSIST or TRUNCATE
    /// itself, and would be refused in WAL mode. True only of one seen twice: the first time a transaction may just
    /// begin or end.
    fn is_journal_kept(&mut self) -> bool {
        let resting = rollback_journal::at_rest(&self.real);
        let before = std::mem::replace(&mut self.resting_journal, resting);
        if resting.is_some() && resting == before && !self.told {
            tracing::warn!(
                "{} stays in its journal mode: beside it lies a -journal, as a writer leaves it that sets journal_mode to PERSIST \
                 or TRUNCATE itself, and in WAL mode that writer would get \"database is locked\"; say journal_mode = \"keep\", \
                 or remove the -journal once there is no such writer",
                self.path.display()
            );
            self.told = true;
        }
        resting.is_some()
    }

    /// Returns whether the file was in WAL mode before, and somebody set it back. It is switched once only: a writer
    /// that sets `journal_mode` itself can do so whenever walcast is down, and would be refused again and again.
    fn is_set_back(&mut self) -> bool {
        let memory = self.wal_memory.as_ref();
        let is_set_back = memory.is_some_and(|memory| memory.knows(self.file));
        if is_set_back && !self.told {
            let (path, mode) = (self.path.display(), &self.mode);
            tracing::warn!(
                "{path} stays in journal mode {mode}: it was in WAL mode, and somebody set it back, as a writer does that sets \
                 journal_mode itself, which would get \"database is locked\" in WAL mode; say journal_mode = \"keep\", or, \
                 where there is no such writer: sqlite3 {path} 'PRAGMA journal_mode = wal'"
            );
            self.told = true;
        }
        is_set_back
    }

    /// Returns whether a transaction is being written to a rollback journal.
    pub(crate) fn is_being_written(&self) -> bool {
        !self.is_wal && rollback_journal::is_hot(&self.real)
    }

    /// Compares what is open with what the path leads to.
    pub(super) fn path_state(&self) -> PathState {
        match FileId::of(&self.path) {
            None => return PathState::Gone,
            Some(now) if now != self.file => return PathState::Replaced,
            Some(_) => {}
        }
        // More than one system call tells of its names is looked into only when a mount may have changed it.
        let renamed = match self.mounts.changed() {
            true => SharedFile::of(&self.path) != self.other_name,
            false => {
                let known = self.other_name.as_ref().filter(|other| other.is_of_file());
                SharedFile::of_file(&self.path).as_ref() != known
            }
        };
        if renamed || self.other_name.is_some() && self.is_wal {
            return PathState::Renamed;
        }
        let apart = self
            .companions
            .filter(|_| self.is_wal)
            .map(|companions| Apart {
                file: self.file,
                real: self.real.clone(),
                companions,
            });
        match apart.filter(|apart| !apart.suffixes().is_empty()) {
            Some(apart) => PathState::Apart(apart),
            None => PathState::Same,
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let has_one_name = || SharedFile::of(&self.path).is_none();
        if self.other_name.is_none() && self.path_state() == PathState::Same && has_one_name() {
            // Where that fails the files stay, which SQLite does not mind.
            let _ = tidy_on_close(&self.connection);
        }
    }
}

/// Keeps the statements of so many feeds prepared.
pub(crate) fn keep_statements(connection: &Connection, feeds: usize) {
    connection.set_prepared_statement_cache_capacity(STATEMENTS + STATEMENTS * feeds);
}

/// Moves whenever another connection committed. About 2 µs in WAL mode.
pub(crate) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}
