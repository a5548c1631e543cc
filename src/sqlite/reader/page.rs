//! A page of rows: how much one may hold, and what reading it has cost.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;

use crate::model::position::Cursor;
use crate::wire::block::{Block, Matches};
use crate::wire::block_builder::BlockBuilder;

/// How much one page may hold. A page ends with the row that reaches a limit.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    pub rows: usize,
    pub bytes: usize,
}

/// Bytes of texts and blobs that are read for one page, however little of them leaves: a millisecond's worth.
const MAX_READ: usize = 1 << 20;
/// How long a page may take, so that no checkpoint waits for it; on a slow disk a row may take a while.
const MAX_TIME: Duration = Duration::from_millis(12);
/// Between two looks at the clock, so many rows.
const ROWS_A_LOOK: usize = 64;

/// A block in the making, and what reading it has cost so far.
pub(super) struct Page {
    limits: PageLimits,
    block: BlockBuilder,
    /// Bytes of values that were read for it.
    read: Cell<usize>,
    read_at: Instant,
}

impl Page {
    pub(super) fn new(after: Cursor, limits: PageLimits) -> Page {
        let read_at = Instant::now();
        Page {
            limits,
            block: BlockBuilder::new(after, read_at),
            read: Cell::new(0),
            read_at,
        }
    }

    /// Adds a row. Returns its index.
    pub(super) fn push(&mut self, id: i64, message: &[u8]) -> u32 {
        self.block.push(id, message)
    }

    /// Counts what was read otherwise towards what may be read for a page.
    pub(super) fn count(&self, bytes: usize) {
        self.read.set(self.read.get() + bytes);
    }

    pub(super) fn rows(&self) -> usize {
        self.block.rows()
    }

    /// Counts what is read of a row's `values` towards what may be read for a page.
    pub(super) fn counted<'r>(
        &self,
        values: impl Fn(usize) -> ValueRef<'r>,
    ) -> impl Fn(usize) -> ValueRef<'r> {
        move |place| {
            let value = values(place);
            if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = value {
                self.read.set(self.read.get() + bytes.len());
            }
            value
        }
    }

    pub(super) fn is_full(&self) -> bool {
        let rows = self.block.rows();
        rows >= self.limits.rows
            || self.block.bytes() >= self.limits.bytes
            || self.read.get() >= MAX_READ
            || (rows.is_multiple_of(ROWS_A_LOOK) && self.read_at.elapsed() >= MAX_TIME)
    }

    /// Returns a block that covers up to `upto`, or up to its last row where that is higher.
    pub(super) fn finish(self, upto: Cursor, matches: Option<Matches>) -> Block {
        self.block.finish(upto, matches)
    }
}
