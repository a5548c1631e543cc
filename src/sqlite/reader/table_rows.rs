//! A captured table as it is, in pages along its key: what subscribers of its changes begin with. No statement lasts for
//! longer than a page, so the rows of one page are of another moment than those of the next; the changes from before the
//! first page on, which follow, make up for that.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::page::{Page, PageLimits};
use crate::model::filter::{Filter, quote_identifier};
use crate::model::position::Cursor;
use crate::sqlite::changes::ChangeLog;
use crate::sqlite::deadline::{Deadline, is_interruption};
use crate::sqlite::table::Schema;
use crate::wire::block::Block;

/// How long a page may take to find, where a filter passes rows over.
const STEP: Duration = Duration::from_millis(5);
/// Rows that one statement looks at for a filter, matching or not: a fraction of a millisecond.
const STRETCH: usize = 4096;

/// The values of a row's key, in the order of its columns.
#[derive(Debug, Clone, PartialEq)]
pub struct RowKey(Vec<Value>);

/// Where a reader of a whole table stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TablePosition {
    /// Rows up to this one were taken, or are none of the reader's; `None` at the beginning.
    pub after: Option<RowKey>,
    /// How many were taken.
    pub taken: Cursor,
}

impl TablePosition {
    /// Before the first row.
    pub fn beginning() -> TablePosition {
        TablePosition {
            after: None,
            taken: Cursor(0),
        }
    }
}

/// Rows of a table as it is, in the order of its key.
#[derive(Debug)]
pub struct TablePage {
    /// The rows as frames. Their ids count the rows that the reader has taken.
    pub block: Arc<Block>,
    /// The key of each.
    keys: Vec<RowKey>,
    /// Up to which row the page has everything; `None`: to the end.
    upto: Option<RowKey>,
}

impl TablePage {
    /// Moves a reader's position over the page's rows up to the number `taken`. Returns whether that is the table's end.
    pub fn pass(&self, position: &mut TablePosition, taken: Cursor) -> bool {
        position.taken = taken;
        let place = usize::try_from(taken.0 - self.block.after.0 - 1).ok();
        let reached = match taken < self.block.last {
            true => place.and_then(|place| self.keys.get(place)),
            false => self.upto.as_ref(),
        };
        if let Some(key) = reached {
            position.after = Some(key.clone());
        }
        taken >= self.block.last && self.upto.is_none()
    }
}

/// Reads one captured table along its key.
#[derive(Debug)]
pub(super) struct TableReader {
    /// SQL of all that is shown of a row, and then of its key.
    columns: String,
    /// SQL of the key, as it is read and as rows are ordered by it, and of the table.
    key: Vec<String>,
    order: Vec<String>,
    table: String,
    /// Where the key stands in what is read.
    pub(super) key_places: Vec<usize>,
    /// Rows that a statement may look at: fewer where they have turned out to be large.
    stretch: usize,
}

/// A part of the table in the order of its key.
#[derive(Debug, Clone, Copy)]
struct Part<'k> {
    after: Option<&'k RowKey>,
    upto: Option<&'k RowKey>,
}

/// How the read of a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartEnd {
    Whole,
    /// The page is full, or the time over.
    Stopped,
}

/// A page of the table in the making.
struct Taken<'e> {
    page: Page,
    keys: Vec<RowKey>,
    number: i64,
    encode: &'e Encode<'e>,
    message: &'e mut Vec<u8>,
}

/// Appends the message of a row that was read.
pub(super) type Encode<'e> = dyn Fn(&mut Vec<u8>, &Row<'_>) + 'e;

impl TableReader {
    /// Reads what clients are shown of a row.
    pub(super) fn new(schema: &Schema, log: &ChangeLog, max_row_bytes: usize) -> TableReader {
        let embedded = schema.exposed.iter().filter(|e| e.json).count();
        let first = schema.exposed.len() + embedded;
        TableReader::of_columns(&schema.select_list(max_row_bytes), first, log)
    }

    /// Reads these columns, of which there are so many.
    pub(super) fn of_columns(columns: &str, first: usize, log: &ChangeLog) -> TableReader {
        let key: Vec<String> = log.key.iter().map(|name| quote_identifier(name)).collect();
        TableReader {
            columns: format!("{columns}, {}", key.join(", ")),
            key_places: (first..first + key.len()).collect(),
            key,
            order: log.key_order.clone(),
            table: quote_identifier(&log.table),
            stretch: STRETCH,
        }
    }

