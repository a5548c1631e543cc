//! Rows as ready frames, a page at a time: above the cursor for the feed loop, between two cursors for catch-up, newest
//! first for history. Every statement is reset when its page is done, so no read transaction outlives a page; where a
//! filter passes rows over, a statement ends after so many rows looked at.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde_json::value::RawValue;

use crate::change::{Block, Cursor, Entry, Matches};
use crate::config::FeedConfig;
use crate::filter::{Filter, FilterId, FilterIndex, quote_identifier};
use crate::protocol::{opcode, push_frame};
use crate::sqlite::encode::{Encoder, id_label};
use crate::sqlite::table::Schema;

/// How much one page may hold. A page ends with the row that reaches a limit.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    pub rows: usize,
    pub bytes: usize,
}

/// Above this many matching rows history says `total_is_capped` instead of counting on.
pub const TOTAL_CAP: i64 = 10_000;

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
        let columns = schema.select_list();
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
            let id: i64 = row.get(self.schema.key_place)?;
            self.message.clear();
            self.encoder.message(&mut self.message, values(row));
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
        self.message.clear();
        self.message.shrink_to(KEPT_SCRATCH);
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
            let id: i64 = row.get(self.schema.key_place)?;
            self.message.clear();
            self.encoder.message(&mut self.message, values(row));
            page.push(id, &self.message);
            if page.is_full() {
                break;
            }
        }
        self.message.clear();
        self.message.shrink_to(KEPT_SCRATCH);
        let last = if page.is_full() { page.last() } else { upto };
        Ok(Some(page.finish(last, None)))
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

    /// A page of history. `None` where a column of the filter is gone.
    ///
    /// With a rare filter on a large table it takes a while, and who asked may leave: `cancelled` is asked between its
    /// short statements; once it says so, the page is left unfinished.
    pub fn history(
        &self,
        connection: &Connection,
        query: &HistoryQuery,
        cancelled: &dyn Fn() -> bool,
    ) -> rusqlite::Result<Option<HistoryPage>> {
        let Some(condition) = Condition::of(&query.filter, &self.schema) else {
            return Ok(None);
        };
        let oldest_first = query.after.is_some() && query.before.is_none();
        let mut after = query.after.unwrap_or(Cursor::MIN);
        let mut upto = query.before.map_or(END, |id| Cursor::before(id.0));
        let mut page = HistoryPage::default();
        while page.items.len() < query.limit as usize && after < upto && !cancelled() {
            let stretch = if oldest_first {
                let end = self.stretch_above(connection, &condition, after, upto)?;
                (std::mem::replace(&mut after, end), end, "ASC")
            } else {
                let start = self.stretch_below(connection, &condition, after, upto)?;
                (start, std::mem::replace(&mut upto, start), "DESC")
            };
            self.read_items(connection, query, &condition, stretch, &mut page)?;
        }
        if oldest_first {
            page.items.reverse();
        }
        // A page that was not filled from the whole table holds all there is.
        let whole = query.before.is_none() && query.after.is_none();
        page.total = match page.items.len() {
            found if whole && found < query.limit as usize => found as i64,
            _ => self.count(connection, &condition, cancelled)?,
        };
        Ok(Some(page))
    }

    /// Adds the rows of one stretch to a page of history, up to its limit.
    fn read_items(
        &self,
        connection: &Connection,
        query: &HistoryQuery,
        condition: &Condition,
        (after, upto, order): (Cursor, Cursor, &str),
        page: &mut HistoryPage,
    ) -> rusqlite::Result<()> {
        let sql = format!("{} LIMIT ?", self.select(&self.columns, condition, order));
        let left = i64::from(query.limit) - page.items.len() as i64;
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows =
            statement.query(params_from_iter(condition.within(after, upto, Some(left))))?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(self.schema.key_place)?;
            let mut item = Vec::new();
            let cut = self.encoder.item(&mut item, values(row), query.item_bytes);
            if !cut.is_empty() {
                page.truncated.push((id_label(id), cut));
            }
            page.items.push(raw_json(item));
        }
        Ok(())
    }

    /// Counts the rows that match, newest first, up to [`TOTAL_CAP`] + 1.
    fn count(
        &self,
        connection: &Connection,
        condition: &Condition,
        cancelled: &dyn Fn() -> bool,
    ) -> rusqlite::Result<i64> {
        let rows = self.select("1", condition, "DESC");
        let sql = format!("SELECT count(*) FROM ({rows} LIMIT ?)");
        let (mut total, mut upto) = (0, END);
        while total <= TOTAL_CAP && upto > Cursor::MIN && !cancelled() {
            let after = self.stretch_below(connection, condition, Cursor::MIN, upto)?;
            let bounds = condition.within(after, upto, Some(TOTAL_CAP + 1 - total));
            let found: i64 = connection
                .prepare_cached(&sql)?
                .query_row(params_from_iter(bounds), |row| row.get(0))?;
            total += found;
            upto = after;
        }
        Ok(total)
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

/// What a history request asks for.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    pub limit: u32,
    pub before: Option<Cursor>,
    pub after: Option<Cursor>,
    pub filter: Filter,
    /// Bytes of JSON an item may have before its longest values are cut. The feed's own limit holds where it is smaller;
    /// `usize::MAX` leaves it at that.
    pub item_bytes: usize,
}

