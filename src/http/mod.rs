//! The edge: routes that parse, authorise and hand over. Nothing below this module knows HTTP.

mod browser_client;
mod dashboard;
mod error;
mod feeds;
mod forwarded;
mod health;
mod held_answers;
mod history;
mod history_limits;
mod host_and_origin;
mod ingest;
pub(crate) mod params;
mod refused;
mod request_line;
mod router;
pub mod server;
mod sse;
mod timeouts;
mod ws;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::access::{AuthFailure, FeedGrant, Gate, Grant};
use crate::catchup::CatchUp;
use crate::config::HistoryLimits;
use crate::fanout::Fanout;
use crate::hub::{Absence, Cause, Feed, Hub, OnPublish, Presence, TooManyValues};
use crate::model::filter::{FilterColumn, Scope};
use crate::model::position::Cursor;
use crate::model::read_owner::Client;
use crate::net::connection_limits::{Connections, Ticket};
use crate::sqlite::highest_id;
use crate::telemetry::metrics::Metrics;
use crate::text::nearest::did_you_mean;
use error::HttpError;
use held_answers::Answers;
use history_limits::HistoryQueue;
use timeouts::Timeouts;

/// Looks at where a table ends that run at once. Each opens a connection.
const CONCURRENT_GLIMPSES: usize = 2;

/// The state that request handlers share.
pub struct App {
    pub hub: Arc<Hub>,
    pub catchup: CatchUp,
    pub metrics: Arc<Metrics>,
    pub fanout: Fanout,
    pub ingest: Ingest,
    pub connections: Arc<Connections>,
    pub moves: Arc<Moves>,
    /// Which pages may come in, and under which names.
    pub access: Mutex<Arc<HostAndOrigin>>,
    /// Who may come in.
    pub gate: Arc<Gate>,
    pub write_timeout: Arc<Mutex<Duration>>,
    /// Turns true when the daemon drains; streams end then.
    pub draining: watch::Receiver<bool>,
    /// Answers that are held.
    answers: Arc<Answers>,
    /// Requests for history that wait.
    history_queue: Arc<HistoryQueue>,
    /// How long such a request may wait for its turn, and then look for its rows.
    history_wait: Duration,
    history_time: Duration,
    /// Turns to look where a table ends.
    glimpses: Semaphore,
    /// How many streams of server-sent events there ever were.
    streams: AtomicU64,
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
    pub access: HostAndOrigin,
    pub gate: Arc<Gate>,
    pub write_timeout: Arc<Mutex<Duration>>,
    pub draining: watch::Receiver<bool>,
    /// What histories may cost.
    pub history: HistoryLimits,
}

pub use host_and_origin::HostAndOrigin;
pub use ingest::Ingest;
pub use router::routes;

