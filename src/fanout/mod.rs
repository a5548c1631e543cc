//! Fan-out: upgraded WebSocket connections, spread over a few threads (shards), each with its own epoll. A row reaches
//! a subscriber by one write of bytes that exist already; no task, channel or buffer stands between log and socket.

mod conn;
pub(crate) mod frame_reader;
mod rate_limit;
mod shard;
mod timer_wheel;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Poll, Waker};
use parking_lot::Mutex;
use tracing::Span;

use crate::catchup::{CatchUp, PageResult};
use crate::hub::{Hub, OnPublish};
use crate::os::thread::or_abort;
use crate::session::Session;
use crate::session::table_bounds::TableBounds;
use crate::sqlite::error::Unavailable;
use crate::telemetry::metrics::Metrics;
pub use conn::{Guard, Socket};
use shard::Shard;

/// Handles that all shards share.
pub struct Context {
    pub hub: Arc<Hub>,
    pub catchup: CatchUp,
    pub metrics: Arc<Metrics>,
    /// Read anew at each use: a reload may change it.
    pub write_timeout: Arc<Mutex<Duration>>,
}

/// All shards; connections are handed over here.
pub struct Fanout {
    handles: Vec<ShardHandle>,
    context: Arc<Context>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A shard as other threads see it: its mailbox, and the shard itself behind a lock.
#[derive(Clone)]
struct ShardHandle {
    mailbox: Arc<Mailbox>,
    shard: Arc<Mutex<Shard>>,
}

/// Up to so many subscribers of one shard are served by the thread that read the row: it is awake, and waking another
/// takes as long as several writes. More would keep it from the next row for too long (a write takes about 10 µs).
const SERVED_AT_ONCE: usize = 256;
/// Up to so many in all, waking any other thread takes longer than serving them.
const HANDFUL: usize = 4;

impl Fanout {
    /// Starts `shards` threads, each with an epoll of its own. Fails where the system has no descriptor or thread left.
    pub fn start(context: Context, shards: usize) -> io::Result<Fanout> {
        let context = Arc::new(context);
        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for number in 0..shards {
            let poll = Poll::new()?;
            let mailbox = Arc::new(Mailbox::new(&poll, context.hub.feeds.most())?);
            let registry = poll.registry().try_clone()?;
            let tidies = number == 0;
            let shard = Shard::new(registry, Arc::clone(&mailbox), Arc::clone(&context), tidies);
            let shard = Arc::new(Mutex::new(shard));
            handles.push(ShardHandle {
                mailbox,
                shard: Arc::clone(&shard),
            });
            let name = format!("walcast-fan-{number}");
            threads.push(
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || or_abort(|| shard::run(&shard, poll)))?,
            );
        }
        Ok(Fanout {
            handles,
            context,
            threads: Mutex::new(threads),
        })
    }

    /// Serves or wakes the shards when a feed's log moved.
    pub fn listener(&self) -> OnPublish {
        let (handles, context) = (self.handles.clone(), Arc::clone(&self.context));
        Box::new(move |feed| {
            let loads = handles
                .iter()
                .map(|handle| handle.mailbox.subscribers(feed));
            let mut busy: Vec<(&ShardHandle, usize)> = handles.iter().zip(loads).collect();
            for (handle, _) in &busy {
                handle.mailbox.moved[feed].store(true, Ordering::Release);
            }
            // Nobody there to be told; who comes later takes the log as it is then.
            busy.retain(|(_, load)| *load > 0);
            if let Some(block) = context.hub.feeds[feed].newest()
                && block.handover.expect(busy.len())
            {
                context.metrics.handed_on(&block);
            }
            let total: usize = busy.iter().map(|(_, load)| load).sum();
            // The others begin while this thread serves the last one.
            let own = if total <= HANDFUL {
                0
            } else {
                busy.len().saturating_sub(1)
            };
            let (woken, served) = busy.split_at(own);
            woken.iter().for_each(|(handle, _)| handle.mailbox.wake());
            served
                .iter()
                .for_each(|(handle, load)| handle.serve(feed, *load));
        })
    }

