//! One thread's share of the connections. Subscribers that have everything stand in live groups, by feed and filter; a
//! block is gathered once for a live group and written to each member. Who can't keep up leaves the live group with a position
//! and comes back when it has caught up.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Poll, Registry, Token};
use parking_lot::Mutex;
use slab::Slab;

use crate::fanout::conn::Conn;
use crate::fanout::context::Context;
use crate::fanout::mailbox::{Arrival, ConnId, Mailbox, ShardMessage, WAKE};
use crate::fanout::timer_wheel::TimerWheel;
use crate::hub::{Feed, View};
use crate::model::filter::FilterId;
use crate::wire::control::HEARTBEAT_SECS;
use crate::wire::deflate::Coding;
use deflating::Deflating;

mod behind;
mod closing;
mod deflating;
mod live_group;
mod socket;
mod timer;

/// The finest time the shard keeps: write timeouts, retries, closing.
const TICK: Duration = Duration::from_millis(250);
/// How often pages kept for others are tidied up while nobody is connected.
const TIDYING: Duration = Duration::from_secs(2);
/// How long clients that come, go and talk are looked after before a look for live rows.
const LOOK: Duration = Duration::from_micros(500);

pub(super) struct Shard {
    registry: Registry,
    mailbox: Arc<Mailbox>,
    context: Arc<Context>,
    conns: Slab<Conn>,
    feeds: Vec<ShardFeed>,
    wheel: TimerWheel,
    next_tick: Instant,
    /// Connections with more to take, and room for it.
    ready: Vec<ConnId>,
    /// Connections whose socket may hold more to read.
    unread: Vec<ConnId>,
    /// Connections that sent more than they may: read again at the next tick.
    paused: Vec<ConnId>,
    /// Connections whose grant has ended.
    ending: Vec<ConnId>,
    /// When the feeds were last looked at.
    looked: Instant,
    /// Connections whose socket is full.
    stalled: HashSet<usize>,
    closing: HashSet<usize>,
    retry: Vec<ConnId>,
    /// When it was last said that reads fail.
    complained: Option<Instant>,
    serial: u64,
    draining: Option<usize>,
    /// One of the shards tidies up for all.
    tidies: bool,
    buffer: Box<[u8]>,
    deflating: Deflating,
}

/// A feed as this shard sees it.
struct ShardFeed {
    view: View,
    groups: HashMap<GroupKey, LiveGroup>,
    /// Those who begin above the view's head, and so stand in no live group yet.
    ahead: Vec<ConnId>,
    /// Of the live groups, those whose members take rows whole.
    whole: HashSet<GroupKey>,
    /// The youngest filter a live group was ever made for.
    youngest: FilterId,
}

impl ShardFeed {
    fn new(feed: &Arc<Feed>) -> ShardFeed {
        ShardFeed {
            view: feed.view(),
            groups: HashMap::new(),
            ahead: Vec::new(),
            whole: HashSet::new(),
            youngest: FilterId::NONE,
        }
    }
}

/// What the members of a live group have in common: they are given the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct GroupKey {
    filter: FilterId,
    coding: Coding,
}

/// Subscribers of one filter that have everything up to the view's head.
#[derive(Default)]
struct LiveGroup {
    members: Vec<usize>,
}

