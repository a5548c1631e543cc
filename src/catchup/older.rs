//! Rows that an edge has no more, had from another daemon. The threads that do it wait for a network, and are none of those
//! that read the table.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::IntGauge;

use super::page_request::PageError;
use super::queue::QueuedRead;
use super::reader_pool::Work;
use super::turns::Turns;
use super::{CatchUp, PAGE, busy};
use crate::hub::{Feed, NoOlderRows, NotNow, OlderPage, OlderRows};
use crate::model::position::Cursor;
use crate::model::read_owner::Claim;
use crate::session::table_bounds::TableBounds;
use crate::sqlite::error::Unavailable;
use crate::wire::block::Block;

/// So many ask at once.
const THREADS: usize = 8;
/// How long a thread stays without work.
const IDLE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// The threads. Cloning it clones a handle.
#[derive(Clone)]
pub(super) struct OlderThreads {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    /// How many jobs wait.
    waiting: IntGauge,
}

#[derive(Default)]
struct Queue {
    jobs: Turns<(Claim, Job)>,
    running: usize,
    idle: usize,
}

impl OlderThreads {
    /// None runs before there is something to do. `waiting` shows how much of that waits.
    pub(super) fn new(waiting: IntGauge) -> OlderThreads {
        let shared = Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            waiting,
        };
        OlderThreads {
            shared: Arc::new(shared),
        }
    }

    /// Has a thread do it, in this client's turn, unless nobody waits for it by then.
    pub(super) fn submit(&self, claim: Claim, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.shared.queue.lock();
        queue.jobs.push(claim.client, (claim, Box::new(job)));
        self.shared.waiting.set(queue.jobs.len() as i64);
        if queue.idle >= queue.jobs.len() || queue.running >= THREADS {
            self.shared.work.notify_one();
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("walcast-older".into());
        match thread.spawn(move || run(&shared)) {
            Ok(_) => queue.running += 1,
            // Those that run will come to it. With none running, the next one tries again.
            Err(e) => tracing::warn!("no thread to ask for older rows with: {e}"),
        }
    }
}

fn run(shared: &Shared) {
    let mut queue = shared.queue.lock();
    loop {
        if let Some((claim, job)) = queue.jobs.pop() {
            shared.waiting.set(queue.jobs.len() as i64);
            drop(queue);
            // A job that panics must not cost a thread that still counts as running.
            let done = catch_unwind(AssertUnwindSafe(|| {
                if !claim.is_void() {
                    job();
                }
            }));
            if done.is_err() {
                tracing::error!("a read of older rows panicked");
            }
            queue = shared.queue.lock();
            continue;
        }
        queue.idle += 1;
        let is_over = shared.work.wait_for(&mut queue, IDLE).timed_out();
        queue.idle -= 1;
        if is_over && queue.jobs.is_empty() {
            queue.running -= 1;
            return;
        }
    }
}

impl CatchUp {
    /// Ends a read, unless its rows are gone from here and may be had elsewhere: then they are asked for there.
    pub(super) fn end_or_ask(
        &self,
        queued: QueuedRead,
        work: Work,
        result: Option<Result<Arc<Block>, PageError>>,
    ) {
        let older = match &result {
            Some(Err(PageError::Pruned)) => older_rows(&queued.feed),
            _ => None,
        };
        let Some(older) = older else {
            return self.end(queued, work, result);
        };
        let this = self.clone();
        // Others may wait for it who are not gone when this client is.
        let claim = queued.claim.client.claim();
        self.older.submit(claim, move || {
            let page = read_older(&*older, &queued);
            if let Ok(page) = &page {
                this.count(&queued.feed, page.entries.len());
            }
            this.end(queued, work, Some(page));
        });
    }

    /// Gives `done` the bounds; where the table lacks what is named, once it is known whether that may be had elsewhere.
    pub(super) fn bounds_elsewhere(
        &self,
        (feed, named): (&Arc<Feed>, Option<&(Cursor, Option<String>)>),
        mut bounds: TableBounds,
        claim: &Claim,
        done: impl FnOnce(Result<TableBounds, Unavailable>) + Send + 'static,
    ) {
        let Some((older, id)) = elsewhere(feed, named, &bounds) else {
            return done(Ok(bounds));
        };
        let feed = Arc::clone(feed);
        self.older.submit(claim.clone(), move || {
            done(match older.are_there(&feed, &bounds.epoch, id) {
                Ok(true) => {
                    bounds.older_from = Some(id);
                    Ok(bounds)
                }
                Ok(false) => Ok(bounds),
                Err(NotNow) => Err(Unavailable::Upstream),
            });
        });
    }
}

/// Where rows that a feed has no more may be had; `None` where there is no such place.
fn older_rows(feed: &Feed) -> Option<Arc<dyn OlderRows>> {
    let is_of_rows = feed.schema().is_some_and(|schema| schema.changes.is_none());
    let older = feed.source().and_then(|desk| desk.older());
    older.filter(|_| is_of_rows).cloned()
}

/// Where to ask for the rows that follow on the position that is named, and which that is, where the table has them no more.
fn elsewhere(
    feed: &Feed,
    named: Option<&(Cursor, Option<String>)>,
    bounds: &TableBounds,
) -> Option<(Arc<dyn OlderRows>, Cursor)> {
    let (id, epoch) = named?;
    let is_of_it = epoch
        .as_ref()
        .is_none_or(|epoch| **epoch == *bounds.epoch.0);
    let is_gone = *id > Cursor(0) && *id <= bounds.head && bounds.lacks_rows_after(*id);
    match is_of_it && is_gone {
        true => Some((older_rows(feed)?, *id)),
        false => None,
    }
}

/// Reads a page that the table has no more.
fn read_older(older: &dyn OlderRows, queued: &QueuedRead) -> Result<Arc<Block>, PageError> {
    let QueuedRead {
        key, feed, filter, ..
    } = queued;
    let standing = feed.standing();
    if standing.generation != key.stream.generation {
        return Err(busy("the history is being replaced").into());
    }
    let wanted = OlderPage {
        epoch: &standing.epoch,
        after: key.after,
        upto: standing.head,
        filter,
        is_whole: key.stream.filter.is_whole(),
        limits: PAGE,
    };
    older.page(feed, &wanted).map_err(|error| match error {
        NoOlderRows::Gone => PageError::Pruned,
        NoOlderRows::FilterGone => PageError::FilterGone,
        NoOlderRows::NotNow => PageError::Unavailable(Unavailable::Upstream),
    })
}
