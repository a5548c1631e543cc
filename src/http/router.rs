//! The routes: which paths there are, in their one spelling, and what each takes.

use std::convert::Infallible;
use std::sync::Arc;

use warp::filters::BoxedFilter;
use warp::http::{HeaderValue, Method, StatusCode, header};
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use crate::access::Grant;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::request_line::{ASTERISK, EVERY_METHOD};
use crate::http::state::App;
use crate::http::{browser_client, dashboard, feeds, health, history, ingest, multi, sse, ws};

/// The methods of what can only be read.
const READ: &str = "GET, HEAD, OPTIONS";

/// Answers a request that no handler has to see: for a path that is not there, with a method that it does not take, or
/// about its methods. `None`: a handler has to see it. The error: there is nothing at the path, for whoever holds this
/// grant.
///
/// Paths go before methods: a path that is not there is not found, whatever the method. They are compared as they were
/// written, so what a proxy allows or denies by its path can't be had under another spelling.
pub(super) fn answer_early(
    app: &App,
    grant: &Grant,
    method: &Method,
    path: &str,
) -> Result<Option<Response>, HttpError> {
    let methods = methods_at(app, grant, path)?;
    let takes = |method: &Method| methods.split(", ").any(|taken| taken == method.as_str());
    let mut response = match *method {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        // Says why rows are not taken, and how to change that.
        Method::POST if path.ends_with(EVENTS) => return Ok(None),
        _ if takes(method) => return Ok(None),
        _ => {
            let message = format!("this path does not take that method; it takes {methods}");
            let status = StatusCode::METHOD_NOT_ALLOWED;
            HttpError::new(status, "method_not_allowed", message).into_response()
        }
    };
    let allow = HeaderValue::from_static(methods);
    response.headers_mut().insert(header::ALLOW, allow);
    Ok(Some(response))
}

/// The end of the path of a feed's rows.
const EVENTS: &str = "/events";

/// Returns the methods that this path takes, as for an `Allow` header.
fn methods_at(app: &App, grant: &Grant, path: &str) -> Result<&'static str, HttpError> {
    let configured = app.feed_at_ws(path).or_else(|| app.feed_at_history(path));
    if configured.is_some_and(|feed| grant.knows(&feed.config.name)) {
        return Ok(READ);
    }
    // A name is one segment of a path.
    let name = |text: &str| !text.is_empty() && !text.contains('/');
    if let Some(feed) = path.strip_prefix("/sse/").filter(|text| name(text)) {
        return app.feed(feed, grant).map(|_| READ);
    }
    let events = path
        .strip_prefix("/api/feeds/")
        .and_then(|rest| rest.strip_suffix(EVENTS));
    if let Some(feed) = events.filter(|text| name(text)) {
        return app.feed(feed, grant).map(|feed| match feed.config.ingest {
            true => EVERY_METHOD,
            false => READ,
        });
    }
    match path {
        ASTERISK => Ok(EVERY_METHOD),
        "/"
        | "/healthz"
        | "/readyz"
        | "/metrics"
        | "/api/feeds"
        | multi::PATH
        | browser_client::PATH => Ok(READ),
        _ if dashboard::is_file(path) => Ok(READ),
        _ => Err(app.unheard_origin().unwrap_or_else(nothing_here)),
    }
}

/// Returns whether what is at the path is everybody's: the dashboard's own files, the browser's client, and the daemon's
/// health.
pub(super) fn is_public(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | browser_client::PATH) || dashboard::is_file(path)
}

fn nothing_here() -> HttpError {
    HttpError::not_found(
        "there is nothing at this path; `/api/feeds` lists the feeds and their paths",
    )
}

/// Adds the state to a filter's extracts.
fn with(app: &Arc<App>) -> impl Filter<Extract = (Arc<App>,), Error = Infallible> + Clone + use<> {
    let app = Arc::clone(app);
    warp::any().map(move || Arc::clone(&app))
}

/// The raw query string, empty where there is none.
fn raw_query() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
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
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(feeds::list);
    let events = api.and(warp::path!(String / "events"));
    let read = events
        .and(get)
        .and(raw_query())
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(history::of_feed);
    let write = events
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(ingest::post);
    let sse = warp::path!("sse" / String)
        .and(get)
        .and(raw_query())
        .and(warp::header::optional::<String>("last-event-id"))
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(sse::stream);
    let healthz = warp::path!("healthz").and(get).then(health::healthz);
    let readyz = warp::path!("readyz")
        .and(get)
        .and(with(app))
        .then(health::readyz);
    let metrics = warp::path!("metrics")
        .and(get)
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(health::metrics);
    let by_path = warp::path::full().and(with(app));
    // Paths go before methods: a path that is not there is not found, whatever the method.
    let alias = by_path
        .clone()
        .and_then(history::alias_of)
        .and(get)
        .and(raw_query())
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(history::read);
    let several = by_path
        .clone()
        .and(warp::header::headers_cloned())
        .and_then(multi::asked)
        .and(get)
        .and(raw_query())
        .and(warp::ext::optional::<hyper::upgrade::OnUpgrade>())
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(multi::upgrade);
    let upgrade = by_path
        .and_then(ws::feed_of)
        .and(get)
        .and(raw_query())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<hyper::upgrade::OnUpgrade>())
        .and(warp::ext::get::<Peer>())
        .and(with(app))
        .then(ws::upgrade);
    let fixed = healthz.or(readyz).unify().or(metrics).unify();
    let feeds = list.or(read).unify().or(write).unify().or(sse).unify();
    let configured = several.or(upgrade).unify().or(alias).unify();
    let all = configured
        .or(feeds)
        .unify()
        .or(fixed)
        .unify()
        .or(dashboard::files(app))
        .unify()
        .or(browser_client::script(app))
        .unify();
    all.recover(refused).unify().boxed()
}

/// Answers a request that no route took.
async fn refused(rejection: Rejection) -> Result<Response, Infallible> {
    let bad = |message| HttpError::new(StatusCode::BAD_REQUEST, "bad_request", message);
    let error = if let Some(header) = rejection.find::<warp::reject::InvalidHeader>() {
        bad(format!(
            "header \"{}\" is not plain text; send it in ASCII or leave it out",
            header.name()
        ))
    } else if rejection.is_not_found() {
        nothing_here()
    } else {
        tracing::debug!("a request was rejected: {rejection:?}");
        bad("the request is malformed; check its path, query and headers".to_owned())
    };
    Ok(error.into_response())
}
