//! Which page somebody waits for, and what comes of it.

use std::sync::Arc;

use crate::model::filter::FilterId;
use crate::model::position::Cursor;
use crate::model::read_owner::Claim;
use crate::session::Session;
use crate::sqlite::error::Unavailable;
use crate::sqlite::reader::TablePage;
use crate::wire::block::Block;

/// Why a page could not be read.
#[derive(Debug, Clone)]
pub enum PageError {
    /// Rows above the position were deleted before they could be sent: the subscriber must be told.
    Pruned,
    /// A column of the filter is gone.
    FilterGone,
    /// Try again later.
    Unavailable(Unavailable),
}

/// A page of a captured table as it is, and the history it is of.
pub type TablePageResult = Result<(Arc<TablePage>, u64), PageError>;

/// A page of rows, and the history it is of.
pub type PageResult = Result<(Arc<Block>, u64), PageError>;

/// Identifies the rows that a read is for: of which feed, in which history, through which filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ReplayKey {
    pub(super) feed: usize,
    pub(super) generation: u64,
    pub(super) filter: FilterId,
}

impl ReplayKey {
    pub(super) fn of(session: &Session) -> ReplayKey {
        ReplayKey {
            feed: session.feed().index,
            generation: session.generation(),
            filter: session.filter_id(),
        }
    }
}

/// Names the page of a stream above a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PageKey {
    pub(super) stream: ReplayKey,
    pub(super) after: Cursor,
}

/// Somebody who waits for a page.
pub(super) struct PageWaiter {
    pub(super) claim: Claim,
    pub(super) done: Box<dyn FnOnce(PageResult) + Send>,
}
