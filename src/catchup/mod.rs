//! Pages of rows for subscribers that are behind, read from the table. Subscribers that need the same rows at the same
//! time share one read, and what was read is kept for a moment for those close behind. What nobody waits for any more is
//! not read.

mod bounds;
mod cache;
mod older;
mod page_request;
mod queue;
pub mod reader_pool;
mod turns;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use crate::catchup::reader_pool::{Next, PooledReader, ReadPool, Work};
use crate::hub::Feed;
use crate::model::filter::Filter;
use crate::model::position::Cursor;
use crate::model::read_owner::Client;
use crate::session::Session;
use crate::sqlite::error::Unavailable;
use crate::sqlite::reader::{PageLimits, TablePage, TablePosition};
use crate::telemetry::metrics::Metrics;
use crate::wire::block::Block;
use cache::PageCache;
use older::OlderThreads;
pub use page_request::{PageError, PageResult, TablePageResult};
use page_request::{PageKey, PageWaiter, ReplayKey};
use queue::{QueuedRead, ReadQueue};

/// Enough rows to pay for a read and a write, few enough that a read transaction lasts a millisecond or so and that a
/// page is gone from memory soon.
pub const PAGE: PageLimits = PageLimits {
    rows: 1024,
    bytes: 256 * 1024,
};

/// A filter is looked for in so few ids as quickly as a page is read without one.
const NEAR: i64 = 4096;
/// Streams that are remembered to need no search.
const MOST_QUICK: usize = 10_000;

/// Reads pages for subscribers that are behind. Cloning it clones a handle.
#[derive(Clone)]
pub struct CatchUp {
    pub pool: ReadPool,
    metrics: Arc<Metrics>,
    state: Arc<Mutex<Reads>>,
    /// On an edge, who reads what it has no more.
    older: OlderThreads,
}

#[derive(Default)]
struct Reads {
    /// Reads queued or under way that others may join.
    reads: HashMap<PageKey, SharedRead>,
    queue: ReadQueue,
    cache: PageCache,
    /// Streams with a filter whose last page was full, or held all there was: rows of them are found without a search.
    quick: HashSet<ReplayKey>,
}

impl Reads {
    /// How much reading this page is expected to take.
    fn work(&self, key: PageKey, head: Cursor) -> Work {
        let near = head.0.saturating_sub(key.after.0) <= NEAR;
        match key.stream.filter.takes_all() || near || self.quick.contains(&key.stream) {
            true => Work::Quick,
            false => Work::Search,
        }
    }

    /// Returns whether somebody still waits for what is queued.
    fn is_wanted(&self, queued: &QueuedRead) -> bool {
        let waiters = match (&queued.alone, self.reads.get(&queued.key)) {
            (Some(alone), _) => std::slice::from_ref(alone),
            (None, Some(shared)) => &shared.waiters,
            (None, None) => &[],
        };
        !queued.claim.is_void() || waiters.iter().any(|waiter| !waiter.claim.is_void())
    }

    /// Begins a read: from now on only subscribers that are there already may join it. `false` where nobody waits for it
    /// any more.
    fn begin(&mut self, queued: &QueuedRead) -> bool {
        let wanted = self.is_wanted(queued);
        if queued.alone.is_some() {
            return wanted;
        }
        if !wanted {
            self.reads.remove(&queued.key);
        } else if let Some(read) = self.reads.get_mut(&queued.key) {
            read.began = Some(Instant::now());
        }
        wanted
    }

    /// Notes whether the rows of a stream need to be searched for.
    fn learn(&mut self, stream: ReplayKey, page: &Block, head: Cursor) {
        if stream.filter.takes_all() {
            return;
        }
        if page.last >= head || page.entries.len() >= PAGE.rows / 4 {
            if self.quick.len() >= MOST_QUICK {
                self.quick.clear();
            }
            self.quick.insert(stream);
        } else {
            self.quick.remove(&stream);
        }
    }
}

