//! A table while it can be read: all that is known of it goes when it does.

use std::sync::Arc;

use rusqlite::Connection;

use crate::hub::Feed;
use crate::model::filter::{FilterId, FilterIndex};
use crate::model::position::Cursor;
use crate::sqlite::file::FileId;
use crate::sqlite::identity::Sample;
use crate::sqlite::reader::{HeadPage, PageLimits, RowReader};
use crate::sqlite::table::{Schema, Table};

/// A table of the open file, and where the last look at it ended.
pub(super) struct OpenTable {
    reader: RowReader,
    pub file: FileId,
    /// The last page was full: the next one follows at once, and is larger.
    pub more: bool,
    /// It was read to its end.
    pub is_read: bool,
    /// Read, and not yet published.
    pub fetched: Option<HeadPage>,
    head_row: HeadRow,
    /// The highest id as it was probed last.
    probed_top: Option<Option<i64>>,
    ids: Ids,
}

/// What is known of the row at the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadRow {
    Unknown,
    Absent,
    Seen(u64),
}

/// Whether an id that was deleted can be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// SQLite remembers the highest one given, and gives higher ones.
    Remembered,
    /// It gives the one above the highest there is, which was this at the last look.
    AboveTop(Option<i64>),
}

impl OpenTable {
    pub(super) fn new(feed: &Feed, schema: Arc<Schema>, file: FileId) -> OpenTable {
        OpenTable {
            reader: RowReader::new(&feed.config, schema, feed.max_row_bytes),
            file,
            more: false,
            is_read: false,
            fetched: None,
            head_row: HeadRow::Unknown,
            probed_top: None,
            ids: Ids::AboveTop(None),
        }
    }

    pub(super) fn schema(&self) -> &Arc<Schema> {
        &self.reader.schema
    }

    pub(super) fn table(&self) -> &Table {
        &self.reader.schema.table
    }

    /// Reads a row, so that what can't be read is known before rows are expected.
    pub(super) fn try_reading(
        &mut self,
        connection: &Connection,
        head: Cursor,
    ) -> rusqlite::Result<()> {
        const ONE: PageLimits = PageLimits { rows: 1, bytes: 1 };
        let nothing = FilterIndex::default();
        self.read_above(connection, head, ONE, &nothing, FilterId::NONE)
            .map(drop)
    }

    pub(super) fn read_above(
        &mut self,
        connection: &Connection,
        head: Cursor,
        limits: PageLimits,
        filters: &FilterIndex,
        known_below: FilterId,
    ) -> rusqlite::Result<HeadPage> {
        self.reader
            .above_head(connection, head, limits, filters, known_below)
    }

    /// Another history begins in this table.
    pub(super) fn begin_anew(&mut self) {
        (self.fetched, self.more) = (None, false);
        self.head_row = HeadRow::Unknown;
    }

    /// The history up to `head` is the one to go on with.
    pub(super) fn note_ids(
        &mut self,
        connection: &Connection,
        head: Cursor,
    ) -> rusqlite::Result<()> {
        let remembered = head.0 > 0 && self.sequence(connection)? >= head;
        self.ids = match remembered {
            true => Ids::Remembered,
            // No AUTOINCREMENT, or the sequence went with a table that was made anew.
            false => Ids::AboveTop(self.table().max_key(connection)?),
        };
        Ok(())
    }

    /// The highest id that SQLite remembers having given.
    pub(super) fn sequence(&self, connection: &Connection) -> rusqlite::Result<Cursor> {
        let sequence = self.table().sequence(connection)?;
        Ok(sequence.map_or(Cursor::MIN, Cursor))
    }

    /// Whether ids up to the head are being given again, as far as they tell.
    pub(super) fn ids_are_given_again(
        &mut self,
        connection: &Connection,
        page: &HeadPage,
        head: Cursor,
    ) -> rusqlite::Result<bool> {
        if head == Cursor::MIN {
            return Ok(false);
        }
        let Ids::AboveTop(before) = self.ids else {
            let fell = page.block.entries.is_empty() && self.sequence(connection)? < head;
            return Ok(fell && self.table().max_key(connection)? < Some(head.0));
        };
        let top = self.table().max_key(connection)?;
        self.ids = Ids::AboveTop(top);
        // A row appeared below the head, above all others: a deleted id was given again.
        let again = top.is_some_and(|top| top < head.0) && top > before;
        Ok(again || (self.head_row == HeadRow::Absent && page.head_row.is_some()))
    }

    /// Returns whether the row at the head is not what it was at the last look.
    pub(super) fn head_row_changed(&self, page: &HeadPage) -> bool {
        let now = page.head_row.map_or(HeadRow::Absent, HeadRow::Seen);
        self.head_row != HeadRow::Unknown && self.head_row != now
    }

    /// The page is published: its last row is at the head, which was at `head`.
    pub(super) fn note_head_row(&mut self, page: &HeadPage, head: Cursor) {
        let block = &page.block;
        let last_row = block.entries.len().checked_sub(1);
        self.head_row = match last_row {
            Some(last) if block.entries[last].id == block.last.0 => {
                HeadRow::Seen(RowReader::fingerprint_of(block.message(last)))
            }
            None if block.last == head => page.head_row.map_or(HeadRow::Absent, HeadRow::Seen),
            _ => HeadRow::Absent,
        };
        // From the first id that it gives, AUTOINCREMENT remembers.
        if self.table().autoincrement && block.last > head && block.last.0 > 0 {
            self.ids = Ids::Remembered;
        }
    }

    /// Returns whether the highest id is another than when this was asked last.
    pub(super) fn has_moved(&mut self, top: Option<i64>) -> bool {
        let before = self.probed_top.replace(top);
        self.head_row == HeadRow::Unknown || before != Some(top)
    }

    /// Something went wrong before all tables were read: the next probe says that this one moved.
    pub(super) fn forget_look(&mut self) {
        (self.probed_top, self.is_read) = (None, false);
    }

    /// Reads the row at the head through another connection.
    pub(super) fn read_head_row(
        &self,
        connection: &Connection,
        head: Cursor,
    ) -> rusqlite::Result<()> {
        Sample::take(connection, self.table(), head.0).map(drop)
    }
}
