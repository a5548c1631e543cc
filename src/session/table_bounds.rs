//! Where a table begins and ends, for a subscriber that opens.

use std::time::Instant;

use rusqlite::Connection;

use crate::hub::{Feed, Standing};
use crate::model::position::{Cursor, Epoch};
use crate::sqlite::reader::RowReader;
use crate::wire::control::{FeedKind, ResetReason};

/// What a subscriber that opens needs to know of the table.
#[derive(Debug, Clone)]
pub struct TableBounds {
    pub epoch: Epoch,
    pub generation: u64,
    /// Why the epoch before it ended, in this process.
    pub replaced_for: ResetReason,
    /// What the feed is of, where not of rows.
    pub kind: Option<FeedKind>,
    /// Name of the cursor column.
    pub key: String,
    pub head: Cursor,
    /// The lowest id there is.
    pub earliest: Option<i64>,
    /// A position below all that an edge has, from which rows come all the same: of the daemon that is asked for them.
    pub older_from: Option<Cursor>,
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
            replaced_for: standing.replaced_for,
            kind: None,
            key: feed.config.key.clone().unwrap_or_else(|| "id".to_owned()),
            head: standing.head,
            earliest: None,
            older_from: None,
            start_of_last: None,
            read_at: Instant::now(),
        }
    }

    /// Returns whether rows that follow on this position are gone from the table.
    pub fn lacks_rows_after(&self, position: Cursor) -> bool {
        position < self.earliest.map_or(self.head, Cursor::before)
    }

    /// Asks the table for the rest, but for where the last rows begin.
    pub fn read(&mut self, connection: &Connection, rows: &RowReader) -> rusqlite::Result<()> {
        self.read_at = Instant::now();
        let table = &rows.schema.table;
        self.kind = rows.schema.changes.as_ref().map(|_| FeedKind::Changes);
        table.key_name().clone_into(&mut self.key);
        self.earliest = table.min_key(connection)?;
        Ok(())
    }
}
