//! What clients send, and what they are answered.

use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::time::Instant;

use super::Shard;
use crate::fanout::ConnId;
use crate::fanout::conn::{Place, Wrote};
use crate::fanout::inbound::Inbound;
use crate::protocol::{CloseCode, JSON_PONG, TEXT_PONG, opcode};

/// Buffers read of one client before others have their turn.
const READS: usize = 4;
/// Bytes a client may go on sending after it was told that the connection closes.
const DISCARDED: usize = 64 * 1024;

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
        if conn.has_pending() || conn.place == Place::Behind {
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
            if reads == READS {
                // There may be more, and no event will tell of it.
                let serial = conn.serial;
                self.unread.push(ConnId { slot, serial });
                break true;
            }
            reads += 1;
            match conn.stream.read(&mut buffer) {
                Ok(0) => {
                    self.remove(slot);
                    break false;
                }
                Ok(n) => {
                    self.received(slot, &buffer[..n]);
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
        let mut assembler = std::mem::take(&mut conn.assembler);
        let mut peer_closed = false;
        let mut result = assembler.take(bytes, |message| {
            if conn.place == Place::Closing {
                peer_closed |= message == Inbound::Close;
                return Ok(());
            }
            if message != Inbound::Close {
                conn.rate.take(now)?;
            }
            match message {
                Inbound::Text(text) => {
                    let answer = answer_to(&text);
                    let kind = if answer.is_some() { "ping" } else { "other" };
                    metrics.client_messages.with_label_values(&[kind]).inc();
                    if let Some(answer) = answer {
                        conn.answer(answer);
                    }
                }
                Inbound::Binary => metrics.client_messages.with_label_values(&["other"]).inc(),
                Inbound::Ping(payload) => conn.push_control(opcode::PONG, &payload),
                Inbound::Pong | Inbound::Fragment => {}
                Inbound::Close => peer_closed = true,
            }
            Ok(())
        });
        conn.assembler = assembler;
        if conn.place == Place::Closing {
            conn.discarded += bytes.len();
            // Both have said it, or the peer talks on in place of it.
            if peer_closed || result.is_err() || conn.discarded > DISCARDED {
                self.remove(slot);
            }
            return;
        }
        if peer_closed {
            result = Err(CloseCode::Normal);
        }
        if let Err(code) = result {
            return self.close(slot, code);
        }
        self.flush_answers(slot);
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
                self.leave_cohort(slot, head);
                self.stalled.insert(slot);
            }
            Wrote::Gone => self.remove(slot),
        }
    }
}

/// The answer to a client's `ping`, in the form it asked in.
fn answer_to(text: &str) -> Option<&'static str> {
    if text == "ping" {
        return Some(TEXT_PONG);
    }
    if !text.contains("ping") {
        return None;
    }
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    (json.get("type")? == "ping").then_some(JSON_PONG)
}
