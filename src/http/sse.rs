//! `GET /sse/<feed>`: the same rows and the same session as WebSocket, as server-sent events.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::http::entry::{enter, refuse_unfit, scope_of};
use crate::http::error::HttpError;
use crate::http::gzip::{GzipStream, gzip_from, varies_by_encoding};
use crate::http::params;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::http::subscriber::{Chunk, Outlet, StreamEnd, Subscriber};
use crate::http::timeouts::Timeouts;
use crate::model::position::{Cursor, Epoch};
use crate::net::connection_limits::Ticket;
use crate::session::Batch;
use crate::telemetry::connection_span::connection_span;
use crate::telemetry::metrics::GaugeGuard;
use crate::wire::control::{Control, reconnect_after};

/// What EventSource is told to wait before it comes back. It ends with one newline, as comments do: an empty line after
/// it would be an empty message to parsers that look at data no more closely.
const OPENING: &str = "retry: 2000\n";
const COMMENT: &str = ":\n";

pub(super) async fn stream(
    name: String,
    raw: String,
    last_id: Option<String>,
    peer: Peer,
    app: Arc<App>,
) -> Response {
    match open(&name, &raw, last_id.as_deref(), peer, app).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn open(
    name: &str,
    raw: &str,
    last_id: Option<&str>,
    peer: Peer,
    app: Arc<App>,
) -> Result<Response, HttpError> {
    let feed = app.feed(name, &peer.grant)?;
    refuse_unfit(&feed)?;
    let mut request = params::stream(raw, feed.schema().as_deref(), last_id)?;
    request.filter = request.filter.within(scope_of(&app, &feed, &peer.grant)?);
    // Asked first: should the history change between the two, the client comes back with the older one and is told.
    let epoch = feed.standing().epoch;
    let session = enter(&app, &feed, request, &peer).await?;
    let gzip = gzip_from(&app, &feed, &peer).map(GzipStream::new);
    let is_compressed = gzip.is_some();
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let counted = (GaugeGuard::of(&app.metrics.sse_connections), peer.ticket);
    let path = format!("/sse/{name}");
    let span = connection_span(&feed.config.name, &path, peer.address);
    let events = Events {
        sender,
        gzip,
        timeouts: peer.timeouts,
        app: Arc::clone(&app),
    };
    let stream = EventStream {
        subscriber: Subscriber::new(&app, (session, epoch), events, span),
        serial: app.streams.fetch_add(1, Ordering::Relaxed),
        app,
        _counted: counted,
    };
    tokio::spawn(stream.run());
    let body = stream::unfold(receiver, |mut receiver| async move {
        receiver
            .recv()
            .await
            .map(|bytes| (Ok::<_, io::Error>(bytes), receiver))
    });
    let mut response = warp::reply::stream(body).into_response();
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    // Compressing proxies, development servers among them, would hold events back until a block is full.
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    // nginx would collect events until its buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if is_compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    varies_by_encoding(&mut response);
    Ok(response)
}

/// Writes one stream.
struct EventStream {
    subscriber: Subscriber<Events>,
    /// Counts the streams of this process.
    serial: u64,
    app: Arc<App>,
    _counted: (GaugeGuard, Arc<Ticket>),
}

impl EventStream {
    async fn run(mut self) {
        let ended = match self.subscriber.send(vec![self.opening()]).await {
            Ok(()) => self.subscriber.run().await,
            Err(ended) => ended,
        };
        // Whoever is gone needs no goodbye.
        let _ = self.say_goodbye(ended).await;
        self.subscriber.outlet.end().await;
        // The client comes back by itself, whatever the reason.
        self.subscriber
            .span
            .in_scope(|| tracing::debug!(reason = %ended, "closed"));
    }

    /// What every stream begins with. A plain one has an id before its first row, so that a client that loses its
    /// connection until then comes back to the same position; a resumable one has it from its hello.
    fn opening(&self) -> Bytes {
        let (epoch, position) = self.subscriber.at();
        match self.subscriber.session.is_resumable() {
            true => Bytes::from_static(OPENING.as_bytes()),
            false => format!("{OPENING}{}\n", id_line(epoch, position)).into(),
        }
    }

    /// Ends the stream with a word. EventSource knows nothing of goodbyes, but heeds `retry`: so plain streams come back
    /// spread over time as well. Want of a grant every client is told, for EventSource can't see why it is refused later.
    async fn say_goodbye(&mut self, ended: StreamEnd) -> Result<(), StreamEnd> {
        match ended {
            StreamEnd::Drain | StreamEnd::FeedGone => {}
            StreamEnd::Unauthorised(code) => {
                let code = code.code();
                return self.subscriber.say(&Control::GrantEnded { code }).await;
            }
            StreamEnd::ClientGone | StreamEnd::StartsOver | StreamEnd::ReadsFail => return Ok(()),
        }
        let clients = self.app.connections.open();
        let reconnect_after_ms = reconnect_after(self.serial, clients);
        let retry = format!("retry: {reconnect_after_ms}\n");
        let words = match self.subscriber.session.is_resumable() {
            true => retry + &event(&Control::Goodbye { reconnect_after_ms }, ""),
            false => retry,
        };
        self.subscriber.send(vec![words.into()]).await
    }
}

/// Where the events of one stream go.
struct Events {
    sender: mpsc::Sender<Bytes>,
    /// What is sent goes through it, for a client that takes gzip.
    gzip: Option<GzipStream>,
    /// Of the connection, whose end hyper does not see behind a further request.
    timeouts: Arc<Timeouts>,
    app: Arc<App>,
}

impl Events {
    /// Says that the stream is whole.
    async fn end(&self) {
        if let Some(gzip) = &self.gzip {
            // Whoever is gone needs no end.
            let _ = hand_over(&self.sender, gzip.end().into()).await;
        }
    }
}

impl Outlet for Events {
    async fn room(&mut self) -> Result<(), StreamEnd> {
        // Nobody else fills it.
        let room = self.sender.reserve().await;
        room.map(drop).map_err(|_| StreamEnd::ClientGone)
    }

    async fn send(&mut self, pieces: Vec<Bytes>) -> Result<(), StreamEnd> {
        for text in pieces {
            match &mut self.gzip {
                None => hand_over(&self.sender, text).await?,
                Some(gzip) => {
                    for piece in GzipStream::cut(&text) {
                        let piece = gzip.piece(&piece, &self.app.gzip);
                        hand_over(&self.sender, piece.into()).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn closed(&self) -> impl Future<Output = ()> + Send {
        self.sender.closed()
    }

    fn vanished(&self) -> impl Future<Output = ()> + Send {
        self.timeouts.client_is_gone()
    }

    fn rows(&self, batch: &Batch<'_>, epoch: Option<&Epoch>) -> Chunk {
        let before = |text: &mut Vec<u8>, id, _| {
            if let Some(epoch) = epoch {
                text.extend_from_slice(id_line(epoch, Cursor(id)).as_bytes());
            }
            text.extend_from_slice(b"data: ");
        };
        Chunk::of(batch, before, b"\n\n")
    }

    fn words(&self, control: &Control, (epoch, position): (&Epoch, Cursor)) -> Bytes {
        let id = match control {
            Control::Hello { .. } | Control::Live { .. } | Control::Reset { .. } => {
                id_line(epoch, position)
            }
            Control::Heartbeat { .. }
            | Control::Table { .. }
            | Control::Goodbye { .. }
            | Control::GrantEnded { .. }
            | Control::Waiting { .. } => String::new(),
        };
        event(control, &id).into()
    }

    fn comment(&self) -> Option<Bytes> {
        Some(Bytes::from_static(COMMENT.as_bytes()))
    }
}

/// Gives bytes to whoever writes the stream.
async fn hand_over(sender: &mpsc::Sender<Bytes>, bytes: Bytes) -> Result<(), StreamEnd> {
    let sent = sender.send(bytes).await;
    sent.map_err(|_| StreamEnd::ClientGone)
}

/// A position as a client remembers it.
fn id_line(epoch: &Epoch, position: Cursor) -> String {
    format!("id: {epoch}:{position}\n")
}

/// A control message as an event; `id_line` is empty where it has no position.
fn event(control: &Control, id_line: &str) -> String {
    let (name, json) = (control.name(), control.json());
    format!("event: {name}\n{id_line}data: {json}\n\n")
}
