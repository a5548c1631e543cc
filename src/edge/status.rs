//! How an edge fares: which feeds it has from its origin, how old they are where it does not hear of it, and why.

use std::collections::{BTreeMap, HashMap};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::telemetry::metrics::Metrics;

/// The origin says something every 25 s; what was heard in a longer time ago may not be all there is.
const SILENCE: Duration = Duration::from_secs(30);

/// How the edge fares, told by those who feed it and read by whoever asks.
pub struct EdgeStatus {
    origin: String,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    changed: Condvar,
    lines: Mutex<HashMap<Arc<str>, Line>>,
    must_restart: watch::Sender<Option<String>>,
}

/// A feeder's connection, as others see it.
#[derive(Default)]
struct Line {
    socket: Option<TcpStream>,
    sent_back: bool,
}

#[derive(Default)]
struct State {
    /// The list of feeds was had once.
    listed: bool,
    /// Why the list can't be had.
    origin_trouble: Option<String>,
    /// Since when the spool can't be written, and why.
    spool_trouble: Option<(Instant, String)>,
    feeds: BTreeMap<Arc<str>, FeedState>,
}

struct FeedState {
    /// Everything was here then, as far as was known.
    current_at: Instant,
    /// Rows come as they are committed.
    live: bool,
    /// All that there was has come once.
    filled: bool,
    trouble: Option<String>,
}

impl FeedState {
    fn lag(&self, now: Instant) -> Duration {
        let old = now.duration_since(self.current_at);
        match self.live && old < SILENCE {
            true => Duration::ZERO,
            false => old,
        }
    }
}

/// A feed, for whoever asks.
#[derive(Debug, Clone)]
pub struct FeedReport {
    pub feed: String,
    /// For how long it may not have all that its origin has.
    pub lag: Duration,
    /// Why.
    pub trouble: Option<String>,
}

/// The edge, for whoever asks.
#[derive(Debug, Clone)]
pub struct EdgeReport {
    pub origin: String,
    /// That of the feed that lags most.
    pub lag: Duration,
    pub trouble: Option<String>,
    pub feeds: Vec<FeedReport>,
}

impl EdgeStatus {
    pub(super) fn new(origin: String, metrics: Arc<Metrics>) -> EdgeStatus {
        EdgeStatus {
            origin,
            metrics,
            state: Mutex::default(),
            changed: Condvar::new(),
            lines: Mutex::default(),
            must_restart: watch::Sender::new(None),
        }
    }

    pub(super) fn must_restart(&self) -> watch::Receiver<Option<String>> {
        self.must_restart.subscribe()
    }

    /// The daemon has to be started again, for this reason.
    pub(super) fn demand_restart(&self, why: String) {
        tracing::warn!("{why}");
        self.must_restart.send_replace(Some(why));
    }

    /// The list of feeds was had.
    pub(super) fn listed(&self, feeds: impl Iterator<Item = Arc<str>>) {
        let mut state = self.state.lock();
        if let Some(was) = state.origin_trouble.take() {
            tracing::info!("the origin {} answers again (it was: {was})", self.origin);
        }
        state.listed = true;
        for feed in feeds {
            state.feeds.entry(feed).or_insert_with(|| FeedState {
                current_at: Instant::now(),
                live: false,
                filled: false,
                trouble: None,
            });
        }
        self.changed.notify_all();
    }

    /// The list of feeds can't be had.
    pub(super) fn unlisted(&self, why: String) {
        let mut state = self.state.lock();
        if state.origin_trouble.as_ref() != Some(&why) {
            tracing::warn!("{why}; what the spool holds is served meanwhile");
        }
        state.origin_trouble = Some(why);
    }

    /// The origin does not have the feed any more.
    pub(super) fn forget(&self, feed: &str) {
        self.state.lock().feeds.remove(feed);
        // One that was never measured has no gauge.
        let _ = self.metrics.edge_lag.remove_label_values(&[feed]);
    }

    /// Something came of a feed on a connection over which rows come as they are committed.
    pub(super) fn heard(&self, feed: &str) {
        let mut state = self.state.lock();
        if let Some(feed) = state.feeds.get_mut(feed).filter(|feed| feed.live) {
            feed.current_at = Instant::now();
        }
    }

    /// All that the origin had has come.
    pub(super) fn live(&self, feed: &str) {
        let mut state = self.state.lock();
        let Some(known) = state.feeds.get_mut(feed) else {
            return;
        };
        let lag = known.lag(Instant::now());
        if let Some(was) = known.trouble.take() {
            tracing::info!(
                "feed {feed} is had again, after {:.1} s ({was})",
                lag.as_secs_f64()
            );
        }
        (known.current_at, known.live, known.filled) = (Instant::now(), true, true);
        self.changed.notify_all();
    }

