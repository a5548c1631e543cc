//! Some rows of a feed in memory, taken in as a spool takes them, and read as they are read from one.

use std::sync::Arc;

use rusqlite::{Connection, params_from_iter};

use super::ddl;
use super::writer::RowShape;
use crate::config::FeedConfig;
use crate::model::filter::{Filter, quote_identifier};
use crate::model::position::Cursor;
use crate::sqlite::reader::{PageLimits, RowReader};
use crate::sqlite::table::{Schema, TableError};
use crate::sqlite::whole_row::{TableDescription, WholeValue};
use crate::wire::block::Block;

/// Rows of one feed.
pub struct Fragment {
    connection: Connection,
    shape: RowShape,
    reader: RowReader,
}

impl Fragment {
    /// One without rows, for rows of this description.
    ///
    /// # Errors
    /// The feed can't be served from such a table; in words.
    pub fn new(
        table: &TableDescription,
        feed: &FeedConfig,
        max_row_bytes: usize,
    ) -> Result<Fragment, String> {
        let table = TableDescription {
            table: feed.table.clone(),
            ..table.clone()
        };
        let made = || -> Result<_, TableError> {
            let connection = Connection::open_in_memory()?;
            connection.execute_batch(&ddl::create(&table))?;
            let schema = Schema::of_feed(&connection, feed)?;
            Ok((connection, schema))
        };
        let (connection, schema) = made().map_err(|error| match error {
            TableError::Missing => "it has no table".to_owned(),
            TableError::Unfit(why) => why,
            TableError::Sqlite(error) => error.to_string(),
        })?;
        Ok(Fragment {
            connection,
            shape: RowShape::of(&table),
            reader: RowReader::new(feed, Arc::new(schema), max_row_bytes),
        })
    }

    /// Returns how many values a row has.
    pub fn columns(&self) -> usize {
        self.shape.columns()
    }

    /// Takes a row in.
    ///
    /// # Errors
    /// SQLite does not take it.
    pub fn insert(&self, values: &[WholeValue]) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(&self.shape.insert)?;
        insert.execute(params_from_iter(values)).map(drop)
    }

    /// Lets go of all rows.
    ///
    /// # Errors
    /// SQLite can't.
    pub fn clear(&self) -> rusqlite::Result<()> {
        let table = quote_identifier(&self.reader.schema.table.name);
        self.connection
            .execute(&format!("DELETE FROM {table}"), [])
            .map(drop)
    }

    /// Reads rows of `filter` above the first position and up to the second: as clients get them, or whole. `None` where a
    /// column of the filter is not there.
    ///
    /// # Errors
    /// They can't be read.
    pub fn page(
        &mut self,
        feed: &FeedConfig,
        (after, upto): (Cursor, Cursor),
        limits: PageLimits,
        filter: &Filter,
        is_whole: bool,
    ) -> rusqlite::Result<Option<Block>> {
        let (connection, reader) = (&self.connection, &mut self.reader);
        match is_whole {
            true => reader.whole_between(feed, connection, (after, upto), limits, filter),
            false => reader.between(connection, after, upto, limits, filter),
        }
    }
}