/// The thread of a shard: waits for its sockets and its mailbox. The shard is locked only while there is something to do.
pub(super) fn run(shard: &Mutex<Shard>, mut poll: Poll) {
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
    pub(super) fn new(
        registry: Registry,
        mailbox: Arc<Mailbox>,
        context: Arc<Context>,
        tidies: bool,
    ) -> Shard {
        let now = Instant::now();
        let feeds = context.hub.feeds.iter().map(ShardFeed::new).collect();
        Shard {
            registry,
            mailbox,
            context,
            conns: Slab::new(),
            feeds,
            wheel: TimerWheel::new(now),
            next_tick: now + TICK,
            ready: Vec::new(),
            unread: Vec::new(),
            paused: Vec::new(),
            ending: Vec::new(),
            looked: now,
            stalled: HashSet::new(),
            closing: HashSet::new(),
            retry: Vec::new(),
            complained: None,
            serial: 0,
            draining: None,
            tidies,
            buffer: vec![0; 16 * 1024].into_boxed_slice(),
            deflating: Deflating::default(),
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
                self.look_meanwhile();
            }
        }
        for event in events {
            if event.token() != WAKE {
                self.socket_event(event.token().0, event.is_readable() || event.is_error());
                self.look_meanwhile();
            }
        }
        for id in std::mem::take(&mut self.ready) {
            self.pump(id);
            // Live rows do not wait for everyone who catches up.
            self.take_moved();
        }
        if !self.ending.is_empty() {
            self.end_some();
        }
        if Instant::now() >= self.next_tick {
            self.tick();
        }
        true
    }

    /// Gives a feed's subscribers what is new, on whatever thread; `false` when the shard's own has to go on with it.
    pub(super) fn serve(&mut self, feed: usize) -> bool {
        if self.mailbox.take_moved(feed) {
            self.feed_moved(feed);
        }
        self.ready.is_empty()
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() || !self.unread.is_empty() || !self.ending.is_empty() {
            return Some(Duration::ZERO);
        }
        match (self.conns.is_empty(), self.tidies) {
            (true, false) => None,
            (true, true) => Some(TIDYING),
            _ => Some(self.next_tick.saturating_duration_since(Instant::now())),
        }
    }

    /// Takes commands and moved feeds; `false` to stop.
    fn take_mail(&mut self) -> bool {
        let commands = self.mailbox.take();
        self.take_moved();
        for command in commands {
            match command {
                ShardMessage::Attach(arrival) => self.attach(*arrival),
                ShardMessage::Page(id, result) => self.page_came(id, result),
                ShardMessage::TablePage(id, result) => self.table_page_came(id, result),
                ShardMessage::TableBounds(id, result) => self.bounds_came(id, result),
                ShardMessage::GrantsEnded => self.find_ended(),
                ShardMessage::Drain { total } => self.drain(total),
                ShardMessage::Stop => return false,
            }
            self.look_meanwhile();
        }
        true
    }

    /// Live rows do not wait for a crowd that comes or goes at once, nor for clients that talk much.
    fn look_meanwhile(&mut self) {
        if self.looked.elapsed() >= LOOK {
            self.take_moved();
        }
    }

    fn take_moved(&mut self) {
        self.looked = Instant::now();
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
            coding,
            guard,
            span,
        } = arrival;
        // The session began at a moment the view may not have reached.
        self.feed_moved(session.feed().index);
        self.deflating.entered(coding);
        let slot = self.conns.insert(Conn::new(
            stream,
            (session, coding),
            self.serial,
            (guard, span),
        ));
        let id = ConnId {
            slot,
            serial: self.serial,
        };
        let conn = &mut self.conns[slot];
        conn.span.in_scope(|| {
            tracing::debug!(
                resumable = conn.session.is_resumable(),
                filtered = !conn.session.filter().is_empty(),
                "connected"
            );
        });
        if let Err(e) = conn.stream.register(&self.registry, Token(slot)) {
            tracing::warn!("a connection can't be watched: {e}");
            return self.remove(slot);
        }
        let beat = Instant::now() + Duration::from_secs(HEARTBEAT_SECS);
        self.wheel.set(id, beat.min(self.expiry(slot)));
        // Its grant may have ended on the way here.
        if let Some(code) = self.conns[slot].session.grant_ended(SystemTime::now()) {
            return self.close(slot, code);
        }
        if !early.is_empty() {
            self.received(slot, &early);
        }
        if self.is(id) && self.conns[slot].stream.may_hold_bytes() && !self.read(slot) {
            return;
        }
        if let Some(total) = self.draining
            && self.is(id)
        {
            self.say_goodbye(slot, total);
        }
        self.pump(id);
    }

    /// Takes the feeds up to this one along that have come since the start. Those that nobody here subscribes to can wait.
    fn know(&mut self, feed: usize) {
        for index in self.feeds.len()..=feed {
            self.feeds
                .push(ShardFeed::new(&self.context.hub.feeds[index]));
        }
    }

    fn is(&self, id: ConnId) -> bool {
        self.conns
            .get(id.slot)
            .is_some_and(|conn| conn.serial == id.serial)
    }
}