/// A read that others may join.
#[derive(Default)]
struct SharedRead {
    /// `None`: still queued.
    began: Option<Instant>,
    waiters: Vec<PageWaiter>,
}

impl CatchUp {
    /// Reads for those who are behind on the threads of `pool`.
    pub fn new(pool: ReadPool, metrics: Arc<Metrics>) -> CatchUp {
        CatchUp {
            pool,
            older: OlderThreads::new(metrics.edge_older_reads_waiting.clone()),
            metrics,
            state: Arc::default(),
        }
    }

    /// A page kept from another read that this subscriber can take.
    pub fn kept(&self, session: &Session) -> Option<Arc<Block>> {
        let stream = ReplayKey::of(session);
        let takes = |page: &Block| session.accepts(page, stream.generation);
        self.state.lock().cache.find(stream, takes)
    }

    /// Reads the page that follows the subscriber's position; `done` gets it, on another thread.
    pub fn page(&self, session: &Session, done: impl FnOnce(PageResult) + Send + 'static) {
        let key = PageKey {
            stream: ReplayKey::of(session),
            after: session.position(),
        };
        let done = PageWaiter {
            claim: session.read_owner().claim(),
            done: Box::new(done),
        };
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
        let work = state.work(key, session.feed().head());
        self.enqueue(state, key, work, session, alone);
    }

    /// Begins to read the page after `after`, for when this subscriber gets there.
    pub fn prefetch(&self, session: &Session, after: Cursor) {
        let stream = ReplayKey::of(session);
        let key = PageKey { stream, after };
        let mut state = self.state.lock();
        let work = state.work(key, session.feed().head());
        // Whoever makes others wait for a search takes one turn at a time.
        if work == Work::Search || state.cache.contains(key) || state.reads.contains_key(&key) {
            return;
        }
        state.reads.insert(key, SharedRead::default());
        self.enqueue(state, key, work, session, None);
    }

    /// Queues a read, for those who wait for it in [`Reads::reads`] or for `alone`; lets go of the lock and has a thread
    /// come for it.
    fn enqueue(
        &self,
        mut state: MutexGuard<'_, Reads>,
        key: PageKey,
        work: Work,
        session: &Session,
        alone: Option<PageWaiter>,
    ) {
        let claim = session.read_owner().claim();
        let client = claim.client;
        let read = QueuedRead {
            key,
            feed: Arc::clone(session.feed()),
            filter: Arc::clone(session.filter()),
            since: Instant::now(),
            claim,
            alone,
        };
        let mut searched = None;
        match work {
            Work::Quick => state.queue.push(read),
            Work::Search => searched = Some(read),
        }
        drop(state);
        let this = self.clone();
        // Others may wait for it who are not gone when this client is.
        self.pool.submit(client.claim(), work, move |reader| {
            match work {
                Work::Quick => this.read_next(reader),
                Work::Search => {
                    if let Some(read) = searched.take() {
                        this.search(reader, read);
                    }
                }
            }
            Next::Done
        });
    }

    /// Has a thread of the pool take the read whose turn it is by then, if any.
    fn call_a_thread(&self, client: Client) {
        let this = self.clone();
        self.pool
            .submit(client.claim(), Work::Quick, move |reader| {
                this.read_next(reader);
                Next::Done
            });
    }

    /// Reads what is looked for in no other order than that of the clients.
    fn search(&self, reader: &mut PooledReader, queued: QueuedRead) {
        let wanted = self.state.lock().begin(&queued);
        let result = wanted.then(|| self.read(reader, &queued));
        self.end_or_ask(queued, Work::Search, result);
    }

    fn read_next(&self, reader: &mut PooledReader) {
        let mut state = self.state.lock();
        let Some(queued) = state.queue.pop(Instant::now()) else {
            return;
        };
        let wanted = state.begin(&queued);
        drop(state);
        let result = wanted.then(|| self.read(reader, &queued));
        self.end_or_ask(queued, Work::Quick, result);
    }

