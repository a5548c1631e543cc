//! `GET /ws`: one WebSocket with several subscriptions, of one feed or of many. Its client subscribes by messages; each
//! subscription is a resumable one, whose frames come in an envelope that tells whose they are. Such a socket is a task on
//! the runtime, and each of its subscriptions another: the shards of the fan-out know nothing of it.

mod message;
mod outbox;
mod socket;
mod subscription;

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use warp::Rejection;
use warp::http::{HeaderMap, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

use crate::http::error::HttpError;
use crate::http::handshake::{
    asks_for_websocket, has_no_body, offers, refuse, switching_protocols, upgrade_required,
    websocket_key,
};
use crate::http::params;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::telemetry::connection_span::connection_span;
use crate::wire::MULTI_SUBPROTOCOL;
use socket::Socket;

/// Where such sockets are.
pub(super) const PATH: &str = "/ws";
/// The feed of their connections in the log.
const MANY: &str = "*";

/// The headers of a request for such a socket. Where a feed has this path as its own, the subprotocol tells them apart.
pub(super) async fn asked(
    path: FullPath,
    app: Arc<App>,
    headers: HeaderMap,
) -> Result<HeaderMap, Rejection> {
    let path = path.as_str();
    match path == PATH && (offers(&headers, MULTI_SUBPROTOCOL) || app.feed_at_ws(path).is_none()) {
        true => Ok(headers),
        false => Err(warp::reject::not_found()),
    }
}

pub(super) async fn upgrade(
    headers: HeaderMap,
    raw: String,
    on_upgrade: Option<OnUpgrade>,
    peer: Peer,
    app: Arc<App>,
) -> Response {
    let mut on_upgrade = on_upgrade;
    match accept(&headers, &raw, &mut on_upgrade, peer, &app) {
        Ok(response) => response,
        Err(error) => refuse(error, &headers, on_upgrade),
    }
}

/// Names what such a socket needs, and where each feed has a path of its own.
fn needs_upgrade() -> Response {
    upgrade_required(&format!(
        "connect with ws:// and the subprotocol {MULTI_SUBPROTOCOL} for several feeds over one socket; /api/feeds lists the \
         paths that each feed has of its own"
    ))
}

fn accept(
    headers: &HeaderMap,
    raw: &str,
    on_upgrade: &mut Option<OnUpgrade>,
    peer: Peer,
    app: &Arc<App>,
) -> Result<Response, HttpError> {
    if !asks_for_websocket(headers) {
        return Ok(needs_upgrade());
    }
    let key = websocket_key(headers)?;
    has_no_body(headers)?;
    params::nothing(raw)?;
    if !offers(headers, MULTI_SUBPROTOCOL) {
        let message = format!(
            "this path is for several subscriptions over one WebSocket: offer the subprotocol {MULTI_SUBPROTOCOL}, or \
             connect to a feed's own path, which /api/feeds lists"
        );
        let (status, code) = (StatusCode::BAD_REQUEST, "subprotocol_required");
        return Err(HttpError::new(status, code, message));
    }
    if *app.draining.borrow() {
        return Err(HttpError::unavailable("the daemon is shutting down"));
    }
    let Some(on_upgrade) = on_upgrade.take() else {
        return Ok(needs_upgrade());
    };
    let span = connection_span(MANY, PATH, peer.address);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => Socket::new(upgraded, peer, span, app).run().await,
            Err(e) => span.in_scope(|| tracing::debug!("a handshake was not finished: {e}")),
        }
    });
    Ok(switching_protocols(key, Some(MULTI_SUBPROTOCOL)))
}
