//! A table while it can be read: all that is known of it goes when it does.

use std::sync::Arc;

use rusqlite::Connection;

use crate::hub::Feed;
use crate::model::filter::{FilterId, FilterIndex};
use crate::model::position::Cursor;
use crate::sqlite::file::FileId;
use crate::sqlite::identity::{Doubt, Newest, Sample, given};
use crate::sqlite::reader::{HeadPage, PageLimits, RowReader};
use crate::sqlite::table::{Schema, Table};

/// The first page after a wake is small, so that the first rows of a burst leave early; the next ones are larger.
const FIRST_PAGE: PageLimits = PageLimits {
    rows: 64,
    bytes: 64 * 1024,
};
const NEXT_PAGE: PageLimits = PageLimits {
    rows: 1024,
    bytes: 256 * 1024,
};
/// To see whether it can be read at all.
const ONE_ROW: PageLimits = PageLimits { rows: 1, bytes: 1 };

/// A table of the open file, and where the last look at it ended.
pub(super) struct OpenTable {
    reader: RowReader,
    pub file: FileId,
    reading: Reading,
    newest: Newest,
    /// The highest id, when many tables were asked at once; `None` where it was not asked since something went wrong.
    max_id: Option<Option<i64>>,
}

/// How far the table was read.
#[derive(Debug)]
enum Reading {
    /// To its end, as far as is known.
    Ended,
    /// A page was read, and is still to be published.
    Fetched(Box<HeadPage>),
    /// The last page was full: the next one follows at once, and is larger.
    More,
}

impl OpenTable {
    pub(super) fn new(feed: &Feed, schema: Arc<Schema>, file: FileId) -> OpenTable {
        OpenTable {
            reader: RowReader::new(&feed.config, schema, feed.max_row_bytes),
            file,
            reading: Reading::Ended,
            newest: Newest::unknown(),
            max_id: None,
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
        let nothing = FilterIndex::default();
        self.reader
            .above_head(connection, head, ONE_ROW, &nothing, FilterId::NONE)
            .map(drop)
    }

    /// Reads the next page above `head`; one that another feed's failure left unpublished is read again.
    pub(super) fn read_above(
        &mut self,
        connection: &Connection,
        head: Cursor,
        filters: &FilterIndex,
        known_below: FilterId,
    ) -> rusqlite::Result<HeadPage> {
        let limits = match self.has_more() {
            true => NEXT_PAGE,
            false => FIRST_PAGE,
        };
        self.reading = Reading::Ended;
        self.reader
            .above_head(connection, head, limits, filters, known_below)
    }

    /// What a page that was just read gives to doubt.
    pub(super) fn doubt(
        &mut self,
        connection: &Connection,
        page: &HeadPage,
        head: Cursor,
    ) -> rusqlite::Result<Option<Doubt>> {
        let schema = &self.reader.schema;
        let doubt = self.newest.doubt(connection, &schema.table, page, head)?;
        // What is in a log of changes nobody edits; that its newest change goes once others have come, pruning does.
        let is_log = schema.changes.is_some();
        let is_rewritten = is_log && doubt == Some(Doubt::Edited) && page.head_row.is_some();
        Ok(match is_rewritten {
            true => Some(Doubt::Rewritten),
            false => doubt,
        })
    }

    /// The page is to be published.
    pub(super) fn fetched(&mut self, page: HeadPage) {
        self.reading = Reading::Fetched(Box::new(page));
    }

    /// Takes the page that is to be published.
    pub(super) fn take_fetched(&mut self) -> Option<HeadPage> {
        match std::mem::replace(&mut self.reading, Reading::Ended) {
            Reading::Fetched(page) => {
                if page.full {
                    self.reading = Reading::More;
                }
                Some(*page)
            }
            other => {
                self.reading = other;
                None
            }
        }
    }

    /// Returns whether the last page was full.
    pub(super) fn has_more(&self) -> bool {
        match &self.reading {
            Reading::Ended => false,
            Reading::Fetched(page) => page.full,
            Reading::More => true,
        }
    }

    /// The page is published: its last row is at the head, which was at `head`.
    pub(super) fn passed(&mut self, page: &HeadPage, head: Cursor) {
        self.newest.passed(&self.reader.schema.table, page, head);
    }

    /// The history up to `head` is the one to go on with.
    pub(super) fn go_on(&mut self, connection: &Connection, head: Cursor) -> rusqlite::Result<()> {
        self.newest
            .begin(connection, &self.reader.schema.table, head)
    }

    /// Another history begins in this table.
    pub(super) fn begin_anew(&mut self) {
        self.reading = Reading::Ended;
        self.newest.forget();
    }

    /// The highest id that SQLite remembers having given; below every id where it remembers none.
    pub(super) fn given(&self, connection: &Connection) -> rusqlite::Result<Cursor> {
        given(connection, self.table())
    }

    /// Returns whether the highest id is another than when this was asked last.
    pub(super) fn has_moved(&mut self, max_id: Option<i64>) -> bool {
        let before = self.max_id.replace(max_id);
        !self.newest.is_known() || before != Some(max_id)
    }

    /// Something went wrong before all tables were read: the next time it is asked, this one moved.
    pub(super) fn forget_look(&mut self) {
        self.max_id = None;
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
