//! Rows as ready frames, a page at a time: above the cursor for the feed loop, between two cursors for catch-up, newest
//! first for history. Every statement is reset when its page is done, so no read transaction outlives a page; where a
//! filter passes rows over, a statement ends after so many rows looked at.

mod changes;
#[cfg(test)]
mod fixture;
mod history;
mod index;
mod last;
mod page;
mod table_rows;
mod walk;
mod whole;

use std::sync::Arc;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row};

use crate::config::FeedConfig;
use crate::model::filter::{Filter, FilterId, FilterIndex, quote_identifier};
use crate::model::position::Cursor;
use crate::sqlite::deadline::Deadline;
use crate::sqlite::fingerprint::fingerprint;
use crate::sqlite::open::schema_version;
use crate::sqlite::row_json::RowEncoder;
use crate::sqlite::table::Schema;
use crate::wire::block::{Block, Matches};
use changes::{ChangeReader, ToldOne};
pub use history::{HistoryPage, HistoryQuery, HistoryRead, Progress, TOTAL_CAP};
use index::Term;
pub use index::{create_index, index_for};
pub use last::LastRows;
use page::Page;
pub use page::PageLimits;
pub use table_rows::{TablePage, TablePosition};
use walk::{Order, Range, Walk, WalkColumns, Walker};
use whole::WholeReader;

/// The position above every row.
const END: Cursor = Cursor(i64::MAX);

/// Bytes of scratch space kept from page to page. A large row needs more for a moment.
const KEPT_SCRATCH: usize = 256 * 1024;

/// Reads one feed's table under one schema.
#[derive(Debug)]
pub struct RowReader {
    pub schema: Arc<Schema>,
    kind: Kind,
    walker: Walker,
    /// Made when somebody takes rows whole.
    whole: Option<Box<WholeReader>>,
    message: Vec<u8>,
}

/// What a feed is of: decided when its table is opened, so that no row is asked for it.
#[derive(Debug)]
enum Kind {
    Rows {
        encoder: RowEncoder,
        /// SQL for the row at the head and all above it.
        from_head: String,
    },
    Changes(Box<ChangeReader>),
}

/// A page read above the head.
#[derive(Debug)]
pub struct HeadPage {
    pub block: Block,
    /// How many rows were read. Of a change there may be several entries in the block, or none.
    pub rows: usize,
    /// The page ended at a limit: there may be more rows.
    pub full: bool,
    /// [`fingerprint`] of the message of the row at the old head, as it is now; `None` where it is gone.
    pub head_row: Option<u64>,
    /// Changes above the head were pruned before they were read.
    pub has_gap: bool,
    /// The last row read; `None` where there was none above the head.
    pub newest: Option<NewestRead>,
}

/// A row to be known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestRead {
    pub id: i64,
    pub fingerprint: u64,
}

impl HeadPage {
    /// A page that says that there is no row in `(after, last]`, and won't be.
    pub fn passing(after: Cursor, last: Cursor) -> HeadPage {
        HeadPage {
            block: Block::passing(after, last),
            rows: 0,
            full: false,
            head_row: None,
            has_gap: false,
            newest: None,
        }
    }
}

impl RowReader {
    /// A reader of the table as `schema` has it; messages above `max_row_bytes` are cut.
    pub fn new(feed: &FeedConfig, schema: Arc<Schema>, max_row_bytes: usize) -> RowReader {
        if let Some(log) = &schema.changes {
            let reader = ChangeReader::new(feed, (&schema, log), max_row_bytes);
            return RowReader {
                walker: reader.walker(&schema, log),
                kind: Kind::Changes(Box::new(reader)),
                whole: None,
                message: Vec::new(),
                schema,
            };
        }
        let columns = schema.select_list(max_row_bytes);
        let table = quote_identifier(&schema.table.name);
        let key = quote_identifier(schema.table.key_name());
        let positioned = schema.table.has_position();
        RowReader {
            kind: Kind::Rows {
                encoder: RowEncoder::new(feed, &schema, max_row_bytes),
                from_head: format!(
                    "SELECT {columns} FROM {table} WHERE {key} >= ?{positioned} ORDER BY {key}"
                ),
            },
            walker: Walker::new(&schema.table, columns, schema.key_place),
            whole: None,
            message: Vec::new(),
            schema,
        }
    }

    /// Whether the table is still as this reader knows it. What was read is good if it is afterwards, too.
    pub fn is_current(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(schema_version(connection)? == self.schema.version)
    }

    /// Reads in steps that end by `deadline`, which the connection is to have installed.
    pub fn limited_by(mut self, deadline: Deadline) -> RowReader {
        self.walker.limited_by(deadline);
        self
    }

