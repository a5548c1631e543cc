//! One thread's share of the connections. Subscribers that have everything stand in cohorts, by feed and filter; a
//! block is gathered once for a cohort and written to each member. Who can't keep up leaves the cohort with a position
//! and comes back when it has caught up.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, IoSlice, Read as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry, Token};
use parking_lot::Mutex;
use slab::Slab;

use crate::catchup::{Bounds, PageError, PageResult};
use crate::change::{Block, Cursor};
use crate::fanout::conn::{Conn, Place, Wrote};
use crate::fanout::inbound::Inbound;
use crate::fanout::wheel::Wheel;
use crate::fanout::{Arrival, Command, ConnId, Context, Mailbox};
use crate::filter::FilterId;
use crate::hub::View;
use crate::protocol::{
    CloseCode, Control, HEARTBEAT_SECS, JSON_PONG, PONG_TIMEOUT_SECS, TEXT_PONG, opcode,
};
use crate::session::{Batch, BatchLimits, Step};
use crate::sqlite::open::Unavailable;

pub const WAKE: Token = Token(usize::MAX);

/// The finest time the shard keeps: write timeouts, retries, closing.
const TICK: Duration = Duration::from_millis(250);
/// How long a peer has for its own close frame.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// One write: as many pieces as the kernel takes at once are 1,024; fewer keep the list short.
const BATCH: BatchLimits = BatchLimits {
    runs: 256,
    bytes: 256 * 1024,
};
/// Buffers read of one client before others have their turn.
const READS: usize = 4;
/// Bytes a client may go on sending after it was told that the connection closes.
const DISCARDED: usize = 64 * 1024;
/// Batches one subscriber gets before others have their turn.
const TURNS: usize = 2;
/// Rows in a burst are written to a cohort at once up to this; beyond it members go on one by one.
const COHORT_BATCH: BatchLimits = BatchLimits {
    runs: 512,
    bytes: 512 * 1024,
};

pub struct Shard {
    registry: Registry,
    mailbox: Arc<Mailbox>,
    context: Arc<Context>,
    conns: Slab<Conn>,
    feeds: Vec<Watched>,
    wheel: Wheel,
    next_tick: Instant,
    /// Connections with more to take, and room for it.
    ready: Vec<ConnId>,
    /// Connections whose socket may hold more to read.
    unread: Vec<ConnId>,
    /// Connections whose socket is full.
    stalled: HashSet<usize>,
    closing: HashSet<usize>,
    retry: Vec<ConnId>,
    serial: u64,
    draining: Option<usize>,
    /// One of the shards tidies up for all.
    tidies: bool,
    buffer: Box<[u8]>,
}

/// A feed as this shard sees it.
struct Watched {
    view: View,
    cohorts: HashMap<FilterId, Cohort>,
    /// The youngest filter a cohort was ever made for.
    youngest: FilterId,
}

/// Subscribers of one filter that have everything up to the view's head.
#[derive(Default)]
struct Cohort {
    members: Vec<usize>,
}

/// The thread of a shard: waits for its sockets and its mailbox. The shard is locked only while there is something to do.
pub fn run(shard: &Mutex<Shard>, mut poll: Poll) {
    let mut events = Events::with_capacity(1024);
    loop {
        let timeout = shard.lock().timeout();
        match poll.poll(&mut events, timeout) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => {
                tracing::error!("a shard can't wait for its sockets: {e}");
                return;
            }
        }
        if !shard.lock().turn(&events) {
            return;
        }
    }
}

