//! What a subscriber takes next, gathered from blocks: frames that exist already, in as few pieces as can be.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::filter::FilterId;
use crate::model::position::Cursor;
use crate::wire::block::Block;
use crate::wire::deflate::{Deflate, Deflater};

/// A stretch of a block that goes out as it is.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    block: &'a Arc<Block>,
    first: usize,
    /// Index of the last entry, included.
    last: usize,
    /// The compressed frame of the one entry; `None`: the entries' own frames.
    deflated: Option<&'a [u8]>,
}

impl<'a> Run<'a> {
    /// The frames, one after the other.
    pub fn bytes(&self) -> &'a [u8] {
        self.deflated.unwrap_or_else(|| self.plain())
    }

    fn plain(&self) -> &'a [u8] {
        &self.block.bytes[self.block.span(self.first).start..self.block.span(self.last).end]
    }

    /// The frames one by one as they are before any is compressed, each with the id of its row.
    pub fn frames(&self) -> impl Iterator<Item = (i64, &'a [u8])> {
        let block = self.block;
        self.spans().map(move |(id, span)| (id, &block.bytes[span]))
    }

    /// Where in the block each of those is, with the id of its row.
    pub fn spans(&self) -> impl Iterator<Item = (i64, Range<usize>)> + use<'a> {
        let block = self.block;
        (self.first..=self.last).map(move |index| (block.entries[index].id, block.span(index)))
    }

    /// The block that holds the frames.
    pub fn block(&self) -> &'a Arc<Block> {
        self.block
    }

    fn rows(&self) -> usize {
        self.last - self.first + 1
    }
}

/// What a subscriber takes next, as stretches of frames that exist already.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    pub runs: Vec<Run<'a>>,
    pub rows: usize,
    pub bytes: usize,
    /// By how many bytes it is smaller for being compressed.
    pub saved: usize,
    /// The position once all of it was taken.
    pub reaches: Option<Cursor>,
}

/// How much one batch may hold: what a single vectored write can take, and no more than keeps others waiting for long.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    pub runs: usize,
    pub bytes: usize,
}

