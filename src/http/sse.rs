//! `GET /sse/<feed>`: the same rows and the same session as WebSocket, as server-sent events.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::Span;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::catchup::PageError;
use crate::http::error::HttpError;
use crate::http::timeouts::Timeouts;
use crate::http::{App, Peer, committed_before, params, refuse_unfit, scope_of, too_many_values};
use crate::hub::READ_PATIENCE;
use crate::model::position::{Cursor, Epoch};
use crate::net::connection_limits::Ticket;
use crate::session::table_bounds::TableBounds;
use crate::session::{Batch, BatchLimits, Session, Step};
use crate::sqlite::error::Unavailable;
use crate::telemetry::connection_span::connection_span;
use crate::telemetry::metrics::Counted;
use crate::wire::block::Block;
use crate::wire::control::{CloseCode, Control, HEARTBEAT_SECS, reconnect_after};
use crate::wire::frame::payload;

/// Rows that are put into one chunk.
const BATCH: BatchLimits = BatchLimits {
    runs: 256,
    bytes: 64 * 1024,
};
/// The JSON of a row beyond this many bytes goes out by itself, as it stands in the log.
const LARGE: usize = 16 * 1024;
/// Blocks of the log that one look takes in. Single commits make blocks of one row, so this many fill a small chunk.
const LOOK_BLOCKS: usize = 32;
/// A stream that was silent for so long gets a comment.
const QUIET: Duration = Duration::from_secs(HEARTBEAT_SECS);
/// How long to wait before a read that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
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
    if *app.draining.borrow() {
        return Err(HttpError::unavailable("the daemon is shutting down"));
    }
    let committed = committed_before(&app, &feed).await;
    // Asked first: should the history change between the two, the client comes back with the older one and is told.
    let epoch = feed.standing().epoch;
    let session = Session::begin(&feed, request).map_err(too_many_values)?;
    let grant = app.gate.asks().then(|| Arc::clone(&peer.grant));
    let session = session
        .on_behalf_of(peer.client)
        .above(committed)
        .under(grant);
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let counted = (Counted::in_gauge(&app.metrics.sse_connections), peer.ticket);
    let timeouts = peer.timeouts;
    let path = format!("/sse/{name}");
    let span = connection_span(&feed.config.name, &path, peer.address);
    let stream = SseStream {
        moved: app.moves.subscribe(feed.index),
        grants: app.gate.ended(),
        draining: app.draining.clone(),
        epoch,
        session,
        serial: app.streams.fetch_add(1, Ordering::Relaxed),
        sender,
        quiet_since: Instant::now(),
        failing_since: None,
        caught_up: false,
        span,
        app,
        timeouts,
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
    Ok(response)
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy)]
enum StreamEnd {
    /// The client is gone, or took nothing for the write timeout.
    ClientGone,
    /// The daemon drains.
    Drain,
    /// The history or the table's columns changed, or rows it needs were deleted: the client comes back and is told.
    StartsOver,
    /// Reads have failed for long.
    ReadsFail,
    /// The feed's table was dropped.
    FeedGone,
    /// Its token has expired, was revoked or changed.
    Unauthorised,
}

/// In words, for the log.
impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamEnd::ClientGone => "the client is gone, or took nothing for the write timeout",
            StreamEnd::Drain => "the daemon drains",
            StreamEnd::StartsOver => {
                "the history or the table's columns changed, or rows were deleted"
            }
            StreamEnd::ReadsFail => "rows can't be read",
            StreamEnd::FeedGone => "the feed's table was dropped",
            StreamEnd::Unauthorised => "its token has expired, was revoked or changed",
        })
    }
}

