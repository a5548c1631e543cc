//! What other threads tell a shard, and how they wake it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mio::{Poll, Token, Waker};
use parking_lot::Mutex;
use tracing::Span;

use super::conn::Guard;
use super::socket::Socket;
use crate::catchup::{PageResult, TablePageResult};
use crate::session::Session;
use crate::session::table_bounds::TableBounds;
use crate::sqlite::error::Unavailable;
use crate::wire::deflate::Coding;

/// The token of a shard's waker in its epoll.
pub(super) const WAKE: Token = Token(usize::MAX);

/// A connection on its way to a shard.
pub struct Arrival {
    pub stream: Socket,
    /// What was read of it already.
    pub early: Vec<u8>,
    pub session: Session,
    /// How its rows are put into frames.
    pub coding: Coding,
    pub guard: Guard,
    /// Its life in the log.
    pub span: Span,
}

/// Identifies a connection of a shard; `serial` tells it from those that had the slot before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnId {
    pub slot: usize,
    pub serial: u64,
}

/// A message from another thread to a shard.
pub enum ShardMessage {
    Attach(Box<Arrival>),
    Page(ConnId, PageResult),
    TablePage(ConnId, TablePageResult),
    TableBounds(ConnId, Result<TableBounds, Unavailable>),
    /// Some grants have ended; whose connections those are has to be found out.
    GrantsEnded,
    Drain {
        total: usize,
    },
    Stop,
}

/// What other threads have for a shard, and the means to wake it.
pub struct Mailbox {
    commands: Mutex<Vec<ShardMessage>>,
    /// For each feed: its log moved since the shard looked.
    pub(super) moved: Vec<AtomicBool>,
    waker: Waker,
    /// The waker was used and the shard has not come round yet; it need not be woken twice.
    woken: AtomicBool,
    /// Of each feed, connections of this shard.
    pub(super) subscribers: Vec<AtomicUsize>,
}

impl Mailbox {
    pub(super) fn new(poll: &Poll, feeds: usize) -> io::Result<Mailbox> {
        Ok(Mailbox {
            commands: Mutex::default(),
            moved: (0..feeds).map(|_| AtomicBool::new(false)).collect(),
            waker: Waker::new(poll.registry(), WAKE)?,
            woken: AtomicBool::new(false),
            subscribers: (0..feeds).map(|_| AtomicUsize::new(0)).collect(),
        })
    }

    /// Leaves a command and wakes the shard, which takes it at its next turn.
    pub fn send(&self, command: ShardMessage) {
        self.commands.lock().push(command);
        self.wake();
    }

    pub(super) fn subscribers(&self, feed: usize) -> usize {
        self.subscribers[feed].load(Ordering::Acquire)
    }

    pub(super) fn connections(&self) -> usize {
        (0..self.subscribers.len())
            .map(|feed| self.subscribers(feed))
            .sum()
    }

    /// One of a feed's connections has gone. Returns whether it was the last.
    pub(super) fn lost(&self, feed: usize) -> bool {
        self.subscribers[feed].fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(e) = self.waker.wake()
        {
            tracing::error!("a shard can't be woken: {e}");
        }
    }

    /// Takes what was sent; called by the shard before it looks at anything.
    pub(super) fn take(&self) -> Vec<ShardMessage> {
        // A swap, not a store: what was set before the waker was used must be seen after it.
        self.woken.swap(false, Ordering::AcqRel);
        std::mem::take(&mut *self.commands.lock())
    }

    /// Returns whether there is something new for a feed's connections. Without any it can wait: whoever comes is given
    /// the log as it is then.
    pub(super) fn take_moved(&self, feed: usize) -> bool {
        // Asked far more often than it is true, and reading is cheaper than swapping.
        self.subscribers(feed) > 0
            && self.moved[feed].load(Ordering::Acquire)
            && self.moved[feed].swap(false, Ordering::AcqRel)
    }
}
