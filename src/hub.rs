//! The recent changes of each feed as a log of ready-made frames, bounded in rows and bytes; its head; and a way to
//! hear that it moved. Knows neither SQLite connections nor HTTP.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::change::{Block, Cursor, Epoch};
use crate::config::{FeedConfig, Limits};
use crate::filter::{Filter, FilterId};
use crate::sqlite::table::Schema;
use crate::wake::{Wake, Wakes};

/// How long a subscription waits for the feed loop to have seen everything committed before it. Only a feed loop that
/// reads a huge transaction, or can't read at all, takes that long.
const SYNC_PATIENCE: Duration = Duration::from_millis(250);

/// Called with a feed's index when its log moved. Must not block.
pub type Listener = Box<dyn Fn(usize) + Send + Sync>;

/// All feeds of the daemon.
pub struct Hub {
    pub feeds: Vec<Arc<Feed>>,
    wake: Arc<Wake>,
    listeners: OnceLock<Vec<Listener>>,
    sync: Mutex<Vec<oneshot::Sender<()>>>,
    health: Mutex<Health>,
    /// For the opening line and `/api/feeds`; empty while no file is open.
    journal_mode: Mutex<String>,
}

/// How the feed loop fares, for `/readyz`.
#[derive(Debug, Clone)]
struct Health {
    /// When the loop was last seen running.
    beat: Instant,
    /// Since when reads were needed and failed, and why.
    failing: Option<(Instant, String)>,
}

/// A read that was needed may fail for so long before the daemon counts as not ready.
const READ_PATIENCE: Duration = Duration::from_secs(5);

impl Hub {
    pub fn new(feeds: Vec<FeedConfig>, limits: &Limits, wake: Arc<Wake>) -> Hub {
        let feeds = feeds
            .into_iter()
            .enumerate()
            .map(|(index, config)| Arc::new(Feed::new(index, config, limits)));
        Hub {
            feeds: feeds.collect(),
            wake,
            listeners: OnceLock::new(),
            sync: Mutex::default(),
            health: Mutex::new(Health {
                beat: Instant::now(),
                failing: None,
            }),
            journal_mode: Mutex::default(),
        }
    }

    pub fn feed(&self, name: &str) -> Option<&Arc<Feed>> {
        self.feeds.iter().find(|feed| feed.config.name == name)
    }

    /// Sets who hears of moves; once, before the feed loop starts.
    pub fn set_listeners(&self, listeners: Vec<Listener>) {
        // Set by the one caller that wires the daemon; a second call would change nothing.
        let _ = self.listeners.set(listeners);
    }

    pub fn set_journal_mode(&self, mode: &str) {
        mode.clone_into(&mut self.journal_mode.lock());
    }

    /// In words: `journal mode wal`, or that there is no file.
    pub fn journal_mode(&self) -> String {
        match self.journal_mode.lock().as_str() {
            "" => "not there yet".to_owned(),
            mode => format!("journal mode {mode}"),
        }
    }

    /// Tells the listeners that a feed's log moved.
    pub fn announce(&self, feed: usize) {
        for listener in self.listeners.get().into_iter().flatten() {
            listener(feed);
        }
    }

    /// Resolves when the feed loop has seen every commit that returned before the call, or after a quarter of a second.
    pub async fn caught_up(&self) {
        let (sender, receiver) = oneshot::channel();
        self.sync.lock().push(sender);
        self.wake.signal(Wakes::SYNC);
        let _ = tokio::time::timeout(SYNC_PATIENCE, receiver).await;
    }

    /// Those who wait in [`caught_up`](Self::caught_up); to be answered after the next look.
    pub fn take_waiting(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut *self.sync.lock())
    }

    /// Puts back those who can't be answered yet.
    pub fn keep_waiting(&self, waiting: Vec<oneshot::Sender<()>>) {
        self.sync.lock().extend(waiting);
    }

    /// The feed loop is alive, and its reads work or don't.
    pub fn beat(&self, failure: Option<String>) {
        let mut health = self.health.lock();
        let now = Instant::now();
        health.beat = now;
        health.failing = failure.map(|why| {
            (
                health.failing.as_ref().map_or(now, |(since, _)| *since),
                why,
            )
        });
    }

    /// Why rows can't be served right now; `None` when they can.
    pub fn not_ready(&self) -> Option<String> {
        for feed in &self.feeds {
            match feed.presence() {
                Presence::Open => {}
                Presence::Waiting(reason) | Presence::Broken(reason) => {
                    return Some(format!("feed {}: {reason}", feed.config.name));
                }
            }
        }
        let health = self.health.lock();
        if let Some((since, why)) = &health.failing
            && since.elapsed() >= READ_PATIENCE
        {
            return Some(format!(
                "no read has worked for {} s: {why}",
                since.elapsed().as_secs()
            ));
        }
        let silent = health.beat.elapsed();
        (silent >= READ_PATIENCE)
            .then(|| format!("the feed loop has not moved for {} s", silent.as_secs()))
    }
}

