//! Writes what comes from an origin into the spool, a batch a transaction.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, TransactionBehavior, params_from_iter};

use super::changes::{ChangeShape, SpooledChange, Taken};
use super::feed::{
    begin, describe, described, drop_table, forget_marks, keeps_changes, reach, remove_feed,
    take_change,
};
use super::prune::{self, SpoolLimits};
use super::{STATES, SpoolState, ddl, descriptions, state};
use crate::model::filter::quote_identifier;
use crate::sqlite::error::Unavailable;
use crate::sqlite::file::{FileId, companion, directory_of};
use crate::sqlite::open::open_writing;
use crate::sqlite::whole_row::{TableDescription, WholeValue};
use crate::wire::control::ResetReason;

/// How long a transaction waits for locks; nobody else writes but an operator.
const BUSY: Duration = Duration::from_secs(5);

/// What comes of a feed, in order.
#[derive(Debug)]
pub enum SpoolItem {
    /// What its rows are of.
    Table(Arc<TableDescription>),
    /// Rows of this history follow. `goes_on`: they follow on what is here; else it began for this reason.
    Begin {
        epoch: String,
        goes_on: bool,
        reason: ResetReason,
    },
    Row {
        shape: Arc<RowShape>,
        values: Vec<WholeValue>,
    },
    /// A change of a captured table, whose rows as they are come as those of others do.
    Change {
        shape: Arc<RowShape>,
        change: SpooledChange,
    },
    /// Everything up to this id has come.
    UpTo(i64),
    /// The origin does not have the feed any more.
    Removed,
}

/// How rows of a description are taken in.
#[derive(Debug)]
pub struct RowShape {
    pub(super) insert: String,
    columns: usize,
    pub(super) log: Option<(String, ChangeShape)>,
}

impl RowShape {
    /// Rows as this description has them.
    pub fn of(table: &TableDescription) -> RowShape {
        RowShape {
            insert: ddl::insert(table),
            columns: table.columns.len(),
            log: table.log_table().zip(ChangeShape::of(table)),
        }
    }

    /// Returns how changes of them are taken in; `None` where the feed is of rows.
    pub fn changes(&self) -> Option<&ChangeShape> {
        self.log.as_ref().map(|(_, changes)| changes)
    }

    /// Returns how many values a row has.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// Up to where the spool has a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolPosition {
    pub epoch: String,
    /// `None` before every row.
    pub id: Option<i64>,
    /// The feed is one of changes.
    pub is_of_changes: bool,
}

/// What a batch came to, beside its rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub rows: usize,
    /// Feeds that are to be had anew, from their first row on: their tables have another shape, or changes are missing. What
    /// followed of them was not taken in.
    pub refill: Vec<String>,
    /// Feeds that the origin shows otherwise than they are served here.
    pub reworded: Vec<String>,
    /// Feeds whose histories began anew.
    pub begun: Vec<String>,
}

/// The one connection that writes to a spool.
pub struct SpoolWriter {
    path: PathBuf,
    file: Option<FileId>,
    connection: Connection,
    /// Of each feed: the history that was served last, so that a file made anew goes on with it.
    served: HashMap<String, (String, i64)>,
    /// Changes are kept for no longer than at the origin.
    keeps_changes: bool,
}

impl SpoolWriter {
    /// Opens the spool, made where there is none. One that is no database, or garbled, is put out of the way: what it held
    /// comes again.
    ///
    /// # Errors
    /// It can't be made or written to.
    pub fn open(path: &Path) -> Result<SpoolWriter, Unavailable> {
        match opened(path) {
            Err(Unavailable::Broken { reason, .. }) if path.is_file() => {
                tracing::warn!(
                    "{} can't be used as a spool ({reason}); it is made anew",
                    path.display()
                );
                remove(path);
                opened(path)
            }
            other => other,
        }
        .map(|connection| {
            // Where it can't be read, feeds are described anew.
            let known = descriptions(&connection).unwrap_or_default();
            SpoolWriter {
                file: FileId::of(path),
                path: path.to_owned(),
                connection,
                served: HashMap::new(),
                keeps_changes: known.iter().any(keeps_changes),
            }
        })
    }

    /// Where the spool is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the path still names the file that is open.
    pub fn is_there(&self) -> bool {
        FileId::of(&self.path) == self.file && self.file.is_some()
    }