    /// Reads the rows above `head` and looks at the row at `head` on the way, asking `filters` about each row.
    pub fn above_head(
        &mut self,
        connection: &Connection,
        head: Cursor,
        limits: PageLimits,
        filters: &FilterIndex,
        known_below: FilterId,
    ) -> rusqlite::Result<HeadPage> {
        let (encoder, from_head) = match &self.kind {
            Kind::Rows { encoder, from_head } => (encoder, from_head),
            Kind::Changes(changes) => {
                let filters = (filters, known_below);
                let message = &mut self.message;
                let page = changes.above_head(message, connection, head, limits, filters);
                self.release_scratch();
                return page;
            }
        };
        let mut statement = connection.prepare_cached(from_head)?;
        let mut rows = statement.query([head.0])?;
        let mut page = Page::new(head, limits);
        let mut matches = Matches {
            known_below,
            ..Matches::default()
        };
        let mut head_row = None;
        // By what is above the head alone: a head row that takes a page to read leaves nothing to be read again.
        let mut full = false;
        while let Some(row) = rows.next()? {
            let id = row.get(self.schema.key_place)?;
            self.message.clear();
            encoder.message(&mut self.message, page.counted(values(row)));
            if id == head.0 && head != Cursor::MIN {
                head_row = Some(fingerprint(&self.message));
                continue;
            }
            let index = page.push(id, &self.message);
            filters.each_match(values(row), |filter| {
                matches.rows.entry(filter).or_default().push(index)
            });
            if page.is_full() {
                full = true;
                break;
            }
        }
        self.release_scratch();
        let block = page.finish(head, Some(matches));
        let newest = block.entries.len().checked_sub(1).map(|last| NewestRead {
            id: block.entries[last].id,
            fingerprint: fingerprint(block.message(last)),
        });
        Ok(HeadPage {
            rows: block.entries.len(),
            block,
            full,
            head_row,
            has_gap: false,
            newest,
        })
    }

    /// Reads rows of `filter` in `(after, upto]`, as many as a page holds and can be found in a few milliseconds: the
    /// block may end before `upto`, and be empty. `None` where a column of the filter is gone.
    pub fn between(
        &mut self,
        connection: &Connection,
        after: Cursor,
        upto: Cursor,
        limits: PageLimits,
        filter: &Filter,
    ) -> rusqlite::Result<Option<Block>> {
        let Some(condition) = Condition::of(filter, &self.schema) else {
            return Ok(None);
        };
        let walk = Walk {
            connection,
            condition: &condition,
            what: WalkColumns::Columns,
            order: Order::OldestFirst,
        };
        let mut range = Range { after, upto };
        let (message, walker) = (&mut self.message, &mut self.walker);
        let encoder = match &self.kind {
            Kind::Rows { encoder, .. } => encoder,
            Kind::Changes(changes) => {
                let told = ToldOne::by(filter, &self.schema);
                let walk = (walk, &mut range);
                let page = changes.between(message, walker, walk, limits, &told);
                self.release_scratch();
                return page.map(Some);
            }
        };
        let mut page = Page::new(after, limits);
        walker.step(walk, &mut range, &mut |id, row| {
            message.clear();
            encoder.message(message, page.counted(values(row)));
            page.push(id, message);
            Ok(!page.is_full())
        })?;
        self.release_scratch();
        Ok(Some(page.finish(range.after, None)))
    }

    /// The same, but rows, or changes, whole (see [`whole_row`](crate::sqlite::whole_row)). `None` also where some of the changes
    /// are asked for: whole, they are given all.
    pub fn whole_between(
        &mut self,
        feed: &FeedConfig,
        connection: &Connection,
        range: (Cursor, Cursor),
        limits: PageLimits,
        filter: &Filter,
    ) -> rusqlite::Result<Option<Block>> {
        let Some(condition) = Condition::of(filter, &self.schema) else {
            return Ok(None);
        };
        if self.schema.changes.is_some() && !filter.is_empty() {
            return Ok(None);
        }
        let whole = whole_reader(&mut self.whole, feed, &self.schema, &self.walker);
        let page = whole.page(&mut self.message, connection, range, limits, &condition);
        self.release_scratch();
        page.map(Some)
    }

    /// The same of the captured table as it is, as [`table_page`](Self::table_page) does.
    pub fn whole_table_page(
        &mut self,
        feed: &FeedConfig,
        connection: &Connection,
        from: &TablePosition,
        limits: PageLimits,
    ) -> rusqlite::Result<Option<TablePage>> {
        let whole = whole_reader(&mut self.whole, feed, &self.schema, &self.walker);
        let page = whole.table_page(&mut self.message, connection, from, limits);
        self.release_scratch();
        page
    }

