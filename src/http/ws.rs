//! `GET /ws/<feed>`: the handshake. The upgraded socket is handed to the fan-out, which owns it from there on.

use std::sync::Arc;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tungstenite::handshake::derive_accept_key;
use warp::Rejection;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::path::FullPath;
use warp::reply::{Reply, Response};

use crate::fanout::Stream;
use crate::http::clock::Watched;
use crate::http::error::HttpError;
use crate::http::{App, Peer, feed_at, query};
use crate::hub::Feed;
use crate::metrics::Counted;
use crate::session::Session;

/// The subprotocol a client may ask for; it is the same protocol with and without.
const SUBPROTOCOL: &str = "walcast.v1";

/// The feed that is served at this path.
pub async fn feed_of(path: FullPath, app: Arc<App>) -> Result<Arc<Feed>, Rejection> {
    feed_at(&path, &app.paths.ws)
}

pub async fn upgrade(
    feed: Arc<Feed>,
    raw: String,
    headers: HeaderMap,
    on_upgrade: Option<OnUpgrade>,
    peer: Peer,
    app: Arc<App>,
) -> Response {
    match accept(feed, &raw, &headers, on_upgrade, peer, &app).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn accept(
    feed: Arc<Feed>,
    raw: &str,
    headers: &HeaderMap,
    on_upgrade: Option<OnUpgrade>,
    peer: Peer,
    app: &Arc<App>,
) -> Result<Response, HttpError> {
    let request = query::subscription(raw, feed.schema().as_deref())?;
    let (key, on_upgrade) = match (websocket_key(headers), on_upgrade) {
        (Some(key), Some(on_upgrade)) => (key, on_upgrade),
        _ => return Ok(upgrade_required()),
    };
    if *app.draining.borrow() {
        return Err(HttpError::unavailable("the daemon is shutting down"));
    }
    // What was committed before this request is history to the subscriber, what comes after it is news. Both are
    // certain only when the feed loop has seen everything up to now.
    app.hub.caught_up().await;
    let session = Session::begin(&feed, request);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => hand_over(upgraded, session, peer, &app),
            Err(e) => tracing::debug!("a handshake was not finished: {e}"),
        }
    });
    Ok(switching_protocols(key, headers))
}

/// The client's key, where this is a WebSocket handshake.
fn websocket_key(headers: &HeaderMap) -> Option<&HeaderValue> {
    let has = |name: header::HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|part| part.trim().eq_ignore_ascii_case(token))
            })
    };
    let handshake = has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| handshake)
}

fn upgrade_required() -> Response {
    let message = "this path speaks WebSocket (version 13); connect with ws:// or read /api/feeds for the history";
    let mut response =
        HttpError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message).into_response();
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static("13"),
    );
    response
}

fn switching_protocols(key: &HeaderValue, asked: &HeaderMap) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    // Base64 is always a valid header.
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let offers = asked
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok());
    if offers
        .flat_map(|value| value.split(','))
        .any(|offer| offer.trim() == SUBPROTOCOL)
    {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
    }
    response
}

/// Takes the bare socket out of hyper and gives it to a shard.
fn hand_over(upgraded: Upgraded, session: Session, peer: Peer, app: &App) {
    let taken = match upgraded.downcast::<TokioIo<Watched<TcpStream>>>() {
        Ok(parts) => tcp(parts.io.into_inner()).map(|stream| (stream, parts.read_buf)),
        Err(upgraded) => match upgraded.downcast::<TokioIo<Watched<UnixStream>>>() {
            Ok(parts) => unix(parts.io.into_inner()).map(|stream| (stream, parts.read_buf)),
            Err(_) => Err(std::io::Error::other("neither TCP nor Unix")),
        },
    };
    match taken {
        Ok((stream, early)) => {
            let counted = Counted::in_gauge(&app.metrics.ws_connections);
            let guard = Box::new((counted, peer.ticket));
            app.fanout.attach(stream, early.to_vec(), session, guard);
        }
        Err(e) => tracing::warn!("an upgraded socket can't be used: {e}"),
    }
}

fn tcp(stream: Watched<TcpStream>) -> std::io::Result<Stream> {
    let stream = stream.into_inner().into_std()?;
    Ok(Stream::Tcp(mio::net::TcpStream::from_std(stream)))
}

fn unix(stream: Watched<UnixStream>) -> std::io::Result<Stream> {
    let stream = stream.into_inner().into_std()?;
    Ok(Stream::Unix(mio::net::UnixStream::from_std(stream)))
}
