//! Rows that an edge has no more, asked of the daemon that is named for that.

use std::fmt::Debug;
use std::sync::Arc;

use super::Feed;
use crate::model::filter::Filter;
use crate::model::position::{Cursor, Epoch};
use crate::sqlite::reader::PageLimits;
use crate::wire::block::Block;

/// Rows older than an edge's own. What is asked takes as long as the daemon that is asked, and blocks.
pub trait OlderRows: Debug + Send + Sync {
    /// Returns whether all rows of this history that follow on a position are to be had.
    ///
    /// # Errors
    /// Who has them can't say it now.
    fn are_there(&self, feed: &Arc<Feed>, epoch: &Epoch, after: Cursor) -> Result<bool, NotNow>;

    /// Reads a page of them.
    ///
    /// # Errors
    /// It is not to be had.
    fn page(&self, feed: &Arc<Feed>, wanted: &OlderPage<'_>) -> Result<Arc<Block>, NoOlderRows>;

    /// Lets go of what was kept ready for readers that did not come.
    fn forget_idle(&self);
}

/// Which rows are wanted.
#[derive(Debug, Clone, Copy)]
pub struct OlderPage<'a> {
    /// The history they are of.
    pub epoch: &'a Epoch,
    pub after: Cursor,
    /// No row above it.
    pub upto: Cursor,
    pub filter: &'a Filter,
    /// Whether they are taken whole.
    pub is_whole: bool,
    pub limits: PageLimits,
}

/// Who may have rows is there, and does not answer, or can't now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotNow;

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoOlderRows {
    /// Nobody has it, or nobody who does can be asked.
    Gone,
    /// A column of the filter is not there.
    FilterGone,
    /// Who may have it can't say it now.
    NotNow,
}
