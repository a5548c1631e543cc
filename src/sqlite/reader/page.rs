//! A page of rows: how much one may hold, and a block in the making.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;

use crate::model::position::Cursor;
use crate::wire::block::{Block, Entry, Matches};
use crate::wire::frame::{opcode, push_frame};

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

/// A block in the making.
pub(super) struct Page {
    after: Cursor,
    limits: PageLimits,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Bytes of values that were read for it.
    read: Cell<usize>,
    read_at: Instant,
}

impl Page {
    pub(super) fn new(after: Cursor, limits: PageLimits) -> Page {
        Page {
            after,
            limits,
            bytes: Vec::new(),
            entries: Vec::new(),
            read: Cell::new(0),
            read_at: Instant::now(),
        }
    }

    /// Adds a row and gives its index.
    pub(super) fn push(&mut self, id: i64, message: &[u8]) -> u32 {
        push_frame(&mut self.bytes, opcode::TEXT, message);
        // A page ends soon after `limits.bytes`, far below 4 GiB: no message is larger than SQLite's 1 GB limit.
        self.entries.push(Entry {
            id,
            end: self.bytes.len() as u32,
        });
        (self.entries.len() - 1) as u32
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
        let rows = self.entries.len();
        rows >= self.limits.rows
            || self.bytes.len() >= self.limits.bytes
            || self.read.get() >= MAX_READ
            || (rows.is_multiple_of(ROWS_A_LOOK) && self.read_at.elapsed() >= MAX_TIME)
    }

    pub(super) fn last(&self) -> Cursor {
        self.entries
            .last()
            .map_or(self.after, |entry| Cursor(entry.id))
    }

    /// A block that covers up to `upto`, or up to its last row where that is higher.
    pub(super) fn finish(mut self, upto: Cursor, matches: Option<Matches>) -> Block {
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
        Block {
            after: self.after,
            last: self.last().max(upto),
            bytes: self.bytes,
            entries: self.entries,
            matches,
            read_at: self.read_at,
            handover: Default::default(),
        }
    }
}