    /// Hands a connection over to the shard with the fewest subscribers of its feed.
    pub fn attach(&self, arrival: Arrival) {
        let feed = arrival.session.feed().index;
        // Each feed's subscribers are spread evenly, for a row is work for them alone.
        let emptiest = self.handles.iter().min_by_key(|handle| {
            let mailbox = &handle.mailbox;
            (mailbox.subscribers(feed), mailbox.connections())
        });
        if let Some(handle) = emptiest {
            handle.mailbox.subscribers[feed].fetch_add(1, Ordering::AcqRel);
            handle.mailbox.send(ShardMessage::Attach(Box::new(arrival)));
        }
    }

    /// Ends the connections whose grants have ended.
    pub fn grants_ended(&self) {
        for handle in &self.handles {
            handle.mailbox.send(ShardMessage::GrantsEnded);
        }
    }

    /// Says goodbye to everyone; `total` clients of all kinds come back then.
    pub fn drain(&self, total: usize) {
        for handle in &self.handles {
            handle.mailbox.send(ShardMessage::Drain { total });
        }
    }

    /// Returns the number of connections of all shards.
    pub fn connections(&self) -> usize {
        self.handles
            .iter()
            .map(|handle| handle.mailbox.connections())
            .sum()
    }

    /// Drops what is left and ends the threads. Blocks until they have ended.
    pub fn stop(&self) {
        for handle in &self.handles {
            handle.mailbox.send(ShardMessage::Stop);
        }
        for thread in self.threads.lock().drain(..) {
            // A shard that panicked has logged it; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl ShardHandle {
    /// Serves the shard's subscribers from this thread where there are few and its own is not at work; else wakes it.
    fn serve(&self, feed: usize, load: usize) {
        if load <= SERVED_AT_ONCE
            && let Some(mut shard) = self.shard.try_lock()
            && shard.serve(feed)
        {
            return;
        }
        self.mailbox.wake();
    }
}

/// A connection on its way to a shard.
pub struct Arrival {
    pub stream: Socket,
    /// What was read of it already.
    pub early: Vec<u8>,
    pub session: Session,
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
    moved: Vec<AtomicBool>,
    waker: Waker,
    /// The waker was used and the shard has not come round yet; it need not be woken twice.
    woken: AtomicBool,
    /// Of each feed, connections of this shard.
    subscribers: Vec<AtomicUsize>,
}

impl Mailbox {
    fn new(poll: &Poll, feeds: usize) -> io::Result<Mailbox> {
        Ok(Mailbox {
            commands: Mutex::default(),
            moved: (0..feeds).map(|_| AtomicBool::new(false)).collect(),
            waker: Waker::new(poll.registry(), shard::WAKE)?,
            woken: AtomicBool::new(false),
            subscribers: (0..feeds).map(|_| AtomicUsize::new(0)).collect(),
        })
    }

    pub fn send(&self, command: ShardMessage) {
        self.commands.lock().push(command);
        self.wake();
    }

    fn subscribers(&self, feed: usize) -> usize {
        self.subscribers[feed].load(Ordering::Acquire)
    }

    fn connections(&self) -> usize {
        (0..self.subscribers.len())
            .map(|feed| self.subscribers(feed))
            .sum()
    }

    /// One of a feed's connections has gone. Returns whether it was the last.
    fn lost(&self, feed: usize) -> bool {
        self.subscribers[feed].fetch_sub(1, Ordering::AcqRel) == 1
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(e) = self.waker.wake()
        {
            tracing::error!("a shard can't be woken: {e}");
        }
    }

    /// Takes what was sent; called by the shard before it looks at anything.
    fn take(&self) -> Vec<ShardMessage> {
        // A swap, not a store: what was set before the waker was used must be seen after it.
        self.woken.swap(false, Ordering::AcqRel);
        std::mem::take(&mut *self.commands.lock())
    }

    /// Returns whether there is something new for a feed's connections. Without any it can wait: whoever comes is given
    /// the log as it is then.
    fn take_moved(&self, feed: usize) -> bool {
        // Asked far more often than it is true, and reading is cheaper than swapping.
        self.subscribers(feed) > 0
            && self.moved[feed].load(Ordering::Acquire)
            && self.moved[feed].swap(false, Ordering::AcqRel)
    }
}
