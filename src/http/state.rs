//! The state that request handlers share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use warp::http::HeaderValue;

use crate::access::{Gate, Grant};
use crate::catchup::CatchUp;
use crate::config::{CompressionRules, HistoryLimits};
use crate::edge::Edge;
use crate::fanout::Fanout;
use crate::http::error::HttpError;
use crate::http::gzip::Gzip;
use crate::http::held_answers::Answers;
use crate::http::history_limits::HistoryQueue;
use crate::http::host_and_origin::HostAndOrigin;
use crate::http::ingest_queue::Ingest;
use crate::hub::{Feed, Hub, Moves};
use crate::net::connection_limits::Connections;
use crate::publish::Publishing;
use crate::sinks::Sinks;
use crate::telemetry::metrics::Metrics;
use crate::text::nearest::did_you_mean;

/// Looks at where a table ends that run at once. Each opens a connection.
const CONCURRENT_GLIMPSES: usize = 2;

/// What request handlers work with, and what a reload changes of it.
pub struct App {
    pub hub: Arc<Hub>,
    pub catchup: CatchUp,
    pub metrics: Arc<Metrics>,
    pub fanout: Fanout,
    pub ingest: Ingest,
    pub connections: Arc<Connections>,
    pub moves: Arc<Moves>,
    pub sinks: Sinks,
    pub publishing: Publishing,
    /// What feeds it, where it is an edge.
    pub edge: Option<Arc<Edge>>,
    /// Which pages may come in, and under which names.
    pub access: Mutex<Arc<HostAndOrigin>>,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// Of how many feeds the gate knows whose rows are whose.
    learned: Mutex<usize>,
    pub write_timeout: Arc<Mutex<Duration>>,
    /// Subscriptions that one WebSocket of several feeds may have.
    pub max_subscriptions: usize,
    /// Turns true when the daemon drains; streams end then.
    pub draining: watch::Receiver<bool>,
    /// What browsers are told over TLS of how long to come by that alone.
    pub(super) hsts: Option<HeaderValue>,
    /// Answers that are held.
    pub(super) answers: Arc<Answers>,
    /// Requests for history that wait.
    pub(super) history_queue: Arc<HistoryQueue>,
    /// How long such a request may wait for its turn, and then look for its rows.
    pub(super) history_wait: Duration,
    pub(super) history_time: Duration,
    /// Turns to look where a table ends.
    pub(super) glimpses: Semaphore,
    /// How many streams of server-sent events, and WebSockets of several feeds, there ever were.
    pub(super) streams: AtomicU64,
    pub(super) compression: CompressionRules,
    pub(super) gzip: Gzip,
    paths: Paths,
}

/// Handles an [`App`] is made of, besides those it makes itself.
pub struct Parts {
    pub hub: Arc<Hub>,
    pub catchup: CatchUp,
    pub metrics: Arc<Metrics>,
    pub fanout: Fanout,
    pub ingest: Ingest,
    pub connections: Arc<Connections>,
    pub moves: Arc<Moves>,
    pub sinks: Sinks,
    pub publishing: Publishing,
    pub edge: Option<Arc<Edge>>,
    pub access: HostAndOrigin,
    pub gate: Arc<Gate>,
    pub write_timeout: Arc<Mutex<Duration>>,
    pub max_subscriptions: usize,
    pub draining: watch::Receiver<bool>,
    /// For how long browsers are to come over TLS alone.
    pub hsts: Option<Duration>,
    /// What histories may cost.
    pub history: HistoryLimits,
    /// What is compressed for clients that take it so.
    pub compression: CompressionRules,
}

