//! A few threads with read-only connections of their own, for catch-up, history and everything else that reads beside
//! the feed loop. Threads start when there is work and end, closing their connections, when there has been none.
//!
//! Reads are short; what takes longer is done in steps, between which others have their turn. Clients take turns, and
//! what nobody waits for any more is not read.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use prometheus::IntGauge;
use rusqlite::Connection;

use crate::catchup::turns::Turns;
use crate::hub::{Feed, Presence};
use crate::model::read_owner::{Claim, ReadOwner};
use crate::sqlite::checkpoint_pauses::CheckpointPauses;
use crate::sqlite::deadline::Deadline;
use crate::sqlite::error::{BrokenKind, Unavailable};
use crate::sqlite::file::FileId;
use crate::sqlite::open::{Snapshot, open_reading, schema_version};
use crate::sqlite::open_connections::{OpenConnection, OpenConnections};
use crate::sqlite::reader::RowReader;
use crate::sqlite::spool;
use crate::sqlite::table::{Schema, TableError};

/// How long a thread keeps its connection without work.
const IDLE: Duration = Duration::from_secs(5);
/// How often a read is begun again because the schema changed under it.
const READ_AGAIN: usize = 8;
/// How long a read waits for locks. In WAL mode only recovery and exclusive locking make it wait at all.
const BUSY: Duration = Duration::from_secs(2);
/// While searches wait, so many quick reads go before each of their steps.
const QUICK_BEFORE_SEARCH: usize = 4;

/// How much a read is expected to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// About as many rows as it gives.
    Quick,
    /// Rows that a filter passes over, perhaps the whole table. Goes after what is quick, and leaves it threads.
    Search,
}

/// What is left of a read after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Done,
    /// Another step, when it is this client's turn again.
    Again(Work),
}

/// A read, done in steps: each call does one.
type Job = Box<dyn FnMut(&mut PooledReader) -> Next + Send>;

/// A job that waits for its turn.
struct WaitingJob {
    claim: Claim,
    job: Job,
}

/// A pool of threads that read. Cloning it clones a handle.
#[derive(Clone)]
pub struct ReadPool {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    open_connections: Arc<OpenConnections>,
    threads: usize,
    /// Of them, how many may search at once.
    searchers: usize,
    queue: Mutex<JobQueue>,
    work: Condvar,
    ended: Condvar,
    waiting: IntGauge,
    pauses: CheckpointPauses,
}

#[derive(Default)]
struct JobQueue {
    quick: Turns<WaitingJob>,
    search: Turns<WaitingJob>,
    /// Searches that run.
    searching: usize,
    /// Quick reads begun since the last step of a search.
    quick_in_a_row: usize,
    /// Threads that take jobs, and those of them that wait for one.
    running: usize,
    idle: usize,
    /// Threads that may have a connection open.
    open: usize,
    closed: bool,
}

impl JobQueue {
    fn push(&mut self, work: Work, waiting: WaitingJob) {
        let turns = match work {
            Work::Quick => &mut self.quick,
            Work::Search => &mut self.search,
        };
        turns.push(waiting.claim.client, waiting);
    }

    fn len(&self) -> usize {
        self.quick.len() + self.search.len()
    }

    /// Jobs that could begin, had they a thread.
    fn ready(&self, searchers: usize) -> usize {
        let searches = searchers.saturating_sub(self.searching);
        self.quick.len() + self.search.len().min(searches)
    }

    /// The job whose turn it is. Those that nobody waits for are let go of on the way.
    fn pop(&mut self, searchers: usize) -> Option<(Work, WaitingJob)> {
        loop {
            let may_search = !self.search.is_empty() && self.searching < searchers;
            let search =
                may_search && (self.quick.is_empty() || self.quick_in_a_row >= QUICK_BEFORE_SEARCH);
            let (work, popped) = match search {
                true => (Work::Search, self.search.pop()),
                false => (Work::Quick, self.quick.pop()),
            };
            let waiting = popped?;
            if waiting.claim.is_void() {
                continue;
            }
            match work {
                Work::Quick => self.quick_in_a_row += 1,
                Work::Search => (self.quick_in_a_row, self.searching) = (0, self.searching + 1),
            }
            return Some((work, waiting));
        }
    }
}

