//! A reader's own copy of a feed's log.

use std::collections::VecDeque;
use std::sync::Arc;

use super::presence::Presence;
use crate::model::position::{Cursor, Epoch};
use crate::sqlite::table::Schema;
use crate::wire::block::Block;

/// What [`Feed::refresh`](super::Feed::refresh) did.
#[derive(Debug, Clone, Copy)]
pub struct Refreshed {
    /// The history is another one.
    pub replaced: bool,
    /// The table has other columns, or is not there any more.
    pub reshaped: bool,
    /// The table can be read now, or can't be any more, or for another reason.
    pub presence_changed: bool,
    /// Index of the first block that was not in the view before.
    pub fresh_from: usize,
}

/// A reader's own copy of the log's list of blocks: taken under the lock, used without it.
#[derive(Debug)]
pub struct View {
    pub epoch: Epoch,
    pub generation: u64,
    pub head: Cursor,
    /// Rows above this are in `blocks`; those up to it only in the table.
    pub floor: Cursor,
    pub blocks: VecDeque<Arc<Block>>,
    /// The table's shape; `None` while there is none.
    pub schema: Option<Arc<Schema>>,
    pub presence: Presence,
    /// Serial number of the first block.
    pub(super) first: u64,
}

impl Default for View {
    fn default() -> Self {
        View {
            epoch: Epoch::new(""),
            generation: 0,
            head: Cursor::MIN,
            floor: Cursor::MIN,
            blocks: VecDeque::new(),
            schema: None,
            presence: Presence::Open,
            first: 0,
        }
    }
}

pub(super) fn same_schema(a: &Option<Arc<Schema>>, b: &Option<Arc<Schema>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

impl View {
    /// Lets go of the blocks; the next refresh brings back those there are then.
    pub fn forget_blocks(&mut self) {
        self.blocks = VecDeque::new();
    }

    /// The blocks that hold what comes after `position`, which must not be below the floor.
    pub fn after(&self, position: Cursor) -> impl Iterator<Item = &Arc<Block>> {
        let from = self.blocks.partition_point(|block| block.last <= position);
        self.blocks.range(from..)
    }
}
