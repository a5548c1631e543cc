//! What is due: pings, heartbeats, write timeouts, retries.

use std::time::{Duration, Instant, SystemTime};

use super::{Shard, TICK};
use crate::fanout::conn::ConnState;
use crate::fanout::mailbox::ConnId;
use crate::hub::Absence;
use crate::wire::control::{
    CLOSE_PATIENCE_SECS, CloseCode, Control, HEARTBEAT_SECS, PONG_TIMEOUT_SECS,
};
use crate::wire::frame::opcode;

/// How long a peer has for its own close frame.
const CLOSE_PATIENCE: Duration = Duration::from_secs(CLOSE_PATIENCE_SECS);

/// A tick that comes so much later than it should tells that the process did not run meanwhile: it or its machine was
/// stopped. A busy machine delays ticks by far less.
const STANDSTILL: Duration = Duration::from_secs(2);

impl Shard {
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        // Without connections ticks may be far apart; those that came since have nothing to be forgiven.
        let late = now.saturating_duration_since(self.next_tick);
        if late >= STANDSTILL {
            for (_, conn) in &mut self.conns {
                conn.forgive(late, now);
            }
        }
        self.next_tick = now + TICK;
        for id in std::mem::take(&mut self.retry) {
            if self.is(id) && self.conns[id.slot].place == ConnState::Retry {
                self.conns[id.slot].place = ConnState::Behind;
                self.pump(id);
            }
        }
        for id in std::mem::take(&mut self.paused) {
            if self.is(id) {
                self.conns[id.slot].paused = false;
                self.socket_event(id.slot, true);
                self.look_meanwhile();
            }
        }
        self.end_stalled(now);
        for id in self.wheel.due(now) {
            if self.is(id) {
                self.timer(id, now);
            }
        }
        if self.tidies {
            self.context.catchup.forget_old();
        }
    }

    pub(super) fn end_stalled(&mut self, now: Instant) {
        let write_timeout = *self.context.write_timeout.lock();
        let stalled: Vec<usize> = self.stalled.iter().copied().collect();
        for slot in stalled {
            let conn = &mut self.conns[slot];
            let timed_out = conn
                .stalled_since
                .is_some_and(|since| now - since >= write_timeout);
            if timed_out && !conn.has_read_meanwhile() {
                self.close(slot, CloseCode::WriteTimeout);
            }
        }
        let closing: Vec<usize> = self.closing.iter().copied().collect();
        for slot in closing {
            let conn = &self.conns[slot];
            if conn
                .closing_since
                .is_some_and(|since| now - since >= CLOSE_PATIENCE)
            {
                conn.span
                    .in_scope(|| tracing::debug!("the client did not close in time"));
                self.remove(slot);
            }
        }
    }

    /// A connection's second has come: what is due?
    pub(super) fn timer(&mut self, id: ConnId, now: Instant) {
        let beat = Duration::from_secs(HEARTBEAT_SECS);
        let patience = Duration::from_secs(PONG_TIMEOUT_SECS);
        let conn = &mut self.conns[id.slot];
        if conn.place == ConnState::Closing {
            return;
        }
        if let Some(code) = conn.session.grant_ended(SystemTime::now()) {
            return self.close(id.slot, code);
        }
        if now - conn.last_heard >= patience {
            return self.close(id.slot, CloseCode::NoPong);
        }
        if now - conn.last_ping >= beat {
            conn.last_ping = now;
            // Also to a slow reader: what it can't have seen it can't answer.
            conn.push_control(opcode::PING, b"");
        }
        let mut next = conn.last_ping + beat;
        if conn.session.is_resumable() {
            let view = &self.feeds[conn.session.feed().index].view;
            let sign = match conn.place {
                ConnState::CaughtUp { .. } => Some(Control::Heartbeat { head: view.head }),
                // A head would be taken for a position reached.
                ConnState::Away => view.presence.absence().map(Absence::control),
                _ => None,
            };
            if let Some(sign) = sign.filter(|_| now - conn.last_text >= beat) {
                conn.push_text(&sign.json());
            }
            next = next.min(conn.last_text + beat).max(now);
        }
        next = next.min(conn.last_heard + patience);
        next = next.min(self.expiry(id.slot));
        self.wheel.set(id, next);
        self.flush_answers(id.slot);
    }
}