impl ReadPool {
    /// Returns the path of the database that the pool reads.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// At most `threads` reads run at once, half of them searches, and no more of these than half the cores: live rows
    /// come first. More wait their turn; `waiting` counts them.
    /// Connections are closed when `open_connections` says so.
    pub fn new(
        path: PathBuf,
        threads: usize,
        open_connections: Arc<OpenConnections>,
        waiting: IntGauge,
    ) -> ReadPool {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            pauses: CheckpointPauses::of(&path),
            path,
            open_connections: Arc::clone(&open_connections),
            threads,
            searchers: (threads.min(cores) / 2).max(1),
            queue: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            waiting,
        });
        let idle = Arc::downgrade(&shared);
        open_connections.on_close(Box::new(move || {
            if let Some(shared) = idle.upgrade() {
                // With the lock, or a thread could miss it between its last look and its wait.
                let _queue = shared.queue.lock();
                shared.work.notify_all();
            }
        }));
        ReadPool { shared }
    }

    /// Runs `job` on threads of the pool, step by step, for as long as its owner is there.
    pub fn submit(
        &self,
        claim: Claim,
        work: Work,
        job: impl FnMut(&mut PooledReader) -> Next + Send + 'static,
    ) {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return;
        }
        let job = Box::new(job);
        queue.push(work, WaitingJob { claim, job });
        self.shared.waiting.set(queue.len() as i64);
        let ready = queue.ready(self.shared.searchers);
        if queue.idle >= ready || queue.running >= self.shared.threads {
            self.shared.work.notify_one();
            return;
        }
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new()
            .name("walcast-read".into())
            .spawn(move || run(&shared));
        match started {
            Ok(_) => {
                queue.running += 1;
                queue.open += 1;
            }
            // Out of threads: those that run will come to it. With none running, the next submit tries again.
            Err(e) => tracing::warn!("no thread for a read: {e}"),
        }
    }

    /// Ends all threads when their reads are done, closing their connections. Blocks until then, but not for ever.
    pub fn close(&self) {
        let mut queue = self.shared.queue.lock();
        queue.closed = true;
        queue.quick.clear();
        queue.search.clear();
        let deadline = std::time::Instant::now() + BUSY;
        while queue.open > 0 && std::time::Instant::now() < deadline {
            self.shared.work.notify_all();
            self.shared.ended.wait_until(&mut queue, deadline);
        }
    }

    /// Runs `step` until it gives something other than `None`, or until the owner is gone.
    pub async fn run<T: Send + 'static>(
        &self,
        read_owner: &ReadOwner,
        work: Work,
        mut step: impl FnMut(&mut PooledReader) -> Result<Option<T>, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut sender = Some(sender);
        self.submit(read_owner.claim(), work, move |reader| {
            let Some(result) = step(reader).transpose() else {
                return Next::Again(work);
            };
            if let Some(sender) = sender.take() {
                // Whoever asked may have gone in this moment.
                let _ = sender.send(result);
            }
            Next::Done
        });
        receiver
            .await
            .unwrap_or_else(|_| Err(Unavailable::Busy("the read was dropped".into())))
    }
}

/// How far the pool's threads stand behind those that see commits and send rows: one that is behind has waited anyway,
/// and a page read a little later is late for nobody who is live.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Gives way to the other threads where there are more of them than cores.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!("reads do not give way to live rows: {e}");
    }
}

