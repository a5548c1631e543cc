//! What has come and is not in the spool yet: in the order it came, bounded in bytes. A feeder that brings more waits, and
//! the origin with it, which then holds nothing for it.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::sqlite::spool::{SpoolItem, SpoolPosition};

/// Bytes of messages that wait for the spool: what a few transactions take in. A single one may be larger.
const MOST_BYTES: usize = 8 << 20;

/// What came of a feed.
pub(super) struct Arrival {
    pub feed: Arc<str>,
    pub what: Arrived,
}

pub(super) enum Arrived {
    Item(SpoolItem),
    /// A feeder begins: where is it to go on? What it brings from here on is taken.
    Question(SyncSender<Option<SpoolPosition>>),
}

/// The queue before the spool.
#[derive(Default)]
pub(super) struct Intake {
    queue: Mutex<Queue>,
    came: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct Queue {
    arrivals: Vec<Arrival>,
    bytes: usize,
    closed: bool,
}

/// The edge ends.
#[derive(Debug)]
pub(super) struct Closed;

impl Intake {
    /// Hands over what came in a message of so many bytes, once there is room.
    pub(super) fn push(
        &self,
        feed: &Arc<str>,
        item: SpoolItem,
        bytes: usize,
    ) -> Result<(), Closed> {
        let mut queue = self.queue.lock();
        while queue.bytes >= MOST_BYTES && !queue.closed {
            self.room.wait(&mut queue);
        }
        self.add(&mut queue, feed, Arrived::Item(item), bytes)
    }

    /// Asks up to where the spool has a feed, when all that was handed over is in it.
    pub(super) fn position(&self, feed: &Arc<str>) -> Result<Option<SpoolPosition>, Closed> {
        let (answer, answered) = sync_channel(1);
        self.add(&mut self.queue.lock(), feed, Arrived::Question(answer), 0)?;
        answered.recv().map_err(|_| Closed)
    }

    fn add(
        &self,
        queue: &mut Queue,
        feed: &Arc<str>,
        what: Arrived,
        bytes: usize,
    ) -> Result<(), Closed> {
        if queue.closed {
            return Err(Closed);
        }
        queue.bytes += bytes;
        queue.arrivals.push(Arrival {
            feed: Arc::clone(feed),
            what,
        });
        self.came.notify_one();
        Ok(())
    }

    /// Takes all there is; nothing where nothing came in time. `None`: nothing will come any more.
    pub(super) fn take(&self, time: Duration) -> Option<Vec<Arrival>> {
        let until = Instant::now() + time;
        let mut queue = self.queue.lock();
        while queue.arrivals.is_empty() && !queue.closed {
            if self.came.wait_until(&mut queue, until).timed_out() {
                break;
            }
        }
        if queue.arrivals.is_empty() && queue.closed {
            return None;
        }
        queue.bytes = 0;
        self.room.notify_all();
        Some(std::mem::take(&mut queue.arrivals))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Takes nothing more in.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.came.notify_all();
        self.room.notify_all();
    }
}