/// Whether a feed's table can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    Open,
    /// File or table are not there yet.
    Waiting(String),
    /// Something has to be mended.
    Broken(String),
}

/// One feed: its log, and what subscribers share.
pub struct Feed {
    pub index: usize,
    pub config: FeedConfig,
    pub max_row_bytes: usize,
    ring_rows: usize,
    ring_bytes: usize,
    log: Mutex<Log>,
    filters: Mutex<Filters>,
    subscribers: AtomicUsize,
}

struct Log {
    epoch: Epoch,
    /// Counts epochs within this process.
    generation: u64,
    head: Cursor,
    presence: Presence,
    schema: Option<Arc<Schema>>,
    blocks: VecDeque<Arc<Block>>,
    /// Number of blocks ever evicted: the serial number of the first block held.
    evicted: u64,
    rows: usize,
    bytes: usize,
}

impl Log {
    /// Rows above this are in the log.
    fn floor(&self) -> Cursor {
        self.blocks.front().map_or(self.head, |block| block.after)
    }
}

/// Where a feed stands.
#[derive(Debug, Clone)]
pub struct Standing {
    pub epoch: Epoch,
    pub generation: u64,
    pub head: Cursor,
    pub presence: Presence,
}

impl Feed {
    fn new(index: usize, config: FeedConfig, limits: &Limits) -> Feed {
        let reason = "the database has not been opened yet".to_owned();
        let log = Log {
            epoch: Epoch::new(""),
            generation: 0,
            head: Cursor(0),
            presence: Presence::Waiting(reason),
            schema: None,
            blocks: VecDeque::new(),
            evicted: 0,
            rows: 0,
            bytes: 0,
        };
        Feed {
            index,
            config,
            max_row_bytes: limits.max_row_bytes,
            ring_rows: limits.ring_rows,
            ring_bytes: limits.ring_bytes,
            log: Mutex::new(log),
            filters: Mutex::default(),
            subscribers: AtomicUsize::new(0),
        }
    }

    pub fn standing(&self) -> Standing {
        let log = self.log.lock();
        Standing {
            epoch: log.epoch.clone(),
            generation: log.generation,
            head: log.head,
            presence: log.presence.clone(),
        }
    }

    pub fn presence(&self) -> Presence {
        self.log.lock().presence.clone()
    }

    pub fn head(&self) -> Cursor {
        self.log.lock().head
    }

    pub fn schema(&self) -> Option<Arc<Schema>> {
        self.log.lock().schema.clone()
    }

    pub fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// The epoch the feed starts with; called once, before anyone subscribes.
    pub fn begin(&self, epoch: Epoch, head: Cursor) {
        let mut log = self.log.lock();
        log.epoch = epoch;
        log.head = head;
    }

    /// The table can be read, in this shape.
    pub fn opened(&self, schema: Arc<Schema>) {
        let mut log = self.log.lock();
        log.presence = Presence::Open;
        log.schema = Some(schema);
    }

    /// The table can't be read for now. Head and epoch stay: it may be the same one when it comes back.
    pub fn closed(&self, presence: Presence) {
        let mut log = self.log.lock();
        log.presence = presence;
        log.schema = None;
    }

    /// Another history begins: what the log held is void.
    pub fn replace(&self, epoch: Epoch, head: Cursor) {
        let mut log = self.log.lock();
        log.epoch = epoch;
        log.generation += 1;
        log.head = head;
        log.evicted += log.blocks.len() as u64;
        log.blocks.clear();
        (log.rows, log.bytes) = (0, 0);
    }

    /// Moves the head over what was there before anyone could have asked for it.
    pub fn skip_to(&self, head: Cursor) {
        let mut log = self.log.lock();
        if log.blocks.is_empty() && head > log.head {
            log.head = head;
        }
    }

    /// Appends a block that follows the head, and lets go of the oldest ones beyond the bounds.
    pub fn publish(&self, block: Block) {
        let mut log = self.log.lock();
        debug_assert_eq!(block.after, log.head, "a block must follow the head");
        log.head = block.last;
        log.rows += block.entries.len();
        log.bytes += block.cost();
        log.blocks.push_back(Arc::new(block));
        while log.rows > self.ring_rows
            || log.bytes > self.ring_bytes
            || log.blocks.len() > self.ring_rows
        {
            let Some(oldest) = log.blocks.pop_front() else {
                break;
            };
            log.rows -= oldest.entries.len();
            log.bytes -= oldest.cost();
            log.evicted += 1;
        }
    }