fn run(shared: &Shared) {
    give_way();
    let mut reader = PooledReader {
        path: shared.path.clone(),
        open_connections: Arc::clone(&shared.open_connections),
        open: None,
    };
    while let Some((work, mut waiting)) = next_job(shared, &mut reader) {
        let reading = shared.pauses.read();
        // A job that panics must not cost the pool a thread that still counts as running.
        let next = catch_unwind(AssertUnwindSafe(|| (waiting.job)(&mut reader)));
        let next = next.unwrap_or_else(|_| {
            reader.open = None;
            tracing::error!("a job of the read pool panicked");
            Next::Done
        });
        drop(reading);
        let mut queue = shared.queue.lock();
        queue.searching -= usize::from(work == Work::Search);
        match next {
            Next::Again(work) if !queue.closed => queue.push(work, waiting),
            _ => drop(queue),
        }
        if reader.is_stale() {
            reader.open = None;
        }
    }
    // The connection is closed before the thread counts as ended.
    drop(reader);
    shared.queue.lock().open -= 1;
    shared.ended.notify_all();
}

/// Waits for a job; `None`: the thread is to end.
fn next_job(shared: &Shared, reader: &mut PooledReader) -> Option<(Work, WaitingJob)> {
    let mut queue = shared.queue.lock();
    loop {
        let popped = queue.pop(shared.searchers);
        shared.waiting.set(queue.len() as i64);
        if popped.is_some() {
            return popped;
        }
        if reader.is_stale() {
            MutexGuard::unlocked(&mut queue, || reader.open = None);
            continue;
        }
        queue.idle += 1;
        let done = queue.closed || shared.work.wait_for(&mut queue, IDLE).timed_out();
        queue.idle -= 1;
        if done && queue.ready(shared.searchers) == 0 {
            // In one step with the last look, or a job could be left to a thread that is leaving.
            queue.running -= 1;
            return None;
        }
    }
}

/// A connection of the pool, and the feeds it has read.
pub struct PooledReader {
    path: PathBuf,
    open_connections: Arc<OpenConnections>,
    open: Option<OpenReader>,
}

struct OpenReader {
    file: FileId,
    /// Readers made for a schema, by feed.
    feeds: HashMap<usize, RowReader>,
    connection: Connection,
    deadline: Deadline,
    /// Dropped after the connection.
    open_connection: OpenConnection,
}

