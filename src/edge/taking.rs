//! What comes of one feed, from wherever, handed over to the spool: descriptions, and rows as they are described.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::intake::{Closed, Intake};
use super::status::EdgeStatus;
use crate::sqlite::spool::{ChangeShape, RowShape, SpoolItem, SpooledChange};
use crate::sqlite::whole_row::{TableDescription, WholeChange, WholeRow, WholeValue};

/// How often it is said that rows are too large to come whole.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// One feed, as it is taken in.
pub(super) struct Taking {
    pub feed: Arc<str>,
    /// What its table is called in the spool.
    pub table: String,
    pub intake: Arc<Intake>,
    pub status: Arc<EdgeStatus>,
    /// What rows are of, by the fingerprints that they name.
    shapes: HashMap<String, Arc<RowShape>>,
    told_truncated: Option<Instant>,
}

/// Why something was not taken.
pub(super) enum NotTaken {
    /// The edge ends.
    Closed,
    /// What a row is of was not said.
    Undescribed,
    /// It is not what it should be.
    Wrong(String),
}

impl From<Closed> for NotTaken {
    fn from(_: Closed) -> NotTaken {
        NotTaken::Closed
    }
}

impl Taking {
    pub(super) fn new(
        feed: Arc<str>,
        table: String,
        intake: Arc<Intake>,
        status: Arc<EdgeStatus>,
    ) -> Taking {
        Taking {
            feed,
            table,
            intake,
            status,
            shapes: HashMap::new(),
            told_truncated: None,
        }
    }

    /// Another connection begins: what rows are of is said anew.
    pub(super) fn forget(&mut self) {
        self.shapes.clear();
    }

    /// Takes what rows of this fingerprint are of, under the name that the table has in the spool.
    pub(super) fn table(
        &mut self,
        schema: String,
        table: TableDescription,
        bytes: usize,
    ) -> Result<(), NotTaken> {
        let names = table.column_names();
        let is_there = |key: &str| names.iter().any(|name| name.eq_ignore_ascii_case(key));
        let has_key = match &table.changes {
            Some(changes) => {
                !changes.key.is_empty() && changes.key.iter().all(|key| is_there(&key.name))
            }
            None => is_there(&table.key),
        };
        if table.feed != *self.feed || !has_key {
            return Err(NotTaken::Wrong(format!(
                "the origin describes the feed {} instead, or not all of it",
                table.feed
            )));
        }
        let table = TableDescription {
            table: self.table.clone(),
            ..table
        };
        self.shapes.insert(schema, Arc::new(RowShape::of(&table)));
        let item = SpoolItem::Table(Arc::new(table));
        Ok(self.intake.push(&self.feed, item, bytes)?)
    }

    /// Takes a row of a message of so many bytes.
    pub(super) fn row(&mut self, row: WholeRow, bytes: usize) -> Result<(), NotTaken> {
        let Some(shape) = self.shapes.get(&row.schema) else {
            return Err(NotTaken::Undescribed);
        };
        if row.values.len() != shape.columns() {
            let why = "a row came with another number of values than its table has columns";
            return Err(NotTaken::Wrong(why.to_owned()));
        }
        let item = SpoolItem::Row {
            shape: Arc::clone(shape),
            values: row.values,
        };
        self.intake.push(&self.feed, item, bytes)?;
        if !row.truncated.is_empty() {
            self.tell_truncated(&row.truncated);
        }
        Ok(())
    }

    /// Takes a change of a message of so many bytes.
    pub(super) fn change(&mut self, change: WholeChange, bytes: usize) -> Result<(), NotTaken> {
        let Some(shape) = self.shapes.get(&change.schema) else {
            return Err(NotTaken::Undescribed);
        };
        let is_fit = |changes: &ChangeShape| {
            let row = change.row.as_ref();
            let row = row.is_none_or(|row| changes.has_rows() && row.len() == shape.columns());
            row && change.log.len() == changes.columns()
                && change.log.first().and_then(WholeValue::integer).is_some()
        };
        if !shape.changes().is_some_and(is_fit) {
            let why = "a change came with other values than its log has columns";
            return Err(NotTaken::Wrong(why.to_owned()));
        }
        let item = SpoolItem::Change {
            shape: Arc::clone(shape),
            change: SpooledChange {
                log: change.log,
                row: change.row,
            },
        };
        self.intake.push(&self.feed, item, bytes)?;
        if !change.truncated.is_empty() {
            self.tell_truncated(&change.truncated);
        }
        Ok(())
    }

    /// Returns whether it was said what rows of this fingerprint are of.
    #[cfg(feature = "nats")]
    pub(super) fn knows(&self, schema: &str) -> bool {
        self.shapes.contains_key(schema)
    }

    fn tell_truncated(&mut self, columns: &[String]) {
        let now = Instant::now();
        let early = |told: Instant| now < told + SAY_EVERY;
        if !self.told_truncated.is_some_and(early) {
            self.told_truncated = Some(now);
            let columns = columns.join(", ");
            tracing::warn!(
                "feed {}: a row is too large to come whole; cut are {columns}",
                self.feed
            );
        }
    }
}