impl Default for HistoryQuery {
    fn default() -> HistoryQuery {
        HistoryQuery {
            limit: 0,
            before: None,
            after: None,
            filter: Filter::default(),
            item_bytes: usize::MAX,
        }
    }
}

/// Rows of history, newest first.
#[derive(Debug, Default)]
pub struct HistoryPage {
    pub items: Vec<Box<RawValue>>,
    /// Rows that match the filter, counted up to [`TOTAL_CAP`] + 1.
    pub total: i64,
    /// Id and cut columns of each row that was too large.
    pub truncated: Vec<(String, Vec<String>)>,
}

fn values<'r>(row: &'r Row<'_>) -> impl Fn(usize) -> ValueRef<'r> + Copy {
    // A place out of range can't be: the SELECT lists the schema's columns. NULL is what a vanished one would be.
    move |place| row.get_ref(place).unwrap_or(ValueRef::Null)
}

fn raw_json(bytes: Vec<u8>) -> Box<RawValue> {
    let text = String::from_utf8(bytes).unwrap_or_default();
    // The encoder writes valid JSON; were it ever not, the row must not break the page it stands in.
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// FNV-1a: a fingerprint to notice change by, nothing that must withstand an adversary; the same in every build.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A block in the making.
struct Page {
    after: Cursor,
    limits: PageLimits,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    read_at: Instant,
}

impl Page {
    fn new(after: Cursor, limits: PageLimits) -> Page {
        Page {
            after,
            limits,
            bytes: Vec::new(),
            entries: Vec::new(),
            read_at: Instant::now(),
        }
    }

    /// Adds a row and gives its index.
    fn push(&mut self, id: i64, message: &[u8]) -> u32 {
        push_frame(&mut self.bytes, opcode::TEXT, message);
        // A page ends soon after `limits.bytes`, far below 4 GiB: no message is larger than SQLite's 1 GB limit.
        self.entries.push(Entry {
            id,
            end: self.bytes.len() as u32,
        });
        (self.entries.len() - 1) as u32
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.limits.rows || self.bytes.len() >= self.limits.bytes
    }

    fn last(&self) -> Cursor {
        self.entries
            .last()
            .map_or(self.after, |entry| Cursor(entry.id))
    }

    /// A block that covers up to `upto`, or up to its last row where that is higher.
    fn finish(mut self, upto: Cursor, matches: Option<Matches>) -> Block {
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
        Block {
            after: self.after,
            last: self.last().max(upto),
            bytes: self.bytes,
            entries: self.entries,
            matches,
            read_at: self.read_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const PAGE: PageLimits = PageLimits {
        rows: 1000,
        bytes: 1 << 20,
    };

    /// A table of `rows` rows `step` ids apart, of which those with an `n` divisible by 7,001 are rare.
    fn table(rows: i64, step: i64, declared: &str) -> (Connection, RowReader) {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(&format!(
            "CREATE TABLE t({declared}, n INTEGER, kind TEXT);
             WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows})
             INSERT INTO t(id, n, kind) SELECT n * {step}, n, iif(n % 7001 = 0, 'rare', 'common') FROM s"
        ))
        .unwrap();
        let feed = FeedConfig {
            table: "t".into(),
            key: Some("id".into()),
            ..FeedConfig::stock()
        };
        let schema = Schema::of_feed(&db, &feed).unwrap();
        let reader = RowReader::new(&feed, Arc::new(schema), 1 << 20);
        (db, reader)
    }

    fn rare() -> Filter {
        let mut filter = Filter::default();
        filter.accept("kind", "rare");
        filter
    }

    fn shapes() -> [(Connection, RowReader); 3] {
        [
            table(50_000, 1, "id INTEGER PRIMARY KEY"),
            table(50_000, 1_000_003, "id INTEGER PRIMARY KEY"),
            table(
                50_000,
                3,
                "name TEXT PRIMARY KEY DEFAULT (hex(randomblob(16))), id INTEGER UNIQUE",
            ),
        ]
    }

    fn ids(db: &Connection, condition: &str) -> Vec<i64> {
        db.prepare(&format!("SELECT id FROM t WHERE {condition} ORDER BY id"))
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    fn items(page: &HistoryPage) -> Vec<i64> {
        let json = |item: &RawValue| serde_json::from_str::<serde_json::Value>(item.get()).unwrap();
        page.items
            .iter()
            .map(|item| json(item)["id"].as_i64().unwrap())
            .collect()
    }

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
    fn history_of_a_rare_filter_is_paged_from_either_end() {
        for (db, reader) in shapes() {
            let rows = ids(&db, "kind = 'rare'");
            let query = HistoryQuery {
                limit: 3,
                filter: rare(),
                ..HistoryQuery::default()
            };
            let page = |before: Option<i64>, after: Option<i64>| {
                let query = HistoryQuery {
                    before: before.map(Cursor),
                    after: after.map(Cursor),
                    ..query.clone()
                };
                let page = reader.history(&db, &query, &|| false).unwrap().unwrap();
                assert_eq!(page.total, rows.len() as i64);
                items(&page)
            };
            let newest_first = |ids: &[i64]| ids.iter().rev().copied().collect::<Vec<_>>();
            assert_eq!(page(None, None), newest_first(&rows[4..]));
            assert_eq!(page(Some(rows[4]), None), newest_first(&rows[1..4]));
            assert_eq!(page(None, Some(rows[0])), newest_first(&rows[1..4]));
            assert_eq!(
                page(Some(rows[5]), Some(rows[3])),
                newest_first(&rows[4..5])
            );
            assert!(page(Some(rows[0]), None).is_empty());
        }
    }

    #[test]
    fn the_total_is_exact_up_to_its_cap() {
        let (db, reader) = table(50_000, 1, "id INTEGER PRIMARY KEY");
        for (modulo, expected) in [(5, 10_000), (4, TOTAL_CAP + 1)] {
            db.execute(
                &format!("UPDATE t SET kind = iif(n % {modulo} = 0, 'rare', 'common')"),
                [],
            )
            .unwrap();
            let query = HistoryQuery {
                limit: 1,
                filter: rare(),
                ..HistoryQuery::default()
            };
            let page = reader.history(&db, &query, &|| false).unwrap().unwrap();
            assert_eq!(page.total, expected);
        }
        let all = HistoryQuery {
            limit: 1,
            ..HistoryQuery::default()
        };
        let page = reader.history(&db, &all, &|| false).unwrap().unwrap();
        assert_eq!(page.total, TOTAL_CAP + 1);
    }

    #[test]
    fn history_stops_between_statements_when_nobody_waits() {
        let (db, reader) = table(100_000, 1, "id INTEGER PRIMARY KEY");
        let query = HistoryQuery {
            limit: 100,
            filter: rare(),
            ..HistoryQuery::default()
        };
        let asked = Cell::new(0);
        let page = reader.history(&db, &query, &|| {
            asked.set(asked.get() + 1);
            asked.get() > 1
        });
        let page = page.unwrap().unwrap();
        assert_eq!(items(&page).len(), 3, "those of the newest stretch");
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn items_of_history_are_cut_to_what_was_asked_for() {
        let (db, reader) = table(3, 1, "id INTEGER PRIMARY KEY");
        db.execute("UPDATE t SET kind = hex(zeroblob(500)) WHERE id = 2", [])
            .unwrap();
        let query = HistoryQuery {
            limit: 3,
            item_bytes: 200,
            ..HistoryQuery::default()
        };
        let page = reader.history(&db, &query, &|| false).unwrap().unwrap();
        assert_eq!(page.truncated, [("2".to_owned(), vec!["kind".to_owned()])]);
        assert!(page.items.iter().all(|item| item.get().len() <= 200));
        let whole = HistoryQuery {
            limit: 3,
            ..HistoryQuery::default()
        };
        let page = reader.history(&db, &whole, &|| false).unwrap().unwrap();
        assert!(page.truncated.is_empty() && page.items[1].get().len() > 1000);
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
