//! Where a table begins and ends, for a subscriber that opens.

use std::time::Instant;

use rusqlite::Connection;

use crate::hub::{Feed, Standing};
use crate::model::position::{Cursor, Epoch};
use crate::sqlite::reader::RowReader;

/// What a subscriber that opens needs to know of the table.
#[derive(Debug, Clone)]
pub struct TableBounds {
    pub epoch: Epoch,
    pub generation: u64,
    /// Name of the cursor column.
    pub key: String,
    pub head: Cursor,
    /// The lowest id there is.
    pub earliest: Option<i64>,
    /// Where the last n rows begin, for who asked for them; `None` where nothing matches.
    pub start_of_last: Option<Cursor>,
    pub read_at: Instant,
}

impl TableBounds {
    /// Returns the bounds as far as they are known without reading the table: epoch, head and key.
    pub fn of(feed: &Feed, standing: Standing) -> TableBounds {
        TableBounds {
            epoch: standing.epoch,
            generation: standing.generation,
            key: feed.config.key.clone().unwrap_or_else(|| "id".to_owned()),
            head: standing.head,
            earliest: None,
            start_of_last: None,
            read_at: Instant::now(),
        }
    }

    /// Asks the table for the rest, but for where the last rows begin.
    pub fn read(&mut self, connection: &Connection, rows: &RowReader) -> rusqlite::Result<()> {
        self.read_at = Instant::now();
        let table = &rows.schema.table;
        table.key_name().clone_into(&mut self.key);
        self.earliest = table.min_key(connection)?;
        Ok(())
    }
}