    /// Brings `view` up to date. Says which of its blocks are new, or that everything is.
    pub fn refresh(&self, view: &mut View) -> Refreshed {
        let log = self.log.lock();
        let replaced = view.generation != log.generation;
        if replaced || view.first < log.evicted {
            let gone = log
                .evicted
                .saturating_sub(view.first)
                .min(view.blocks.len() as u64);
            let gone = if replaced {
                view.blocks.len()
            } else {
                gone as usize
            };
            view.blocks.drain(..gone);
            view.first = log.evicted;
        }
        let fresh_from = view.blocks.len();
        view.blocks
            .extend(log.blocks.iter().skip(fresh_from).cloned());
        view.generation = log.generation;
        view.head = log.head;
        view.floor = log.floor();
        let reshaped = !same_schema(&view.schema, &log.schema);
        if reshaped {
            view.schema = log.schema.clone();
        }
        if view.epoch != log.epoch {
            view.epoch = log.epoch.clone();
        }
        Refreshed {
            replaced,
            reshaped,
            fresh_from,
        }
    }

    /// A view that holds only the next few blocks above `position`: for who waits long between two looks, and must not
    /// keep old blocks alive meanwhile.
    pub fn view_after(&self, position: Cursor, blocks: usize) -> View {
        let log = self.log.lock();
        let from = log.blocks.partition_point(|block| block.last <= position);
        View {
            epoch: log.epoch.clone(),
            generation: log.generation,
            head: log.head,
            floor: log.floor(),
            blocks: log.blocks.range(from..).take(blocks).cloned().collect(),
            schema: log.schema.clone(),
            first: 0,
        }
    }

    /// A view that is up to date.
    pub fn view(&self) -> View {
        let mut view = View::default();
        self.refresh(&mut view);
        view
    }

    /// Enters a subscriber. The position it gets and the filter it is known under are good together: a block read
    /// before the filter was known says so, and the subscriber reads those rows from the table.
    pub fn subscribe(self: &Arc<Self>, filter: Filter) -> (Subscription, Standing) {
        let filter = Arc::new(filter);
        let filter_id = self.filters.lock().register(&filter);
        self.subscribers.fetch_add(1, Ordering::Relaxed);
        let subscription = Subscription {
            feed: Arc::clone(self),
            filter,
            filter_id,
        };
        (subscription, self.standing())
    }

    /// Filters that came and went since the last call, and the first id not yet given. For the feed loop.
    pub fn filter_changes(&self) -> (FilterChanges, FilterId) {
        let mut filters = self.filters.lock();
        (
            std::mem::take(&mut filters.changes),
            FilterId(filters.last + 1),
        )
    }
}

/// What [`Feed::refresh`] did.
#[derive(Debug, Clone, Copy)]
pub struct Refreshed {
    /// The history is another one.
    pub replaced: bool,
    /// The table has other columns, or is not there any more.
    pub reshaped: bool,
    /// Index of the first block that was not in the view before.
    pub fresh_from: usize,
}

/// A reader's own copy of the log's list of blocks: taken under the lock, used without it.
#[derive(Debug)]
pub struct View {
    pub epoch: Epoch,
    pub generation: u64,
    pub head: Cursor,
    /// Rows above this are in `blocks`; those up to it only in the table.
    pub floor: Cursor,
    pub blocks: VecDeque<Arc<Block>>,
    /// The table's shape; `None` while there is none.
    pub schema: Option<Arc<Schema>>,
    /// Serial number of the first block.
    first: u64,
}

impl Default for View {
    fn default() -> Self {
        View {
            epoch: Epoch::new(""),
            generation: 0,
            head: Cursor(0),
            floor: Cursor(0),
            blocks: VecDeque::new(),
            schema: None,
            first: 0,
        }
    }
}