    /// Reads rows of a captured table as it is, in the order of its key, from a position on: as many of `filter` as a page
    /// holds and can be found in a few milliseconds, so there may be none. `None` where a column of the filter is gone, or
    /// the feed is not one of changes.
    pub fn table_page(
        &mut self,
        connection: &Connection,
        from: &TablePosition,
        limits: PageLimits,
        filter: &Filter,
    ) -> rusqlite::Result<Option<TablePage>> {
        let mut columns = filter.columns();
        let is_gone = columns.any(|column| self.schema.place_of(column).is_none());
        let Kind::Changes(changes) = &mut self.kind else {
            return Ok(None);
        };
        if is_gone {
            return Ok(None);
        }
        let filter = (filter, self.walker.deadline());
        let message = &mut self.message;
        let page = changes.table_page(message, connection, from, limits, filter);
        self.release_scratch();
        page.map(Some)
    }

    fn release_scratch(&mut self) {
        self.message.clear();
        self.message.shrink_to(KEPT_SCRATCH);
    }
}

/// The reader of rows whole, made where nobody has asked for it yet.
fn whole_reader<'w>(
    known: &'w mut Option<Box<WholeReader>>,
    feed: &FeedConfig,
    schema: &Schema,
    walker: &Walker,
) -> &'w mut WholeReader {
    let make = || WholeReader::new(feed, schema, walker.deadline().clone());
    known.get_or_insert_with(|| Box::new(make()))
}

/// A filter as SQL under one schema.
#[derive(Debug, Default)]
struct Condition {
    /// To be joined with `AND`; empty without a filter.
    sql: String,
    params: Vec<Value>,
    /// What an index can be asked for.
    terms: Vec<Term>,
}

impl Condition {
    /// `None` where a column is gone.
    fn of(filter: &Filter, schema: &Schema) -> Option<Condition> {
        if let Some(changes) = &schema.changes {
            let (sql, params) = changes.concerns(filter, |column| schema.place_of(column))?;
            let terms = Vec::new();
            return Some(Condition { sql, params, terms });
        }
        let (sql, params) = filter.sql(|column| {
            let name = quote_identifier(column.name());
            schema.place_of(column).map(|_| name)
        })?;
        let terms = index::terms(filter);
        Some(Condition { sql, params, terms })
    }
}

fn values<'r>(row: &'r Row<'_>) -> impl Fn(usize) -> ValueRef<'r> + Copy {
    // A place out of range can't be: the SELECT lists the schema's columns. NULL is what a vanished one would be.
    move |place| row.get_ref(place).unwrap_or(ValueRef::Null)
}

#[cfg(test)]
mod tests {
    use super::fixture::{filter, ids, rare, shapes, table};
    use super::*;

    const PAGE: PageLimits = PageLimits {
        rows: 1000,
        bytes: 1 << 20,
    };

    /// All rows of a filter, page by page, and how many pages that took.
    fn replay(db: &Connection, reader: &mut RowReader, filter: &Filter) -> (Vec<i64>, usize) {
        let (mut found, mut after, mut pages) = (vec![], Cursor::MIN, 0);
        let head = Cursor(*ids(db, "1").last().unwrap());
        while after < head {
            let block = reader
                .between(db, after, head, PAGE, filter)
                .unwrap()
                .unwrap();
            assert!(block.last > after, "every page gets on");
            found.extend(block.entries.iter().map(|entry| entry.id));
            (after, pages) = (block.last, pages + 1);
        }
        (found, pages)
    }

    fn start_of_last(
        db: &Connection,
        reader: &mut RowReader,
        n: u32,
        filter: &Filter,
    ) -> Option<Cursor> {
        let mut last = LastRows::new(n, Cursor(i64::MAX));
        while !last.step(db, reader, filter).unwrap() {}
        last.start()
    }

    /// A reader whose connection ends what is late, as those of the pool are.
    fn limited(db: &mut Connection, reader: RowReader) -> RowReader {
        let deadline = Deadline::default();
        deadline.install(db).unwrap();
        reader.limited_by(deadline)
    }

    #[test]
    fn a_rare_filter_is_read_in_steps_and_misses_nothing() {
        for (mut db, reader) in shapes() {
            let mut reader = limited(&mut db, reader);
            let (found, _) = replay(&db, &mut reader, &rare());
            assert_eq!(found, ids(&db, "kind = 'rare'"));
        }
    }

