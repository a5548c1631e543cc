//! Subscribers that are behind: what comes next for one of them, from the log or the table, until it has everything.

use std::sync::Arc;
use std::time::Instant;

use super::Shard;
use crate::catchup::{PageError, PageResult, TablePageResult};
use crate::fanout::conn::{Conn, ConnState, Sent, Wrote};
use crate::fanout::mailbox::{ConnId, ShardMessage};
use crate::hub::READ_PATIENCE;
use crate::model::filter::FilterId;
use crate::session::table_bounds::TableBounds;
use crate::session::{BatchLimits, Step};
use crate::sqlite::error::Unavailable;
use crate::sqlite::reader::TablePage;
use crate::wire::block::Block;
use crate::wire::control::CloseCode;

/// One write: as many pieces as the kernel takes at once are 1,024; fewer keep the list short.
const BATCH: BatchLimits = BatchLimits {
    runs: 256,
    bytes: 256 * 1024,
};
/// Batches one subscriber gets before others have their turn.
const TURNS: usize = 2;

impl Shard {
    /// Gives a subscriber what comes next, until it has everything, its socket is full, or others should have a turn.
    pub(super) fn pump(&mut self, id: ConnId) {
        if !self.is(id) {
            return;
        }
        let slot = id.slot;
        for _ in 0..TURNS {
            let conn = &mut self.conns[slot];
            match conn.flush() {
                Wrote::All => drop(self.stalled.remove(&slot)),
                Wrote::Part(_) => {
                    conn.page = None;
                    conn.table_page = None;
                    self.stalled.insert(slot);
                    return;
                }
                Wrote::Gone => return self.remove(slot),
            }
            if conn.place != ConnState::Behind {
                return;
            }
            if !self.step(id) {
                return;
            }
        }
        self.ready.push(id);
    }

    /// One step of a subscriber that is behind; `false` when it has to wait for something.
    pub(super) fn step(&mut self, id: ConnId) -> bool {
        let slot = id.slot;
        let (feed, position) = (
            self.conns[slot].session.feed().index,
            self.conns[slot].session.position(),
        );
        if position > self.feeds[feed].view.head {
            // A page went up to the log's head, which this shard has not seen yet. In a live group that stands lower the
            // subscriber would be sent those rows again.
            self.feed_moved(feed);
        }
        let conn = &mut self.conns[slot];
        let view = &self.feeds[conn.session.feed().index].view;
        if let Some(page) = conn.page.take()
            && conn.session.accepts(&page, view.generation)
        {
            return self.write_rows(id, Some(page));
        }
        if let Some(page) = conn.table_page.take()
            && conn.session.accepts_table(&page, view.generation)
        {
            return self.write_table(id, page);
        }
        match conn.session.next(view) {
            Step::Say(control) => {
                conn.push_control_message(&control);
                true
            }
            Step::TakeRows => self.write_rows(id, None),
            Step::ReadPage => self.read_page(id),
            Step::ReadTable => self.read_table(id),
            Step::AskBounds => {
                conn.place = ConnState::Reading;
                let mailbox = Arc::clone(&self.mailbox);
                let done = move |result| mailbox.send(ShardMessage::TableBounds(id, result));
                self.context.catchup.bounds(&conn.session, done);
                false
            }
            Step::Wait => {
                self.join_cohort(slot);
                false
            }
            Step::WaitForTable => {
                conn.place = ConnState::Away;
                false
            }
            Step::WaitForHead => {
                conn.place = ConnState::Away;
                self.feeds[feed].ahead.push(id);
                false
            }
            Step::Close(code) => {
                self.close(slot, code);
                false
            }
        }
    }

    pub(super) fn read_page(&mut self, id: ConnId) -> bool {
        let conn = &mut self.conns[id.slot];
        if let Some(page) = self.context.catchup.kept(&conn.session) {
            conn.page = Some(page);
            return true;
        }
        conn.place = ConnState::Reading;
        let mailbox = Arc::clone(&self.mailbox);
        self.context.catchup.page(&conn.session, move |result| {
            mailbox.send(ShardMessage::Page(id, result))
        });
        false
    }

    /// Writes rows of `page`, or of the log where there is none.
    pub(super) fn write_rows(&mut self, id: ConnId, page: Option<Arc<Block>>) -> bool {
        let slot = id.slot;
        let conn = &mut self.conns[slot];
        let position = conn.session.position();
        let (from, coding) = ((conn.session.filter_id(), position), conn.coding);
        let view = &self.feeds[conn.session.feed().index].view;
        let metrics = &self.context.metrics;
        let batch = match &page {
            Some(page) => {
                // The next page is read while this one is written.
                if page.last < conn.session.table_until(view) {
                    self.context.catchup.prefetch(&conn.session, page.last);
                }
                let page = std::iter::once(page);
                self.deflating.gather(page, from, BATCH, coding, metrics)
            }
            None => {
                let blocks = view.after(position);
                self.deflating.gather(blocks, from, BATCH, coding, metrics)
            }
        };
        let Some(Sent { all, reached, rows }) = conn.send(&batch, &batch.slices()) else {
            self.remove(slot);
            return false;
        };
        if let Some(reached) = reached {
            conn.session.advance(reached);
        }
        if rows > 0 {
            conn.last_text = Instant::now();
        }
        self.context.metrics.messages_sent.inc_by(rows as u64);
        if !all {
            self.stalled.insert(slot);
            return false;
        }
        self.context.metrics.compression.saved("ws", batch.saved);
        conn.page = page.filter(|page| page.last > conn.session.position());
        true
    }

