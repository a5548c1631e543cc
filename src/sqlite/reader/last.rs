//! Where the newest rows of a filter begin.

use rusqlite::Connection;

use super::walk::{Order, Range, Walk, WalkColumns};
use super::{Condition, RowReader};
use crate::model::filter::Filter;
use crate::model::position::Cursor;

/// The search for where the newest rows begin, done in steps: where few rows match it goes through the whole table.
#[derive(Debug)]
pub struct LastRows {
    left: u32,
    range: Range,
    start: Option<Cursor>,
}

impl LastRows {
    /// Of the newest `n` up to `head`.
    pub fn new(n: u32, head: Cursor) -> LastRows {
        LastRows {
            left: n,
            range: Range {
                after: Cursor::MIN,
                upto: head,
            },
            start: None,
        }
    }

    /// A step of a few milliseconds; `true`: it was the last one.
    pub fn step(
        &mut self,
        connection: &Connection,
        reader: &mut RowReader,
        filter: &Filter,
    ) -> rusqlite::Result<bool> {
        let Some(condition) = Condition::of(filter, &reader.schema) else {
            // A column of it is gone, so nothing matches.
            return Ok(true);
        };
        let walk = Walk {
            connection,
            condition: &condition,
            what: WalkColumns::Key,
            order: Order::NewestFirst,
        };
        let (left, start) = (&mut self.left, &mut self.start);
        reader.walker.step(walk, &mut self.range, &mut |id, _| {
            (*start, *left) = (Some(Cursor::before(id)), *left - 1);
            Ok(*left > 0)
        })?;
        Ok(self.left == 0 || self.range.is_empty())
    }

    /// The position just below the oldest row found; `None` where there is none.
    pub fn start(&self) -> Option<Cursor> {
        self.start
    }
}
