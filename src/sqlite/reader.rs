//! Rows as ready frames, a page at a time: above the cursor for the feed loop, between two cursors for catch-up, newest
//! first for history. Every statement is reset when its page is done, so no read transaction outlives a page; where a
//! filter passes rows over, a statement ends after so many rows looked at.

#[cfg(test)]
mod fixture;
mod history;
mod page;

use std::sync::Arc;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use crate::change::{Block, Cursor, Matches};
use crate::config::FeedConfig;
use crate::filter::{Filter, FilterId, FilterIndex, quote_identifier};
use crate::sqlite::encode::Encoder;
use crate::sqlite::open::schema_version;
use crate::sqlite::table::Schema;
pub use history::{HistoryPage, HistoryQuery, TOTAL_CAP};
use page::Page;
pub use page::PageLimits;

/// Rows one statement looks at for a filter, matching or not: some milliseconds. One that searched the whole table
/// would keep every checkpoint from finishing for as long.
const STRETCH: usize = 20_000;

/// Above every position.
const END: Cursor = Cursor(i64::MAX);

/// Bytes of scratch space kept from page to page. A large row needs more for a moment.
const KEPT_SCRATCH: usize = 256 * 1024;

/// Reads one feed's table under one schema.
#[derive(Debug)]
pub struct RowReader {
    pub schema: Arc<Schema>,
    encoder: Encoder,
    columns: String,
    table: String,
    key: String,
    /// SQL that leaves out rows without a position.
    positioned: String,
    /// SQL for the row at the head and all above it.
    from_head: String,
    message: Vec<u8>,
}

/// A page read above the head.
#[derive(Debug)]
pub struct HeadPage {
    pub block: Block,
    /// The page ended at a limit: there may be more rows.
    pub full: bool,
    /// Fingerprint of the row at the old head, as it is now; `None` where it is gone.
    pub head_row: Option<u64>,
}

impl RowReader {
    pub fn new(feed: &FeedConfig, schema: Arc<Schema>, max_row_bytes: usize) -> RowReader {
        let columns = schema.select_list(max_row_bytes);
        let table = quote_identifier(&schema.table.name);
        let key = quote_identifier(schema.table.key_name());
        let positioned = schema.table.has_position();
        RowReader {
            encoder: Encoder::new(feed, &schema, max_row_bytes),
            from_head: format!(
                "SELECT {columns} FROM {table} WHERE {key} >= ?{positioned} ORDER BY {key}"
            ),
            columns,
            table,
            key,
            positioned,
            message: Vec::new(),
            schema,
        }
    }

    /// Whether the table is still as this reader knows it. What was read is good if it is afterwards, too.
    pub fn is_current(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(schema_version(connection)? == self.schema.version)
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
        let mut statement = connection.prepare_cached(&self.from_head)?;
        let mut rows = statement.query([head.0])?;
        let mut page = Page::new(head, limits);
        let mut matches = Matches {
            known_below,
            ..Matches::default()
        };
        let mut head_row = None;
        while let Some(row) = rows.next()? {
            let id = self.encode(row)?;
            if id == head.0 {
                head_row = Some(fingerprint(&self.message));
                continue;
            }
            let index = page.push(id, &self.message);
            filters.each_match(values(row), |filter| {
                matches.rows.entry(filter).or_default().push(index)
            });
            if page.is_full() {
                break;
            }
        }
        self.release_scratch();
        let full = page.is_full();
        Ok(HeadPage {
            block: page.finish(head, Some(matches)),
            full,
            head_row,
        })
    }

    /// Fingerprint of a row as [`HeadPage::head_row`] gives it: of its message.
    pub fn fingerprint_of(frame: &[u8]) -> u64 {
        fingerprint(crate::protocol::payload(frame))
    }

