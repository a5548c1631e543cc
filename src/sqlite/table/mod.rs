//! What a table looks like: its columns, its key and the ids in it.

use rusqlite::{Connection, OptionalExtension};

use crate::model::filter::quote_identifier;
use crate::sqlite::error::{BrokenKind, Unavailable};
use crate::text::nearest::did_you_mean;

mod feed_schema;
mod introspect;
mod key;
#[cfg(test)]
mod tests;

pub use feed_schema::{Exposed, Schema, jsonb_text};
pub use introspect::{columns_of, is_strict};

/// A table as the file describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: String,
    /// In table order, generated ones included.
    pub columns: Vec<Column>,
    /// Index of the cursor column in `columns`.
    pub key: usize,
    /// Ids are never given twice.
    pub autoincrement: bool,
    /// Declared STRICT.
    pub strict: bool,
}

/// A column as it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// Declared type, upper case; empty where none was given.
    pub declared: String,
    pub not_null: bool,
    pub has_default: bool,
    pub generated: bool,
    pub primary_key: bool,
    /// Another name for the rowid, which is all that SQLite itself keeps to integers.
    pub rowid: bool,
}

impl Column {
    /// Returns whether SQLite makes integers of what is written to it, where that can be done.
    pub fn is_integer(&self) -> bool {
        self.declared.contains("INT")
    }
}

/// Why a table can't be a feed.
#[derive(Debug)]
pub enum TableError {
    /// There is no such table (yet).
    Missing,
    /// The table or the feed's configuration has to change; says which and how.
    Unfit(String),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for TableError {
    fn from(error: rusqlite::Error) -> Self {
        TableError::Sqlite(error)
    }
}

impl TableError {
    /// Makes it the reason why the feed of this table in this file can't be read.
    pub fn unavailable(self, table: &str, path: &std::path::Path) -> Unavailable {
        match self {
            TableError::Missing => Unavailable::NoTable(table.to_owned()),
            TableError::Unfit(reason) => Unavailable::Broken {
                kind: BrokenKind::UnfitTable,
                reason,
            },
            TableError::Sqlite(error) => Unavailable::from_sqlite(&error, path),
        }
    }
}

impl Table {
    /// The name of the cursor column.
    pub fn key_name(&self) -> &str {
        &self.columns[self.key].name
    }

    /// Returns whether the key is a rowid that no column is a name for: VACUUM may give every row another one.
    pub fn is_key_unstable(&self) -> bool {
        let key = &self.columns[self.key];
        key.rowid && !key.primary_key
    }

    /// SQL, to be joined with `AND`, that holds for the rows of the feed. SQLite lets any other key than the rowid hold
    /// NULL, text or a fraction, whatever its type; such rows have no position and are none of the feed's.
    pub fn has_position(&self) -> String {
        match self.columns[self.key].rowid {
            true => String::new(),
            false => format!(
                " AND typeof({}) = 'integer'",
                quote_identifier(self.key_name())
            ),
        }
    }

    /// The highest id SQLite ever gave in this table, as far as it remembers: the larger of `max(key)` and, with
    /// AUTOINCREMENT, its `sqlite_sequence`. `None` for a table that never had a row.
    pub fn highest(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        Ok(self.max_key(connection)?.max(self.sequence(connection)?))
    }

    /// Returns the highest id in the table; `None` where it has no row.
    pub fn max_key(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        self.extreme(connection, "max")
    }

    /// Returns the lowest id in the table; `None` where it has no row.
    pub fn min_key(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        self.extreme(connection, "min")
    }

    /// What `sqlite_sequence` says of an AUTOINCREMENT table. Anybody may write anything there; as SQLite does it, the first
    /// of several rows counts, and what is no integer is made one.
    pub fn sequence(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        if !self.autoincrement {
            return Ok(None);
        }
        connection
            .prepare_cached("SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = ?1")?
            .query_row([&self.name], |row| row.get(0))
            .optional()
            // It gives ids from 1 on; what is lower was given by others, and is not remembered.
            .map(|sequence| sequence.flatten().filter(|id| *id > 0))
    }

    /// How many rows there are from the lowest to the highest of these ids, counted no further than `most`.
    pub fn count_within(
        &self,
        connection: &Connection,
        (lowest, highest): (i64, i64),
        most: i64,
    ) -> rusqlite::Result<i64> {
        let key = quote_identifier(self.key_name());
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} WHERE {key} >= ? AND {key} <= ?{} LIMIT {most})",
            quote_identifier(&self.name),
            self.has_position(),
        );
        connection
            .prepare_cached(&sql)?
            .query_row((lowest, highest), |row| row.get(0))
    }

    fn extreme(&self, connection: &Connection, which: &str) -> rusqlite::Result<Option<i64>> {
        connection
            .prepare_cached(&self.extreme_query(which))?
            .query_row([], |row| row.get(0))
    }

    /// SQL for the highest (`max`) or lowest (`min`) id.
    pub fn extreme_query(&self, which: &str) -> String {
        let (key, table) = (
            quote_identifier(self.key_name()),
            quote_identifier(&self.name),
        );
        // The range is that of all integers: it spares the index those NULLs and texts that stand before and behind.
        match self.has_position().as_str() {
            "" => format!("SELECT {which}({key}) FROM {table}"),
            integer => format!(
                "SELECT {which}({key}) FROM {table} WHERE {key} BETWEEN {} AND {}{integer}",
                i64::MIN,
                i64::MAX
            ),
        }
    }
}

/// Returns the names of columns as a list for people.
fn listed(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    names.join(", ")
}

/// The column that was probably meant, in words that follow a name.
pub(crate) fn nearest_column(name: &str, columns: &[Column]) -> String {
    let names = columns.iter().map(|column| column.name.as_str());
    did_you_mean(name, names)
}
