//! One feed: its log of ready-made frames, bounded in rows and bytes, and its subscribers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::filters::{FilterChanges, Filters};
use super::presence::{Cause, Presence};
use super::source_desk::SourceDesk;
use super::view::{Refreshed, View, same_schema};
use crate::config::{FeedConfig, Limits};
use crate::model::filter::{Filter, FilterId, MAX_FEED_VALUES};
use crate::model::position::{Cursor, Epoch};
use crate::sqlite::table::Schema;
use crate::wire::block::Block;
use crate::wire::control::ResetReason;

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
    /// On an edge, where its source is asked.
    source: Option<Arc<SourceDesk>>,
}

struct Log {
    epoch: Epoch,
    /// Counts epochs within this process.
    generation: u64,
    /// Why the one before ended.
    replaced_for: ResetReason,
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

/// A feed's subscribers filter by as many values as it takes, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyValues;

impl std::error::Error for TooManyValues {}

impl fmt::Display for TooManyValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the filters of this feed's subscribers have {MAX_FEED_VALUES} values together, which is the most there may be; come back later, or filter by fewer"
        )
    }
}

/// A feed's epoch, head and readiness at one moment.
#[derive(Debug, Clone)]
pub struct Standing {
    pub epoch: Epoch,
    pub generation: u64,
    /// Why the epoch before it ended, in this process.
    pub replaced_for: ResetReason,
    pub head: Cursor,
    pub presence: Presence,
}

impl Feed {
    pub(super) fn new(
        index: usize,
        config: FeedConfig,
        limits: &Limits,
        source: Option<Arc<SourceDesk>>,
    ) -> Feed {
        let log = Log {
            epoch: Epoch::new(""),
            generation: 0,
            replaced_for: ResetReason::default(),
            head: Cursor::MIN,
            presence: Presence::away(Cause::Unreadable, "the database has not been opened yet"),
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
            source,
        }
    }

    /// Where the source of an edge is asked; `None` where the table is the source itself.
    pub fn source(&self) -> Option<&Arc<SourceDesk>> {
        self.source.as_ref()
    }

    /// A feed as the stock configuration has it, for unit tests.
    #[cfg(test)]
    pub fn stock() -> Arc<Feed> {
        Arc::new(Feed::new(0, FeedConfig::stock(), &Limits::default(), None))
    }

    /// The same of an edge that asks its source there.
    #[cfg(test)]
    pub fn of_edge(source: Arc<SourceDesk>) -> Arc<Feed> {
        let (config, limits) = (FeedConfig::stock(), Limits::default());
        Arc::new(Feed::new(0, config, &limits, Some(source)))
    }

    /// Epoch, head and presence as they are together at this moment.
    pub fn standing(&self) -> Standing {
        let log = self.log.lock();
        Standing {
            epoch: log.epoch.clone(),
            generation: log.generation,
            replaced_for: log.replaced_for,
            head: log.head,
            presence: log.presence.clone(),
        }
    }

    /// Whether the table can be read, or why not.
    pub fn presence(&self) -> Presence {
        self.log.lock().presence.clone()
    }

    /// Returns whether its table was dropped, or another feed has its place: then it is to clients as if it had never been.
    pub fn is_gone(&self) -> bool {
        self.log.lock().presence.is_gone()
    }

    /// The highest id given in this epoch.
    pub fn head(&self) -> Cursor {
        self.log.lock().head
    }

    /// What the table looks like; `None` while it can't be read.
    pub fn schema(&self) -> Option<Arc<Schema>> {
        self.log.lock().schema.clone()
    }

    /// The block that was published last, while the log holds it.
    pub fn newest(&self) -> Option<Arc<Block>> {
        self.log.lock().blocks.back().cloned()
    }

    /// Returns how many subscriptions there are.
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
    pub fn replace(&self, epoch: Epoch, head: Cursor, reason: ResetReason) {
        let mut log = self.log.lock();
        log.epoch = epoch;
        log.replaced_for = reason;
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
        let held = view.blocks.len();
        let evicted = log.evicted.saturating_sub(view.first);
        let gone = match replaced {
            true => held,
            false => evicted.min(held as u64) as usize,
        };
        view.blocks.drain(..gone);
        view.first = log.evicted;
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
        let presence_changed = view.presence != log.presence;
        if presence_changed {
            view.presence = log.presence.clone();
        }
        Refreshed {
            replaced,
            reshaped,
            presence_changed,
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
            presence: log.presence.clone(),
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
    ///
    /// # Errors
    /// The filters of all subscribers would have too many values together.
    pub fn subscribe(
        self: &Arc<Self>,
        filter: Filter,
    ) -> Result<(Subscription, Standing), TooManyValues> {
        let registered = self.filters.lock().register(filter);
        let (filter, filter_id) = registered.ok_or(TooManyValues)?;
        self.subscribers.fetch_add(1, Ordering::Relaxed);
        let subscription = Subscription {
            feed: Arc::clone(self),
            filter,
            filter_id,
        };
        Ok((subscription, self.standing()))
    }

    /// Filters that came and went since the last call, and the first id not yet given. For the feed loop.
    pub fn filter_changes(&self) -> (FilterChanges, FilterId) {
        self.filters.lock().take_changes()
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
    use crate::wire::block::Entry;
    use std::time::Instant;

    fn feed(rows: usize, bytes: usize) -> Arc<Feed> {
        let config = FeedConfig::stock();
        let limits = Limits {
            ring_rows: rows,
            ring_bytes: bytes,
            ..Limits::default()
        };
        Arc::new(Feed::new(0, config, &limits, None))
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
            handover: Default::default(),
            deflated: Default::default(),
        }
    }

    #[test]
    fn the_log_is_bounded_in_rows_and_in_bytes() {
        let cost = block(0, 1..=1).cost();
        for feed in [feed(5, 1 << 20), feed(1000, 5 * cost)] {
            feed.begin(Epoch::new("e1"), Cursor(0));
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
        feed.begin(Epoch::new("e1"), Cursor(0));
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
        feed.replace(Epoch::new("e2"), Cursor(3), ResetReason::DatabaseReplaced);
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
        let subscribe = |filter| feed.subscribe(filter).unwrap().0;
        let a = subscribe(filter("acme"));
        let b = subscribe(filter("acme"));
        let c = subscribe(filter("globex"));
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
        let short = subscribe(filter("initech"));
        drop(short);
        assert!(feed.filter_changes().0.is_empty(), "came and went");
        assert_eq!(feed.subscribers(), 1);
    }

    #[test]
    fn values_are_bounded_over_all_subscribers() {
        let feed = feed(5, 1 << 20);
        let with = |column: &str, values: usize| {
            let mut filter = Filter::default();
            (0..values).for_each(|n| filter.accept(column, &n.to_string()));
            filter
        };
        let mut held: Vec<_> = (0..MAX_FEED_VALUES / 1_000)
            .map(|n| feed.subscribe(with(&n.to_string(), 1_000)).unwrap())
            .collect();
        assert!(feed.subscribe(with("0", 1)).is_err());
        assert!(feed.subscribe(Filter::default()).is_ok());
        held.pop();
        let again = feed.subscribe(with("0", 1_000)).unwrap();
        assert!(
            feed.subscribe(with("0", 1)).is_err(),
            "shared ones count, too"
        );
        drop((held, again));
        assert!(feed.subscribe(with("0", 1)).is_ok());
    }
}
