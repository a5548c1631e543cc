//! `GET /ws/<feed>`: the handshake. The upgraded socket is handed to the fan-out, which owns it from there on.

use std::sync::Arc;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tracing::Span;
use warp::Rejection;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::path::FullPath;
use warp::reply::Response;

use crate::fanout::{self, Arrival, Socket};
use crate::http::entry::{enter, refuse_unfit, scope_of};
use crate::http::error::HttpError;
use crate::http::extensions::{self, Agreement, Malformed};
use crate::http::handshake::{
    asks_for_websocket, has_no_body, offers, refuse, spoken, switching_protocols, upgrade_required,
    websocket_key,
};
use crate::http::params;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::http::timeouts::WatchedSocket;
use crate::http::tls::TlsSocket;
use crate::hub::Feed;
use crate::session::{Request, Session};
use crate::telemetry::connection_span::connection_span;
use crate::telemetry::metrics::GaugeGuard;
use crate::wire::deflate::{Coding, Deflate};
use crate::wire::{EDGE_SUBPROTOCOL, SUBPROTOCOL};

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
        return Ok(needs_upgrade(&feed));
    }
    let key = websocket_key(headers)?;
    has_no_body(headers)?;
    let whole = offers(headers, EDGE_SUBPROTOCOL);
    if whole {
        may_take_whole_rows(&feed, &request, &peer)?;
    }
    let agreement = agreement(headers, &feed, app)?;
    // hyper has one for every HTTP/1.1 request that asks for an upgrade.
    if on_upgrade.is_none() {
        return Ok(needs_upgrade(&feed));
    }
    let session = enter(app, &feed, request, &peer).await?;
    let session = match whole {
        true => session.whole(),
        false => session,
    };
    let Some(on_upgrade) = on_upgrade.take() else {
        return Ok(needs_upgrade(&feed));
    };
    let span = connection_span(&feed.config.name, path.as_str(), peer.address);
    let coding = match agreement {
        Some((agreement, smallest)) => {
            Coding::Deflate(Deflate::new(smallest, agreement.window_bits()))
        }
        None => Coding::Plain,
    };
    let app = Arc::clone(app);
    tokio::spawn(async move {
        match on_upgrade.await {
            Ok(upgraded) => hand_over(upgraded, (session, coding), peer, span, &app),
            Err(e) => span.in_scope(|| tracing::debug!("a handshake was not finished: {e}")),
        }
    });
    let mut response = switching_protocols(key, spoken(headers, &[EDGE_SUBPROTOCOL, SUBPROTOCOL]));
    // Of letters and digits: always a valid header.
    if let Some((agreement, _)) = agreement
        && let Ok(agreed) = HeaderValue::from_str(&agreement.header())
    {
        let name = header::SEC_WEBSOCKET_EXTENSIONS;
        response.headers_mut().insert(name, agreed);
    }
    Ok(response)
}

/// Names what serves the feed over plain HTTP.
fn needs_upgrade(feed: &Feed) -> Response {
    let name = &feed.config.name;
    upgrade_required(&format!(
        "connect with ws://, or read /sse/{name} for the same rows as server-sent events, or /api/feeds/{name}/events for the history"
    ))
}

/// What is agreed on, and the size in bytes from which rows are compressed; `None` where none is.
fn agreement(
    headers: &HeaderMap,
    feed: &Feed,
    app: &App,
) -> Result<Option<(Agreement, usize)>, HttpError> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    let agreed = extensions::agree(offers).map_err(|Malformed| {
        let message = "Sec-WebSocket-Extensions is not a list of extensions with their parameters (RFC 6455, 9.1); leave it \
                       out to have none";
        HttpError::new(StatusCode::BAD_REQUEST, "bad_handshake", message)
    })?;
    let smallest = app.compression.smallest_of(&feed.config);
    Ok(agreed.zip(smallest))
}

/// Whole rows have in them what is shown to nobody, so whoever asks for them has to be trusted with that.
fn may_take_whole_rows(feed: &Feed, request: &Request, peer: &Peer) -> Result<(), HttpError> {
    if !peer.grant.may_feed_an_edge() {
        let message = "rows are given whole, with what is excluded, only to an edge's token; make one with \
                       `walcast token add NAME --edge --feed …`";
        let (status, code) = (StatusCode::FORBIDDEN, "edge_not_granted");
        return Err(HttpError::new(status, code, message));
    }
    if request.since.is_none() {
        let message = format!("{EDGE_SUBPROTOCOL} needs since=, for rows are taken in their order");
        return Err(HttpError::bad_parameter(message));
    }
    let changes = feed.schema().is_some_and(|schema| schema.changes.is_some());
    if changes && !request.filter.is_empty() {
        let message = "a feed of changes is given whole or not at all: what a row was before is another's where it came to who asks; \
                       take the --where out of the edge's token, or the filter out of the request";
        let (status, code) = (StatusCode::BAD_REQUEST, "feed_of_changes");
        return Err(HttpError::new(status, code, message));
    }
    Ok(())
}

/// Takes the bare socket out of hyper and gives it to a shard.
fn hand_over(
    upgraded: Upgraded,
    (session, coding): (Session, Coding),
    peer: Peer,
    span: Span,
    app: &App,
) {
    let taken = match upgraded.downcast::<TokioIo<WatchedSocket<TcpStream>>>() {
        Ok(parts) => tcp(parts.io.into_inner()).map(|stream| (stream, parts.read_buf)),
        Err(upgraded) => match upgraded.downcast::<TokioIo<WatchedSocket<UnixStream>>>() {
            Ok(parts) => unix(parts.io.into_inner()).map(|stream| (stream, parts.read_buf)),
            Err(upgraded) => match upgraded.downcast::<TokioIo<TlsSocket>>() {
                Ok(parts) => tls(parts.io.into_inner()).map(|stream| (stream, parts.read_buf)),
                Err(_) => Err(std::io::Error::other("neither TCP, TLS nor Unix")),
            },
        },
    };
    match taken {
        Ok((stream, early)) => {
            let counted = GaugeGuard::of(&app.metrics.ws_connections);
            let deflates = (coding != Coding::Plain)
                .then(|| GaugeGuard::of(&app.metrics.compression.ws_connections));
            let guard = Box::new((counted, deflates, peer.ticket));
            app.fanout.attach(Arrival {
                stream,
                early: early.to_vec(),
                session,
                coding,
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

fn tls(stream: TlsSocket) -> std::io::Result<Socket> {
    let (stream, session) = stream.into_inner();
    let stream = mio::net::TcpStream::from_std(stream.into_inner().into_std()?);
    Ok(Socket::Tls(Box::new(fanout::TlsSocket::new(
        stream, session,
    ))))
}

fn unix(stream: WatchedSocket<UnixStream>) -> std::io::Result<Socket> {
    let stream = stream.into_inner().into_std()?;
    Ok(Socket::Unix(mio::net::UnixStream::from_std(stream)))
}
