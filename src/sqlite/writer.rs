//! The daemon's own writing connection: inserts what is ingested. Its `update_hook` wakes the
//! feed loop, but only after the commit returned.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::hooks::Action;
use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, TransactionBehavior, params_from_iter};

use crate::model::filter::{Scope, quote_identifier};
use crate::model::wakeup::{Wake, Wakes};
use crate::sqlite::error::Unavailable;
use crate::sqlite::file::FileId;
use crate::sqlite::ingest_rows::NewRow;
use crate::sqlite::open::{leave_on_close, open_writing};
use crate::sqlite::open_connections::{OpenConnection, OpenConnections};
use crate::sqlite::table::Schema;

/// How long opening the file and making its table waits for other writers.
const BUSY: Duration = Duration::from_secs(5);

/// Why rows were not ingested; nothing was written.
#[derive(Debug)]
pub enum IngestError {
    /// The request is at fault; names the field.
    Invalid(String),
    /// A row would not be of the scope of whoever sends it.
    OutOfScope(String),
    /// Others held the database for too long, or it can't be written.
    Unavailable(Unavailable),
}

/// A connection that inserts.
pub struct Writer {
    path: PathBuf,
    wake: Arc<Wake>,
    open_connections: Arc<OpenConnections>,
    open: Option<OpenWriter>,
    /// Set by the `update_hook`, taken after the commit.
    changed: Arc<AtomicBool>,
    held: Duration,
}

struct OpenWriter {
    file: FileId,
    connection: Connection,
    /// Dropped after the connection.
    open_connection: OpenConnection,
}

impl Writer {
    /// A writer that opens the file at its first row, and sets off `wake` after each commit.
    pub fn new(path: PathBuf, wake: Arc<Wake>, open_connections: Arc<OpenConnections>) -> Writer {
        Writer {
            path,
            wake,
            open_connections,
            open: None,
            changed: Arc::default(),
            held: Duration::ZERO,
        }
    }

    /// Closes the connection; the next insert would open it anew.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Closes the connection if it is to be closed.
    pub fn close_stale(&mut self) {
        self.open.take_if(|open| !open.open_connection.is_current());
    }

    /// How long the last insert held the database's lock, whatever became of it.
    pub fn held(&self) -> Duration {
        self.held
    }

    /// Inserts all rows in one transaction and gives their ids. Each must be one that `scope` allows, as it is stored. Waits for other writers until `deadline`.
    pub fn insert(
        &mut self,
        schema: &Schema,
        scope: &Scope,
        rows: &[NewRow],
        deadline: Instant,
    ) -> Result<Vec<i64>, IngestError> {
        self.held = Duration::ZERO;
        let result = self.try_insert(schema, scope, rows, deadline);
        // A rollback that failed would hold the lock for ever; closing ends it.
        self.open.take_if(|open| !open.connection.is_autocommit());
        self.close_stale();
        let changed = self.changed.swap(false, Ordering::AcqRel);
        match result {
            Ok(ids) => {
                if changed {
                    self.wake.signal(Wakes::HOOK);
                }
                Ok(ids)
            }
            Err(InsertFailure::Open(reason)) => Err(IngestError::Unavailable(reason)),
            Err(InsertFailure::Row(index, why)) => Err(match why {
                Refused::NoKey => IngestError::Invalid(no_key(schema)),
                Refused::OutOfScope => IngestError::OutOfScope(in_row(
                    rows,
                    index,
                    "the row would not be one that this token may read; leave out the columns that tell whose it is",
                )),
                Refused::Ignored => IngestError::Invalid(in_row(
                    rows,
                    index,
                    "the table ignores this row: a trigger or an ON CONFLICT clause of its own leaves it out",
                )),
                Refused::Sqlite(e) => match violation(&e) {
                    Some(message) => IngestError::Invalid(in_row(rows, index, &message)),
                    None => self.unavailable(&e),
                },
            }),
            Err(InsertFailure::Sqlite(e)) => Err(match violation(&e) {
                Some(message) => IngestError::Invalid(message),
                None => self.unavailable(&e),
            }),
        }
    }

    fn unavailable(&self, error: &rusqlite::Error) -> IngestError {
        IngestError::Unavailable(Unavailable::from_sqlite(error, &self.path))
    }

    fn try_insert(
        &mut self,
        schema: &Schema,
        scope: &Scope,
        rows: &[NewRow],
        deadline: Instant,
    ) -> Result<Vec<i64>, InsertFailure> {
        let connection = self.connection()?;
        let left = || deadline.saturating_duration_since(Instant::now());
        connection.busy_timeout(left())?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let locked_at = Instant::now();
        let inserted = insert_rows(&transaction, (schema, scope), rows);
        let result = inserted.and_then(|ids| {
            check_scope(&transaction, schema, scope, &ids)?;
            // Where there is no WAL a commit waits for readers.
            transaction.busy_timeout(left())?;
            transaction.commit()?;
            Ok(ids)
        });
        self.held = locked_at.elapsed();
        result
    }

    /// The open connection, made anew when the path names another file now.
    fn connection(&mut self) -> Result<&mut Connection, InsertFailure> {
        let file = FileId::of(&self.path).ok_or_else(|| Unavailable::NoFile(self.path.clone()))?;
        self.close_stale();
        self.open.take_if(|open| open.file != file);
        match &mut self.open {
            Some(open) => Ok(&mut open.connection),
            open => {
                let open_connection = self.open_connections.enter();
                let mut connection = open_writing(&self.path, BUSY, false)?;
                // The feed loop outlives it, and tidies up.
                leave_on_close(&connection, true)?;
                let changed = Arc::clone(&self.changed);
                connection.update_hook(Some(move |_: Action, _: &str, _: &str, _: i64| {
                    changed.store(true, Ordering::Release);
                }))?;
                let open = open.insert(OpenWriter {
                    file,
                    connection,
                    open_connection,
                });
                Ok(&mut open.connection)
            }
        }
    }
}