impl<'a> Batch<'a> {
    /// Gathers what `filter` takes of `blocks` above `position`. A block whose rows were not asked about the filter
    /// ends the batch.
    pub fn gather(
        blocks: impl Iterator<Item = &'a Arc<Block>>,
        filter: FilterId,
        position: Cursor,
        limits: BatchLimits,
    ) -> Batch<'a> {
        let mut batch = Batch::default();
        for block in blocks {
            if !block.knows(filter) || !batch.take(block, filter, position, limits) {
                break;
            }
        }
        batch
    }

    /// Gathers the same for a client that agreed to `deflate`. It ends early where `deflater` is tired: what it has
    /// compressed is there for whoever asks next.
    pub fn gather_deflated(
        blocks: impl Iterator<Item = &'a Arc<Block>>,
        filter: FilterId,
        position: Cursor,
        limits: BatchLimits,
        (deflate, deflater): (Deflate, &mut Deflater),
    ) -> Batch<'a> {
        deflater.rest();
        let mut batch = Batch::default();
        for block in blocks {
            if !block.knows(filter) {
                break;
            }
            let selection = block.selection(filter, position);
            for n in 0..selection.len() {
                if batch.is_full(limits) || deflater.is_tired() {
                    return batch;
                }
                let index = selection.get(n);
                let frame = block.deflated_frame(index, deflate, deflater);
                batch.push(block, index, frame);
            }
            batch.reaches = Some(block.last);
        }
        batch
    }

    fn is_full(&self, limits: BatchLimits) -> bool {
        self.runs.len() >= limits.runs || self.bytes >= limits.bytes
    }

    /// Adds one entry, with its compressed frame where it has one.
    fn push(&mut self, block: &'a Arc<Block>, index: usize, deflated: Option<&'a [u8]>) {
        let plain = block.span(index).len();
        let bytes = deflated.map_or(plain, <[u8]>::len);
        self.rows += 1;
        self.bytes += bytes;
        self.saved += plain - bytes;
        self.reaches = Some(Cursor(block.entries[index].id));
        match self.runs.last_mut() {
            Some(run)
                if deflated.is_none()
                    && run.deflated.is_none()
                    && run.last + 1 == index
                    && Arc::ptr_eq(run.block, block) =>
            {
                run.last = index;
            }
            _ => self.runs.push(Run {
                block,
                first: index,
                last: index,
                deflated,
            }),
        }
    }

    /// Takes what there is in one block; `false` when the batch is full.
    fn take(
        &mut self,
        block: &'a Arc<Block>,
        filter: FilterId,
        position: Cursor,
        limits: BatchLimits,
    ) -> bool {
        let selection = block.selection(filter, position);
        let mut n = 0;
        while n < selection.len() {
            if self.is_full(limits) {
                return false;
            }
            let first = selection.get(n);
            let start = block.span(first).start;
            let mut last = first;
            n += 1;
            while n < selection.len()
                && selection.get(n) == last + 1
                && self.bytes + block.span(last).end - start < limits.bytes
            {
                last += 1;
                n += 1;
            }
            let run = Run {
                block,
                first,
                last,
                deflated: None,
            };
            self.rows += run.rows();
            self.bytes += run.bytes().len();
            self.runs.push(run);
            self.reaches = Some(Cursor(block.entries[last].id));
        }
        self.reaches = Some(block.last);
        true
    }

    /// Returns the pieces of the batch for one vectored write.
    pub fn slices(&self) -> Vec<IoSlice<'a>> {
        self.runs
            .iter()
            .map(|run| IoSlice::new(run.bytes()))
            .collect()
    }

    /// After `written` bytes of it went out: the position reached, the rest of the frame that was cut in two, and the
    /// rows that are out or under way.
    pub fn after_writing(&self, written: usize) -> (Option<Cursor>, Bytes, usize) {
        if written >= self.bytes {
            return (self.reaches, Bytes::new(), self.rows);
        }
        let (mut left, mut rows, mut reached) = (written, 0, None);
        for run in &self.runs {
            let bytes = run.bytes();
            if left >= bytes.len() {
                left -= bytes.len();
                rows += run.rows();
                reached = Some(Cursor(run.block.entries[run.last].id));
                continue;
            }
            if left == 0 {
                break;
            }
            let block = run.block;
            if run.deflated.is_some() {
                let id = block.entries[run.first].id;
                return (
                    Some(Cursor(id)),
                    block.keep_deflated(run.first, left),
                    rows + 1,
                );
            }
            let at = block.span(run.first).start + left;
            // The entry that holds byte `at − 1`, the last one written.
            let cut = block
                .entries
                .partition_point(|entry| (entry.end as usize) < at);
            let end = block.entries[cut].end as usize;
            return (
                Some(Cursor(block.entries[cut].id)),
                block.keep(at..end),
                rows + cut - run.first + 1,
            );
        }
        (reached, Bytes::new(), rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::block::{Entry, Matches};
    use std::collections::HashMap;
    use std::time::Instant;

    /// Frames of ten bytes each, filled with their id.
    fn block(ids: &[u8], after: i64) -> Arc<Block> {
        let entries: Vec<Entry> = ids
            .iter()
            .zip(1..)
            .map(|(&id, n)| Entry {
                id: id.into(),
                end: n * 10,
            })
            .collect();
        Arc::new(Block {
            after: Cursor(after),
            last: Cursor(ids.last().copied().unwrap_or_default().into()),
            bytes: ids.iter().flat_map(|&id| [id; 10]).collect(),
            entries,
            matches: Some(Matches {
                known_below: FilterId(2),
                rows: HashMap::from([(FilterId(1), (0..ids.len() as u32).step_by(2).collect())]),
                unfiltered: None,
            }),
            read_at: Instant::now(),
            handover: Default::default(),
            deflated: Default::default(),
        })
    }

    const WIDE: BatchLimits = BatchLimits {
        runs: 100,
        bytes: 1 << 20,
    };

    #[test]
    fn wherever_a_write_stops_the_rest_of_the_frame_and_the_position_are_right() {
        let blocks = [block(&[1, 2, 3], 0), block(&[4], 3), block(&[7, 8, 9], 4)];
        for filter in [FilterId::NONE, FilterId(1)] {
            for position in 0..9 {
                let batch = Batch::gather(blocks.iter(), filter, Cursor(position), WIDE);
                let all: Vec<u8> = batch
                    .runs
                    .iter()
                    .flat_map(|run| run.bytes().to_vec())
                    .collect();
                let wanted: Vec<u8> = match filter {
                    FilterId::NONE => vec![1, 2, 3, 4, 7, 8, 9],
                    _ => vec![1, 3, 4, 7, 9],
                };
                let wanted: Vec<u8> = wanted
                    .into_iter()
                    .filter(|&id| i64::from(id) > position)
                    .collect();
                assert_eq!(
                    all,
                    wanted.iter().flat_map(|&id| [id; 10]).collect::<Vec<u8>>()
                );
                assert_eq!(batch.reaches, Some(Cursor(9)));
                for written in 0..=all.len() {
                    let (reached, rest, rows) = batch.after_writing(written);
                    let whole_frames = written.div_ceil(10);
                    assert_eq!(rows, whole_frames);
                    assert_eq!(rest.len(), whole_frames * 10 - written, "{written}");
                    assert_eq!(&all[written..written + rest.len()], rest);
                    if written == all.len() {
                        assert_eq!(reached, Some(Cursor(9)));
                    } else {
                        assert_eq!(
                            reached.map(|c| c.0 as u8),
                            whole_frames.checked_sub(1).map(|n| wanted[n])
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_batch_stops_at_its_limits_and_goes_on_from_there() {
        let blocks = [block(&[1, 2, 3], 0), block(&[4], 3), block(&[7, 8, 9], 4)];
        for limits in [
            BatchLimits {
                runs: 1,
                bytes: 1 << 20,
            },
            BatchLimits {
                runs: 100,
                bytes: 15,
            },
        ] {
            for filter in [FilterId::NONE, FilterId(1)] {
                let (mut position, mut got) = (Cursor(0), vec![]);
                while position < Cursor(9) {
                    let batch = Batch::gather(
                        blocks.iter().filter(|b| b.last > position),
                        filter,
                        position,
                        limits,
                    );
                    got.extend(
                        batch
                            .runs
                            .iter()
                            .flat_map(|run| run.frames().map(|(id, _)| id)),
                    );
                    assert!(
                        batch.reaches > Some(position),
                        "no progress from {position}"
                    );
                    position = batch.reaches.unwrap();
                }
                let wanted: &[i64] = if filter == FilterId::NONE {
                    &[1, 2, 3, 4, 7, 8, 9]
                } else {
                    &[1, 3, 4, 7, 9]
                };
                assert_eq!(got, wanted);
            }
        }
    }

    #[test]
    fn a_block_that_does_not_know_the_filter_ends_the_batch() {
        let blocks = [block(&[1, 2, 3], 0)];
        let batch = Batch::gather(blocks.iter(), FilterId(2), Cursor(0), WIDE);
        assert_eq!((batch.rows, batch.reaches), (0, None));
    }
}