impl App {
    pub fn new(parts: Parts) -> Arc<App> {
        let paths = Paths::of(&parts.hub);
        let (limits, metrics) = (&parts.history, &parts.metrics);
        let answers = Answers::new(limits.answers, metrics.answers_held.clone());
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
            access: Mutex::new(Arc::new(parts.access)),
            gate: parts.gate,
            write_timeout: parts.write_timeout,
            draining: parts.draining,
            answers,
            history_queue,
            history_wait: parts.history.wait,
            history_time: parts.history.time,
            glimpses: Semaphore::new(CONCURRENT_GLIMPSES),
            streams: AtomicU64::new(0),
            paths,
        })
    }

    /// The feed of that name, where it is there for this grant.
    fn feed(&self, name: &str, grant: &Grant) -> Result<Arc<Feed>, HttpError> {
        let feed = self.hub.feed(name).filter(|_| grant.knows(name));
        feed.cloned().ok_or_else(|| {
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

impl App {
    /// The feed whose subscribers connect to this path.
    fn feed_at_ws(&self, path: &str) -> Option<Arc<Feed>> {
        self.feed_at(path, &self.paths.ws, |feed| &feed.config.ws)
    }

    /// The feed whose history has this alias.
    fn feed_at_history(&self, path: &str) -> Option<Arc<Feed>> {
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
            feeds.find(|feed| paths(feed).iter().any(|own| own == path))
        };
        let feed = at_start.get(path).or_else(come_since);
        feed.filter(|feed| !feed.is_gone()).cloned()
    }
}

/// The rows of a feed that a grant allows.
fn scope_of(app: &App, feed: &Feed, grant: &Grant) -> Result<Scope, HttpError> {
    let name = &feed.config.name;
    match grant.feed(name) {
        Some(FeedGrant::Rows(scope)) => {
            let schema = feed.schema();
            let gone = |column: &&str| {
                let column = FilterColumn::Scope(column);
                schema
                    .as_ref()
                    .is_some_and(|schema| schema.place_of(column).is_none())
            };
            let missing = scope.columns().find(gone).map(str::to_owned);
            match missing {
                Some(column) => {
                    tracing::warn!(
                        feed = name,
                        credential = grant.name(),
                        "the grant compares the column {column:?}, which the feed does not have; where it is not shown, \
                         name it in `scope`"
                    );
                    Err(HttpError::unavailable(
                        "a column that tells whose rows are whose is not there; the daemon's log says which",
                    ))
                }
                None => Ok(scope),
            }
        }
        Some(FeedGrant::ClaimMissing(column)) => {
            let failure = AuthFailure::ClaimMissing(column);
            app.metrics.auth_failure(&failure);
            tracing::info!(
                reason = failure.code(),
                credential = grant.name(),
                "a credential was refused"
            );
            Err(failure.into())
        }
        // Taken away since the request came in.
        None => Err(HttpError::not_found("there is no such feed")),
    }
}

/// Refuses subscriptions of a table that can't be a feed as it is, naming the remedy. One that is only not there yet is
/// waited for.
fn refuse_unfit(feed: &Feed) -> Result<(), HttpError> {
    match feed.presence() {
        Presence::Away(Absence {
            cause: Cause::Unfit,
            message,
        }) => Err(HttpError::unavailable(&*message)),
        _ => Ok(()),
    }
}

/// Waits until the feed loop has seen what was committed up to now. Where that takes too long, for it reads a huge
/// transaction or somebody holds the file: up to which id rows were committed, as far as can be told.
async fn committed_before(app: &App, feed: &Arc<Feed>) -> Option<Cursor> {
    if app.hub.caught_up().await {
        return None;
    }
    let schema = feed.schema()?;
    let path = app.catchup.pool.path().to_owned();
    let _turn = app.glimpses.acquire().await.ok()?;
    let read = tokio::task::spawn_blocking(move || highest_id::highest(&path, &schema.table));
    // A panic there has been logged; the feed's own head serves as well.
    read.await.ok().flatten().map(Cursor)
}

/// Refuses a filter for which there is no room.
fn too_many_values(error: TooManyValues) -> HttpError {
    HttpError::at_capacity(error.to_string())
}

/// Lets async code wait for a feed's log to move.
pub struct Moves(Vec<watch::Sender<()>>);

impl Moves {
    pub fn new(feeds: usize) -> Arc<Moves> {
        Arc::new(Moves((0..feeds).map(|_| watch::Sender::new(())).collect()))
    }

    pub fn listener(self: &Arc<Self>) -> OnPublish {
        let moves = Arc::clone(self);
        Box::new(move |feed| {
            moves.0[feed].send_replace(());
        })
    }

    fn subscribe(&self, feed: usize) -> watch::Receiver<()> {
        self.0[feed].subscribe()
    }
}

/// The client behind a request; put into the request's extensions.
#[derive(Clone)]
pub struct Peer {
    /// Keeps the client counted for as long as what its request became lives.
    ticket: Arc<Ticket>,
    /// Who is on its other side, as far as taking turns goes.
    client: Client,
    /// Its address for the log, as far as known: that of a proxy's client where the proxy is trusted; `None` on a Unix
    /// socket.
    address: Option<IpAddr>,
    timeouts: Arc<Timeouts>,
    grant: Arc<Grant>,
}