impl Shard {
    pub fn new(
        registry: Registry,
        mailbox: Arc<Mailbox>,
        context: Arc<Context>,
        tidies: bool,
    ) -> Shard {
        let now = Instant::now();
        let feeds = context.hub.feeds.iter();
        let feeds = feeds
            .map(|feed| Watched {
                view: feed.view(),
                cohorts: HashMap::new(),
                youngest: FilterId::NONE,
            })
            .collect();
        Shard {
            registry,
            mailbox,
            context,
            conns: Slab::new(),
            feeds,
            wheel: Wheel::new(now),
            next_tick: now + TICK,
            ready: Vec::new(),
            unread: Vec::new(),
            stalled: HashSet::new(),
            closing: HashSet::new(),
            retry: Vec::new(),
            serial: 0,
            draining: None,
            tidies,
            buffer: vec![0; 16 * 1024].into_boxed_slice(),
        }
    }

    /// Does what the events ask for; `false` to stop.
    fn turn(&mut self, events: &Events) -> bool {
        // What is new goes out first; what clients say can wait for a moment.
        if !self.take_mail() {
            return false;
        }
        for id in std::mem::take(&mut self.unread) {
            if self.is(id) {
                self.socket_event(id.slot, true);
            }
        }
        for event in events {
            if event.token() != WAKE {
                self.socket_event(event.token().0, event.is_readable() || event.is_error());
            }
        }
        for id in std::mem::take(&mut self.ready) {
            self.pump(id);
            // Live rows do not wait for everyone who catches up.
            self.take_moved();
        }
        if Instant::now() >= self.next_tick {
            self.tick();
        }
        true
    }

    /// Gives a feed's subscribers what is new, on whatever thread; `false` when the shard's own has to go on with it.
    pub fn serve(&mut self, feed: usize) -> bool {
        if self.mailbox.take_moved(feed) {
            self.feed_moved(feed);
        }
        self.ready.is_empty()
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() || !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let idle = self.conns.is_empty() && !self.tidies;
        (!idle).then(|| self.next_tick.saturating_duration_since(Instant::now()))
    }

    /// Takes commands and moved feeds; `false` to stop.
    fn take_mail(&mut self) -> bool {
        let commands = self.mailbox.take();
        self.take_moved();
        for command in commands {
            match command {
                Command::Attach(arrival) => self.attach(*arrival),
                Command::Page(id, result) => self.page_came(id, result),
                Command::Bounds(id, result) => self.bounds_came(id, result),
                Command::Drain { total } => self.drain(total),
                Command::Stop => return false,
            }
        }
        true
    }

    fn take_moved(&mut self) {
        for feed in 0..self.feeds.len() {
            if self.mailbox.take_moved(feed) {
                self.feed_moved(feed);
            }
        }
    }

    fn attach(&mut self, arrival: Arrival) {
        self.serial += 1;
        let Arrival {
            stream,
            early,
            session,
            guard,
        } = arrival;
        // The session began at a moment the view may not have reached.
        self.feed_moved(session.feed().index);
        let slot = self
            .conns
            .insert(Conn::new(stream, session, self.serial, guard));
        let id = ConnId {
            slot,
            serial: self.serial,
        };
        let conn = &mut self.conns[slot];
        if let Err(e) = conn.stream.register(&self.registry, Token(slot)) {
            tracing::warn!("a connection can't be watched: {e}");
            return self.remove(slot);
        }
        self.wheel
            .set(id, Instant::now() + Duration::from_secs(HEARTBEAT_SECS));
        if !early.is_empty() {
            self.received(slot, &early);
        }
        if let Some(total) = self.draining
            && self.is(id)
        {
            self.say_goodbye(slot, total);
        }
        self.pump(id);
    }

    fn is(&self, id: ConnId) -> bool {
        self.conns
            .get(id.slot)
            .is_some_and(|conn| conn.serial == id.serial)
    }

    // --- rows ---

