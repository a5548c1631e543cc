//! The edge: routes that parse, authorise and hand over. Nothing below this module knows HTTP.

mod access;
mod clock;
mod dashboard;
mod error;
mod feeds;
mod history;
mod ingest;
pub mod limits;
mod query;
pub mod server;
mod sse;
mod status;
mod ws;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use warp::filters::BoxedFilter;
use warp::http::StatusCode;
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use crate::catchup::CatchUp;
use crate::fanout::Fanout;
use crate::hub::{Feed, Hub, Listener};
use crate::metrics::Metrics;
use error::HttpError;
use limits::{Connections, Ticket};

/// What handlers work with.
pub struct App {
    pub hub: Arc<Hub>,
    pub catchup: CatchUp,
    pub metrics: Arc<Metrics>,
    pub fanout: Fanout,
    pub ingest: ingest::Ingest,
    pub connections: Arc<Connections>,
    pub moves: Arc<Moves>,
    /// Browser origins allowed besides same origin and loopback.
    pub origins: Mutex<Arc<Vec<String>>>,
    pub write_timeout: Arc<Mutex<Duration>>,
    /// Turns true when the daemon drains; streams end then.
    pub draining: watch::Receiver<bool>,
    /// Turns to read history.
    history_reads: Arc<Semaphore>,
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
    pub ingest: ingest::Ingest,
    pub connections: Arc<Connections>,
    pub moves: Arc<Moves>,
    pub origins: Vec<String>,
    pub write_timeout: Arc<Mutex<Duration>>,
    pub draining: watch::Receiver<bool>,
}

pub use ingest::Ingest;

impl App {
    pub fn new(parts: Parts) -> Arc<App> {
        let paths = Paths::of(&parts.hub);
        Arc::new(App {
            hub: parts.hub,
            catchup: parts.catchup,
            metrics: parts.metrics,
            fanout: parts.fanout,
            ingest: parts.ingest,
            connections: parts.connections,
            moves: parts.moves,
            origins: Mutex::new(Arc::new(parts.origins)),
            write_timeout: parts.write_timeout,
            draining: parts.draining,
            history_reads: Arc::new(Semaphore::new(history::CONCURRENT_READS)),
            streams: AtomicU64::new(0),
            paths,
        })
    }

    fn feed(&self, name: &str) -> Result<Arc<Feed>, HttpError> {
        self.hub.feed(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self
                .hub
                .feeds
                .iter()
                .map(|feed| feed.config.name.as_str())
                .collect();
            HttpError::not_found(format!(
                "there is no feed \"{name}\"; there are {}",
                names.join(", ")
            ))
        })
    }
}

/// Paths that the configuration names.
struct Paths {
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
            ws: by_path(|feed| &feed.config.ws),
            history: by_path(|feed| &feed.config.history),
        }
    }
}

/// The feed at this path, or word to look among the other routes.
fn feed_at(path: &FullPath, feeds: &HashMap<String, Arc<Feed>>) -> Result<Arc<Feed>, Rejection> {
    let feed = feeds.get(path.as_str()).cloned();
    feed.ok_or_else(warp::reject::not_found)
}

/// Lets async code wait for a feed's log to move.
pub struct Moves(Vec<watch::Sender<()>>);

impl Moves {
    pub fn new(feeds: usize) -> Arc<Moves> {
        Arc::new(Moves((0..feeds).map(|_| watch::Sender::new(())).collect()))
    }

    pub fn listener(self: &Arc<Self>) -> Listener {
        let moves = Arc::clone(self);
        Box::new(move |feed| {
            moves.0[feed].send_replace(());
        })
    }

    fn subscribe(&self, feed: usize) -> watch::Receiver<()> {
        self.0[feed].subscribe()
    }
}

/// The connection a request came in on; a request extension.
#[derive(Clone)]
pub struct Peer {
    /// Keeps the connection counted for as long as what it became lives.
    ticket: Arc<Ticket>,
}

/// Adds the state to a filter's extracts.
fn with(
    app: &Arc<App>,
) -> impl Filter<Extract = (Arc<App>,), Error = std::convert::Infallible> + Clone + use<> {
    let app = Arc::clone(app);
    warp::any().map(move || Arc::clone(&app))
}

/// The raw query string, empty where there is none.
fn raw_query() -> impl Filter<Extract = (String,), Error = std::convert::Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

/// Every route. Answers own their bodies, and the filter is boxed: borrowing replies make the spawned service's
/// lifetimes unprovable.
pub fn routes(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let get = warp::get().or(warp::head()).unify();
    let api = warp::path!("api" / "feeds" / ..);
    let list = api
        .and(warp::path::end())
        .and(get)
        .and(with(app))
        .then(feeds::list);
    let events = api.and(warp::path!(String / "events"));
    let read = events
        .and(get)
        .and(raw_query())
        .and(with(app))
        .then(history::of_feed);
    let write = events
        .and(warp::post())
        .and(warp::body::stream())
        .and(with(app))
        .then(ingest::post);
    let sse = warp::path!("sse" / String)
        .and(warp::get())
        .and(raw_query())
        .and(warp::header::optional::<String>("last-event-id"))
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(sse::stream);
    let healthz = warp::path!("healthz").and(get).then(status::healthz);
    let readyz = warp::path!("readyz")
        .and(get)
        .and(with(app))
        .then(status::readyz);
    let metrics = warp::path!("metrics")
        .and(get)
        .and(with(app))
        .then(status::metrics);
    let by_path = warp::path::full().and(with(app));
    // Paths go before methods: a path that is not there is not found, whatever the method.
    let alias = by_path
        .clone()
        .and_then(history::alias_of)
        .and(get)
        .and(raw_query())
        .and(with(app))
        .then(history::read);
    let upgrade = by_path
        .and_then(ws::feed_of)
        .and(warp::get())
        .and(raw_query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<hyper::upgrade::OnUpgrade>())
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(ws::upgrade);
    let fixed = healthz.or(readyz).unify().or(metrics).unify();
    let feeds = list.or(read).unify().or(write).unify().or(sse).unify();
    let configured = upgrade.or(alias).unify();
    let all = configured
        .or(feeds)
        .unify()
        .or(fixed)
        .unify()
        .or(dashboard::files())
        .unify();
    all.recover(refused).unify().boxed()
}

/// A request that no route took.
async fn refused(rejection: Rejection) -> Result<Response, std::convert::Infallible> {
    let bad = |message| HttpError::new(StatusCode::BAD_REQUEST, "bad_request", message);
    let error = if let Some(header) = rejection.find::<warp::reject::InvalidHeader>() {
        bad(format!(
            "header \"{}\" is not plain text; send it in ASCII or leave it out",
            header.name()
        ))
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        let message = "this path does not take that method";
        HttpError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
    } else if rejection.is_not_found() {
        HttpError::not_found(
            "there is nothing at this path; `/api/feeds` lists the feeds and their paths",
        )
    } else {
        tracing::debug!("a request was rejected: {rejection:?}");
        bad("the request is malformed; check its path, query and headers".to_owned())
    };
    Ok(error.into_response())
}