    #[test]
    fn an_index_answers_at_once_whatever_its_shape() {
        for index in [
            "CREATE INDEX i ON t(kind)",
            "CREATE INDEX i ON t(kind COLLATE NOCASE DESC)",
            "CREATE INDEX i ON t(kind, n)",
        ] {
            for (mut db, reader) in shapes() {
                db.execute_batch(index).unwrap();
                let mut reader = limited(&mut db, reader);
                // Rows that an index by another collation takes for the same.
                db.execute("UPDATE t SET kind = 'RARE' WHERE n % 7001 = 1", [])
                    .unwrap();
                let (found, pages) = replay(&db, &mut reader, &rare());
                assert_eq!(found, ids(&db, "kind = 'rare'"), "{index}");
                assert_eq!(pages, 1, "{index}");
                let start = start_of_last(&db, &mut reader, 2, &rare());
                let oldest = found[found.len() - 2];
                assert_eq!(start, Some(Cursor::before(oldest)), "{index}");
                let (common, _) = replay(&db, &mut reader, &filter("common"));
                assert_eq!(common, ids(&db, "kind = 'common'"), "{index}");
            }
        }
    }

    #[test]
    fn an_index_knows_numbers_and_blobs_however_they_are_asked_for() {
        let (mut db, reader) = table(20, 1, "id INTEGER PRIMARY KEY, any");
        db.execute_batch(
            "CREATE INDEX i ON t(any);
             UPDATE t SET any = CASE n % 5 WHEN 0 THEN 5 WHEN 1 THEN '5' WHEN 2 THEN 5.0 WHEN 3 THEN x'0001' END",
        )
        .unwrap();
        let mut reader = limited(&mut db, reader);
        for (value, condition) in [
            ("5", "n % 5 < 3"),
            ("5.0", "n % 5 IN (0, 2)"),
            ("AAE=", "n % 5 = 3"),
            ("6", "0"),
        ] {
            let mut filter = Filter::default();
            filter.accept("any", value);
            let (found, _) = replay(&db, &mut reader, &filter);
            assert_eq!(found, ids(&db, condition), "{value}");
        }
    }

    #[test]
    fn the_last_rows_of_a_rare_filter_are_found_however_far_back() {
        for (mut db, reader) in shapes() {
            let mut reader = limited(&mut db, reader);
            let rows = ids(&db, "kind = 'rare'");
            for n in [1, 3, rows.len(), rows.len() + 5] {
                let start = start_of_last(&db, &mut reader, n as u32, &rare());
                let oldest = rows[rows.len().saturating_sub(n)];
                assert_eq!(start, Some(Cursor::before(oldest)), "last={n}");
            }
            assert_eq!(start_of_last(&db, &mut reader, 5, &filter("missing")), None);
        }
    }

    #[test]
    fn rows_behind_large_values_are_passed_a_few_at_a_time() {
        let (mut db, reader) = table(60, 1, "id INTEGER PRIMARY KEY, large");
        db.execute_batch(
            "UPDATE t SET large = zeroblob(2000000), kind = iif(n = 7, 'rare', 'common')",
        )
        .unwrap();
        let mut reader = limited(&mut db, reader);
        let (found, _) = replay(&db, &mut reader, &rare());
        assert_eq!(found, [7]);
        let (all, pages) = replay(&db, &mut reader, &Filter::default());
        assert_eq!(
            (all.len(), pages),
            (60, 60),
            "a page ends after a megabyte read"
        );
    }

    #[test]
    fn a_large_row_at_the_head_is_no_reason_to_read_on() {
        let (db, mut reader) = table(4, 1, "id INTEGER PRIMARY KEY");
        db.execute(
            "UPDATE t SET kind = hex(zeroblob(1000000)) WHERE id IN (2, 4)",
            [],
        )
        .unwrap();
        let mut above = |head: i64| {
            let page = reader.above_head(
                &db,
                Cursor(head),
                PAGE,
                &FilterIndex::default(),
                FilterId(1),
            );
            let page = page.unwrap();
            let found = page.block.entries.iter().map(|entry| entry.id);
            (found.collect::<Vec<_>>(), page.full)
        };
        assert_eq!(above(2), (vec![3], true), "a row behind it is worth a look");
        assert_eq!(above(3), (vec![4], true));
        assert_eq!(above(4), (vec![], false));
    }

    #[test]
    fn a_large_row_leaves_no_large_buffer() {
        let (db, mut reader) = table(3, 1, "id INTEGER PRIMARY KEY");
        db.execute(
            "UPDATE t SET kind = hex(zeroblob(5000000)) WHERE id = 2",
            [],
        )
        .unwrap();
        let head = Cursor(0);
        let page = reader.above_head(&db, head, PAGE, &FilterIndex::default(), FilterId(1));
        assert_eq!(
            page.unwrap().block.entries.len(),
            2,
            "the page ends with it"
        );
        assert!(reader.message.capacity() <= KEPT_SCRATCH);
    }
}
