//! A subscriber of changes that is given the table as it is, page by page, before the changes.

use super::{Phase, Session};
use crate::model::position::Cursor;
use crate::sqlite::reader::{TablePage, TablePosition};

/// A subscriber of changes that is given the table as it is.
#[derive(Debug)]
pub(super) struct TableReplay {
    pub from: TablePosition,
    /// The position in the log from before the first row was read: from here on changes follow.
    pub changes_after: Cursor,
}

impl Session {
    /// Where it stands in the table as it is; `None` where it needs nothing of that.
    pub fn table_position(&self) -> Option<&TablePosition> {
        let table = self.table.as_ref().filter(|_| self.phase == Phase::Table);
        table.map(|table| &table.from)
    }

    /// Returns whether a page of the table as it is may be sent to this subscriber: it must follow where it stands, in the
    /// same history.
    pub fn accepts_table(&self, page: &TablePage, generation: u64) -> bool {
        let block = &page.block;
        let position = self.table_position();
        generation == self.generation
            && block.read_at >= self.started
            && position.is_some_and(|from| block.after <= from.taken && from.taken <= block.last)
    }

    /// Rows of a page of the table up to the number `taken` were handed over.
    pub fn took_of_table(&mut self, page: &TablePage, taken: Cursor) {
        let Some(table) = &mut self.table else {
            return;
        };
        if page.pass(&mut table.from, taken) {
            self.position = table.changes_after;
            self.phase = Phase::CatchUp;
            self.table = None;
        }
    }
}