    /// Has a page of the table as it is read.
    fn read_table(&mut self, id: ConnId) -> bool {
        let conn = &mut self.conns[id.slot];
        conn.place = ConnState::Reading;
        let mailbox = Arc::clone(&self.mailbox);
        self.context.catchup.table_page(&conn.session, move |page| {
            mailbox.send(ShardMessage::TablePage(id, page))
        });
        false
    }

    /// Writes rows of a page of the table as it is.
    fn write_table(&mut self, id: ConnId, page: Arc<TablePage>) -> bool {
        let slot = id.slot;
        let conn = &mut self.conns[slot];
        let Some(taken) = conn.session.table_position().map(|from| from.taken) else {
            return true;
        };
        let (block, from) = (std::iter::once(&page.block), (FilterId::NONE, taken));
        let (coding, metrics) = (conn.coding, &self.context.metrics);
        let batch = self.deflating.gather(block, from, BATCH, coding, metrics);
        let Some(Sent { all, reached, rows }) = conn.send(&batch, &batch.slices()) else {
            self.remove(slot);
            return false;
        };
        if let Some(reached) = reached {
            conn.session.took_of_table(&page, reached);
        }
        if rows > 0 {
            conn.last_text = Instant::now();
        }
        self.context.metrics.messages_sent.inc_by(rows as u64);
        if !all {
            self.stalled.insert(slot);
            return false;
        }
        self.context.metrics.compression.saved("ws", batch.saved);
        let is_left = reached.is_some_and(|reached| reached < page.block.last);
        conn.table_page = is_left.then_some(page);
        true
    }

    /// The connection whose read has ended; `None` where it is gone, or waits for no read any more.
    fn end_reading(&mut self, id: ConnId) -> Option<&mut Conn> {
        if !self.is(id) || self.conns[id.slot].place != ConnState::Reading {
            return None;
        }
        let conn = &mut self.conns[id.slot];
        conn.place = ConnState::Behind;
        Some(conn)
    }

    pub(super) fn page_came(&mut self, id: ConnId, result: PageResult) {
        self.read_ended(id, result, |conn, page, generation| {
            if conn.session.accepts(&page, generation) {
                conn.page = Some(page);
            }
        });
    }

    pub(super) fn table_page_came(&mut self, id: ConnId, result: TablePageResult) {
        self.read_ended(id, result, |conn, page, generation| {
            if conn.session.accepts_table(&page, generation) {
                conn.table_page = Some(page);
            }
        });
    }

    /// The read of a connection has ended, with something for `take`.
    fn read_ended<P>(
        &mut self,
        id: ConnId,
        result: Result<(P, u64), PageError>,
        take: impl FnOnce(&mut Conn, P, u64),
    ) {
        let Some(conn) = self.end_reading(id) else {
            return;
        };
        match result {
            Ok((page, generation)) => {
                conn.failing_since = None;
                take(conn, page, generation);
                self.pump(id);
            }
            Err(PageError::Unavailable(reason)) => self.try_later(id, &reason),
            Err(PageError::Pruned) if conn.session.passes_pruned() => self.pump(id),
            Err(PageError::Pruned | PageError::FilterGone) => {
                self.close(id.slot, CloseCode::Restart)
            }
        }
    }

    pub(super) fn bounds_came(&mut self, id: ConnId, result: Result<TableBounds, Unavailable>) {
        let Some(conn) = self.end_reading(id) else {
            return;
        };
        match result {
            Ok(bounds) => {
                conn.failing_since = None;
                // The head in the bounds may be news to this shard.
                let feed = conn.session.feed().index;
                self.feed_moved(feed);
                let Some(conn) = self.conns.get_mut(id.slot) else {
                    return;
                };
                if let Some(control) = conn.session.opened(&bounds) {
                    conn.push_control_message(&control);
                }
                self.pump(id);
            }
            Err(reason) => self.try_later(id, &reason),
        }
    }

    pub(super) fn try_later(&mut self, id: ConnId, reason: &Unavailable) {
        let now = Instant::now();
        let conn = &mut self.conns[id.slot];
        conn.span
            .in_scope(|| tracing::debug!("a catch-up read is tried again: {reason}"));
        let since = *conn.failing_since.get_or_insert(now);
        // A lock passes by itself; anything else a client is told rather than left waiting for ever.
        if !matches!(reason, Unavailable::Busy(_)) && now - since >= READ_PATIENCE {
            let long_ago = |at: Instant| now - at >= READ_PATIENCE;
            if self.complained.is_none_or(long_ago) {
                let feed = &conn.session.feed().config.name;
                tracing::warn!(
                    "feed {feed}: rows can't be read for subscribers that catch up, who are sent away: {reason}"
                );
                self.complained = Some(now);
            }
            return self.close(id.slot, CloseCode::TryAgainLater);
        }
        conn.place = ConnState::Retry;
        self.retry.push(id);
    }
}