    /// Reads rows of `filter` in `(after, upto]`, as many as a page holds and as few rows allow to be looked at: the
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
        let upto = self.stretch_above(connection, &condition, after, upto)?;
        let sql = self.select(&self.columns, &condition, "ASC");
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(condition.within(after, upto, None)))?;
        let mut page = Page::new(after, limits);
        while let Some(row) = rows.next()? {
            let id = self.encode(row)?;
            page.push(id, &self.message);
            if page.is_full() {
                break;
            }
        }
        self.release_scratch();
        let last = if page.is_full() { page.last() } else { upto };
        Ok(Some(page.finish(last, None)))
    }

    /// Encodes a row's message; gives its id.
    fn encode(&mut self, row: &Row<'_>) -> rusqlite::Result<i64> {
        let id = row.get(self.schema.key_place)?;
        self.message.clear();
        self.encoder.message(&mut self.message, values(row));
        Ok(id)
    }

    fn release_scratch(&mut self) {
        self.message.clear();
        self.message.shrink_to(KEPT_SCRATCH);
    }

    /// Where the newest `n` rows of `filter` up to `head` begin: the position just below the oldest of them. `None`
    /// where there is none, or a column of the filter is gone.
    pub fn start_of_last(
        &self,
        connection: &Connection,
        n: u32,
        head: Cursor,
        filter: &Filter,
    ) -> rusqlite::Result<Option<Cursor>> {
        let Some(condition) = Condition::of(filter, &self.schema) else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT min(id), count(*) FROM ({} LIMIT ?)",
            self.select(&format!("{} AS id", self.key), &condition, "DESC")
        );
        let (mut upto, mut left, mut start) = (head, i64::from(n), None);
        while left > 0 && upto > Cursor::MIN {
            let after = self.stretch_below(connection, &condition, Cursor::MIN, upto)?;
            let (oldest, found): (Option<i64>, i64) = connection.prepare_cached(&sql)?.query_row(
                params_from_iter(condition.within(after, upto, Some(left))),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            start = oldest.map(Cursor::before).or(start);
            left -= found;
            upto = after;
        }
        Ok(start)
    }

    /// A query of the rows in a range of positions that meet `condition`; [`Condition::within`] gives its parameters.
    fn select(&self, what: &str, condition: &Condition, order: &str) -> String {
        let (table, key, positioned) = (&self.table, &self.key, &self.positioned);
        let condition = &condition.sql;
        format!(
            "SELECT {what} FROM {table} WHERE {key} > ? AND {key} <= ?{positioned}{condition} ORDER BY {key} {order}"
        )
    }

    /// The end of the stretch of rows that begins above `after`: `upto`, or before it with [`STRETCH`] rows between.
    fn stretch_above(
        &self,
        connection: &Connection,
        condition: &Condition,
        after: Cursor,
        upto: Cursor,
    ) -> rusqlite::Result<Cursor> {
        let end = self.stretch(connection, condition, (after, upto), ("ASC", STRETCH - 1))?;
        Ok(end.unwrap_or(upto))
    }

    /// The beginning, itself not included, of the stretch of rows that ends with `upto`: `after`, or above it.
    fn stretch_below(
        &self,
        connection: &Connection,
        condition: &Condition,
        after: Cursor,
        upto: Cursor,
    ) -> rusqlite::Result<Cursor> {
        let start = self.stretch(connection, condition, (after, upto), ("DESC", STRETCH))?;
        Ok(start.unwrap_or(after))
    }

    /// The position of the row after `rows` others of a range, where it has as many and some of them may be passed over.
    fn stretch(
        &self,
        connection: &Connection,
        condition: &Condition,
        (after, upto): (Cursor, Cursor),
        (order, rows): (&str, usize),
    ) -> rusqlite::Result<Option<Cursor>> {
        // No more rows than ids.
        let few = upto.0.saturating_sub(after.0) <= STRETCH as i64;
        if condition.sql.is_empty() || few {
            return Ok(None);
        }
        let keys = self.select(&self.key, &Condition::default(), order);
        connection
            .prepare_cached(&format!("{keys} LIMIT 1 OFFSET {rows}"))?
            .query_row((after.0, upto.0), |row| row.get(0).map(Cursor))
            .optional()
    }
}

/// A filter as SQL under one schema.
#[derive(Debug, Default)]
struct Condition {
    /// To be joined with `AND`; empty without a filter.
    sql: String,
    params: Vec<Value>,
}

impl Condition {
    /// `None` where a column is gone.
    fn of(filter: &Filter, schema: &Schema) -> Option<Condition> {
        let (sql, params) = filter.sql(|name| schema.kind(name))?;
        Some(Condition { sql, params })
    }

    /// The parameters of a query of `(after, upto]`, and of its `LIMIT` where it has one.
    fn within(
        &self,
        after: Cursor,
        upto: Cursor,
        limit: Option<i64>,
    ) -> impl Iterator<Item = Value> {
        let range = [after.0, upto.0].map(Value::Integer);
        let params = range.into_iter().chain(self.params.iter().cloned());
        params.chain(limit.map(Value::Integer))
    }
}

fn values<'r>(row: &'r Row<'_>) -> impl Fn(usize) -> ValueRef<'r> + Copy {
    // A place out of range can't be: the SELECT lists the schema's columns. NULL is what a vanished one would be.
    move |place| row.get_ref(place).unwrap_or(ValueRef::Null)
}

/// FNV-1a: a fingerprint to notice change by, nothing that must withstand an adversary; the same in every build.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::fixture::{ids, rare, shapes, table};
    use super::*;

    const PAGE: PageLimits = PageLimits {
        rows: 1000,
        bytes: 1 << 20,
    };

    #[test]
    fn a_rare_filter_is_read_in_stretches_and_misses_nothing() {
        for (db, mut reader) in shapes() {
            let all = ids(&db, "1");
            let head = Cursor(*all.last().unwrap());
            let (mut found, mut after) = (vec![], Cursor::MIN);
            while after < head {
                let block = reader.between(&db, after, head, PAGE, &rare()).unwrap();
                let block = block.unwrap();
                let within = |id: &&i64| **id > after.0 && **id <= block.last.0;
                assert!(block.last > after);
                assert!(all.iter().filter(within).count() <= STRETCH);
                found.extend(block.entries.iter().map(|entry| entry.id));
                after = block.last;
            }
            assert_eq!(found, ids(&db, "kind = 'rare'"));
        }
    }

    #[test]
    fn the_last_rows_of_a_rare_filter_are_found_however_far_back() {
        for (db, reader) in shapes() {
            let rows = ids(&db, "kind = 'rare'");
            let head = Cursor(i64::MAX);
            for n in [1, 3, rows.len(), rows.len() + 5] {
                let start = reader.start_of_last(&db, n as u32, head, &rare()).unwrap();
                let oldest = rows[rows.len().saturating_sub(n)];
                assert_eq!(start, Some(Cursor::before(oldest)), "last={n}");
            }
            let mut nothing = Filter::default();
            nothing.accept("kind", "missing");
            let start = reader.start_of_last(&db, 5, head, &nothing).unwrap();
            assert_eq!(start, None);
        }
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
