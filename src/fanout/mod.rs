//! Fan-out: upgraded WebSocket connections, spread over a few threads (shards), each with its own epoll. A row reaches
//! a subscriber by one write of bytes that exist already; no task, channel or buffer stands between log and socket.

mod conn;
mod inbound;
mod shard;
mod wheel;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Poll, Waker};
use parking_lot::Mutex;

use crate::catchup::{Bounds, CatchUp, PageResult};
use crate::hub::{Hub, Listener};
use crate::metrics::Metrics;
use crate::session::Session;
use crate::sqlite::open::Unavailable;
pub use conn::{Guard, Stream};
use shard::Shard;

/// What the shards share.
pub struct Context {
    pub hub: Arc<Hub>,
    pub catchup: CatchUp,
    pub metrics: Arc<Metrics>,
    /// Read anew at each use: a reload may change it.
    pub write_timeout: Arc<Mutex<Duration>>,
}

/// All shards; connections are handed over here.
pub struct Fanout {
    shards: Vec<Arc<Mailbox>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Fanout {
    /// Starts `shards` threads.
    pub fn start(context: Context, shards: usize) -> io::Result<Fanout> {
        let context = Arc::new(context);
        let (mut mailboxes, mut threads) = (Vec::new(), Vec::new());
        for number in 0..shards {
            let poll = Poll::new()?;
            let mailbox = Arc::new(Mailbox::new(&poll, context.hub.feeds.len())?);
            let shard = Shard::new(
                poll,
                Arc::clone(&mailbox),
                Arc::clone(&context),
                number == 0,
            );
            let name = format!("walcast-fan-{number}");
            threads.push(
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || shard.run())?,
            );
            mailboxes.push(mailbox);
        }
        Ok(Fanout {
            shards: mailboxes,
            threads: Mutex::new(threads),
        })
    }

    /// Wakes the shards when a feed's log moved.
    pub fn listener(&self) -> Listener {
        let shards = self.shards.clone();
        Box::new(move |feed| {
            for shard in &shards {
                shard.moved(feed);
            }
        })
    }

    /// Hands a connection over. `early` is what was read of it already.
    pub fn attach(&self, stream: Stream, early: Vec<u8>, session: Session, guard: Guard) {
        let emptiest = self
            .shards
            .iter()
            .min_by_key(|shard| shard.load.load(Ordering::Relaxed));
        if let Some(shard) = emptiest {
            shard.load.fetch_add(1, Ordering::Relaxed);
            shard.send(Command::Attach(Box::new(Arrival {
                stream,
                early,
                session,
                guard,
            })));
        }
    }

    /// Says goodbye to everyone.
    pub fn drain(&self) {
        let total = self.connections();
        for shard in &self.shards {
            shard.send(Command::Drain { total });
        }
    }

    /// Connections that are still there.
    pub fn connections(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.load.load(Ordering::Relaxed))
            .sum()
    }

    /// Drops what is left and ends the threads. Blocks until they have ended.
    pub fn stop(&self) {
        for shard in &self.shards {
            shard.send(Command::Stop);
        }
        for thread in self.threads.lock().drain(..) {
            // A shard that panicked has logged it; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// A connection on its way to a shard.
pub struct Arrival {
    pub stream: Stream,
    pub early: Vec<u8>,
    pub session: Session,
    pub guard: Guard,
}

/// Which connection an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnId {
    pub slot: usize,
    pub serial: u64,
}

/// What other threads tell a shard.
pub enum Command {
    Attach(Box<Arrival>),
    Page(ConnId, PageResult),
    Bounds(ConnId, Result<Bounds, Unavailable>),
    Drain { total: usize },
    Stop,
}

/// How other threads reach a shard.
pub struct Mailbox {
    commands: Mutex<Vec<Command>>,
    /// For each feed: its log moved since the shard looked.
    moved: Vec<AtomicBool>,
    waker: Waker,
    /// The waker was used and the shard has not come round yet; it need not be woken twice.
    woken: AtomicBool,
    load: AtomicUsize,
}

impl Mailbox {
    fn new(poll: &Poll, feeds: usize) -> io::Result<Mailbox> {
        Ok(Mailbox {
            commands: Mutex::default(),
            moved: (0..feeds).map(|_| AtomicBool::new(false)).collect(),
            waker: Waker::new(poll.registry(), shard::WAKE)?,
            woken: AtomicBool::new(false),
            load: AtomicUsize::new(0),
        })
    }

    pub fn send(&self, command: Command) {
        self.commands.lock().push(command);
        self.wake();
    }

    fn moved(&self, feed: usize) {
        self.moved[feed].store(true, Ordering::Release);
        // Nobody there to be told; who comes later takes the log as it is then.
        if self.load.load(Ordering::Acquire) > 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(e) = self.waker.wake()
        {
            tracing::error!("a shard can't be woken: {e}");
        }
    }

    /// Takes what was sent; called by the shard before it looks at anything.
    fn take(&self) -> Vec<Command> {
        self.woken.store(false, Ordering::Release);
        std::mem::take(&mut *self.commands.lock())
    }

    fn take_moved(&self, feed: usize) -> bool {
        self.moved[feed].swap(false, Ordering::AcqRel)
    }
}