impl App {
    /// Puts the state together; the limits on histories are set for good.
    pub fn new(parts: Parts) -> Arc<App> {
        let paths = Paths::of(&parts.hub);
        let (limits, metrics) = (&parts.history, &parts.metrics);
        let answers = Answers::new(limits.answers, metrics.answers_held.clone());
        let gzip = Gzip::new(Arc::clone(metrics));
        let history_queue = HistoryQueue::new(
            limits.waiting,
            limits.waiting_per_client,
            metrics.histories_waiting.clone(),
        );
        Arc::new(App {
            hub: parts.hub,
            catchup: parts.catchup,
            metrics: parts.metrics,
            fanout: parts.fanout,
            ingest: parts.ingest,
            connections: parts.connections,
            moves: parts.moves,
            sinks: parts.sinks,
            publishing: parts.publishing,
            edge: parts.edge,
            access: Mutex::new(Arc::new(parts.access)),
            gate: parts.gate,
            learned: Mutex::default(),
            write_timeout: parts.write_timeout,
            max_subscriptions: parts.max_subscriptions,
            draining: parts.draining,
            // A number is always a valid header.
            hsts: parts
                .hsts
                .and_then(|age| HeaderValue::try_from(format!("max-age={}", age.as_secs())).ok()),
            answers,
            history_queue,
            history_wait: parts.history.wait,
            history_time: parts.history.time,
            glimpses: Semaphore::new(CONCURRENT_GLIMPSES),
            streams: AtomicU64::new(0),
            compression: parts.compression,
            gzip,
            paths,
        })
    }

    /// Has the gate know the feeds of an edge before it judges by their scopes: they come while it runs.
    pub(super) fn learn_feeds(&self) {
        if self.edge.is_none() {
            return;
        }
        let mut learned = self.learned.lock();
        let there = self.hub.feeds.len();
        if *learned != there {
            self.gate
                .learn(self.hub.feeds.iter().map(|feed| &feed.config));
            *learned = there;
        }
    }

    /// What is said on an edge of what is not there, while it has not heard which feeds there are.
    pub(super) fn unheard_origin(&self) -> Option<HttpError> {
        let edge = self.edge.as_ref()?;
        let is_there = |feed: &str| self.hub.feed(feed).is_some();
        let unheard = !edge.status().knows_feeds(is_there);
        unheard.then(|| {
            HttpError::unavailable(
                "this edge has not heard from its origin yet which feeds there are",
            )
        })
    }

    /// The feed of that name, where it is there for this grant.
    pub(super) fn feed(&self, name: &str, grant: &Grant) -> Result<Arc<Feed>, HttpError> {
        let feed = self.hub.feed(name).filter(|_| grant.knows(name));
        feed.cloned().ok_or_else(|| {
            if let Some(error) = self.unheard_origin() {
                return error;
            }
            let feeds = self.hub.feeds.listed();
            let names = feeds.map(|feed| feed.config.name.as_str());
            let names: Vec<&str> = names.filter(|name| grant.knows(name)).collect();
            let hint = did_you_mean(name, names.iter().copied());
            HttpError::not_found(format!(
                "there is no feed \"{name}\"{hint}; there are {}",
                names.join(", ")
            ))
        })
    }

    /// The feed whose subscribers connect to this path.
    pub(super) fn feed_at_ws(&self, path: &str) -> Option<Arc<Feed>> {
        self.feed_at(path, &self.paths.ws, |feed| &feed.config.ws)
    }

    /// The feed whose history has this alias.
    pub(super) fn feed_at_history(&self, path: &str) -> Option<Arc<Feed>> {
        self.feed_at(path, &self.paths.history, |feed| &feed.config.history)
    }

    fn feed_at(
        &self,
        path: &str,
        at_start: &HashMap<String, Arc<Feed>>,
        paths: fn(&Feed) -> &Vec<String>,
    ) -> Option<Arc<Feed>> {
        let come_since = || {
            let mut feeds = self.hub.feeds.iter().skip(self.paths.feeds);
            feeds.find(|feed| !feed.is_gone() && paths(feed).iter().any(|own| own == path))
        };
        let there = at_start.get(path).filter(|feed| !feed.is_gone());
        there.or_else(come_since).cloned()
    }
}

/// The paths of the feeds there were at start.
struct Paths {
    /// How many feeds that were.
    feeds: usize,
    ws: HashMap<String, Arc<Feed>>,
    history: HashMap<String, Arc<Feed>>,
}

impl Paths {
    fn of(hub: &Hub) -> Paths {
        let by_path = |paths: fn(&Feed) -> &Vec<String>| {
            let pairs = hub.feeds.iter().flat_map(move |feed| {
                paths(feed)
                    .iter()
                    .map(move |path| (path.clone(), Arc::clone(feed)))
                    .collect::<Vec<_>>()
            });
            pairs.collect()
        };
        Paths {
            feeds: hub.feeds.len(),
            ws: by_path(|feed| &feed.config.ws),
            history: by_path(|feed| &feed.config.history),
        }
    }
}