fn same_schema(a: &Option<Arc<Schema>>, b: &Option<Arc<Schema>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

impl View {
    /// Lets go of the blocks; the next refresh brings back those there are then.
    pub fn forget_blocks(&mut self) {
        self.blocks = VecDeque::new();
    }

    /// The blocks that hold what comes after `position`, which must not be below the floor.
    pub fn after(&self, position: Cursor) -> impl Iterator<Item = &Arc<Block>> {
        let from = self.blocks.partition_point(|block| block.last <= position);
        self.blocks.range(from..)
    }
}

/// The filters in use, each under one id however many subscribers share it.
#[derive(Default)]
struct Filters {
    ids: HashMap<Arc<Filter>, (FilterId, usize)>,
    changes: FilterChanges,
    last: u64,
}

/// Filters that came into use (`Some`) or fell out of it. One that did both in between is not among them.
pub type FilterChanges = BTreeMap<FilterId, Option<Arc<Filter>>>;

impl Filters {
    fn register(&mut self, filter: &Arc<Filter>) -> FilterId {
        if filter.is_empty() {
            return FilterId::NONE;
        }
        if let Some((id, users)) = self.ids.get_mut(filter) {
            *users += 1;
            return *id;
        }
        self.last += 1;
        let id = FilterId(self.last);
        self.ids.insert(Arc::clone(filter), (id, 1));
        self.changes.insert(id, Some(Arc::clone(filter)));
        id
    }

    fn release(&mut self, filter: &Arc<Filter>) {
        if let Some((id, users)) = self.ids.get_mut(filter) {
            *users -= 1;
            if *users == 0 {
                if self.changes.remove(id).is_none() {
                    self.changes.insert(*id, None);
                }
                self.ids.remove(filter);
            }
        }
    }
}

/// A subscriber's entry in its feed; dropping it undoes what entering counted.
pub struct Subscription {
    pub feed: Arc<Feed>,
    pub filter: Arc<Filter>,
    pub filter_id: FilterId,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.feed.subscribers.fetch_sub(1, Ordering::Relaxed);
        self.feed.filters.lock().release(&self.filter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Entry;

    fn feed(rows: usize, bytes: usize) -> Arc<Feed> {
        let config = FeedConfig::stock();
        let limits = Limits {
            ring_rows: rows,
            ring_bytes: bytes,
            ..Limits::default()
        };
        Arc::new(Feed::new(0, config, &limits))
    }

    fn block(after: i64, ids: std::ops::RangeInclusive<i64>) -> Block {
        let entries: Vec<Entry> = ids
            .clone()
            .zip(1..)
            .map(|(id, n)| Entry { id, end: n * 10 })
            .collect();
        Block {
            after: Cursor(after),
            last: Cursor(*ids.end()),
            bytes: vec![0; entries.len() * 10],
            entries,
            matches: Some(Default::default()),
            read_at: Instant::now(),
        }
    }

    #[test]
    fn the_log_is_bounded_in_rows_and_in_bytes() {
        let cost = block(0, 1..=1).cost();
        for feed in [feed(5, 1 << 20), feed(1000, 5 * cost)] {
            let mut view = feed.view();
            for id in 1..=20 {
                feed.publish(block(id - 1, id..=id));
            }
            let refreshed = feed.refresh(&mut view);
            assert_eq!((refreshed.fresh_from, view.blocks.len()), (0, 5));
            assert_eq!((view.head, view.floor), (Cursor(20), Cursor(15)));
            let ids: Vec<i64> = view.after(Cursor(17)).map(|b| b.entries[0].id).collect();
            assert_eq!(ids, [18, 19, 20]);
        }
    }

    #[test]
    fn a_view_follows_step_by_step() {
        let feed = feed(5, 1 << 20);
        let mut view = feed.view();
        for id in 1..=12 {
            feed.publish(block(id - 1, id..=id));
            let refreshed = feed.refresh(&mut view);
            let fresh: Vec<i64> = view
                .blocks
                .range(refreshed.fresh_from..)
                .map(|b| b.last.0)
                .collect();
            assert_eq!(fresh, [id]);
        }
        feed.replace(Epoch::new("e2"), Cursor(3));
        assert!(feed.refresh(&mut view).replaced);
        assert!(view.blocks.is_empty());
        assert_eq!(
            (view.head, view.floor, view.epoch.clone()),
            (Cursor(3), Cursor(3), Epoch::new("e2"))
        );
        feed.publish(block(3, 4..=4));
        assert_eq!(feed.refresh(&mut view).fresh_from, 0);
        assert_eq!(view.blocks.len(), 1);
    }

    #[test]
    fn equal_filters_share_an_id_until_the_last_user_leaves() {
        let feed = feed(5, 1 << 20);
        let filter = |value| {
            let mut filter = Filter::default();
            filter.accept("tenant", value);
            filter
        };
        let (a, _) = feed.subscribe(filter("acme"));
        let (b, _) = feed.subscribe(filter("acme"));
        let (c, _) = feed.subscribe(filter("globex"));
        assert_eq!(a.filter_id, b.filter_id);
        assert_ne!(a.filter_id, c.filter_id);
        assert_eq!(feed.subscribers(), 3);
        let (changes, known_below) = feed.filter_changes();
        assert_eq!(changes.len(), 2);
        assert!(c.filter_id < known_below);
        drop(a);
        assert!(feed.filter_changes().0.is_empty());
        drop(b);
        let changes: Vec<_> = feed.filter_changes().0.into_values().collect();
        assert_eq!(changes, [None]);
        let (short, _) = feed.subscribe(filter("initech"));
        drop(short);
        assert!(feed.filter_changes().0.is_empty(), "came and went");
        assert_eq!(feed.subscribers(), 1);
    }
}
