//! Walks along the rows of a table that a filter takes, from either end of a range, a step at a time: by an index that
//! knows them, else past all rows there are. No statement of it lasts, so that a checkpoint can pass in between.

use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::Condition;
use super::index::{IndexedRows, Indexes};
use crate::model::filter::quote_identifier;
use crate::model::position::Cursor;
use crate::sqlite::deadline::{Deadline, is_interruption};
use crate::sqlite::table::Table;

/// How long a step lasts: the longest time that a statement keeps a checkpoint from finishing, and others from theirs.
const STEP: Duration = Duration::from_millis(5);
/// The same without a filter: every row is one that is asked for, and a page cut short costs as much again as its rows.
const PLAIN_STEP: Duration = Duration::from_millis(12);
/// Rows that one statement looks at for a filter, matching or not: a fraction of a millisecond.
const STRETCH: usize = 4096;
/// Between two looks at the clock, so many rows.
const ROWS_A_LOOK: usize = 16;
/// Where an index knows of a row in so many, looking at all of them is as fast as looking up those it knows.
const DENSE: i64 = 16;

/// The positions that are left to look at: those above `after`, up to and including `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub after: Cursor,
    pub upto: Cursor,
}

impl Range {
    pub(super) fn is_empty(&self) -> bool {
        self.after >= self.upto
    }

    /// What the ids are above, and up to. For the position before every row the former has to be lower than the lowest id.
    pub(super) fn bounds(self) -> [Value; 2] {
        let above = match self.after {
            Cursor::MIN => Value::Real(-1e19),
            Cursor(id) => Value::Integer(id),
        };
        [above, Value::Integer(self.upto.0)]
    }

    /// Leaves out the row with this id, and all that come before it on the way.
    fn pass(&mut self, id: i64, order: Order) {
        match order {
            Order::OldestFirst => self.after = Cursor(id),
            Order::NewestFirst => self.upto = Cursor::before(id),
        }
    }

    fn pass_all(&mut self, order: Order) {
        match order {
            Order::OldestFirst => self.after = self.upto,
            Order::NewestFirst => self.upto = self.after,
        }
    }

    /// Leaves out what comes before `left`, which is what is left of a piece of this range.
    fn pass_to(&mut self, left: Range, order: Order) {
        match order {
            Order::OldestFirst => self.after = left.after,
            Order::NewestFirst => self.upto = left.upto,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

impl Order {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Order::OldestFirst => "ASC",
            Order::NewestFirst => "DESC",
        }
    }
}

/// What a walk gives of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WalkColumns {
    /// The exposed columns.
    Columns,
    /// The key alone.
    Key,
}

/// The range, order and condition of a walk over a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub connection: &'a Connection,
    pub condition: &'a Condition,
    pub what: WalkColumns,
    pub order: Order,
}

/// Takes a row, by its id; `false` when it was the last one wanted.
pub(super) type Take<'t> = dyn FnMut(i64, &Row<'_>) -> rusqlite::Result<bool> + 't;

/// How a piece of a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WalkEnd {
    /// All of it was looked at.
    Whole,
    /// The time was over.
    Late,
    /// No more rows are wanted.
    Stopped,
}

/// Walks one table.
#[derive(Debug)]
pub(super) struct Walker {
    columns: String,
    key_place: usize,
    table: String,
    /// The table to be read along its key; SQLite might think better of it, and sort half the table for a few rows.
    along_key: String,
    /// Whether the key is the rowid.
    by_rowid: bool,
    key: String,
    /// SQL that leaves out rows without a position.
    positioned: String,
    deadline: Deadline,
    /// Rows that a statement may look at: fewer where they have turned out to be large.
    stretch: usize,
    indexes: Indexes,
}

impl Walker {
    /// `columns` is the list of what is selected of each row, the key at `key_place` of it.
    pub(super) fn new(table: &Table, columns: String, key_place: usize) -> Walker {
        let name = quote_identifier(&table.name);
        let by_rowid = table.columns[table.key].rowid;
        Walker {
            columns,
            key_place,
            along_key: match by_rowid {
                true => format!("{name} NOT INDEXED"),
                false => name.clone(),
            },
            table: name,
            by_rowid,
            key: quote_identifier(table.key_name()),
            positioned: table.has_position(),
            deadline: Deadline::default(),
            stretch: STRETCH,
            indexes: Indexes::of(table),
        }
    }

