//! The ready-made frames of consecutive rows. Knows neither SQLite nor sockets.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::deflate::{Deflate, Deflater};
use super::deflated_rows::DeflatedRows;
use super::frame::payload;
use crate::model::filter::FilterId;
use crate::model::position::Cursor;

/// One row of a block: its id and where its frame ends.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub id: i64,
    /// Offset in [`Block::bytes`] just past this row's frame.
    pub end: u32,
}

/// Consecutive rows of one table as ready WebSocket frames: made once, shared by every subscriber.
///
/// It covers the ids in `(after, last]`: whoever stands in that range finds here, and only here, what comes next.
#[derive(Debug)]
pub struct Block {
    pub after: Cursor,
    pub last: Cursor,
    /// The frames, one behind the other, exactly as they go on the wire.
    pub bytes: Vec<u8>,
    pub entries: Vec<Entry>,
    /// Which entries each filter takes. `None`: the block was read for one filter and holds only its rows.
    pub matches: Option<Matches>,
    /// When the first row was read: the start of `walcast_broadcast_seconds`.
    pub read_at: Instant,
    pub handover: Handover,
    pub deflated: DeflatedRows,
}

/// Pieces up to this many bytes are copied: as much as a connection's buffers take anyway.
const COPIED: usize = 16 * 1024;
/// A piece is shared where it is at least one of so many parts of its block.
const SHARED_PART: usize = 8;

/// The frames of a block, as an owner of bytes.
struct Frames(Arc<Block>);

impl AsRef<[u8]> for Frames {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// The compressed frame of an entry, as an owner of bytes.
struct DeflatedFrame(Arc<Block>, usize);

impl AsRef<[u8]> for DeflatedFrame {
    fn as_ref(&self) -> &[u8] {
        self.0.deflated.made(self.1).unwrap_or_default()
    }
}

/// Who of those that hand a block's rows to sockets has done so.
#[derive(Debug, Default)]
pub struct Handover {
    expected: AtomicUsize,
    done: AtomicUsize,
    is_over: AtomicBool,
}

impl Handover {
    /// So many are told of the block. Returns whether they have all handed it on already; at most once of a block.
    pub fn expect(&self, number: usize) -> bool {
        if number == 0 {
            self.is_over.store(true, Ordering::SeqCst);
        }
        self.expected.store(number, Ordering::SeqCst);
        self.ends(self.done.load(Ordering::SeqCst))
    }

    /// One has handed it on. Returns whether it was the last.
    pub fn done(&self) -> bool {
        let done = self.done.fetch_add(1, Ordering::SeqCst) + 1;
        self.ends(done)
    }

    fn ends(&self, done: usize) -> bool {
        let expected = self.expected.load(Ordering::SeqCst);
        expected > 0 && done >= expected && !self.is_over.swap(true, Ordering::SeqCst)
    }
}

/// What the filters known when a block was read take of it.
#[derive(Debug, Default)]
pub struct Matches {
    /// Filters registered from this one on were not asked.
    pub known_below: FilterId,
    pub rows: HashMap<FilterId, Vec<u32>>,
    /// Which entries are for those without a filter, where some are not: a change may be worded in several ways, and each
    /// subscriber takes one of them. `None`: all.
    pub unfiltered: Option<Vec<u32>>,
}

impl Block {
    /// Says that there is nothing in `(after, last]`, and won't be.
    pub fn passing(after: Cursor, last: Cursor) -> Block {
        Block {
            after,
            last,
            bytes: Vec::new(),
            entries: Vec::new(),
            matches: None,
            read_at: Instant::now(),
            handover: Handover::default(),
            deflated: DeflatedRows::default(),
        }
    }

    /// Bytes of memory the block holds, about: frames, entries, and what filters take of it. Compressed frames are not
    /// counted: they come later, and are always smaller than the plain ones.
    pub fn cost(&self) -> usize {
        // A block's own allocations, and a hash map's entry with its list of rows.
        const BLOCK: usize = 256;
        const MATCH: usize = 64;
        let matches = self.matches.as_ref().map_or(0, |matches| {
            let rows = matches.rows.values().chain(&matches.unfiltered);
            rows.map(|rows| MATCH + rows.len() * size_of::<u32>()).sum()
        });
        BLOCK + self.bytes.len() + self.entries.len() * size_of::<Entry>() + matches
    }

    /// Index of the first entry above `position`.
    pub fn first_above(&self, position: Cursor) -> usize {
        match position {
            Cursor::MIN => 0,
            Cursor(id) => self.entries.partition_point(|entry| entry.id <= id),
        }
    }

    /// Returns the message of entry `index`: what its frame carries.
    pub fn message(&self, index: usize) -> &[u8] {
        payload(&self.bytes[self.span(index)])
    }

