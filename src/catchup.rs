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
/// Reads of one stream that run at once, the hindmost first: enough for two subscribers and what each needs next. With
/// more, subscribers that replay together spread out, each wants pages that the others do not, and reading them costs
/// more than sending them. Those ahead wait until the others come up to them, and go on as one.
const ABREAST: usize = 4;
/// A read that has waited for so long runs before all others. Sooner would let those ahead go on before the others are
/// there.
const PATIENCE: Duration = Duration::from_millis(500);

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

/// The page of a stream above a position.
type Key = (Stream, Cursor);

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
    /// Reads queued or under way that others may join, by stream and position.
    reads: HashMap<Key, Read>,
    queue: Queue,
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
                self.enqueue(key, session, Some(Box::new(done)));
            }
            None => {
                let read = Read {
                    began: None,
                    waiters: vec![Box::new(done)],
                };
                state.reads.insert(key, read);
                drop(state);
                self.enqueue(key, session, None);
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
        self.enqueue(key, session, None);
    }

    /// Queues a read, for those who wait for it in [`State::reads`] or for `alone`.
    fn enqueue(&self, key: Key, session: &Session, alone: Option<Waiter>) {
        self.state.lock().queue.push(Wanted {
            key,
            feed: Arc::clone(session.feed()),
            filter: Arc::clone(session.filter()),
            since: Instant::now(),
            alone,
        });
        self.call_a_thread();
    }

    /// Has a thread of the pool take the read whose turn it is by then, if any.
    fn call_a_thread(&self) {
        let this = self.clone();
        self.pool.submit(move |reader| this.read_next(reader));
    }

    fn read_next(&self, reader: &mut PooledReader) {
        let wanted = {
            let mut state = self.state.lock();
            let Some(wanted) = state.queue.next(Instant::now()) else {
                return;
            };
            if wanted.alone.is_none()
                && let Some(read) = state.reads.get_mut(&wanted.key)
            {
                read.began = Some(Instant::now());
            }
            wanted
        };
        let key = wanted.key;
        // Those who wait must hear of a panic, too.
        let read = || self.read(reader, &wanted.feed, key, &wanted.filter);
        let result = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(panicked()));
        let (waiters, calls) = {
            let mut state = self.state.lock();
            let waiters = match wanted.alone {
                Some(waiter) => vec![waiter],
                None => state.reads.remove(&key).unwrap_or_default().waiters,
            };
            (waiters, state.queue.ended(key.0))
        };
        if calls {
            self.call_a_thread();
        }
        for waiter in waiters {
            waiter(result.clone().map(|page| (page, key.0.1)));
        }
    }

    fn read(
        &self,
        reader: &mut PooledReader,
        feed: &Feed,
        (stream, after): Key,
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

/// A read to be done.
struct Wanted {
    key: Key,
    feed: Arc<Feed>,
    filter: Arc<Filter>,
    since: Instant,
    /// Who waits for it, if it is not to be shared.
    alone: Option<Waiter>,
}

/// Reads to be done, in the order in which they were wanted.
#[derive(Default)]
struct Queue {
    wanted: VecDeque<Wanted>,
    /// Of each stream, how many run.
    running: HashMap<Stream, usize>,
    /// Threads that were called and found that nothing may run yet.
    sent_away: usize,
}

impl Queue {
    fn push(&mut self, wanted: Wanted) {
        self.wanted.push_back(wanted);
    }

    /// Takes the read whose turn it is: the oldest if it has waited long, else the hindmost of the first stream that has
    /// not enough running.
    fn next(&mut self, now: Instant) -> Option<Wanted> {
        let oldest = self.wanted.front()?;
        let index = if now.saturating_duration_since(oldest.since) >= PATIENCE {
            Some(0)
        } else {
            self.hindmost()
        };
        let Some(wanted) = index.and_then(|index| self.wanted.remove(index)) else {
            self.sent_away += 1;
            return None;
        };
        *self.running.entry(wanted.key.0).or_default() += 1;
        Some(wanted)
    }

    fn hindmost(&self) -> Option<usize> {
        let may_run = |stream: &Stream| self.running.get(stream).is_none_or(|n| *n < ABREAST);
        let first = self.wanted.iter().find(|wanted| may_run(&wanted.key.0))?;
        let stream = first.key.0;
        let of_stream = self.wanted.iter().enumerate();
        of_stream
            .filter(|(_, wanted)| wanted.key.0 == stream)
            .min_by_key(|(_, wanted)| wanted.key.1)
            .map(|(index, _)| index)
    }

    /// A read of `stream` has ended. Says whether a thread that was sent away is to be called again.
    fn ended(&mut self, stream: Stream) -> bool {
        if let Some(running) = self.running.get_mut(&stream) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(&stream);
            }
        }
        let calls = self.sent_away > 0;
        self.sent_away -= usize::from(calls);
        calls
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FeedConfig, Limits};
    use crate::hub::Hub;

    const STREAM: Stream = (0, 0, FilterId::NONE);
    const OTHER: Stream = (1, 0, FilterId::NONE);

    fn feed() -> Arc<Feed> {
        let hub = Hub::new(
            vec![FeedConfig::stock()],
            &Limits::default(),
            Arc::default(),
        );
        Arc::clone(&hub.feeds[0])
    }

    fn queue(wanted: &[(Stream, i64)], since: Instant) -> Queue {
        let mut queue = Queue::default();
        for (stream, after) in wanted {
            queue.push(Wanted {
                key: (*stream, Cursor(*after)),
                feed: feed(),
                filter: Arc::new(Filter::default()),
                since,
                alone: None,
            });
        }
        queue
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<i64> {
        queue.next(now).map(|wanted| wanted.key.1.0)
    }

    #[test]
    fn the_hindmost_reads_first_and_those_ahead_wait_until_a_read_ends() {
        let now = Instant::now();
        let mut queue = queue(&[9, 7, 5, 3, 1, 8].map(|after| (STREAM, after)), now);
        let taken: Vec<_> = (0..=ABREAST).map(|_| next(&mut queue, now)).collect();
        assert_eq!(taken, [Some(1), Some(3), Some(5), Some(7), None]);
        assert!(
            queue.ended(STREAM),
            "the thread that was sent away is called"
        );
        assert_eq!(next(&mut queue, now), Some(8));
        assert!(!queue.ended(STREAM), "nobody else was sent away");
    }

    #[test]
    fn streams_do_not_wait_for_each_other() {
        let now = Instant::now();
        let mut wanted: Vec<_> = (0..6).map(|after| (STREAM, after)).collect();
        wanted.push((OTHER, 100));
        let mut queue = queue(&wanted, now);
        let taken: Vec<_> = (0..=ABREAST)
            .filter_map(|_| next(&mut queue, now))
            .collect();
        assert_eq!(taken, [0, 1, 2, 3, 100]);
    }

    #[test]
    fn who_has_waited_long_reads_before_the_hindmost() {
        let since = Instant::now();
        let mut queue = queue(&[9, 1, 2, 3, 4, 5].map(|after| (STREAM, after)), since);
        assert_eq!(next(&mut queue, since), Some(1));
        let later = since + PATIENCE;
        let taken: Vec<_> = (0..5).map(|_| next(&mut queue, later)).collect();
        assert_eq!(taken, [9, 2, 3, 4, 5].map(Some));
    }
}
