//! Ending connections: close frames, goodbyes, and letting go of the socket.

use std::time::Instant;

use super::Shard;
use crate::fanout::conn::{Place, Wrote};
use crate::protocol::{CloseCode, Control, reconnect_after};

impl Shard {
    /// Sends a close frame and waits a moment for the peer's.
    pub(super) fn close(&mut self, slot: usize, code: CloseCode) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        if conn.place == Place::Closing {
            return;
        }
        if let Some(reason) = code.error_reason() {
            self.context.metrics.connection_error(reason);
        }
        conn.span
            .in_scope(|| tracing::debug!(code = code.code(), reason = %code, "closing"));
        self.send_close(slot, Some(code.code()));
    }

    /// The peer has closed: its own code, or none where it gave none, is the answer and the last word.
    pub(super) fn answer_close(&mut self, slot: usize, code: Option<u16>) {
        let conn = &mut self.conns[slot];
        conn.peer_closed = true;
        conn.span
            .in_scope(|| tracing::debug!(code, "the client closes"));
        self.send_close(slot, code);
    }

    fn send_close(&mut self, slot: usize, code: Option<u16>) {
        let head = self.feeds[self.conns[slot].session.feed().index].view.head;
        self.leave_cohort(slot, head);
        let conn = &mut self.conns[slot];
        conn.page = None;
        conn.push_close(code);
        conn.place = Place::Closing;
        conn.closing_since = Some(Instant::now());
        self.closing.insert(slot);
        match conn.flush() {
            Wrote::All => conn.stream.shutdown(),
            Wrote::Part(_) => drop(self.stalled.insert(slot)),
            Wrote::Gone => self.remove(slot),
        }
    }

    /// Once the close frame is out, ends the writing side; once both have closed, the connection.
    pub(super) fn drop_if_closed(&mut self, slot: usize) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        if conn.place != Place::Closing || conn.has_pending() {
            return;
        }
        match conn.peer_closed {
            true => self.remove(slot),
            false => conn.stream.shutdown(),
        }
    }

    pub(super) fn remove(&mut self, slot: usize) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        conn.span.in_scope(|| match conn.place {
            Place::Closing => tracing::debug!("closed"),
            _ => tracing::debug!("closed: the client went without a close frame"),
        });
        let feed = conn.session.feed().index;
        let head = self.feeds[feed].view.head;
        self.leave_cohort(slot, head);
        self.stalled.remove(&slot);
        self.closing.remove(&slot);
        // Closing the socket takes it off the poll; the guard undoes the count.
        self.conns.remove(slot);
        if self.mailbox.lost(feed) {
            // Nobody is left to send these blocks to; who comes next takes those there are then.
            self.feeds[feed].view.forget_blocks();
        }
    }

    pub(super) fn drain(&mut self, total: usize) {
        self.draining = Some(total);
        let slots: Vec<usize> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.say_goodbye(slot, total);
        }
    }

    pub(super) fn say_goodbye(&mut self, slot: usize, total: usize) {
        let conn = &mut self.conns[slot];
        if conn.place == Place::Closing {
            return;
        }
        if conn.session.is_resumable() {
            let reconnect_after_ms = reconnect_after(conn.serial, total);
            conn.push_control_message(&Control::Goodbye { reconnect_after_ms });
        }
        self.close(slot, CloseCode::Restart);
    }
}