    /// Returns where the frame of entry `index` lies in `bytes`.
    pub fn span(&self, index: usize) -> Range<usize> {
        let start = match index {
            0 => 0,
            _ => self.entries[index - 1].end as usize,
        };
        start..self.entries[index].end as usize
    }

    /// A piece of the frames for a client that takes its time. A large one is shared, for many clients may be slow about
    /// the same row; a small one is copied, so that it does not keep the whole block in memory.
    pub fn keep(self: &Arc<Self>, piece: Range<usize>) -> Bytes {
        let len = piece.len();
        if len <= COPIED || len < self.bytes.len() / SHARED_PART {
            return Bytes::copy_from_slice(&self.bytes[piece]);
        }
        Bytes::from_owner(Frames(Arc::clone(self))).slice(piece)
    }

    /// Returns the compressed frame of entry `index`, which is made where nobody has wanted it yet; `None` where the client
    /// takes the plain one.
    pub fn deflated_frame(
        &self,
        index: usize,
        deflate: Deflate,
        deflater: &mut Deflater,
    ) -> Option<&[u8]> {
        let message = self.message(index);
        if !deflate.takes(message.len()) {
            return None;
        }
        let row = (index, self.entries.len());
        self.deflated.frame(row, message, deflater)
    }

    /// The compressed frame of entry `index` from byte `from` on, as [`keep`](Self::keep) has it.
    pub fn keep_deflated(self: &Arc<Self>, index: usize, from: usize) -> Bytes {
        let frame = self.deflated.made(index).unwrap_or_default();
        match frame.len() - from <= COPIED {
            true => Bytes::copy_from_slice(&frame[from..]),
            false => Bytes::from_owner(DeflatedFrame(Arc::clone(self), index)).slice(from..),
        }
    }

    /// Returns whether `filter` was asked about this block's rows.
    pub fn knows(&self, filter: FilterId) -> bool {
        match &self.matches {
            Some(matches) => filter < matches.known_below,
            None => true,
        }
    }

    /// Indices of the entries above `position` that `filter` takes.
    pub fn selection(&self, filter: FilterId, position: Cursor) -> Selection<'_> {
        let first = self.first_above(position);
        let rows = self.matches.as_ref().and_then(|matches| match filter {
            FilterId::NONE => matches.unfiltered.as_deref(),
            filter => Some(matches.rows.get(&filter).map_or(&[][..], Vec::as_slice)),
        });
        match rows {
            Some(rows) => {
                let from = rows.partition_point(|&row| (row as usize) < first);
                Selection::Some(&rows[from..])
            }
            None => Selection::All(first..self.entries.len()),
        }
    }
}

/// Entries of one block that a subscriber takes.
#[derive(Debug, Clone)]
pub enum Selection<'a> {
    All(Range<usize>),
    Some(&'a [u32]),
}

impl Selection<'_> {
    /// Returns how many entries it takes.
    pub fn len(&self) -> usize {
        match self {
            Selection::All(range) => range.len(),
            Selection::Some(rows) => rows.len(),
        }
    }

    /// Returns whether it takes none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the index of the `n`th entry that the selection takes.
    pub fn get(&self, n: usize) -> usize {
        match self {
            Selection::All(range) => range.start + n,
            Selection::Some(rows) => rows[n] as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_handed_on_once_by_all_who_were_told_of_it() {
        let told = Handover::default();
        assert!(!told.expect(2) && !told.done() && told.done() && !told.done());
        let early = Handover::default();
        assert!(!early.done() && early.expect(1) && !early.expect(1));
        let nobody = Handover::default();
        assert!(!nobody.expect(0) && !nobody.done() && !nobody.expect(1));
    }

    #[test]
    fn a_selection_starts_above_the_position() {
        let block = Block {
            after: Cursor(0),
            last: Cursor(9),
            bytes: vec![0; 3],
            entries: [2, 5, 9]
                .iter()
                .zip(1..)
                .map(|(&id, end)| Entry { id, end })
                .collect(),
            matches: Some(Matches {
                known_below: FilterId(3),
                rows: HashMap::from([(FilterId(2), vec![0, 2])]),
                unfiltered: None,
            }),
            read_at: Instant::now(),
            handover: Handover::default(),
            deflated: DeflatedRows::default(),
        };
        assert_eq!(block.selection(FilterId::NONE, Cursor(4)).len(), 2);
        let filtered = block.selection(FilterId(2), Cursor(2));
        assert_eq!((filtered.len(), filtered.get(0)), (1, 2));
        assert!(block.selection(FilterId(1), Cursor(0)).is_empty());
        assert!(block.knows(FilterId(2)) && !block.knows(FilterId(3)));
        assert_eq!(block.span(2), 2..3);
    }
}
