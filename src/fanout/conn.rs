//! One upgraded connection: its socket, what waits to be written, and when something was last heard of it.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tracing::Span;

use crate::fanout::frame_reader::Assembler;
use crate::fanout::rate_limit::RateLimit;
use crate::fanout::socket::Socket;
use crate::model::position::Cursor;
use crate::session::{Batch, Session};
use crate::sqlite::reader::TablePage;
use crate::wire::block::Block;
use crate::wire::control::Control;
use crate::wire::deflate::Coding;
use crate::wire::frame::{opcode, push_close, push_frame};
use std::sync::Arc;

/// Keeps a connection counted; dropping it undoes the count.
pub type Guard = Box<dyn Send>;

/// Answers to pings are written when so many bytes of them have come together, or nothing more is to be read.
const ANSWERS_AT_ONCE: usize = 1024;

/// What a client asked for and can't be given yet: the newest of each kind, however often it asks.
#[derive(Debug, Default)]
struct Owed {
    /// The payload of a Pong.
    pong: Option<Box<[u8]>>,
    /// The answer to a message.
    text: Option<&'static str>,
}

/// Where a connection stands in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnState {
    /// Has everything there is; `at` is its place in its live group's list.
    CaughtUp { at: usize },
    /// Takes what it can; waits for its socket when something is pending.
    Behind,
    /// Waits for a page or for the table's bounds.
    Reading,
    /// A read failed; it is tried again at the next tick.
    Retry,
    /// There is no table to go on with, or the log has not come to where it begins.
    Away,
    /// The close frame was sent; waits for the peer's.
    Closing,
}

pub(super) struct Conn {
    pub stream: Socket,
    pub session: Session,
    pub place: ConnState,
    /// Told from others that had the same slot before.
    pub serial: u64,
    /// The rest of a frame cut in two by a full socket.
    cut: Bytes,
    /// What goes out after it: control frames. Holds memory only while it holds bytes.
    pending: Vec<u8>,
    /// Answers that can't go out yet. Boxed: hardly anyone is owed one.
    owed: Option<Box<Owed>>,
    /// Rows being written; let go as soon as the socket is full, for the position says what is missing.
    pub page: Option<Arc<Block>>,
    /// The same of the table as it is.
    pub table_page: Option<Arc<TablePage>>,
    pub assembler: Assembler,
    /// How its rows are put into frames.
    pub coding: Coding,
    pub rate: RateLimit,
    pub last_text: Instant,
    pub last_ping: Instant,
    pub last_heard: Instant,
    /// Since when the socket has accepted no byte although there were some.
    pub stalled_since: Option<Instant>,
    pub closing_since: Option<Instant>,
    /// Since when reads for it have failed.
    pub failing_since: Option<Instant>,
    /// Bytes the kernel held when the stall began or was last looked at.
    unsent: usize,
    /// Bytes that came after the close frame was sent.
    pub discarded: usize,
    /// The peer has sent its close frame.
    pub peer_closed: bool,
    /// It has sent more than it may; what follows is read at the next tick.
    pub paused: bool,
    /// Its life in the log.
    pub span: Span,
    _guard: Guard,
}

/// How much of a write the socket took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    All,
    /// So many bytes; the socket is full.
    Part(usize),
    /// The peer is gone.
    Gone,
}

/// How far a batch got when it was written to one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// All of it was written; else the socket is full.
    pub all: bool,
    /// The position reached; `None`: none but the old one.
    pub reached: Option<Cursor>,
    pub rows: usize,
}

impl Conn {
    pub(super) fn new(
        stream: Socket,
        (session, coding): (Session, Coding),
        serial: u64,
        (guard, span): (Guard, Span),
    ) -> Conn {
        let now = Instant::now();
        Conn {
            stream,
            session,
            place: ConnState::Behind,
            serial,
            cut: Bytes::new(),
            pending: Vec::new(),
            owed: None,
            page: None,
            table_page: None,
            assembler: Assembler::new(coding != Coding::Plain),
            coding,
            rate: RateLimit::new(now),
            last_text: now,
            last_ping: now,
            last_heard: now,
            stalled_since: None,
            closing_since: None,
            failing_since: None,
            unsent: 0,
            discarded: 0,
            peer_closed: false,
            paused: false,
            span,
            _guard: guard,
        }
    }

    pub(super) fn has_pending(&self) -> bool {
        !(self.cut.is_empty() && self.pending.is_empty()) || self.stream.holds_back()
    }

    /// The daemon stood still for `time` until `now`: it could neither ping nor hear, so this does not count against the
    /// client.
    pub(super) fn forgive(&mut self, time: Duration, now: Instant) {
        let heard = std::iter::once(&mut self.last_heard);
        let others = [&mut self.stalled_since, &mut self.closing_since];
        for since in heard.chain(others.into_iter().flatten()) {
            *since = (*since + time).min(now);
        }
    }

    pub(super) fn push_text(&mut self, text: &str) {
        push_frame(&mut self.pending, opcode::TEXT, text.as_bytes());
        self.last_text = Instant::now();
    }

