//! Rows as ready frames, a page at a time: above the cursor for the feed loop, between two cursors for catch-up, newest
//! first for history. Every statement is reset when its page is done, so no read transaction outlives a page.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};
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

/// Reads one feed's table under one schema.
#[derive(Debug)]
pub struct RowReader {
    pub schema: Arc<Schema>,
    encoder: Encoder,
    columns: String,
    table: String,
    key: String,
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
        RowReader {
            encoder: Encoder::new(feed, &schema, max_row_bytes),
            columns: schema.select_list(),
            table: quote_identifier(&schema.table.name),
            key: quote_identifier(schema.table.key_name()),
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
        let (columns, table, key) = (&self.columns, &self.table, &self.key);
        let sql = format!("SELECT {columns} FROM {table} WHERE {key} >= ? ORDER BY {key}");
        let mut statement = connection.prepare_cached(&sql)?;
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

    /// Reads the rows of `filter` in `(after, upto]`. `None` where a column of the filter is gone.
    pub fn between(
        &mut self,
        connection: &Connection,
        after: Cursor,
        upto: Cursor,
        limits: PageLimits,
        filter: &Filter,
    ) -> rusqlite::Result<Option<Block>> {
        let Some((condition, filter_values)) = filter.sql(|name| self.schema.kind(name)) else {
            return Ok(None);
        };
        let (columns, table, key) = (&self.columns, &self.table, &self.key);
        let sql = format!(
            "SELECT {columns} FROM {table} WHERE {key} > ? AND {key} <= ?{condition} ORDER BY {key}"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut values_of_query = vec![Value::Integer(after.0), Value::Integer(upto.0)];
        values_of_query.extend(filter_values);
        let mut rows = statement.query(params_from_iter(values_of_query))?;
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
        let last = if page.is_full() { page.last() } else { upto };
        Ok(Some(page.finish(last, None)))
    }

    /// Where the newest `n` rows of `filter` up to `head` begin: the position just below the oldest of them.
    pub fn start_of_last(
        &self,
        connection: &Connection,
        n: u32,
        head: Cursor,
        filter: &Filter,
    ) -> rusqlite::Result<Option<Cursor>> {
        let Some((condition, filter_values)) = filter.sql(|name| self.schema.kind(name)) else {
            return Ok(None);
        };
        let (table, key) = (&self.table, &self.key);
        let sql = format!(
            "SELECT min(id) FROM (SELECT {key} AS id FROM {table} WHERE {key} <= ?{condition} ORDER BY {key} DESC LIMIT ?)"
        );
        let mut query = vec![Value::Integer(head.0)];
        query.extend(filter_values);
        query.push(Value::Integer(n.into()));
        let oldest: Option<i64> = connection
            .prepare_cached(&sql)?
            .query_row(params_from_iter(query), |row| row.get(0))?;
        Ok(oldest.map(Cursor::before))
    }

    /// A page of history. `None` where a column of the filter is gone.
    pub fn history(
        &mut self,
        connection: &Connection,
        query: &HistoryQuery,
    ) -> rusqlite::Result<Option<HistoryPage>> {
        let Some((condition, filter_values)) = query.filter.sql(|name| self.schema.kind(name))
        else {
            return Ok(None);
        };
        let (columns, table, key) = (&self.columns, &self.table, &self.key);
        let mut bounds = String::new();
        let mut params = Vec::new();
        for (operator, bound) in [("<", query.before), (">", query.after)] {
            if let Some(bound) = bound {
                bounds.push_str(&format!(" AND {key} {operator} ?"));
                params.push(Value::Integer(bound.0));
            }
        }
        let oldest_first = query.after.is_some() && query.before.is_none();
        let order = if oldest_first { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT {columns} FROM {table} WHERE 1{bounds}{condition} ORDER BY {key} {order} LIMIT ?"
        );
        params.extend(filter_values.iter().cloned());
        params.push(Value::Integer(query.limit.into()));
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(params))?;
        let mut page = HistoryPage::default();
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(self.schema.key_place)?;
            let mut item = Vec::new();
            let cut = self.encoder.item(&mut item, values(row));
            if !cut.is_empty() {
                page.truncated.push((id_label(id), cut));
            }
            page.items.push(raw_json(item));
        }
        if oldest_first {
            page.items.reverse();
        }
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE 1{condition} LIMIT {})",
            TOTAL_CAP + 1
        );
        page.total = connection
            .prepare_cached(&sql)?
            .query_row(params_from_iter(filter_values), |row| row.get(0))?;
        Ok(Some(page))
    }
}

/// What a history request asks for.
#[derive(Debug, Clone, Default)]
pub struct HistoryQuery {
    pub limit: u32,
    pub before: Option<Cursor>,
    pub after: Option<Cursor>,
    pub filter: Filter,
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
