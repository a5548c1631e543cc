//! A block in the making: each row becomes a frame behind the one before it.

use std::time::Instant;

use super::block::{Block, Entry, Handover, Matches};
use super::deflated_rows::DeflatedRows;
use super::frame::{opcode, push_frame};
use crate::model::position::Cursor;

/// Gathers the frames of consecutive rows above a position.
#[derive(Debug)]
pub struct BlockBuilder {
    after: Cursor,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    read_at: Instant,
}

impl BlockBuilder {
    /// Returns an empty block above `after`, whose rows were read at `read_at`.
    pub fn new(after: Cursor, read_at: Instant) -> BlockBuilder {
        BlockBuilder {
            after,
            bytes: Vec::new(),
            entries: Vec::new(),
            read_at,
        }
    }

    /// Adds a row's message as a text frame. Returns the row's index in the block.
    ///
    /// The frames together stay below 4 GiB: a page ends soon after its limit in bytes, and no message is larger than the
    /// 1 GB that SQLite allows a row.
    pub fn push(&mut self, id: i64, message: &[u8]) -> u32 {
        push_frame(&mut self.bytes, opcode::TEXT, message);
        self.entries.push(Entry {
            id,
            end: self.bytes.len() as u32,
        });
        (self.entries.len() - 1) as u32
    }

    /// Returns how many rows there are.
    pub fn rows(&self) -> usize {
        self.entries.len()
    }

    /// Returns the bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the block. It covers up to `upto`, or up to its last row where that is higher.
    pub fn finish(mut self, upto: Cursor, matches: Option<Matches>) -> Block {
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
        let last = self.entries.last().map_or(self.after, |row| Cursor(row.id));
        Block {
            after: self.after,
            last: last.max(upto),
            bytes: self.bytes,
            entries: self.entries,
            matches,
            read_at: self.read_at,
            handover: Handover::default(),
            deflated: DeflatedRows::default(),
        }
    }
}
