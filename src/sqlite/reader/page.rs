//! A page of rows: how much one may hold, and a block in the making.

use std::time::Instant;

use crate::change::{Block, Cursor, Entry, Matches};
use crate::protocol::{opcode, push_frame};

/// How much one page may hold. A page ends with the row that reaches a limit.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    pub rows: usize,
    pub bytes: usize,
}

/// A block in the making.
pub(super) struct Page {
    after: Cursor,
    limits: PageLimits,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    read_at: Instant,
}

impl Page {
    pub fn new(after: Cursor, limits: PageLimits) -> Page {
        Page {
            after,
            limits,
            bytes: Vec::new(),
            entries: Vec::new(),
            read_at: Instant::now(),
        }
    }

    /// Adds a row and gives its index.
    pub fn push(&mut self, id: i64, message: &[u8]) -> u32 {
        push_frame(&mut self.bytes, opcode::TEXT, message);
        // A page ends soon after `limits.bytes`, far below 4 GiB: no message is larger than SQLite's 1 GB limit.
        self.entries.push(Entry {
            id,
            end: self.bytes.len() as u32,
        });
        (self.entries.len() - 1) as u32
    }

    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.limits.rows || self.bytes.len() >= self.limits.bytes
    }

    pub fn last(&self) -> Cursor {
        self.entries
            .last()
            .map_or(self.after, |entry| Cursor(entry.id))
    }

    /// A block that covers up to `upto`, or up to its last row where that is higher.
    pub fn finish(mut self, upto: Cursor, matches: Option<Matches>) -> Block {
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
