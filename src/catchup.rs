//! Pages of rows for subscribers that are behind, read from the table. Subscribers that need the same rows at the same
//! time share one read, and what was read is kept for a moment for those close behind.

mod bounds;
mod cache;
mod queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use crate::change::{Block, Cursor};
use crate::filter::FilterId;
use crate::metrics::Metrics;
use crate::session::Session;
use crate::sqlite::open::Unavailable;
use crate::sqlite::pool::{PooledReader, ReadPool};
use crate::sqlite::reader::PageLimits;
pub use bounds::Bounds;
use cache::PageCache;
use queue::{Queue, QueuedRead};

/// Enough rows to pay for a read and a write, few enough that a read transaction lasts a millisecond or so and that a
/// page is gone from memory soon.
pub const PAGE: PageLimits = PageLimits {
    rows: 1024,
    bytes: 256 * 1024,
};

/// Why there is no page.
#[derive(Debug, Clone)]
pub enum PageError {
    /// Rows above the position were deleted before they could be sent: the subscriber must be told.
    Pruned,
    /// A column of the filter is gone.
    FilterGone,
    /// Try again later.
    Unavailable(Unavailable),
}

pub type PageResult = Result<(Arc<Block>, u64), PageError>;

/// Whose rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stream {
    feed: usize,
    generation: u64,
    filter: FilterId,
}

impl Stream {
    fn of(session: &Session) -> Stream {
        Stream {
            feed: session.feed().index,
            generation: session.generation(),
            filter: session.filter_id(),
        }
    }
}

/// Names the page of a stream above a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PageKey {
    stream: Stream,
    after: Cursor,
}

type Waiter = Box<dyn FnOnce(PageResult) + Send>;

/// Reads pages; a cheap handle.
#[derive(Clone)]
pub struct CatchUp {
    pub pool: ReadPool,
    metrics: Arc<Metrics>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Reads queued or under way that others may join.
    reads: HashMap<PageKey, SharedRead>,
    queue: Queue,
    cache: PageCache,
}

/// A read that others may join.
#[derive(Default)]
struct SharedRead {
    /// `None`: still queued.
    began: Option<Instant>,
    waiters: Vec<Waiter>,
}

impl CatchUp {
    pub fn new(pool: ReadPool, metrics: Arc<Metrics>) -> CatchUp {
        CatchUp {
            pool,
            metrics,
            state: Arc::default(),
        }
    }

    /// A page kept from another read that this subscriber can take.
    pub fn kept(&self, session: &Session) -> Option<Arc<Block>> {
        let stream = Stream::of(session);
        let takes = |page: &Block| session.accepts(page, stream.generation);
        self.state.lock().cache.find(stream, takes)
    }

    /// Reads the page that follows the subscriber's position; `done` gets it, on another thread.
    pub fn page(&self, session: &Session, done: impl FnOnce(PageResult) + Send + 'static) {
        let key = PageKey {
            stream: Stream::of(session),
            after: session.position(),
        };
        let done: Waiter = Box::new(done);
        let mut state = self.state.lock();
        let alone = match state.reads.get_mut(&key) {
            Some(read) if read.began.is_none_or(|began| began >= session.started()) => {
                return read.waiters.push(done);
            }
            // One that began before this subscriber did may have missed a deletion before it.
            Some(_) => Some(done),
            None => {
                let read = SharedRead {
                    began: None,
                    waiters: vec![done],
                };
                state.reads.insert(key, read);
                None
            }
        };
        self.enqueue(state, key, session, alone);
    }

    /// Begins to read the page after `after`, for when this subscriber gets there.
    pub fn prefetch(&self, session: &Session, after: Cursor) {
        let stream = Stream::of(session);
        let key = PageKey { stream, after };
        let mut state = self.state.lock();
        if state.cache.contains(key) || state.reads.contains_key(&key) {
            return;
        }
        state.reads.insert(key, SharedRead::default());
        self.enqueue(state, key, session, None);
    }

    /// Queues a read, for those who wait for it in [`State::reads`] or for `alone`; lets go of the lock and has a thread
    /// come for it.
    fn enqueue(
        &self,
        mut state: MutexGuard<'_, State>,
        key: PageKey,
        session: &Session,
        alone: Option<Waiter>,
    ) {
        state.queue.push(QueuedRead {
            key,
            feed: Arc::clone(session.feed()),
            filter: Arc::clone(session.filter()),
            since: Instant::now(),
            alone,
        });
        drop(state);
        self.call_a_thread();
    }

