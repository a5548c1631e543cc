//! The recent changes of each feed as a log of ready-made frames, bounded in rows and bytes; its head; and a way to
//! hear that it moved. Knows neither SQLite connections nor HTTP.

mod feed;
mod feeds;
mod filters;
mod moves;
mod older;
mod presence;
mod source_desk;
mod view;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::config::{FeedConfig, Limits};
use crate::model::wakeup::{Wake, Wakes};
pub use feed::{Feed, Standing, Subscription, TooManyValues};
pub use feeds::Feeds;
pub use filters::FilterChanges;
pub use moves::Moves;
pub use older::{NoOlderRows, NotNow, OlderPage, OlderRows};
pub use presence::{Absence, Cause, Presence};
pub use source_desk::{HOLD, SourceDesk, SourceWord};
pub use view::{Refreshed, View};

/// How long a subscription waits for the feed loop to have seen everything committed before it. Only a feed loop that
/// reads a huge transaction, or can't read at all, takes that long.
const SYNC_PATIENCE: Duration = Duration::from_millis(250);

/// Called with a feed's index when its log moved. Must not block.
pub type OnPublish = Box<dyn Fn(usize) + Send + Sync>;

/// All feeds of the daemon.
pub struct Hub {
    pub feeds: Feeds,
    limits: Limits,
    wake: Arc<Wake>,
    listeners: OnceLock<Vec<OnPublish>>,
    sync: Mutex<Vec<oneshot::Sender<bool>>>,
    health: Mutex<Health>,
    /// For the opening line and `/api/feeds`; empty while no file is open.
    journal_mode: Mutex<String>,
    /// On an edge, where it is asked for what it has not heard yet.
    source: Option<Arc<SourceDesk>>,
}

/// How the feed loop fares, for `/readyz`.
#[derive(Debug, Clone)]
struct Health {
    /// When the loop was last seen running.
    beat: Instant,
    /// Since when reads were needed and failed, and why.
    failing: Option<(Instant, String)>,
}

/// A read that was needed may fail for so long before the daemon counts as not ready, and whoever waits for it is told.
pub const READ_PATIENCE: Duration = Duration::from_secs(5);

impl Hub {
    /// A hub of these feeds, to which others may be added until there are `most`.
    pub fn new(feeds: Vec<FeedConfig>, most: usize, limits: &Limits, wake: Arc<Wake>) -> Hub {
        Hub::with_source(feeds, most, limits, wake, None)
    }

    /// The same of an edge, whose feeds come from a source.
    pub fn with_source(
        feeds: Vec<FeedConfig>,
        most: usize,
        limits: &Limits,
        wake: Arc<Wake>,
        source: Option<Arc<SourceDesk>>,
    ) -> Hub {
        let feeds = feeds
            .into_iter()
            .enumerate()
            .map(|(index, config)| Feed::new(index, config, limits, source.clone()));
        Hub {
            feeds: Feeds::new(feeds.collect(), most),
            limits: limits.clone(),
            wake,
            listeners: OnceLock::new(),
            sync: Mutex::default(),
            health: Mutex::new(Health {
                beat: Instant::now(),
                failing: None,
            }),
            journal_mode: Mutex::default(),
            source,
        }
    }

    /// The feed of this name, unless its table is gone.
    pub fn feed(&self, name: &str) -> Option<&Arc<Feed>> {
        let mut feeds = self.feeds.listed();
        feeds.find(|feed| feed.config.name == name)
    }

    /// Adds a feed; `None` where there is no room for another. Only the feed loop does.
    pub fn add(&self, config: FeedConfig) -> Option<Arc<Feed>> {
        let make = |index| Feed::new(index, config, &self.limits, self.source.clone());
        self.feeds.add(make)
    }

    /// Sets who hears of moves; once, before the feed loop starts.
    pub fn set_listeners(&self, listeners: Vec<OnPublish>) {
        // Set by the one caller that wires the daemon; a second call would change nothing.
        let _ = self.listeners.set(listeners);
    }

    /// Notes the journal mode of the file that is open; an empty text while none is.
    pub fn set_journal_mode(&self, mode: &str) {
        mode.clone_into(&mut self.journal_mode.lock());
    }

    /// The file's journal mode; `None` while no file is open.
    pub fn journal_mode(&self) -> Option<String> {
        Some(self.journal_mode.lock().clone()).filter(|mode| !mode.is_empty())
    }

    /// Tells the listeners that a feed's log moved.
    pub fn announce(&self, feed: usize) {
        for listener in self.listeners.get().into_iter().flatten() {
            listener(feed);
        }
    }

    /// Resolves when the feed loop has seen every commit that returned before the call, or after a quarter of a second.
    /// Returns whether it has.
    pub async fn caught_up(&self) -> bool {
        let (sender, receiver) = oneshot::channel();
        self.sync.lock().push(sender);
        self.wake.signal(Wakes::SYNC);
        let answer = tokio::time::timeout(SYNC_PATIENCE, receiver).await;
        matches!(answer, Ok(Ok(true)))
    }

    /// Those who wait in [`caught_up`](Self::caught_up); to be told after the next look whether it saw everything.
    pub fn take_waiting(&self) -> Vec<oneshot::Sender<bool>> {
        std::mem::take(&mut *self.sync.lock())
    }

    /// Puts back those who can't be answered yet.
    pub fn keep_waiting(&self, waiting: Vec<oneshot::Sender<bool>>) {
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
        for feed in self.feeds.listed() {
            if let Presence::Away(absence) = feed.presence()
                // Tables and their captures come and go there, and nobody misses one that went; what is out of an edge's reach
                // keeps none of its other feeds from being served.
                && !matches!(
                    absence.cause,
                    Cause::Dropped | Cause::Uncaptured | Cause::OutOfReach
                )
            {
                return Some(format!("feed {}: {}", feed.config.name, absence.message));
            }
        }
        if self.journal_mode().is_none() {
            return Some("the database is not open; the daemon's log says why".to_owned());
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