/// Inserts rows within a transaction. Those of the same columns, mostly all of them, share a statement.
fn insert_rows(
    transaction: &Transaction<'_>,
    (schema, scope): (&Schema, &Scope),
    rows: &[NewRow],
) -> Result<Vec<i64>, InsertFailure> {
    let verb = match !scope.is_everything() && replaces(transaction, schema)? {
        true => "INSERT OR ABORT",
        false => "INSERT",
    };
    let mut ids = Vec::with_capacity(rows.len());
    for same_columns in rows.chunk_by(NewRow::has_columns_of) {
        let Some(first) = same_columns.first() else {
            continue;
        };
        let sql = insert_query(verb, schema, first);
        let failed = |index: usize, why| InsertFailure::Row(index, why);
        let mut statement = transaction
            .prepare_cached(&sql)
            .map_err(InsertFailure::Sqlite)?;
        for row in same_columns {
            let index = ids.len();
            let id = statement.query_row(params_from_iter(row.values()), |row| row.get(0));
            match id {
                Ok(Value::Integer(id)) => ids.push(id),
                // Only the rowid is always given; a row without a position would be stored and never be sent.
                Ok(_) => return Err(failed(index, Refused::NoKey)),
                Err(rusqlite::Error::QueryReturnedNoRows) => {
                    return Err(failed(index, Refused::Ignored));
                }
                Err(e) => return Err(failed(index, Refused::Sqlite(e))),
            }
        }
    }
    Ok(ids)
}

/// Whether each new row is one that `scope` allows: as it is stored, whatever column types and triggers made of it.
fn check_scope(
    transaction: &Transaction<'_>,
    schema: &Schema,
    scope: &Scope,
    ids: &[i64],
) -> Result<(), InsertFailure> {
    if scope.is_everything() {
        return Ok(());
    }
    // None of the columns can be missing: each has a name to be asked for by.
    let Some((condition, allowed)) = scope.sql(|column| Some(quote_identifier(column))) else {
        return Err(InsertFailure::Row(0, Refused::OutOfScope));
    };
    let sql = format!(
        "SELECT 1 FROM {} WHERE {} = ?{condition}",
        quote_identifier(&schema.table.name),
        quote_identifier(schema.table.key_name()),
    );
    let mut statement = transaction.prepare_cached(&sql)?;
    for (index, id) in ids.iter().enumerate() {
        let id = Value::Integer(*id);
        let params = std::iter::once(&id).chain(&allowed);
        if !statement.exists(params_from_iter(params))? {
            return Err(InsertFailure::Row(index, Refused::OutOfScope));
        }
    }
    Ok(())
}

/// Returns whether the table says itself that a new row takes the place of others, which may be rows out of a scope. Only then is
/// that overruled: what an INSERT says of conflicts holds for the statements of the table's triggers as well.
fn replaces(transaction: &Transaction<'_>, schema: &Schema) -> rusqlite::Result<bool> {
    let mut statement = transaction.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE
            AND sql LIKE '%CONFLICT%REPLACE%')",
    )?;
    statement.query_row([&schema.table.name], |row| row.get(0))
}

fn insert_query(verb: &str, schema: &Schema, row: &NewRow) -> String {
    let columns = &schema.table.columns;
    let names = row
        .columns()
        .map(|index| quote_identifier(&columns[index].name));
    let names: Vec<String> = names.collect();
    format!(
        "{verb} INTO {} ({}) VALUES ({}) RETURNING {}",
        quote_identifier(&schema.table.name),
        names.join(", "),
        vec!["?"; names.len()].join(", "),
        quote_identifier(schema.table.key_name()),
    )
}

/// What SQLite says of a CHECK, UNIQUE, foreign key or trigger that a request violates; it names them.
fn violation(error: &rusqlite::Error) -> Option<String> {
    use rusqlite::ErrorCode::{ConstraintViolation, TypeMismatch};
    match error.sqlite_error_code() {
        Some(ConstraintViolation | TypeMismatch) => Some(error.to_string()),
        _ => None,
    }
}

fn in_row(rows: &[NewRow], index: usize, message: &str) -> String {
    match rows.len() {
        1 => message.to_owned(),
        _ => format!("row {index}: {message}"),
    }
}

fn no_key(schema: &Schema) -> String {
    format!(
        "column \"{}\" is the key, and the database gives it no integer; rows can be sent to tables with an INTEGER \
         PRIMARY KEY or a key with a DEFAULT",
        schema.table.key_name()
    )
}

enum InsertFailure {
    Open(Unavailable),
    /// The row with this index was refused.
    Row(usize, Refused),
    Sqlite(rusqlite::Error),
}

enum Refused {
    /// It has no position.
    NoKey,
    OutOfScope,
    Ignored,
    Sqlite(rusqlite::Error),
}

impl From<Unavailable> for InsertFailure {
    fn from(reason: Unavailable) -> Self {
        InsertFailure::Open(reason)
    }
}

impl From<rusqlite::Error> for InsertFailure {
    fn from(error: rusqlite::Error) -> Self {
        InsertFailure::Sqlite(error)
    }
}