    /// Has a thread of the pool take the read whose turn it is by then, if any.
    fn call_a_thread(&self) {
        let this = self.clone();
        self.pool.submit(move |reader| this.read_next(reader));
    }

    fn read_next(&self, reader: &mut PooledReader) {
        let Some(queued) = self.take_read() else {
            return;
        };
        let result = self.read(reader, &queued);
        self.end(queued, &result);
    }

    /// Takes the read whose turn it is. From now on only subscribers that are there already may join it.
    fn take_read(&self) -> Option<QueuedRead> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let queued = state.queue.pop(now)?;
        if queued.alone.is_none()
            && let Some(read) = state.reads.get_mut(&queued.key)
        {
            read.began = Some(now);
        }
        Some(queued)
    }

    fn read(
        &self,
        reader: &mut PooledReader,
        queued: &QueuedRead,
    ) -> Result<Arc<Block>, PageError> {
        let page = read_page(reader, queued)?;
        let name = &queued.feed.config.name;
        self.metrics.catchup_reads.with_label_values(&[name]).inc();
        self.metrics
            .rows_read
            .with_label_values(&[name])
            .inc_by(page.entries.len() as u64);
        Ok(page)
    }

    /// Keeps the page that was read, and hands it to those who wait for it.
    fn end(&self, queued: QueuedRead, result: &Result<Arc<Block>, PageError>) {
        let PageKey { stream, .. } = queued.key;
        let mut state = self.state.lock();
        if let Ok(page) = result {
            state.cache.insert(stream, page);
        }
        let waiters = match queued.alone {
            Some(waiter) => vec![waiter],
            None => state.reads.remove(&queued.key).unwrap_or_default().waiters,
        };
        let calls = state.queue.ended(stream);
        drop(state);
        if calls {
            self.call_a_thread();
        }
        for waiter in waiters {
            waiter(result.clone().map(|page| (page, stream.generation)));
        }
    }

    /// Finds where the table begins; `done` gets it, on another thread.
    pub fn bounds(
        &self,
        session: &Session,
        done: impl FnOnce(Result<Bounds, Unavailable>) + Send + 'static,
    ) {
        let (feed, filter, last) = (
            Arc::clone(session.feed()),
            Arc::clone(session.filter()),
            session.last(),
        );
        self.pool.submit(move |reader| {
            let standing = feed.standing();
            let mut bounds = Bounds::of(&feed, standing);
            let read = reader.with_feed(&feed, |open| match open {
                Some((connection, rows)) => {
                    let read = bounds.read(connection, rows, last, &filter);
                    read.map(|()| true)
                }
                None => Ok(false),
            });
            done(read.and_then(|is_there| match is_there {
                true => Ok(bounds),
                false => Err(table_is_away()),
            }));
        });
    }

    /// Forgets pages that no one close behind took in time.
    pub fn forget_old(&self) {
        self.state.lock().cache.evict_old();
    }
}

fn read_page(reader: &mut PooledReader, queued: &QueuedRead) -> Result<Arc<Block>, PageError> {
    let QueuedRead {
        key, feed, filter, ..
    } = queued;
    let after = key.after;
    // Never beyond the head: what lies above it is the feed loop's to announce.
    let standing = feed.standing();
    if standing.generation != key.stream.generation {
        return Err(busy("the history is being replaced").into());
    }
    let read = reader.with_feed(feed, |open| {
        let Some((connection, rows)) = open else {
            return Ok(Err(table_is_away().into()));
        };
        let Some(block) = rows.between(connection, after, standing.head, PAGE, filter)? else {
            return Ok(Err(PageError::FilterGone));
        };
        let gap = block
            .entries
            .first()
            .is_none_or(|first| first.id > after.0.saturating_add(1));
        if gap && after != Cursor::MIN && pruned(rows.schema.table.min_key(connection)?, after) {
            return Ok(Err(PageError::Pruned));
        }
        Ok(Ok(Arc::new(block)))
    });
    read.unwrap_or_else(|reason| Err(reason.into()))
}

impl From<Unavailable> for PageError {
    fn from(reason: Unavailable) -> PageError {
        PageError::Unavailable(reason)
    }
}

fn table_is_away() -> Unavailable {
    busy("the table is not there at the moment")
}

fn busy(why: &str) -> Unavailable {
    Unavailable::Busy(why.into())
}

/// Whether rows just above `after` are gone: the table begins higher up.
fn pruned(earliest: Option<i64>, after: Cursor) -> bool {
    earliest.is_some_and(|earliest| Cursor::before(earliest) > after)
}