    /// A feed's log moved: everyone who had everything gets what is new.
    fn feed_moved(&mut self, feed: usize) {
        let watched = &mut self.feeds[feed];
        let head = watched.view.head;
        let refreshed = self.context.hub.feeds[feed].refresh(&mut watched.view);
        let filters_may_be_gone =
            refreshed.reshaped && watched.cohorts.keys().any(|f| *f != FilterId::NONE);
        if refreshed.replaced || filters_may_be_gone || head < watched.view.floor {
            return self.disband(feed, head);
        }
        let fresh: Vec<Arc<Block>> = watched
            .view
            .blocks
            .range(refreshed.fresh_from..)
            .cloned()
            .collect();
        if fresh.is_empty() {
            return;
        }
        for filter in self.concerned(feed, &fresh) {
            self.broadcast(feed, filter, head, &fresh);
        }
        self.observe_broadcast(&fresh);
    }

    fn observe_broadcast(&self, fresh: &[Arc<Block>]) {
        let rows = fresh.iter().filter(|block| !block.entries.is_empty());
        for block in rows {
            self.context
                .metrics
                .broadcast
                .observe(block.read_at.elapsed().as_secs_f64());
        }
    }

    /// The cohorts that take something of these blocks, or can't know from them whether they do.
    fn concerned(&self, feed: usize, fresh: &[Arc<Block>]) -> Vec<FilterId> {
        let cohorts = &self.feeds[feed].cohorts;
        let concerns = |filter: &FilterId| {
            fresh.iter().any(|block| {
                !block.knows(*filter) || !block.selection(*filter, Cursor::MIN).is_empty()
            })
        };
        // All cohorts, or only those that the blocks name: whichever are fewer. Filters not known to the first block
        // are the youngest few.
        let named: usize = fresh
            .iter()
            .filter_map(|b| b.matches.as_ref())
            .map(|m| m.rows.len())
            .sum();
        if named >= cohorts.len() {
            return cohorts
                .keys()
                .filter(|filter| concerns(filter))
                .copied()
                .collect();
        }
        let known_below = fresh
            .iter()
            .filter_map(|b| b.matches.as_ref())
            .map(|m| m.known_below)
            .min();
        let mut found: HashSet<FilterId> = fresh
            .iter()
            .filter_map(|block| block.matches.as_ref())
            .flat_map(|matches| matches.rows.keys())
            .filter(|filter| cohorts.contains_key(filter))
            .copied()
            .collect();
        if cohorts.contains_key(&FilterId::NONE) {
            found.insert(FilterId::NONE);
        }
        if let Some(known_below) = known_below
            && self.feeds[feed].youngest >= known_below
        {
            found.extend(cohorts.keys().filter(|filter| **filter >= known_below));
        }
        found.into_iter().collect()
    }

    /// Writes what a cohort takes of `fresh` to each of its members.
    fn broadcast(&mut self, feed: usize, filter: FilterId, from: Cursor, fresh: &[Arc<Block>]) {
        let Some(cohort) = self.feeds[feed].cohorts.get(&filter) else {
            return;
        };
        let members = cohort.members.clone();
        let batch = Batch::gather(fresh.iter(), filter, from, COHORT_BATCH);
        let slices: Vec<IoSlice<'_>> = batch
            .runs
            .iter()
            .map(|run| IoSlice::new(run.bytes()))
            .collect();
        let whole = batch.reaches == Some(self.feeds[feed].view.head);
        let now = Instant::now();
        let mut sent = 0;
        for slot in members {
            let conn = &mut self.conns[slot];
            let wrote = if slices.is_empty() {
                Wrote::All
            } else {
                conn.write(&slices, batch.bytes)
            };
            let written = match wrote {
                Wrote::All => batch.bytes,
                Wrote::Part(written) => written,
                Wrote::Gone => {
                    self.remove(slot);
                    continue;
                }
            };
            let (reached, rest, rows) = batch.after_writing(written);
            sent += rows;
            if rows > 0 {
                conn.last_text = now;
            }
            if wrote == Wrote::All && whole {
                continue;
            }
            conn.push_rest(rest);
            self.leave_cohort(slot, reached.unwrap_or(from));
            match wrote {
                Wrote::All => self.ready.push(ConnId {
                    slot,
                    serial: self.conns[slot].serial,
                }),
                _ => drop(self.stalled.insert(slot)),
            }
        }
        self.context.metrics.messages_sent.inc_by(sent as u64);
    }