impl PooledReader {
    /// Returns whether its connection is to be closed.
    fn is_stale(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| !open.open_connection.is_current())
    }

    /// Runs `read` on the feed's table as its schema is now, again where that changes meanwhile. `None` in place of a
    /// reader: there is no table yet.
    ///
    /// A panic is an error like others, so that whoever waits hears of it.
    pub fn with_feed<T>(
        &mut self,
        feed: &Feed,
        read: impl FnMut(Option<(&Connection, &mut RowReader)>) -> rusqlite::Result<T>,
    ) -> Result<T, Unavailable> {
        let result = catch_unwind(AssertUnwindSafe(|| self.read_feed(feed, read)));
        let result = result.unwrap_or_else(|_| {
            tracing::error!("a read panicked; its connection is opened anew");
            Err(Unavailable::Busy("a read panicked".into()))
        });
        if result.is_err() {
            // Whatever it was (a changed schema, a dead file), a new connection starts clean.
            self.open = None;
        }
        result
    }

    fn read_feed<T>(
        &mut self,
        feed: &Feed,
        mut read: impl FnMut(Option<(&Connection, &mut RowReader)>) -> rusqlite::Result<T>,
    ) -> Result<T, Unavailable> {
        let path = self.path.clone();
        let Some(schema) = feed.schema() else {
            return match feed.presence() {
                Presence::Away(absence) if !absence.cause.is_unmade() => Err(Unavailable::Broken {
                    kind: BrokenKind::Unreadable,
                    reason: absence.message.to_string(),
                }),
                // Nothing is read, so nothing can fail.
                _ => read(None).map_err(|e| Unavailable::from_sqlite(&e, &path)),
            };
        };
        let OpenReader {
            connection,
            deadline,
            feeds,
            ..
        } = self.opened()?;
        let failed = |e: rusqlite::Error| Unavailable::from_sqlite(&e, &path);
        if feed.source().is_some() {
            // Of a spool only one moment tells whether what is there is all that there should be.
            let _snapshot = Snapshot::begin(connection).map_err(failed)?;
            if !is_served(connection, feed).map_err(failed)? {
                return read(None).map_err(failed);
            }
            return match current_reader(feeds, feed, &schema, (connection, deadline)) {
                Ok(reader) => read(Some((connection, reader))).map_err(failed),
                Err(TableError::Missing) => read(None).map_err(failed),
                Err(error) => Err(error.unavailable(&feed.config.table, &path)),
            };
        }
        for _ in 0..READ_AGAIN {
            let reader = match current_reader(feeds, feed, &schema, (connection, deadline)) {
                Ok(reader) => reader,
                Err(TableError::Missing) => return read(None).map_err(failed),
                Err(error) => return Err(error.unavailable(&feed.config.table, &path)),
            };
            let result = read(Some((connection, reader)));
            // A page may have been read in part under either schema, and a column of the old one is an error.
            if reader.is_current(connection).map_err(failed)? {
                return result.map_err(failed);
            }
        }
        let table = &feed.config.table;
        Err(Unavailable::Busy(format!(
            "the schema changed whenever the table {table} was read"
        )))
    }

    /// The connection, made anew where the path names another file than the one that is open.
    fn opened(&mut self) -> Result<&mut OpenReader, Unavailable> {
        let file = FileId::of(&self.path).ok_or_else(|| Unavailable::NoFile(self.path.clone()))?;
        if self.is_stale() || self.open.as_ref().is_some_and(|open| open.file != file) {
            self.open = None;
        }
        match &mut self.open {
            Some(open) => Ok(open),
            open => {
                let open_connection = self.open_connections.enter();
                let mut connection = open_reading(&self.path, BUSY)?;
                let deadline = Deadline::default();
                deadline
                    .install(&mut connection)
                    .map_err(|e| Unavailable::from_sqlite(&e, &self.path))?;
                Ok(open.insert(OpenReader {
                    file,
                    feeds: HashMap::new(),
                    connection,
                    deadline,
                    open_connection,
                }))
            }
        }
    }
}

/// Returns whether a spool has all of the history that is served of a feed: it may be filled anew in this moment, and is empty or
/// has only some rows then.
fn is_served(connection: &Connection, feed: &Feed) -> rusqlite::Result<bool> {
    let state = spool::state(connection, &feed.config.name)?;
    let epoch = feed.standing().epoch;
    Ok(state.is_some_and(|state| state.is_whole && !state.is_removed && *state.epoch == *epoch.0))
}

/// The reader of a feed under its schema as it is now: the one `known` to the feed, where that is not behind.
fn current_reader<'a>(
    feeds: &'a mut HashMap<usize, RowReader>,
    feed: &Feed,
    known: &Arc<Schema>,
    (connection, deadline): (&Connection, &Deadline),
) -> Result<&'a mut RowReader, TableError> {
    let version = schema_version(connection)?;
    let make = |schema| {
        RowReader::new(&feed.config, schema, feed.max_row_bytes).limited_by(deadline.clone())
    };
    let entry = feeds.entry(feed.index);
    let reader = entry.or_insert_with(|| make(Arc::clone(known)));
    if known.version == version {
        if !Arc::ptr_eq(&reader.schema, known) {
            *reader = make(Arc::clone(known));
        }
    } else if reader.schema.version != version {
        *reader = make(Arc::new(Schema::of_feed(connection, &feed.config)?));
    }
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Cause;

    #[test]
    fn who_waits_for_a_read_that_panics_gets_an_error() {
        let mut reader = PooledReader {
            path: "none.db".into(),
            open_connections: Arc::default(),
            open: None,
        };
        let feed = Feed::stock();
        feed.closed(Presence::away(Cause::NoTable, "no table"));
        let read = reader.with_feed::<()>(&feed, |_| panic!("a fault of ours"));
        assert!(matches!(read, Err(Unavailable::Busy(_))), "{read:?}");
    }
}
