//! Changes of a captured table as they are taken in: into its log, and the table as it is after each, in one transaction, so
//! that whoever reads both finds what they would at the origin.

use rusqlite::{Transaction, params_from_iter};

use super::{STATES, SpoolState, ddl};
use crate::model::filter::quote_identifier;
use crate::sqlite::whole_row::{TableDescription, WholeValue};

/// How changes of a description are taken in.
#[derive(Debug)]
pub struct ChangeShape {
    insert: String,
    /// How many values the log has.
    columns: usize,
    delete: String,
    /// Columns of the key.
    keys: usize,
    /// Of a log that has the rows as they were: where the row after the change begins; its values are two apart.
    after: Option<usize>,
}

/// Where the columns of a log begin that hold keys.
const KEY: usize = 4;

/// A change that came.
#[derive(Debug)]
pub struct SpooledChange {
    /// What the log has of it.
    pub log: Vec<WholeValue>,
    /// The row as it is, where the log does not have it; `None` where there is none.
    pub row: Option<Vec<WholeValue>>,
}

impl SpooledChange {
    /// Its number.
    pub fn seq(&self) -> Option<i64> {
        self.log.first().and_then(WholeValue::integer)
    }
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Followed,
    /// Changes before it are missing, and who is served here would miss them.
    Missing,
}

impl ChangeShape {
    /// Changes as this description has them; `None` where it is one of rows.
    pub fn of(table: &TableDescription) -> Option<ChangeShape> {
        let (changes, log) = (table.changes.as_ref()?, table.log_columns()?);
        let (keys, filters) = (changes.key.len(), changes.filters.len());
        Some(ChangeShape {
            insert: ddl::insert_change(table)?,
            columns: log.names.len(),
            delete: ddl::delete_by_key(table)?,
            keys,
            after: changes.is_full().then_some(KEY + 2 * (keys + filters) + 1),
        })
    }

    /// Returns how many values the log has of a change.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Returns whether a change has the row itself where there is one, beside what the log has of it.
    pub fn has_rows(&self) -> bool {
        self.after.is_none()
    }

    /// Takes a change in. `insert` puts a row into the table.
    pub(super) fn take(
        &self,
        transaction: &Transaction<'_>,
        insert: &str,
        change: &SpooledChange,
    ) -> rusqlite::Result<()> {
        let log = &change.log;
        let mut logged = transaction.prepare_cached(&self.insert)?;
        logged.execute(params_from_iter(log))?;
        let key = &log[KEY..KEY + self.keys];
        let old_key = &log[KEY + self.keys..KEY + 2 * self.keys];
        let mut delete = transaction.prepare_cached(&self.delete)?;
        if is_text(&log[1], "u") {
            // It is NULL where the key did not change, and then no row has it.
            delete.execute(params_from_iter(old_key))?;
        }
        match self.row(change) {
            // A row without a key is none of the feed's.
            Some(row) if !key.iter().any(is_null) => {
                let mut insert = transaction.prepare_cached(insert)?;
                insert.execute(params_from_iter(row)).map(drop)
            }
            _ => delete.execute(params_from_iter(key)).map(drop),
        }
    }

    /// The row after the change, or as it is.
    fn row<'c>(&self, change: &'c SpooledChange) -> Option<Vec<&'c WholeValue>> {
        if is_text(&change.log[1], "d") {
            return None;
        }
        match self.after {
            Some(first) => Some(change.log[first..].iter().step_by(2).collect()),
            None => change.row.as_ref().map(|row| row.iter().collect()),
        }
    }
}

fn is_text(value: &WholeValue, text: &str) -> bool {
    matches!(value, WholeValue::Value(rusqlite::types::Value::Text(value)) if value == text)
}

fn is_null(value: &WholeValue) -> bool {
    *value == WholeValue::Value(rusqlite::types::Value::Null)
}

/// Whether the change `seq` may follow on what the log has. While the feed fills nobody is served from it, and what is before
/// a gap is let go of: nobody could go on over it.
pub(super) fn follows(
    transaction: &Transaction<'_>,
    (feed, state): (&str, Option<&SpoolState>),
    log: &str,
    seq: i64,
) -> rusqlite::Result<Taken> {
    let last = last(transaction, log)?;
    if last.is_none_or(|last| seq == last.saturating_add(1)) {
        return Ok(Taken::Followed);
    }
    if state.is_some_and(|state| state.is_whole) {
        let sql =
            format!("UPDATE {STATES} SET is_whole = 0, head = NULL, epoch = '' WHERE feed = ?1");
        transaction.execute(&sql, [feed])?;
        return Ok(Taken::Missing);
    }
    transaction.execute_batch(&format!("DELETE FROM {}", quote_identifier(log)))?;
    Ok(Taken::Followed)
}

/// The number of the newest change; `None` where there is none.
pub(super) fn last(transaction: &Transaction<'_>, log: &str) -> rusqlite::Result<Option<i64>> {
    let sql = format!("SELECT max(seq) FROM {}", quote_identifier(log));
    let mut newest = transaction.prepare_cached(&sql)?;
    newest.query_row([], |row| row.get(0))
}