    /// A feed is not to be had for as long as the edge runs: nothing is to be waited for.
    #[cfg(feature = "nats")]
    pub(super) fn out_of_reach(&self, feed: &str) {
        if let Some(known) = self.state.lock().feeds.get_mut(feed) {
            known.filled = true;
        }
        self.changed.notify_all();
    }

    /// Rows of a feed do not come any more.
    pub(super) fn cut_off(&self, feed: &str, why: &str) {
        let mut state = self.state.lock();
        let Some(known) = state.feeds.get_mut(feed) else {
            return;
        };
        if known.trouble.as_deref() != Some(why) {
            tracing::warn!(
                "feed {feed} is not had from its origin: {why}; what the spool holds is served meanwhile"
            );
        }
        (known.live, known.trouble) = (false, Some(why.to_owned()));
    }

    /// The spool can't be written; `None`: it can.
    pub(super) fn spool(&self, trouble: Option<String>) {
        let mut state = self.state.lock();
        match (trouble, state.spool_trouble.take()) {
            (Some(why), Some((since, before))) => {
                if before != why {
                    tracing::error!("{why}");
                }
                state.spool_trouble = Some((since, why));
            }
            (Some(why), None) => {
                tracing::error!("{why}; rows are taken in as soon as it can be written");
                state.spool_trouble = Some((Instant::now(), why));
            }
            (None, Some((since, _))) => {
                let time = since.elapsed().as_secs_f64();
                tracing::info!("the spool can be written again, after {time:.1} s");
            }
            (None, None) => {}
        }
    }

    /// Returns whether the feeds that the origin has are known, and all of them are there.
    pub fn knows_feeds(&self, is_there: impl Fn(&str) -> bool) -> bool {
        let state = self.state.lock();
        state.listed && state.feeds.keys().all(|feed| is_there(feed))
    }

    /// A feeder is about to ask where it is to go on.
    pub(super) fn begins(&self, feed: &Arc<str>) {
        self.lines.lock().insert(Arc::clone(feed), Line::default());
    }

    /// A feeder has a connection, which ends where it is sent back. `false`: it was meanwhile.
    pub(super) fn connected(&self, feed: &Arc<str>, socket: &TcpStream) -> bool {
        let mut lines = self.lines.lock();
        let line = lines.entry(Arc::clone(feed)).or_default();
        // Without another handle it can't be sent back at once, but is with what comes next.
        line.socket = socket.try_clone().ok();
        !line.sent_back
    }

    /// Has a feeder ask anew where it is to go on.
    pub(super) fn send_back(&self, feed: &str) {
        if let Some(line) = self.lines.lock().get_mut(feed) {
            line.sent_back = true;
            if let Some(socket) = line.socket.take() {
                // One that is closed already is what is wanted.
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }

    /// Returns whether a feeder was sent back since it began.
    pub(super) fn is_sent_back(&self, feed: &str) -> bool {
        self.lines
            .lock()
            .get(feed)
            .is_some_and(|line| line.sent_back)
    }

    /// How it fares.
    pub fn report(&self) -> EdgeReport {
        let now = Instant::now();
        let state = self.state.lock();
        let spool = state.spool_trouble.as_ref();
        let stuck = spool.map_or(Duration::ZERO, |(since, _)| now.duration_since(*since));
        let feeds = state.feeds.iter().map(|(name, feed)| FeedReport {
            feed: name.to_string(),
            lag: feed.lag(now).max(stuck),
            trouble: spool
                .map(|(_, why)| why.clone())
                .or_else(|| feed.trouble.clone()),
        });
        let feeds: Vec<FeedReport> = feeds.collect();
        let most = feeds.iter().max_by_key(|feed| feed.lag);
        EdgeReport {
            origin: self.origin.clone(),
            lag: most.map_or(Duration::ZERO, |feed| feed.lag),
            trouble: most
                .and_then(|feed| feed.trouble.clone())
                .or_else(|| state.origin_trouble.clone()),
            feeds,
        }
    }

    /// Writes down what is measured.
    pub fn measure(&self) {
        for feed in self.report().feeds {
            let lag = self.metrics.edge_lag.with_label_values(&[&feed.feed]);
            lag.set(feed.lag.as_secs_f64());
        }
    }

    pub(super) fn wait_until_filled(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        while !(state.listed && state.feeds.values().all(|feed| feed.filled)) {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }
}