    /// Reads rows of `filter` from a position on, as many as a page holds and can be found in a few milliseconds: there may
    /// be none in it. Every page gets on.
    pub(super) fn page(
        &mut self,
        connection: &Connection,
        from: &TablePosition,
        limits: PageLimits,
        (filter, deadline): (&Filter, &Deadline),
        (encode, message): (&Encode<'_>, &mut Vec<u8>),
    ) -> rusqlite::Result<TablePage> {
        let condition = filter.sql(|column| Some(quote_identifier(column.name())));
        // None of its columns can be missing: each has a name to be asked for by.
        let condition = condition.unwrap_or_else(|| (" AND 0".to_owned(), Vec::new()));
        let mut taken = Taken {
            page: Page::new(from.taken, limits),
            keys: Vec::new(),
            number: from.taken.0,
            encode,
            message,
        };
        let upto = match filter.is_empty() {
            true => {
                let _patient = deadline.patient();
                let all = Part {
                    after: from.after.as_ref(),
                    upto: None,
                };
                match self.part(connection, all, &condition, &mut taken, deadline)? {
                    PartEnd::Whole => None,
                    PartEnd::Stopped => taken.keys.last().cloned(),
                }
            }
            false => self.search(connection, from, &condition, &mut taken, deadline)?,
        };
        let Taken {
            page, keys, number, ..
        } = taken;
        Ok(TablePage {
            block: Arc::new(page.finish(Cursor(number), None)),
            keys,
            upto,
        })
    }

    /// Takes rows that meet the condition, a stretch of the table after the other. Returns up to where; `None`: to the end.
    fn search(
        &mut self,
        connection: &Connection,
        from: &TablePosition,
        condition: &(String, Vec<Value>),
        taken: &mut Taken<'_>,
        deadline: &Deadline,
    ) -> rusqlite::Result<Option<RowKey>> {
        let limited = deadline.within(STEP);
        let mut after = from.after.clone();
        loop {
            // A single row is looked at to its end, however long that takes.
            let patient = (self.stretch == 1).then(|| deadline.patient());
            let before = taken.keys.len();
            let end = self.end_of_stretch(connection, after.as_ref());
            let read = end.and_then(|upto| {
                let part = Part {
                    after: after.as_ref(),
                    upto: upto.as_ref(),
                };
                let end = self.part(connection, part, condition, taken, deadline)?;
                Ok((upto, end))
            });
            drop(patient);
            match read {
                Ok((None, PartEnd::Whole)) => return Ok(None),
                Ok((upto, PartEnd::Whole)) => {
                    after = upto;
                    self.stretch = (self.stretch * 2).min(STRETCH);
                }
                Ok((_, PartEnd::Stopped)) => return Ok(taken.keys.last().cloned()),
                Err(e) if is_interruption(&e) => {
                    if taken.keys.len() > before {
                        return Ok(taken.keys.last().cloned());
                    }
                    self.stretch = (self.stretch / 4).max(1);
                }
                Err(e) => return Err(e),
            }
            match deadline.is_over() {
                true if after != from.after => return Ok(after),
                // Nothing was reached: the next stretch is smaller.
                true => limited.renew(STEP),
                false => {}
            }
        }
    }

    /// The key of the last row of the next stretch; `None` where the table ends before.
    fn end_of_stretch(
        &self,
        connection: &Connection,
        after: Option<&RowKey>,
    ) -> rusqlite::Result<Option<RowKey>> {
        let part = Part { after, upto: None };
        let (keys, nothing) = (self.key.join(", "), (String::new(), Vec::new()));
        let sql = self.select(&keys, part, &nothing.0);
        let sql = format!("{sql} LIMIT 1 OFFSET {}", self.stretch - 1);
        let places: Vec<usize> = (0..self.key.len()).collect();
        connection
            .prepare_cached(&sql)?
            .query_row(params_from_iter(part.params(&nothing.1)), |row| {
                key_at(row, &places)
            })
            .optional()
    }

    /// Takes the rows of a part that meet the condition, until there is no room or no time for more.
    fn part(
        &self,
        connection: &Connection,
        part: Part<'_>,
        condition: &(String, Vec<Value>),
        taken: &mut Taken<'_>,
        deadline: &Deadline,
    ) -> rusqlite::Result<PartEnd> {
        let sql = self.select(&self.columns, part, &condition.0);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(part.params(&condition.1)))?;
        while let Some(row) = rows.next()? {
            taken.take(row, &self.key_places)?;
            if taken.page.is_full() || deadline.is_over() {
                return Ok(PartEnd::Stopped);
            }
        }
        Ok(PartEnd::Whole)
    }

    /// A query of a part of the table. A row whose key has NULL in it is like many others, and none of the feed's.
    fn select(&self, columns: &str, part: Part<'_>, condition: &str) -> String {
        let (table, order) = (&self.table, self.order.join(", "));
        let named = self.key.iter().map(|key| format!("{key} IS NOT NULL"));
        let named: Vec<String> = named.collect();
        let bound = |sign: &str| match self.key.len() {
            1 => format!(" AND {order} {sign} ?"),
            several => format!(" AND ({order}) {sign} ({})", vec!["?"; several].join(", ")),
        };
        let after = part.after.map_or(String::new(), |_| bound(">"));
        let upto = part.upto.map_or(String::new(), |_| bound("<="));
        let named = named.join(" AND ");
        format!(
            "SELECT {columns} FROM {table} WHERE {named}{after}{upto}{condition} ORDER BY {order}"
        )
    }
}

impl Part<'_> {
    fn params(&self, condition: &[Value]) -> impl Iterator<Item = Value> {
        let bounds = self.after.into_iter().chain(self.upto);
        let bounds: Vec<Value> = bounds.flat_map(|key| key.0.iter().cloned()).collect();
        bounds.into_iter().chain(condition.to_vec())
    }
}

impl Taken<'_> {
    fn take(&mut self, row: &Row<'_>, key: &[usize]) -> rusqlite::Result<()> {
        self.message.clear();
        (self.encode)(self.message, row);
        self.page.count(self.message.len());
        self.number += 1;
        self.page.push(self.number, self.message);
        self.keys.push(key_at(row, key)?);
        Ok(())
    }
}

fn key_at(row: &Row<'_>, places: &[usize]) -> rusqlite::Result<RowKey> {
    let values = places.iter().map(|&place| row.get(place));
    values.collect::<Result<_, _>>().map(RowKey)
}
