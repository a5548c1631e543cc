//! Fan-out: upgraded WebSocket connections, spread over a few threads (shards), each with its own epoll. A row reaches
//! a subscriber by one write of bytes that exist already; no task, channel or buffer stands between log and socket.

mod conn;
mod context;
pub(crate) mod frame_reader;
mod mailbox;
pub(crate) mod rate_limit;
mod shard;
mod socket;
mod timer_wheel;
mod tls_socket;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use mio::Poll;
use parking_lot::Mutex;

use crate::hub::OnPublish;
use crate::os::thread::or_abort;
pub use conn::Guard;
pub use context::Context;
pub use mailbox::{Arrival, ConnId, Mailbox, ShardMessage};
use shard::Shard;
pub use socket::Socket;
pub use tls_socket::TlsSocket;

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
