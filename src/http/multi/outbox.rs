//! What waits to be written to a socket with several subscriptions: one batch of rows at most, and what is said beside
//! them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::wire::frame::{opcode, push_close, push_frame};

/// Nothing more is read of a client while so many bytes of answers to it wait.
const ANSWERS: usize = 16 * 1024;
/// A write that took so long tells of a peer that reads: the kernel had no room before.
const WAITED: Duration = Duration::from_millis(250);

/// Frames on their way out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// What is being written: whole frames, but for the first.
    under_way: VecDeque<Bytes>,
    /// What goes out after that.
    said: Vec<u8>,
    /// The payload of the newest Pong that could not go out at once.
    pong: Option<Vec<u8>>,
    /// The answer to a `ping`, likewise.
    answer: Option<&'static str>,
    /// TLS may still hold some of what was written.
    unflushed: bool,
    stall: Option<Stall>,
}

/// A time in which the socket took no byte although there were some.
#[derive(Debug, Clone, Copy)]
struct Stall {
    since: Instant,
    /// Bytes that the kernel held when it began, or was last looked at.
    held: usize,
}

impl Outbox {
    /// Returns whether nothing is being written, so that rows may follow.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && !self.unflushed
    }

    /// Returns whether all is out.
    pub(super) fn is_empty(&self) -> bool {
        self.is_idle() && self.said.is_empty() && self.pong.is_none() && self.answer.is_none()
    }

    /// Returns whether the client may say more: what it is answered is bounded.
    pub(super) fn has_room_for_answers(&self) -> bool {
        self.said.len() < ANSWERS
    }

    /// Queues whole frames. They follow what is being written.
    pub(super) fn push_frames(&mut self, frames: Vec<Bytes>) {
        self.under_way.extend(frames);
    }

    pub(super) fn push_text(&mut self, text: &str) {
        push_frame(&mut self.said, opcode::TEXT, text.as_bytes());
    }

    pub(super) fn push_ping(&mut self) {
        push_frame(&mut self.said, opcode::PING, b"");
    }

    pub(super) fn push_close(&mut self, code: Option<u16>) {
        (self.pong, self.answer) = (None, None);
        push_close(&mut self.said, code);
    }

    /// Answers a client's `ping`; where it can't go out at once, the newest answer alone is kept.
    pub(super) fn answer(&mut self, text: &'static str) {
        match self.is_idle() {
            true => self.push_text(text),
            false => self.answer = Some(text),
        }
    }

    /// Answers a protocol Ping in the same way.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        match self.is_idle() {
            true => push_frame(&mut self.said, opcode::PONG, payload),
            false => self.pong = Some(payload.to_vec()),
        }
    }

    /// Takes up what was said, once the frames before it are out, and has the clock run while there is something to write.
    /// `held` tells what the kernel holds.
    pub(super) fn take_up(&mut self, held: impl FnOnce() -> usize) {
        if self.under_way.is_empty() {
            if let Some(payload) = self.pong.take() {
                push_frame(&mut self.said, opcode::PONG, &payload);
            }
            if let Some(text) = self.answer.take() {
                self.push_text(text);
            }
            if !self.said.is_empty() {
                self.under_way
                    .push_back(std::mem::take(&mut self.said).into());
            }
        }
        if self.is_idle() {
            self.stall = None;
        } else if self.stall.is_none() {
            self.stall = Some(Stall {
                since: Instant::now(),
                held: held(),
            });
        }
    }

    /// Writes some of it; `true` where there was nothing left but to flush. Nothing is lost where this is dropped.
    pub(super) async fn write(&self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<Wrote> {
        match self.under_way.front() {
            Some(piece) => socket.write(piece).await.map(Wrote::Bytes),
            None => socket.flush().await.map(|()| Wrote::All),
        }
    }

    /// Notes what was written. Returns whether it says that the peer reads.
    pub(super) fn wrote(&mut self, wrote: Wrote, held: impl FnOnce() -> usize) -> io::Result<bool> {
        let stalled = self.stall.map(|stall| stall.since.elapsed());
        match wrote {
            Wrote::Bytes(0) => return Err(ErrorKind::WriteZero.into()),
            Wrote::Bytes(bytes) => {
                self.unflushed = true;
                if let Some(piece) = self.under_way.front_mut() {
                    piece.advance(bytes);
                    if piece.is_empty() {
                        self.under_way.pop_front();
                    }
                }
            }
            Wrote::All => self.unflushed = false,
        }
        self.stall = (!self.is_idle()).then(|| Stall {
            since: Instant::now(),
            held: held(),
        });
        Ok(stalled.is_some_and(|time| time >= WAITED))
    }

    /// When the client has to have taken something; `None` where there is nothing to take.
    pub(super) fn due(&self, write_timeout: Duration) -> Option<Instant> {
        self.stall.map(|stall| stall.since + write_timeout)
    }

    /// Returns whether the peer has taken bytes since the stall began or since the last call. The kernel says that a socket
    /// can be written again only when a good part of its buffer is free, which a slow reader may not reach in time.
    pub(super) fn has_read_meanwhile(&mut self, held: usize) -> bool {
        let Some(stall) = &mut self.stall else {
            return true;
        };
        let progress = held < stall.held;
        if progress {
            *stall = Stall {
                since: Instant::now(),
                held,
            };
        }
        progress
    }

    /// For so long nobody could write: that does not count against the client.
    pub(super) fn forgive(&mut self, time: Duration, now: Instant) {
        if let Some(stall) = &mut self.stall {
            stall.since = (stall.since + time).min(now);
        }
    }
}

/// What came of a write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wrote {
    Bytes(usize),
    /// All is with the kernel.
    All,
}
