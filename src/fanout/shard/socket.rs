//! What clients send, and what they are answered.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use super::Shard;
use crate::fanout::conn::{ConnState, Wrote};
use crate::fanout::frame_reader::Inbound;
use crate::fanout::mailbox::ConnId;
use crate::fanout::socket::Heard;
use crate::wire::control::answer_to;

/// Buffers read of one client before others have their turn.
const READS: usize = 4;
/// Bytes a client may go on sending after it was told that the connection closes. Who is in the middle of a large
/// message should not lose the reason to a reset.
const DISCARDED: usize = 4 * 1024 * 1024;

impl Shard {
    pub(super) fn socket_event(&mut self, slot: usize, readable: bool) {
        if readable && !self.read(slot) {
            return;
        }
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let id = ConnId {
            slot,
            serial: conn.serial,
        };
        if conn.has_pending() || conn.place == ConnState::Behind {
            self.pump(id);
        }
        self.drop_if_closed(slot);
    }

    /// Reads what the client sent; `false` when the connection is gone.
    pub(super) fn read(&mut self, slot: usize) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut reads = 0;
        let open = loop {
            let Some(conn) = self.conns.get_mut(slot) else {
                break false;
            };
            let serial = conn.serial;
            if conn.place != ConnState::Closing && !conn.rate.may_read(Instant::now()) {
                if !std::mem::replace(&mut conn.paused, true) {
                    self.paused.push(ConnId { slot, serial });
                }
                break true;
            }
            if reads == READS {
                // There may be more, and no event will tell of it.
                self.unread.push(ConnId { slot, serial });
                break true;
            }
            reads += 1;
            match conn.stream.read(&mut buffer) {
                Ok(Heard { on_the_wire: 0, .. }) => {
                    self.remove(slot);
                    break false;
                }
                Ok(Heard { bytes, on_the_wire }) => {
                    // Whatever of it was no message costs, too.
                    conn.rate.take_bytes(on_the_wire - bytes, Instant::now());
                    if bytes > 0 {
                        self.received(slot, &buffer[..bytes]);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.remove(slot);
                    break false;
                }
            }
        };
        self.buffer = buffer;
        open
    }

    pub(super) fn received(&mut self, slot: usize, bytes: &[u8]) {
        let metrics = Arc::clone(&self.context.metrics);
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let now = Instant::now();
        conn.last_heard = now;
        if conn.place == ConnState::Closing {
            return self.discard(slot, bytes);
        }
        conn.rate.take_bytes(bytes.len(), now);
        let mut assembler = std::mem::take(&mut conn.assembler);
        let mut closed = None;
        let result = assembler.take(bytes, |message| {
            match message {
                Inbound::Text(text) => {
                    conn.rate.take_message(now)?;
                    let answer = answer_to(text);
                    let kind = if answer.is_some() { "ping" } else { "other" };
                    metrics.client_messages.with_label_values(&[kind]).inc();
                    if let Some(answer) = answer {
                        conn.answer(answer);
                    }
                }
                Inbound::Binary => {
                    conn.rate.take_message(now)?;
                    metrics.client_messages.with_label_values(&["other"]).inc();
                }
                Inbound::Ping(payload) => conn.pong(payload),
                Inbound::Pong => {}
                Inbound::Close(code) => closed = Some(code),
            }
            Ok(())
        });
        conn.assembler = assembler;
        match (result, closed) {
            (Err(code), _) => self.close(slot, code),
            (Ok(()), Some(code)) => self.answer_close(slot, code),
            (Ok(()), None) => self.flush_answers(slot),
        }
    }

    /// Takes what a client sends after it was told that the connection closes: nothing but its Close means anything.
    fn discard(&mut self, slot: usize, bytes: &[u8]) {
        let conn = &mut self.conns[slot];
        let peer_closed = &mut conn.peer_closed;
        // Whatever else is wrong with it, the connection ends.
        let _ = conn.assembler.take(bytes, |message| {
            *peer_closed |= matches!(message, Inbound::Close(_));
            Ok(())
        });
        conn.discarded += bytes.len();
        if conn.discarded > DISCARDED {
            self.remove(slot);
        }
    }

    /// Sends what a caught-up subscriber is owed besides rows.
    pub(super) fn flush_answers(&mut self, slot: usize) {
        let conn = &mut self.conns[slot];
        if !conn.has_pending() || self.stalled.contains(&slot) {
            return;
        }
        match conn.flush() {
            Wrote::All => {}
            Wrote::Part(_) => {
                let head = self.feeds[conn.session.feed().index].view.head;
                self.fall_behind(slot, head);
                self.stalled.insert(slot);
            }
            Wrote::Gone => self.remove(slot),
        }
    }
}
