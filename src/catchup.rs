//! Pages of rows for subscribers that are behind, read from the table. Subscribers that need the same rows at the same
//! time share one read, and what was read is kept for a moment for those close behind.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::change::{Block, Cursor, Epoch};
use crate::filter::{Filter, FilterId};
use crate::hub::{Feed, Presence};
use crate::metrics::Metrics;
use crate::session::Session;
use crate::sqlite::open::Unavailable;
use crate::sqlite::pool::{PooledReader, ReadPool};
use crate::sqlite::reader::PageLimits;

/// Enough rows to pay for a read and a write, few enough that a read transaction lasts a millisecond or so and that a
/// page is gone from memory soon.
const PAGE: PageLimits = PageLimits {
    rows: 1024,
    bytes: 256 * 1024,
};
/// Pages kept for others, all feeds together.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// How long a page may serve subscribers that began before it was read.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// What a subscriber that opens needs to know of the table.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub epoch: Epoch,
    pub generation: u64,
    /// Name of the cursor column.
    pub key: String,
    pub head: Cursor,
    /// Whether the rest could be asked of the table; it may be away for a moment.
    pub table_is_there: bool,
    /// The lowest id there is.
    pub earliest: Option<i64>,
    /// Where the last n rows begin, for who asked for them; `None` where nothing matches.
    pub start_of_last: Option<Cursor>,
    pub read_at: Instant,
}

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

/// Whose rows: feed, history, filter.
type Stream = (usize, u64, FilterId);

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
    /// Reads queued or under way, by stream and position.
    reads: HashMap<(Stream, Cursor), Read>,
    kept: VecDeque<(Stream, Arc<Block>)>,
    kept_bytes: usize,
}