    /// The history changed, or the log ran ahead of this shard: everyone goes on from its own position.
    fn disband(&mut self, feed: usize, head: Cursor) {
        let slots: Vec<usize> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.session.feed().index == feed && conn.place != Place::Closing)
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            if matches!(self.conns[slot].place, Place::CaughtUp { .. }) {
                self.leave_cohort(slot, head);
            }
            let conn = &self.conns[slot];
            if conn.place == Place::Behind {
                self.ready.push(ConnId {
                    slot,
                    serial: conn.serial,
                });
            }
        }
    }

    fn join_cohort(&mut self, slot: usize) {
        let conn = &mut self.conns[slot];
        let watched = &mut self.feeds[conn.session.feed().index];
        watched.youngest = watched.youngest.max(conn.session.filter_id());
        let cohort = watched.cohorts.entry(conn.session.filter_id()).or_default();
        conn.place = Place::CaughtUp {
            at: cohort.members.len(),
        };
        cohort.members.push(slot);
    }

    /// Takes a caught-up subscriber out of its cohort, with everything up to `position`.
    fn leave_cohort(&mut self, slot: usize, position: Cursor) {
        let conn = &mut self.conns[slot];
        let Place::CaughtUp { at } = conn.place else {
            return;
        };
        conn.place = Place::Behind;
        conn.session.advance(position);
        let (feed, filter) = (conn.session.feed().index, conn.session.filter_id());
        let cohorts = &mut self.feeds[feed].cohorts;
        let Some(cohort) = cohorts.get_mut(&filter) else {
            return;
        };
        cohort.members.swap_remove(at);
        match cohort.members.get(at) {
            Some(&moved) => self.conns[moved].place = Place::CaughtUp { at },
            None if cohort.members.is_empty() => drop(cohorts.remove(&filter)),
            None => {}
        }
    }

    /// Gives a subscriber what comes next, until it has everything, its socket is full, or others should have a turn.
    fn pump(&mut self, id: ConnId) {
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
                    self.stalled.insert(slot);
                    return;
                }
                Wrote::Gone => return self.remove(slot),
            }
            if conn.place != Place::Behind {
                return;
            }
            if !self.step(id) {
                return;
            }
        }
        self.ready.push(id);
    }

    /// One step of a subscriber that is behind; `false` when it has to wait for something.
    fn step(&mut self, id: ConnId) -> bool {
        let slot = id.slot;
        let (feed, position) = (
            self.conns[slot].session.feed().index,
            self.conns[slot].session.position(),
        );
        if position > self.feeds[feed].view.head {
            // A page went up to the log's head, which this shard has not seen yet. In a cohort that stands lower the
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
        match conn.session.next(view) {
            Step::Say(control) => {
                conn.push_text(&control.json());
                true
            }
            Step::TakeRows => self.write_rows(id, None),
            Step::ReadPage => self.read_page(id),
            Step::AskBounds => {
                conn.place = Place::Reading;
                let mailbox = Arc::clone(&self.mailbox);
                let done = move |result| mailbox.send(Command::Bounds(id, result));
                self.context.catchup.bounds(&conn.session, done);
                false
            }
            Step::Wait => {
                self.join_cohort(slot);
                false
            }
            Step::Close(code) => {
                self.close(slot, code);
                false
            }
        }
    }

    fn read_page(&mut self, id: ConnId) -> bool {
        let conn = &mut self.conns[id.slot];
        if let Some(page) = self.context.catchup.kept(&conn.session) {
            conn.page = Some(page);
            return true;
        }
        conn.place = Place::Reading;
        let mailbox = Arc::clone(&self.mailbox);
        self.context.catchup.page(&conn.session, move |result| {
            mailbox.send(Command::Page(id, result))
        });
        false
    }

    /// Writes rows of `page`, or of the log where there is none.
    fn write_rows(&mut self, id: ConnId, page: Option<Arc<Block>>) -> bool {
        let slot = id.slot;
        let conn = &mut self.conns[slot];
        let (filter, position) = (conn.session.filter_id(), conn.session.position());
        let view = &self.feeds[conn.session.feed().index].view;
        let batch = match &page {
            Some(page) => {
                // The next page is read while this one is written.
                if page.last < conn.session.table_until(view) {
                    self.context.catchup.prefetch(&conn.session, page.last);
                }
                Batch::gather(std::iter::once(page), filter, position, BATCH)
            }
            None => Batch::gather(view.after(position), filter, position, BATCH),
        };
        let slices: Vec<IoSlice<'_>> = batch
            .runs
            .iter()
            .map(|run| IoSlice::new(run.bytes()))
            .collect();
        let wrote = if slices.is_empty() {
            Wrote::All
        } else {
            conn.write(&slices, batch.bytes)
        };
        let written = match wrote {
            Wrote::All => batch.bytes,
            Wrote::Part(written) => written,
            Wrote::Gone => {
                self.remove(slot);
                return false;
            }
        };
        let (reached, rest, rows) = batch.after_writing(written);
        if let Some(reached) = reached {
            conn.session.advance(reached);
        }
        conn.push_rest(rest);
        if rows > 0 {
            conn.last_text = Instant::now();
        }
        self.context.metrics.messages_sent.inc_by(rows as u64);
        if wrote != Wrote::All {
            self.stalled.insert(slot);
            return false;
        }
        conn.page = page.filter(|page| page.last > conn.session.position());
        true
    }

    fn page_came(&mut self, id: ConnId, result: PageResult) {
        if !self.is(id) || self.conns[id.slot].place != Place::Reading {
            return;
        }
        let conn = &mut self.conns[id.slot];
        conn.place = Place::Behind;
        match result {
            Ok((page, generation)) => {
                if conn.session.accepts(&page, generation) {
                    conn.page = Some(page);
                }
                self.pump(id);
            }
            Err(PageError::Unavailable(reason)) => self.try_later(id, &reason),
            Err(PageError::Pruned | PageError::FilterGone) => {
                self.close(id.slot, CloseCode::Restart)
            }
        }
    }

    fn bounds_came(&mut self, id: ConnId, result: Result<Bounds, Unavailable>) {
        if !self.is(id) || self.conns[id.slot].place != Place::Reading {
            return;
        }
        let conn = &mut self.conns[id.slot];
        conn.place = Place::Behind;
        match result {
            Ok(bounds) => {
                // The head in the bounds may be news to this shard.
                let feed = conn.session.feed().index;
                self.feed_moved(feed);
                let Some(conn) = self.conns.get_mut(id.slot) else {
                    return;
                };
                if let Some(control) = conn.session.opened(&bounds) {
                    conn.push_text(&control.json());
                    conn.send_held();
                }
                self.pump(id);
            }
            Err(reason) => self.try_later(id, &reason),
        }
    }

    fn try_later(&mut self, id: ConnId, reason: &Unavailable) {
        tracing::debug!("a catch-up read is tried again: {reason}");
        self.conns[id.slot].place = Place::Retry;
        self.retry.push(id);
    }

    // --- sockets ---

    fn socket_event(&mut self, slot: usize, readable: bool) {
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
    fn read(&mut self, slot: usize) -> bool {
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

    fn received(&mut self, slot: usize, bytes: &[u8]) {
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
    fn flush_answers(&mut self, slot: usize) {
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

    // --- closing ---

    /// Sends a close frame and waits a moment for the peer's.
    fn close(&mut self, slot: usize, code: CloseCode) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        if conn.place == Place::Closing {
            return;
        }
        if let Some(reason) = code.error_reason() {
            self.context.metrics.connection_error(reason);
        }
        tracing::debug!(
            code = code.code(),
            feed = conn.session.feed().config.name,
            "closing a connection"
        );
        let head = self.feeds[conn.session.feed().index].view.head;
        self.leave_cohort(slot, head);
        let conn = &mut self.conns[slot];
        conn.page = None;
        conn.push_close(code);
        conn.place = Place::Closing;
        conn.closing_since = Some(Instant::now());
        self.closing.insert(slot);
        if code == CloseCode::Normal {
            // The peer has closed already: ours is the answer, and the last word.
            conn.flush();
            return self.remove(slot);
        }
        match conn.flush() {
            Wrote::All => conn.stream.shutdown(),
            Wrote::Part(_) => drop(self.stalled.insert(slot)),
            Wrote::Gone => self.remove(slot),
        }
    }

    /// Ends the writing side once the close frame is out.
    fn drop_if_closed(&mut self, slot: usize) {
        if let Some(conn) = self.conns.get(slot)
            && conn.place == Place::Closing
            && !conn.has_pending()
        {
            conn.stream.shutdown();
        }
    }

    fn remove(&mut self, slot: usize) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let head = self.feeds[conn.session.feed().index].view.head;
        self.leave_cohort(slot, head);
        self.stalled.remove(&slot);
        self.closing.remove(&slot);
        // Closing the socket takes it off the poll; the guard undoes the count.
        self.conns.remove(slot);
        if self.conns.is_empty() {
            // Nobody is left to send these blocks to; who comes next takes those there are then.
            self.feeds
                .iter_mut()
                .for_each(|watched| watched.view.forget_blocks());
        }
        self.mailbox
            .load
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn drain(&mut self, total: usize) {
        self.draining = Some(total);
        let slots: Vec<usize> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.say_goodbye(slot, total);
        }
    }

    fn say_goodbye(&mut self, slot: usize, total: usize) {
        let conn = &mut self.conns[slot];
        if conn.place == Place::Closing {
            return;
        }
        if conn.session.is_resumable() {
            let reconnect_after_ms = reconnect_after(conn.serial, total);
            conn.push_text(&Control::Goodbye { reconnect_after_ms }.json());
        }
        self.close(slot, CloseCode::Restart);
    }

    // --- time ---

    fn tick(&mut self) {
        let now = Instant::now();
        self.next_tick = now + TICK;
        for id in std::mem::take(&mut self.retry) {
            if self.is(id) && self.conns[id.slot].place == Place::Retry {
                self.conns[id.slot].place = Place::Behind;
                self.pump(id);
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

    fn end_stalled(&mut self, now: Instant) {
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
            if self.conns[slot]
                .closing_since
                .is_some_and(|since| now - since >= CLOSE_PATIENCE)
            {
                self.remove(slot);
            }
        }
    }

    /// A connection's second has come: what is due?
    fn timer(&mut self, id: ConnId, now: Instant) {
        let beat = Duration::from_secs(HEARTBEAT_SECS);
        let patience = Duration::from_secs(PONG_TIMEOUT_SECS);
        let conn = &mut self.conns[id.slot];
        if conn.place == Place::Closing {
            return;
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
            let idle = matches!(conn.place, Place::CaughtUp { .. });
            if idle && now - conn.last_text >= beat {
                let head = self.feeds[conn.session.feed().index].view.head;
                conn.push_text(&Control::Heartbeat { head }.json());
            }
            next = next.min(conn.last_text + beat).max(now);
        }
        next = next.min(conn.last_heard + patience);
        self.wheel.set(id, next);
        self.flush_answers(id.slot);
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

/// When to come back after a drain: spread so that a thousand clients a second return, and nobody sooner than a
/// restart takes.
fn reconnect_after(serial: u64, total: usize) -> u64 {
    const SOONEST: u64 = 250;
    let spread = 750 + total as u64;
    // Fibonacci hashing: neighbours land far apart.
    let random = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    SOONEST + random % spread
}