    /// Queues a control message, and tells of it in the log.
    pub(super) fn push_control_message(&mut self, control: &Control) {
        let json = control.json();
        self.span
            .in_scope(|| tracing::debug!(frame = json, "{}", control.name()));
        self.push_text(&json);
    }

    /// Answers a client's ping; before the hello, which is to be the first text frame, the answer waits.
    pub(super) fn answer(&mut self, text: &'static str) {
        if self.is_full() || self.session.awaits_hello() {
            self.owed.get_or_insert_default().text = Some(text);
        } else {
            self.push_text(text);
            self.relieve();
        }
    }

    /// Answers a protocol Ping with a Pong of the same payload; where the socket is full, only the newest answer is
    /// kept.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        if self.is_full() {
            self.owed.get_or_insert_default().pong = Some(payload.into());
        } else {
            self.push_control(opcode::PONG, payload);
            self.relieve();
        }
    }

    /// Returns whether the socket took less than it was given when it was last written to.
    fn is_full(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Writes answers before there are many, so that those beyond what the socket takes are never made.
    fn relieve(&mut self) {
        if self.pending.len() >= ANSWERS_AT_ONCE {
            // A peer that is gone shows at the end of what it sent.
            self.flush();
        }
    }

    pub(super) fn push_control(&mut self, opcode: u8, payload: &[u8]) {
        push_frame(&mut self.pending, opcode, payload);
    }

    pub(super) fn push_close(&mut self, code: Option<u16>) {
        push_close(&mut self.pending, code);
    }

    /// Writes what is pending, then what is owed.
    pub(super) fn flush(&mut self) -> Wrote {
        match self.flush_pending() {
            Wrote::All if self.owed.is_some() => {
                self.push_owed();
                self.flush_pending()
            }
            wrote => wrote,
        }
    }

    fn push_owed(&mut self) {
        let Some(mut owed) = self.owed.take() else {
            return;
        };
        if self.place == ConnState::Closing {
            return;
        }
        if let Some(payload) = owed.pong.take() {
            self.push_control(opcode::PONG, &payload);
        }
        match owed.text {
            Some(_) if self.session.awaits_hello() => self.owed = Some(owed),
            Some(text) => self.push_text(text),
            None => {}
        }
    }

    fn flush_pending(&mut self) -> Wrote {
        if !self.has_pending() {
            return Wrote::All;
        }
        let (mut cut, mut pending) = (
            std::mem::take(&mut self.cut),
            std::mem::take(&mut self.pending),
        );
        let slices = [IoSlice::new(&cut), IoSlice::new(&pending)];
        let wrote = self.write(&slices, cut.len() + pending.len());
        if let Wrote::Part(written) = wrote {
            let of_cut = written.min(cut.len());
            cut.advance(of_cut);
            pending.drain(..written - of_cut);
            (self.cut, self.pending) = (cut, pending);
        }
        wrote
    }

    /// Writes a batch as its `slices`, made once however many connections take it, and keeps the rest of a frame that was
    /// cut in two. `None`: the peer is gone.
    pub(super) fn send(&mut self, batch: &Batch<'_>, slices: &[IoSlice<'_>]) -> Option<Sent> {
        let wrote = match slices {
            [] => Wrote::All,
            slices => self.write(slices, batch.bytes),
        };
        let written = match wrote {
            Wrote::All => batch.bytes,
            Wrote::Part(written) => written,
            Wrote::Gone => return None,
        };
        let (reached, rest, rows) = batch.after_writing(written);
        self.cut = rest;
        Some(Sent {
            all: wrote == Wrote::All,
            reached,
            rows,
        })
    }

    /// Returns whether the peer has taken bytes since the stall began or since the last call. The kernel says that a
    /// socket can be written again only when a good part of its buffer is free, which a slow reader may not reach in
    /// time.
    pub(super) fn has_read_meanwhile(&mut self) -> bool {
        let unsent = self.stream.unsent();
        let progress = unsent < self.unsent;
        if progress {
            self.unsent = unsent;
            self.stalled_since = Some(Instant::now());
            self.last_heard = Instant::now();
        }
        progress
    }

    /// Writes as much of `slices` (`total` bytes) as the socket takes, and keeps the stall clock.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], total: usize) -> Wrote {
        let Ok(taken) = self.stream.write(slices, total) else {
            return Wrote::Gone;
        };
        if taken.moved && self.stalled_since.is_some() {
            // Room in a socket that was full: the peer has read, which says as much as a Pong.
            self.last_heard = Instant::now();
        }
        if !taken.is_full {
            self.stalled_since = None;
            return Wrote::All;
        }
        // A byte accepted is a sign of life; none at all lets the clock run on.
        if taken.moved || self.stalled_since.is_none() {
            self.stalled_since = Some(Instant::now());
            self.unsent = self.stream.unsent();
        }
        Wrote::Part(taken.bytes)
    }
}