    /// Walks along a log of changes by its own key, `seq`; `source` is what is read of it and beside it.
    pub(super) fn of_log(
        log: &Table,
        source: String,
        seq: String,
        (columns, key_place): (String, usize),
    ) -> Walker {
        Walker {
            columns,
            key_place,
            along_key: source,
            table: quote_identifier(&log.name),
            by_rowid: true,
            key: seq,
            positioned: String::new(),
            deadline: Deadline::default(),
            stretch: STRETCH,
            indexes: Indexes::none(),
        }
    }

    pub(super) fn limited_by(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    pub(super) fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// Gives `take` the next rows of the range that meet the condition, until it wants no more or the step is over, and
    /// shrinks the range to what is left. Every step gets on, by one row at least.
    pub(super) fn step(
        &mut self,
        walk: Walk<'_>,
        range: &mut Range,
        take: &mut Take<'_>,
    ) -> rusqlite::Result<()> {
        let deadline = self.deadline.clone();
        let limited = deadline.within(match walk.condition.sql.is_empty() {
            true => PLAIN_STEP,
            false => STEP,
        });
        let before = *range;
        while !range.is_empty() {
            let ended = if walk.condition.sql.is_empty() {
                self.rows(walk, range, take)?
            } else if let Some(known) = self.known(walk, *range)? {
                self.known_rows(walk, range, known, take)?
            } else {
                self.stretch(walk, range, take)?
            };
            match ended {
                WalkEnd::Stopped => break,
                WalkEnd::Whole | WalkEnd::Late if !deadline.is_over() => {}
                _ if *range != before => break,
                // Nothing was reached: the next piece is smaller.
                _ => limited.renew(STEP),
            }
        }
        Ok(())
    }

    /// The rows of a range, one after the other.
    fn rows(
        &self,
        walk: Walk<'_>,
        range: &mut Range,
        take: &mut Take<'_>,
    ) -> rusqlite::Result<WalkEnd> {
        let sql = self.select(walk);
        let params = walk.condition.within(*range);
        let mut statement = walk.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(params))?;
        // Without a filter it is never long until the next row, and so it can be left to its end.
        let _patient = (walk.condition.sql.is_empty()).then(|| self.deadline.patient());
        let mut count = 0_usize;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(e) if is_interruption(&e) => return Ok(WalkEnd::Late),
                Err(e) => return Err(e),
            };
            let id = row.get(self.place(walk.what))?;
            range.pass(id, walk.order);
            if !take(id, row)? {
                return Ok(WalkEnd::Stopped);
            }
            count += 1;
            if count.is_multiple_of(ROWS_A_LOOK) && self.deadline.is_over() {
                return Ok(WalkEnd::Late);
            }
        }
        range.pass_all(walk.order);
        Ok(WalkEnd::Whole)
    }

    /// The rows of a few thousand, matching or not.
    fn stretch(
        &mut self,
        walk: Walk<'_>,
        range: &mut Range,
        take: &mut Take<'_>,
    ) -> rusqlite::Result<WalkEnd> {
        // A single row is looked at to its end, however long that takes.
        let deadline = self.deadline.clone();
        let _patient = (self.stretch == 1).then(|| deadline.patient());
        let piece = match self.piece(walk, *range) {
            Err(e) if is_interruption(&e) => {
                self.stretch = (self.stretch / 4).max(1);
                return Ok(WalkEnd::Late);
            }
            piece => piece?,
        };
        let mut left = piece;
        let ended = self.rows(walk, &mut left, take)?;
        range.pass_to(left, walk.order);
        if ended == WalkEnd::Whole {
            self.stretch = (self.stretch * 2).min(STRETCH);
        } else if left == piece {
            self.stretch = (self.stretch / 4).max(1);
        }
        Ok(ended)
    }

    /// The beginning of a range, in the walk's order, that holds as many rows as a stretch.
    fn piece(&self, walk: Walk<'_>, range: Range) -> rusqlite::Result<Range> {
        // No more rows than ids.
        if range.upto.0.saturating_sub(range.after.0) <= self.stretch as i64 {
            return Ok(range);
        }
        let everything = Condition::default();
        let keys = self.select(Walk {
            condition: &everything,
            what: WalkColumns::Key,
            ..walk
        });
        // The last row of the stretch, or the first one beyond it, whose position is not included.
        let offset = self.stretch - usize::from(walk.order == Order::OldestFirst);
        let end: Option<Cursor> = walk
            .connection
            .prepare_cached(&format!("{keys} LIMIT 1 OFFSET {offset}"))?
            .query_row(params_from_iter(everything.within(range)), |row| {
                row.get(0).map(Cursor)
            })
            .optional()?;
        Ok(match (end, walk.order) {
            (None, _) => range,
            (Some(upto), Order::OldestFirst) => Range { upto, ..range },
            (Some(after), Order::NewestFirst) => Range { after, ..range },
        })
    }

    /// The next rows of a range that some index knows; `None` where no index does.
    fn known(&mut self, walk: Walk<'_>, range: Range) -> rusqlite::Result<Option<IndexedRows>> {
        let _limited = self.deadline.within(STEP);
        let source = (
            self.table.as_str(),
            self.key.as_str(),
            self.positioned.as_str(),
        );
        self.indexes
            .next(walk.connection, source, walk.condition, range, walk.order)
    }

    /// The rows that an index knows of, as far as they meet the whole condition.
    fn known_rows(
        &self,
        walk: Walk<'_>,
        range: &mut Range,
        known: IndexedRows,
        take: &mut Take<'_>,
    ) -> rusqlite::Result<WalkEnd> {
        let mut left = known.within;
        let width = left.upto.0.saturating_sub(left.after.0);
        if width / DENSE <= known.ids.len() as i64 && width > 0 && !known.ids.is_empty() {
            let ended = self.rows(walk, &mut left, take)?;
            range.pass_to(left, walk.order);
            return Ok(ended);
        }
        let (what, table, key) = (self.what(walk.what), &self.along_key, &self.key);
        let condition = self.condition(walk.condition);
        let sql = format!("SELECT {what} FROM {table} WHERE {key} = ?{condition}");
        let mut statement = walk.connection.prepare_cached(&sql)?;
        for (index, param) in walk.condition.params.iter().enumerate() {
            statement.raw_bind_parameter(index + 2, param)?;
        }
        for (count, id) in known.ids.into_iter().enumerate() {
            if count > 0 && count.is_multiple_of(ROWS_A_LOOK) && self.deadline.is_over() {
                return Ok(WalkEnd::Late);
            }
            statement.raw_bind_parameter(1, id)?;
            let _patient = self.deadline.patient();
            let mut rows = statement.raw_query();
            let row = rows.next()?;
            range.pass(id, walk.order);
            if let Some(row) = row
                && !take(id, row)?
            {
                return Ok(WalkEnd::Stopped);
            }
        }
        left.pass_all(walk.order);
        range.pass_to(left, walk.order);
        Ok(WalkEnd::Whole)
    }

    /// A query of the rows in a range of positions; [`Condition::within`] gives its parameters.
    fn select(&self, walk: Walk<'_>) -> String {
        let (what, table, key) = (self.what(walk.what), &self.along_key, &self.key);
        let condition = self.condition(walk.condition);
        let (positioned, order) = (&self.positioned, walk.order.sql());
        format!(
            "SELECT {what} FROM {table} WHERE {key} > ? AND {key} <= ?{positioned}{condition} ORDER BY {key} {order}"
        )
    }

    /// The condition, such that no index is used for it.
    fn condition(&self, condition: &Condition) -> String {
        let sql = &condition.sql;
        match self.by_rowid || sql.is_empty() {
            true => sql.clone(),
            false => format!(" AND +(1{sql})"),
        }
    }

    fn what(&self, what: WalkColumns) -> &str {
        match what {
            WalkColumns::Columns => &self.columns,
            WalkColumns::Key => &self.key,
        }
    }

    /// Where the key stands in what a walk gives.
    fn place(&self, what: WalkColumns) -> usize {
        match what {
            WalkColumns::Columns => self.key_place,
            WalkColumns::Key => 0,
        }
    }
}

impl Condition {
    /// The parameters of a query of a range.
    fn within(&self, range: Range) -> impl Iterator<Item = Value> {
        range
            .bounds()
            .into_iter()
            .chain(self.params.iter().cloned())
    }
}