    /// Opens what the path names by now, made where there is nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_anew(&mut self) -> Result<(), Unavailable> {
        let mut anew = SpoolWriter::open(&self.path)?;
        anew.served = std::mem::take(&mut self.served);
        *self = anew;
        Ok(())
    }

    /// Puts the spool out of the way, for it can't be read, and begins another.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn start_over(&mut self) -> Result<(), Unavailable> {
        remove(&self.path);
        self.open_anew()
    }

    /// Returns up to where the spool has a feed; `None` where it has nothing to go on from.
    ///
    /// # Errors
    /// It can't be read.
    pub fn position(&mut self, feed: &str) -> rusqlite::Result<Option<SpoolPosition>> {
        let Some(state) = state(&self.connection, feed)? else {
            return Ok(None);
        };
        self.remember(feed, &state);
        let table = self.description(feed)?;
        // Of a captured table that has come in part nobody can tell which part that is.
        let goes_on = |table: &TableDescription| {
            let is_there = !state.is_removed && !state.epoch.is_empty();
            is_there && (state.is_whole || table.changes.is_none())
        };
        let Some(table) = table.filter(goes_on) else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT max({}) FROM {}",
            quote_identifier(&table.key),
            quote_identifier(&table.positions_table())
        );
        let highest: Option<i64> = self.connection.query_row(&sql, [], |row| row.get(0))?;
        Ok(Some(SpoolPosition {
            epoch: state.epoch,
            id: highest.max(state.head),
            is_of_changes: table.changes.is_some(),
        }))
    }

    /// The feeds there are.
    ///
    /// # Errors
    /// The spool can't be read.
    pub fn feeds(&self) -> rusqlite::Result<Vec<TableDescription>> {
        descriptions(&self.connection)
    }

    /// Takes a batch in, all of it or nothing.
    ///
    /// # Errors
    /// It can't be written; nothing of it was.
    pub fn import<'i>(
        &mut self,
        batch: impl IntoIterator<Item = (&'i str, &'i SpoolItem)>,
    ) -> rusqlite::Result<Imported> {
        let mut imported = Imported::default();
        let mut states: HashMap<&str, SpoolState> = HashMap::new();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (feed, item) in batch {
            let is_void = imported.refill.iter().any(|refill| refill == feed);
            if is_void && !matches!(item, SpoolItem::Removed) {
                // It follows on what was here a moment ago, and is not all there is.
                continue;
            }
            if !states.contains_key(feed)
                && let Some(state) = state(&transaction, feed)?
            {
                states.insert(feed, state);
            }
            let known = states.get(feed);
            let served = self.served.get(feed);
            match item {
                SpoolItem::Table(table) => {
                    let is_same = describe(&transaction, (feed, known), table, &mut imported)?;
                    self.keeps_changes |= keeps_changes(table);
                    if let Some(state) = states.get_mut(feed).filter(|_| !is_same) {
                        state.forget();
                    }
                }
                SpoolItem::Begin {
                    epoch,
                    goes_on,
                    reason,
                } => {
                    let goes_on = *goes_on
                        && known.is_some_and(|state| state.epoch == *epoch && !state.is_removed);
                    if !goes_on {
                        let state = begin(&transaction, (feed, known), served, (epoch, *reason))?;
                        imported.begun.push(feed.to_owned());
                        states.insert(feed, state);
                    }
                }
                SpoolItem::Row { shape, values } => {
                    let mut insert = transaction.prepare_cached(&shape.insert)?;
                    insert.execute(params_from_iter(values))?;
                    imported.rows += 1;
                }
                SpoolItem::Change { shape, change } => {
                    match take_change(&transaction, (feed, known), shape, change)? {
                        Taken::Followed => imported.rows += 1,
                        Taken::Missing => {
                            imported.refill.push(feed.to_owned());
                            states.entry(feed).and_modify(SpoolState::forget);
                        }
                    }
                }
                SpoolItem::UpTo(id) => {
                    if let Some(state) = states.get_mut(feed) {
                        reach(&transaction, feed, state, *id)?;
                    }
                }
                SpoolItem::Removed => remove_feed(&transaction, feed)?,
            }
        }
        transaction.commit()?;
        for (feed, state) in states {
            self.remember(feed, &state);
        }
        Ok(imported)
    }

    /// Lets go of all that is here of a feed, which is had anew.
    ///
    /// # Errors
    /// It can't be written.
    pub fn discard(&mut self, feed: &str) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(table) = described(&transaction, feed)? {
            drop_table(&transaction, &table)?;
        }
        forget_marks(&transaction, feed)?;
        let sql = format!("DELETE FROM {STATES} WHERE feed = ?1");
        transaction.execute(&sql, [feed])?;
        transaction.commit()
    }

    /// Deletes some of what is beyond the limits. Returns how many rows went; 0 where nothing is left to do.
    ///
    /// # Errors
    /// It can't be written.
    pub fn prune(&mut self, limits: SpoolLimits, now: SystemTime) -> rusqlite::Result<usize> {
        if limits == SpoolLimits::default() && !self.keeps_changes {
            return Ok(0);
        }
        let tables = self.feeds()?;
        prune::prune(&mut self.connection, &tables, limits, now)
    }

    fn remember(&mut self, feed: &str, state: &SpoolState) {
        if !state.epoch.is_empty() {
            let served = (state.epoch.clone(), state.generation);
            self.served.insert(feed.to_owned(), served);
        }
    }

    fn description(&self, feed: &str) -> rusqlite::Result<Option<TableDescription>> {
        described(&self.connection, feed)
    }
}

fn opened(path: &Path) -> Result<Connection, Unavailable> {
    let broken = |e: std::io::Error| Unavailable::Broken {
        kind: crate::sqlite::error::BrokenKind::Unreadable,
        reason: format!("{}: {e}", path.display()),
    };
    let directory = directory_of(path);
    let mut made = std::fs::DirBuilder::new();
    made.recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(broken)?;
    // What is shown to nobody is in it, so it is the service's alone. Nobody has locks on a file that was not there.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match file {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(broken(e)),
        _ => {}
    }
    let unavailable = |e: rusqlite::Error| Unavailable::from_sqlite(&e, path);
    let connection = open_writing(path, BUSY, false)?;
    connection.set_prepared_statement_cache_capacity(256);
    // NORMAL: a spool that lost its last commits with the power has them sent again.
    let prepare =
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
                   PRAGMA journal_size_limit = 67108864";
    connection.execute_batch(prepare).map_err(unavailable)?;
    connection
        .execute_batch(&ddl::states())
        .map_err(unavailable)?;
    let has_reason = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = 'reason'";
    let has_reason = connection.query_row(has_reason, [STATES], |row| row.get::<_, bool>(0));
    if !has_reason.map_err(unavailable)? {
        connection
            .execute_batch(&ddl::add_reason())
            .map_err(unavailable)?;
    }
    Ok(connection)
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        // One that is not there is what is wanted; any other trouble is met when the file is opened.
        let _ = std::fs::remove_file(companion(path, suffix));
    }
}