    fn read(
        &self,
        reader: &mut PooledReader,
        queued: &QueuedRead,
    ) -> Result<Arc<Block>, PageError> {
        let page = read_page(reader, queued)?;
        self.count(&queued.feed, page.entries.len());
        Ok(page)
    }

    fn count(&self, feed: &Feed, rows: usize) {
        let name = &feed.config.name;
        self.metrics.catchup_reads.with_label_values(&[name]).inc();
        let read = self.metrics.rows_read.with_label_values(&[name]);
        read.inc_by(rows as u64);
    }

    /// Keeps the page that was read, and hands it to those who wait for it. `None`: nobody did.
    fn end(&self, queued: QueuedRead, work: Work, result: Option<Result<Arc<Block>, PageError>>) {
        let PageKey { stream, .. } = queued.key;
        let mut state = self.state.lock();
        if let Some(Ok(page)) = &result {
            state.cache.insert(stream, page);
            state.learn(stream, page, queued.feed.head());
        }
        let waiters = match queued.alone {
            Some(waiter) => vec![waiter],
            None => state.reads.remove(&queued.key).unwrap_or_default().waiters,
        };
        let calls = work == Work::Quick && state.queue.ended(stream);
        drop(state);
        if calls {
            self.call_a_thread(queued.claim.client);
        }
        if let Some(result) = result {
            for waiter in waiters {
                (waiter.done)(result.clone().map(|page| (page, stream.generation)));
            }
        }
    }

    /// Reads the page of the captured table as it is that follows where the subscriber stands in it; `done` gets it, on
    /// another thread.
    pub fn table_page(
        &self,
        session: &Session,
        done: impl FnOnce(TablePageResult) + Send + 'static,
    ) {
        let (feed, filter) = (Arc::clone(session.feed()), Arc::clone(session.filter()));
        let (from, generation) = (session.table_position().cloned(), session.generation());
        let is_whole = session.is_whole();
        let work = match filter.is_empty() {
            true => Work::Quick,
            false => Work::Search,
        };
        let (this, mut done) = (self.clone(), Some(done));
        let claim = session.read_owner().claim();
        self.pool.submit(claim, work, move |reader| {
            let from = from.as_ref().ok_or_else(|| busy("it was read to its end"));
            let read = from.map_err(PageError::from).and_then(|from| {
                let filter = (&*filter, is_whole);
                let page = read_table(reader, &feed, (from, generation), filter)?;
                this.count(&feed, page.block.entries.len());
                Ok((page, generation))
            });
            if let Some(done) = done.take() {
                done(read);
            }
            Next::Done
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
        let block = match key.stream.filter.is_whole() {
            true => {
                let range = (after, standing.head);
                rows.whole_between(&feed.config, connection, range, PAGE, filter)?
            }
            false => rows.between(connection, after, standing.head, PAGE, filter)?,
        };
        let Some(block) = block else {
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

fn read_table(
    reader: &mut PooledReader,
    feed: &Feed,
    (from, generation): (&TablePosition, u64),
    (filter, is_whole): (&Filter, bool),
) -> Result<Arc<TablePage>, PageError> {
    let read = reader.with_feed(feed, |open| {
        let Some((connection, rows)) = open else {
            return Ok(Err(table_is_away().into()));
        };
        let page = match is_whole {
            true => rows.whole_table_page(&feed.config, connection, from, PAGE)?,
            false => rows.table_page(connection, from, PAGE, filter)?,
        };
        Ok(page.map(Arc::new).ok_or(PageError::FilterGone))
    });
    let page = read.unwrap_or_else(|reason| Err(reason.into()))?;
    // Asked afterwards: what was read before the history was replaced is of the one before.
    match feed.standing().generation == generation {
        true => Ok(page),
        false => Err(busy("the history is being replaced").into()),
    }
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

/// Returns whether rows just above `after` are gone: the table begins higher up.
fn pruned(earliest: Option<i64>, after: Cursor) -> bool {
    earliest.is_some_and(|earliest| Cursor::before(earliest) > after)
}
