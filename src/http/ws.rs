//! `GET /ws/<feed>`: the handshake. The upgraded socket is handed to the fan-out, which owns it from there on.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tracing::Span;
use tungstenite::handshake::derive_accept_key;
use warp::Rejection;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::path::FullPath;
use warp::reply::{Reply, Response};

use crate::fanout::{Arrival, Socket};
use crate::http::error::HttpError;
use crate::http::timeouts::WatchedSocket;
use crate::http::{App, Peer, committed_before, params, refuse_unfit, scope_of, too_many_values};
use crate::hub::Feed;
use crate::session::Session;
use crate::telemetry::connection_span::connection_span;
use crate::telemetry::metrics::Counted;
use crate::wire::control::CloseCode;
use crate::wire::frame::push_close;

/// The subprotocol a client may ask for; it is the same protocol with and without.
const SUBPROTOCOL: &str = "walcast.v1";

/// How long a client that is refused may take to go.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Base64 as clients write it: the last digit may hold bits that say nothing, as in an example of RFC 6455 itself.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The feed that is served at this path, and the path.
pub(super) async fn feed_of(
    path: FullPath,
    app: Arc<App>,
) -> Result<(Arc<Feed>, FullPath), Rejection> {
    match app.feed_at_ws(path.as_str()) {
        Some(feed) => Ok((feed, path)),
        None => Err(warp::reject::not_found()),
    }
}

pub(super) async fn upgrade(
    at: (Arc<Feed>, FullPath),
    raw: String,
    headers: HeaderMap,
    on_upgrade: Option<OnUpgrade>,
    peer: Peer,
    app: Arc<App>,
) -> Response {
    let mut on_upgrade = on_upgrade;
    match accept(at, &raw, &headers, &mut on_upgrade, peer, &app).await {
        Ok(response) => response,
        Err(error) => refuse(error, &headers, on_upgrade),
    }
}

async fn accept(
    (feed, path): (Arc<Feed>, FullPath),
    raw: &str,
    headers: &HeaderMap,
    on_upgrade: &mut Option<OnUpgrade>,
    peer: Peer,
    app: &Arc<App>,
) -> Result<Response, HttpError> {
    refuse_unfit(&feed)?;
    let mut request = params::subscription(raw, feed.schema().as_deref())?;
    request.filter = request.filter.within(scope_of(app, &feed, &peer.grant)?);
    if !asks_for_websocket(headers) {
        return Ok(upgrade_required());
    }
    let key = websocket_key(headers)?;
    has_no_body(headers)?;
    // hyper has one for every HTTP/1.1 request that asks for an upgrade.
    if on_upgrade.is_none() {
        return Ok(upgrade_required());
    }
    if *app.draining.borrow() {
        return Err(HttpError::unavailable("the daemon is shutting down"));
    }
    // What was committed before this request is history to the subscriber, what comes after it is news. Both are
    // certain only when the feed loop has seen everything up to now.
    let committed = committed_before(app, &feed).await;
    let session = Session::begin(&feed, request).map_err(too_many_values)?;
    let grant = app.gate.asks().then(|| Arc::clone(&peer.grant));
    let session = session
        .on_behalf_of(peer.client)
        .above(committed)
        .under(grant);
    let Some(on_upgrade) = on_upgrade.take() else {
        return Ok(upgrade_required());
    };
    let span = connection_span(&feed.config.name, path.as_str(), peer.address);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => hand_over(upgraded, session, peer, span, &app),
            Err(e) => span.in_scope(|| tracing::debug!("a handshake was not finished: {e}")),
        }
    });
    Ok(switching_protocols(key, headers))
}

/// Refuses a request. A browser that asks for a WebSocket can't see why it is refused one; it is given one that is closed
/// at once, where there is a code for it.
pub(super) fn refuse(
    error: HttpError,
    headers: &HeaderMap,
    on_upgrade: Option<OnUpgrade>,
) -> Response {
    let is_page = headers.contains_key(header::ORIGIN) && asks_for_websocket(headers);
    let (Some(code), Some(on_upgrade), true) = (error.close_code(), on_upgrade, is_page) else {
        return error.into_response();
    };
    let (Ok(key), Ok(())) = (websocket_key(headers), has_no_body(headers)) else {
        return error.into_response();
    };
    tokio::spawn(async move {
        // A client that is gone before its handshake is over needs no answer.
        if let Ok(upgraded) = on_upgrade.await {
            let _ = tokio::time::timeout(LAST_WORD, close(upgraded, code)).await;
        }
    });
    switching_protocols(key, headers)
}

/// Says why, and waits for the other end to go.
async fn close(upgraded: Upgraded, code: CloseCode) -> std::io::Result<()> {
    let mut socket = TokioIo::new(upgraded);
    let mut frame = Vec::new();
    push_close(&mut frame, Some(code.code()));
    socket.write_all(&frame).await?;
    socket.shutdown().await?;
    let mut rest = [0; 512];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Returns whether this is a WebSocket handshake of the version there is.
fn asks_for_websocket(headers: &HeaderMap) -> bool {
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
    has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13")
}

/// The client's key: one header, 16 bytes in base64 (RFC 6455, section 4.2.1).
fn websocket_key(headers: &HeaderMap) -> Result<&HeaderValue, HttpError> {
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    if let (Some(key), None) = (keys.next(), keys.next())
        && let Ok(bytes) = BASE64.decode(key.as_bytes())
        && bytes.len() == 16
    {
        return Ok(key);
    }
    let message = "Sec-WebSocket-Key must be there once, with 16 bytes in base64; a WebSocket library makes one for each \
                   connection";
    Err(HttpError::new(
        StatusCode::BAD_REQUEST,
        "bad_handshake",
        message,
    ))
}

/// Bytes of a body would be read as frames.
fn has_no_body(headers: &HeaderMap) -> Result<(), HttpError> {
    let length = headers.get(header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
    {
        let message =
            "a WebSocket handshake has no body: leave out Content-Length and Transfer-Encoding";
        return Err(HttpError::new(
            StatusCode::BAD_REQUEST,
            "bad_handshake",
            message,
        ));
    }
    Ok(())
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
fn hand_over(upgraded: Upgraded, session: Session, peer: Peer, span: Span, app: &App) {
    let taken = match upgraded.downcast::<TokioIo<WatchedSocket<TcpStream>>>() {
        Ok(parts) => tcp(parts.io.into_inner()).map(|stream| (stream, parts.read_buf)),
        Err(upgraded) => match upgraded.downcast::<TokioIo<WatchedSocket<UnixStream>>>() {
            Ok(parts) => unix(parts.io.into_inner()).map(|stream| (stream, parts.read_buf)),
            Err(_) => Err(std::io::Error::other("neither TCP nor Unix")),
        },
    };
    match taken {
        Ok((stream, early)) => {
            let counted = Counted::in_gauge(&app.metrics.ws_connections);
            let guard = Box::new((counted, peer.ticket));
            app.fanout.attach(Arrival {
                stream,
                early: early.to_vec(),
                session,
                guard,
                span,
            });
        }
        Err(e) => tracing::warn!("an upgraded socket can't be used: {e}"),
    }
}

fn tcp(stream: WatchedSocket<TcpStream>) -> std::io::Result<Socket> {
    let stream = stream.into_inner().into_std()?;
    Ok(Socket::Tcp(mio::net::TcpStream::from_std(stream)))
}

fn unix(stream: WatchedSocket<UnixStream>) -> std::io::Result<Socket> {
    let stream = stream.into_inner().into_std()?;
    Ok(Socket::Unix(mio::net::UnixStream::from_std(stream)))
}