/// Writes one stream. It holds no rows while it waits: neither for news, nor for a client that takes nothing.
struct SseStream {
    session: Session,
    /// The history that the session is in.
    epoch: Epoch,
    /// Counts the streams of this process.
    serial: u64,
    moved: watch::Receiver<()>,
    draining: watch::Receiver<bool>,
    /// Moves when grants have ended.
    grants: watch::Receiver<()>,
    sender: mpsc::Sender<Bytes>,
    /// When something was last sent.
    quiet_since: Instant,
    /// Since when reads for it have failed.
    failing_since: Option<Instant>,
    /// It has had everything there was, and needed nothing of the table since.
    caught_up: bool,
    /// Its life in the log.
    span: Span,
    app: Arc<App>,
    /// Of the connection, whose end hyper does not see behind a further request.
    timeouts: Arc<Timeouts>,
    _counted: (Counted, Arc<Ticket>),
}

/// Rows as text, ready to send.
struct Chunk {
    /// Nearly always one; around a large row several, for it is shared with whoever else takes it.
    pieces: Vec<Bytes>,
    rows: u64,
    /// The position once they are sent; `None` where the blocks have nothing to say to this subscriber.
    reaches: Option<Cursor>,
}

impl SseStream {
    async fn run(mut self) {
        self.span.in_scope(|| {
            tracing::debug!(
                resumable = self.session.is_resumable(),
                filtered = !self.session.filter().is_empty(),
                "connected"
            );
        });
        let mut gone_on = self.send(self.opening()).await;
        let ended = loop {
            match gone_on {
                Ok(()) => gone_on = self.step().await,
                Err(ended) => break ended,
            }
        };
        // The client comes back by itself, whatever the reason.
        self.span
            .in_scope(|| tracing::debug!(reason = %ended, "closed"));
    }

    /// What every stream begins with. A plain one has an id before its first row, so that a client that loses its
    /// connection until then comes back to the same position; a resumable one has it from its hello.
    fn opening(&self) -> String {
        match self.session.is_resumable() {
            true => OPENING.to_owned(),
            false => format!("{OPENING}{}\n", self.id_line()),
        }
    }

    /// The position as a client remembers it.
    fn id_line(&self) -> String {
        format!("id: {}:{}\n", self.epoch, self.session.position())
    }

    async fn step(&mut self) -> Result<(), StreamEnd> {
        // Room comes first: rows are gathered only when they can go out at once. A client that takes nothing for the
        // write timeout loses its connection, and with it goes the receiver.
        self.sender
            .reserve()
            .await
            .map_err(|_| StreamEnd::ClientGone)?;
        if *self.draining.borrow() {
            return self.goodbye(StreamEnd::Drain).await;
        }
        if self.quiet_since.elapsed() >= QUIET {
            return self.send_comment().await;
        }
        self.grants.borrow_and_update();
        if let Some(code) = self.session.grant_ended(SystemTime::now()) {
            return self.end(code).await;
        }
        self.moved.borrow_and_update();
        let (step, rows) = self.look();
        self.note(&step);
        match step {
            Step::Say(control) => self.say(&control).await,
            Step::TakeRows => match rows {
                Some(chunk) => self.send_rows(chunk).await,
                None => Ok(()),
            },
            Step::ReadPage => self.send_page().await,
            Step::AskBounds => self.open_session().await,
            Step::Wait | Step::WaitForTable | Step::WaitForHead => self.wait().await,
            Step::Close(CloseCode::FeedGone) => self.goodbye(StreamEnd::FeedGone).await,
            Step::Close(_) => Err(StreamEnd::StartsOver),
        }
    }

    /// Tells in the log when the stream has everything, and when it needs the table again.
    fn note(&mut self, step: &Step) {
        let caught_up = match step {
            Step::Wait => true,
            Step::ReadPage => false,
            _ => return,
        };
        if std::mem::replace(&mut self.caught_up, caught_up) == caught_up {
            return;
        }
        let position = self.session.position().0;
        self.span.in_scope(|| match caught_up {
            true => tracing::debug!(position, "caught up"),
            false => tracing::debug!(position, "behind"),
        });
    }

