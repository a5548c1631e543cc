//! Ending connections: close frames, goodbyes, and letting go of the socket.

use std::time::{Duration, Instant, SystemTime};

use super::Shard;
use crate::fanout::conn::{ConnState, Wrote};
use crate::fanout::mailbox::ConnId;
use crate::wire::control::{CloseCode, Control, reconnect_after};

/// Connections that are ended between two looks for live rows: a few milliseconds of work.
const ENDED_AT_ONCE: usize = 128;
/// When a connection is looked at again that never expires.
const NEVER: Duration = Duration::from_secs(3600);

impl Shard {
    /// Notes the connections whose grants have ended.
    pub(super) fn find_ended(&mut self) {
        let now = SystemTime::now();
        let ended = self.conns.iter().filter_map(|(slot, conn)| {
            conn.session.grant_ended(now)?;
            Some(ConnId {
                slot,
                serial: conn.serial,
            })
        });
        self.ending.extend(ended);
    }

    /// Ends some of those whose grants have ended. However many there are, others' live rows do not wait for them.
    pub(super) fn end_some(&mut self) {
        let rest = self.ending.len().saturating_sub(ENDED_AT_ONCE);
        let now = SystemTime::now();
        for id in self.ending.split_off(rest) {
            if self.is(id)
                && let Some(code) = self.conns[id.slot].session.grant_ended(now)
            {
                self.close(id.slot, code);
            }
        }
        self.take_moved();
    }

    /// When a connection's grant expires, as far as the clocks agree.
    pub(super) fn expiry(&self, slot: usize) -> Instant {
        let left = self.conns[slot].session.expires().map(|expires| {
            let left = expires.duration_since(SystemTime::now());
            // In the past it is over.
            left.unwrap_or_default().min(NEVER)
        });
        Instant::now() + left.unwrap_or(NEVER)
    }

    /// Sends a close frame and waits a moment for the peer's.
    pub(super) fn close(&mut self, slot: usize, code: CloseCode) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        if conn.place == ConnState::Closing {
            return;
        }
        if let Some(error) = code.error() {
            self.context.metrics.connection_error(error);
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
        self.leave_live_group(slot, head);
        let conn = &mut self.conns[slot];
        conn.page = None;
        conn.table_page = None;
        conn.push_close(code);
        conn.place = ConnState::Closing;
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
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.place != ConnState::Closing || conn.has_pending() {
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
            ConnState::Closing => tracing::debug!("closed"),
            _ => tracing::debug!("closed: the client went without a close frame"),
        });
        let feed = conn.session.feed().index;
        let head = self.feeds[feed].view.head;
        self.leave_live_group(slot, head);
        self.stalled.remove(&slot);
        self.closing.remove(&slot);
        self.conns[slot].stream.say_end();
        // Closing the socket takes it off the poll; the guard undoes the count.
        let conn = self.conns.remove(slot);
        self.deflating.left(conn.coding);
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
        if conn.place == ConnState::Closing {
            return;
        }
        if conn.session.is_resumable() {
            let reconnect_after_ms = reconnect_after(conn.serial, total);
            conn.push_control_message(&Control::Goodbye { reconnect_after_ms });
        }
        self.close(slot, CloseCode::Restart);
    }
}