/// A read that others may join.
#[derive(Default)]
struct Read {
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
        let stream = stream_of(session);
        let state = self.state.lock();
        let mut pages = state.kept.iter().rev().filter(|(s, _)| *s == stream);
        pages
            .find(|(_, page)| session.accepts(page, stream.1))
            .map(|(_, page)| Arc::clone(page))
    }

    /// Reads the page that follows the subscriber's position; `done` gets it, on another thread.
    pub fn page(&self, session: &Session, done: impl FnOnce(PageResult) + Send + 'static) {
        let key = (stream_of(session), session.position());
        let mut state = self.state.lock();
        match state.reads.get_mut(&key) {
            Some(read) if read.began.is_none_or(|began| began >= session.started()) => {
                read.waiters.push(Box::new(done))
            }
            // One that began before this subscriber did may have missed a deletion before it.
            Some(_) => {
                drop(state);
                self.read_alone(key, session, Box::new(done));
            }
            None => {
                state.reads.insert(
                    key,
                    Read {
                        began: None,
                        waiters: vec![Box::new(done)],
                    },
                );
                drop(state);
                self.read_shared(key, session);
            }
        }
    }

    /// Begins to read the page after `after`, for when this subscriber gets there.
    pub fn prefetch(&self, session: &Session, after: Cursor) {
        let key = (stream_of(session), after);
        let mut state = self.state.lock();
        let kept = state
            .kept
            .iter()
            .any(|(stream, page)| *stream == key.0 && page.after == after);
        if kept || state.reads.contains_key(&key) {
            return;
        }
        state.reads.insert(key, Read::default());
        drop(state);
        self.read_shared(key, session);
    }

    fn read_shared(&self, key: (Stream, Cursor), session: &Session) {
        let (feed, filter) = (Arc::clone(session.feed()), Arc::clone(session.filter()));
        let this = self.clone();
        self.pool.submit(move |reader| {
            if let Some(read) = this.state.lock().reads.get_mut(&key) {
                read.began = Some(Instant::now());
            }
            // Those who wait must hear of a panic, too.
            let read = || this.read(reader, &feed, key, &filter);
            let result = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(panicked()));
            let read = this.state.lock().reads.remove(&key).unwrap_or_default();
            for waiter in read.waiters {
                waiter(result.clone().map(|page| (page, key.0.1)));
            }
        });
    }

    fn read_alone(&self, key: (Stream, Cursor), session: &Session, waiter: Waiter) {
        let (feed, filter) = (Arc::clone(session.feed()), Arc::clone(session.filter()));
        let this = self.clone();
        self.pool.submit(move |reader| {
            let result = this.read(reader, &feed, key, &filter);
            waiter(result.map(|page| (page, key.0.1)));
        });
    }

    fn read(
        &self,
        reader: &mut PooledReader,
        feed: &Feed,
        (stream, after): (Stream, Cursor),
        filter: &Filter,
    ) -> Result<Arc<Block>, PageError> {
        let page = read_page(reader, feed, stream.1, after, filter)?;
        let name = &feed.config.name;
        self.metrics.catchup_reads.with_label_values(&[name]).inc();
        self.metrics
            .rows_read
            .with_label_values(&[name])
            .inc_by(page.entries.len() as u64);
        self.keep(stream, &page);
        Ok(page)
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
            // Where the last rows begin only the table can tell; an empty history has none in any case.
            if last.is_some() && standing.head > Cursor(0) && standing.presence != Presence::Open {
                return done(Err(Unavailable::Busy(
                    "the table is not there at the moment".into(),
                )));
            }
            let bounds = reader.with_feed(&feed, |open| {
                let mut bounds = Bounds {
                    epoch: standing.epoch,
                    generation: standing.generation,
                    key: feed.config.key.clone().unwrap_or_else(|| "id".to_owned()),
                    head: standing.head,
                    table_is_there: open.is_some(),
                    earliest: None,
                    start_of_last: None,
                    read_at: Instant::now(),
                };
                if let Some((connection, rows)) = open {
                    bounds.key = rows.schema.table.key_name().to_owned();
                    bounds.earliest = rows.schema.table.min_key(connection)?;
                    if let Some(n) = last {
                        bounds.start_of_last =
                            rows.start_of_last(connection, n, standing.head, &filter)?;
                    }
                }
                Ok(bounds)
            });
            done(bounds);
        });
    }

    /// Forgets pages that no one close behind took in time.
    pub fn forget_old(&self) {
        let mut state = self.state.lock();
        while state
            .kept
            .front()
            .is_some_and(|(_, page)| page.read_at.elapsed() > KEPT_FOR)
        {
            state.drop_oldest();
        }
        if state.kept.is_empty() {
            state.kept.shrink_to_fit();
        }
    }

    fn keep(&self, stream: Stream, page: &Arc<Block>) {
        let mut state = self.state.lock();
        state.kept_bytes += page.cost();
        state.kept.push_back((stream, Arc::clone(page)));
        while state.kept_bytes > KEPT_BYTES {
            state.drop_oldest();
        }
    }
}

impl State {
    fn drop_oldest(&mut self) {
        if let Some((_, page)) = self.kept.pop_front() {
            self.kept_bytes -= page.cost();
        }
    }
}

fn stream_of(session: &Session) -> Stream {
    (
        session.feed().index,
        session.generation(),
        session.filter_id(),
    )
}

fn read_page(
    reader: &mut PooledReader,
    feed: &Feed,
    generation: u64,
    after: Cursor,
    filter: &Filter,
) -> Result<Arc<Block>, PageError> {
    // Never beyond the head: what lies above it is the feed loop's to announce.
    let standing = feed.standing();
    if standing.generation != generation {
        return Err(PageError::Unavailable(Unavailable::Busy(
            "the history is being replaced".into(),
        )));
    }
    let head = standing.head;
    let read = reader.with_feed(feed, |open| {
        let Some((connection, rows)) = open else {
            return Ok(Err(waiting()));
        };
        let Some(block) = rows.between(connection, after, head, PAGE, filter)? else {
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
    match read {
        Ok(page) => page,
        Err(reason) => Err(PageError::Unavailable(reason)),
    }
}

fn panicked() -> PageError {
    tracing::error!("a catch-up read panicked");
    PageError::Unavailable(Unavailable::Busy("the read panicked".into()))
}

fn waiting() -> PageError {
    PageError::Unavailable(Unavailable::Busy(
        "the table is not there at the moment".into(),
    ))
}

/// Whether rows just above `after` are gone: the table begins higher up.
fn pruned(earliest: Option<i64>, after: Cursor) -> bool {
    earliest.is_some_and(|earliest| Cursor::before(earliest) > after)
}