    /// What comes next, with the rows where the log has them.
    fn look(&mut self) -> (Step, Option<Chunk>) {
        let feed = Arc::clone(self.session.feed());
        let view = feed.view_after(self.session.position(), LOOK_BLOCKS);
        let step = self.session.next(&view);
        self.epoch = view.epoch.clone();
        let rows =
            matches!(step, Step::TakeRows).then(|| self.chunk(view.after(self.session.position())));
        (step, rows)
    }

    /// The rows of `blocks` that are this subscriber's, as many as fit.
    fn chunk<'a>(&self, blocks: impl Iterator<Item = &'a Arc<Block>>) -> Chunk {
        let (filter, position) = (self.session.filter_id(), self.session.position());
        let batch = Batch::gather(blocks, filter, position, BATCH);
        let (mut pieces, mut text) = (Vec::new(), Vec::new());
        for run in &batch.runs {
            let block = run.block();
            for (id, span) in run.spans() {
                let data = payload(&block.bytes[span.clone()]);
                text.extend_from_slice(format!("id: {}:{id}\ndata: ", self.epoch).as_bytes());
                if data.len() > LARGE {
                    pieces.push(Bytes::from(std::mem::take(&mut text)));
                    pieces.push(block.keep(span.end - data.len()..span.end));
                } else {
                    text.extend_from_slice(data);
                }
                text.extend_from_slice(b"\n\n");
            }
        }
        if !text.is_empty() {
            pieces.push(Bytes::from(text));
        }
        Chunk {
            pieces,
            rows: batch.rows as u64,
            reaches: batch.reaches,
        }
    }

    async fn send_rows(&mut self, chunk: Chunk) -> Result<(), StreamEnd> {
        for piece in chunk.pieces {
            self.send(piece).await?;
        }
        self.app.metrics.messages_sent.inc_by(chunk.rows);
        if let Some(position) = chunk.reaches {
            self.session.advance(position);
        }
        Ok(())
    }

    /// Sends the beginning of the page that follows the position. What does not fit is found again: among the pages
    /// kept for others, or in the table.
    async fn send_page(&mut self) -> Result<(), StreamEnd> {
        let page = match self.app.catchup.kept(&self.session) {
            Some(page) => page,
            None => match self.read_page().await? {
                Some(page) => page,
                None => return Ok(()),
            },
        };
        let chunk = self.chunk(std::iter::once(&page));
        drop(page);
        self.send_rows(chunk).await
    }

    /// Reads the page that follows the position; `None` where the session has to look again.
    async fn read_page(&mut self) -> Result<Option<Arc<Block>>, StreamEnd> {
        let (sender, receiver) = oneshot::channel();
        self.app.catchup.page(&self.session, move |page| {
            let _ = sender.send(page);
        });
        match self.beside_comments(receiver).await? {
            Ok(Ok((page, generation))) => {
                self.failing_since = None;
                Ok(Some(page).filter(|page| self.session.accepts(page, generation)))
            }
            Ok(Err(PageError::Pruned | PageError::FilterGone)) => Err(StreamEnd::StartsOver),
            Ok(Err(PageError::Unavailable(reason))) => {
                self.try_later(Some(&reason)).await.map(|()| None)
            }
            Err(_) => self.try_later(None).await.map(|()| None),
        }
    }

    async fn open_session(&mut self) -> Result<(), StreamEnd> {
        let (sender, receiver) = oneshot::channel::<Result<TableBounds, _>>();
        self.app.catchup.bounds(&self.session, move |bounds| {
            let _ = sender.send(bounds);
        });
        match self.beside_comments(receiver).await? {
            Ok(Ok(bounds)) => match self.session.opened(&bounds) {
                Some(control) => self.say(&control).await,
                None => Ok(()),
            },
            Ok(Err(reason)) => self.try_later(Some(&reason)).await,
            Err(_) => self.try_later(None).await,
        }
    }

    async fn wait(&mut self) -> Result<(), StreamEnd> {
        tokio::select! {
            moved = self.moved.changed() => moved.map_err(|_| StreamEnd::Drain),
            _ = self.draining.changed() => Ok(()),
            _ = self.grants.changed() => Ok(()),
            () = expiry(self.session.expires()) => Ok(()),
            () = self.sender.closed() => Err(StreamEnd::ClientGone),
            () = sleep_until(self.quiet_since + QUIET) => self.send_comment().await,
        }
    }

    /// Waits before a read is tried again. Where reads have failed for long, and not for a lock, the stream ends: the
    /// client comes back, and is refused where that says more.
    async fn try_later(&mut self, reason: Option<&Unavailable>) -> Result<(), StreamEnd> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let passes = matches!(reason, None | Some(Unavailable::Busy(_)));
        if !passes && since.elapsed() >= READ_PATIENCE {
            return Err(StreamEnd::ReadsFail);
        }
        self.beside_comments(tokio::time::sleep(RETRY)).await
    }

    /// Waits for `work` for as long as the client is there, and lets it know that we are.
    async fn beside_comments<T>(&mut self, work: impl Future<Output = T>) -> Result<T, StreamEnd> {
        let mut work = std::pin::pin!(work);
        let timeouts = Arc::clone(&self.timeouts);
        let mut gone = std::pin::pin!(timeouts.client_is_gone());
        loop {
            tokio::select! {
                done = work.as_mut() => return Ok(done),
                () = self.sender.closed() => return Err(StreamEnd::ClientGone),
                () = gone.as_mut() => return Err(StreamEnd::ClientGone),
                () = sleep_until(self.quiet_since + QUIET) => {}
            }
            self.send_comment().await?;
        }
    }

    /// Ends the stream with a word. EventSource knows nothing of goodbyes, but heeds `retry`: so plain streams come back
    /// spread over time as well.
    async fn goodbye(&mut self, why: StreamEnd) -> Result<(), StreamEnd> {
        let clients = self.app.connections.open();
        let reconnect_after_ms = reconnect_after(self.serial, clients);
        let retry = format!("retry: {reconnect_after_ms}\n");
        self.send(match self.session.is_resumable() {
            true => retry + &event(&Control::Goodbye { reconnect_after_ms }, ""),
            false => retry,
        })
        .await?;
        Err(why)
    }

    /// Ends the stream for want of a grant, and says so to every client: EventSource can't see why it is refused later.
    async fn end(&mut self, code: CloseCode) -> Result<(), StreamEnd> {
        self.say(&Control::GrantEnded { code: code.code() }).await?;
        Err(StreamEnd::Unauthorised)
    }

    async fn say(&mut self, control: &Control) -> Result<(), StreamEnd> {
        let id = match control {
            Control::Hello { .. } | Control::Live { .. } | Control::Reset { .. } => self.id_line(),
            Control::Heartbeat { .. }
            | Control::Goodbye { .. }
            | Control::GrantEnded { .. }
            | Control::Waiting { .. } => String::new(),
        };
        self.span
            .in_scope(|| tracing::debug!(frame = control.json(), "{}", control.name()));
        self.send(event(control, &id)).await
    }

    async fn send_comment(&mut self) -> Result<(), StreamEnd> {
        self.send(COMMENT.to_owned()).await
    }

    /// Hands text to the connection; waits until there is room.
    async fn send(&mut self, text: impl Into<Bytes>) -> Result<(), StreamEnd> {
        self.sender
            .send(text.into())
            .await
            .map_err(|_| StreamEnd::ClientGone)?;
        self.quiet_since = Instant::now();
        Ok(())
    }
}

/// Resolves once a grant that ends then has expired.
async fn expiry(expires: Option<SystemTime>) {
    match expires {
        None => std::future::pending().await,
        // In the past it is over; a clock that was set is looked at again.
        Some(time) => {
            let left = time.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::time::sleep(left.min(QUIET)).await;
        }
    }
}

/// A control message as an event; `id_line` is empty where it has no position.
fn event(control: &Control, id_line: &str) -> String {
    let (name, json) = (control.name(), control.json());
    format!("event: {name}\n{id_line}data: {json}\n\n")
}
