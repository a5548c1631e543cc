//! `GET /sse/<feed>`: the same rows and the same session as WebSocket, as server-sent events.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{mpsc, oneshot, watch};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::catchup::{Bounds, PageError};
use crate::change::{Block, Cursor};
use crate::http::error::HttpError;
use crate::http::limits::Ticket;
use crate::http::{App, Peer, query};
use crate::hub::View;
use crate::metrics::Metrics;
use crate::protocol::{Control, HEARTBEAT_SECS, payload};
use crate::session::{Batch, BatchLimits, Session, Since, Step};

/// Rows that are put into one chunk.
const BATCH: BatchLimits = BatchLimits {
    runs: 256,
    bytes: 64 * 1024,
};
/// How long to wait before a read that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// What EventSource is told to wait before it comes back.
const OPENING: &str = "retry: 2000\n\n";

pub async fn stream(
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
    let feed = app.feed(name)?;
    let resume = last_id.filter(|id| !id.is_empty()).map(resume_from);
    let request = query::subscription(raw, feed.schema().as_deref(), resume)?;
    if *app.draining.borrow() {
        return Err(HttpError::unavailable("the daemon is shutting down"));
    }
    app.hub.caught_up().await;
    let session = Session::begin(&feed, request);
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let counted = Counted::new(&app.metrics, Arc::clone(&peer.ticket));
    let stream = SseStream {
        moved: app.moves.subscribe(feed.index),
        draining: app.draining.clone(),
        session,
        view: feed.view(),
        sender,
        peer,
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
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would collect events until its buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// `<epoch>:<id>`, as every event carries it. What is not of that form belongs to no history known here.
fn resume_from(last_id: &str) -> Since {
    match last_id
        .rsplit_once(':')
        .map(|(epoch, id)| (epoch, id.parse()))
    {
        Some((epoch, Ok(id))) => Since::Id {
            id: Cursor(id),
            epoch: Some(epoch.to_owned()),
        },
        _ => Since::Id {
            id: Cursor(0),
            epoch: Some(last_id.to_owned()),
        },
    }
}

/// Ends the stream.
struct Ended;

struct SseStream {
    session: Session,
    view: View,
    moved: watch::Receiver<()>,
    draining: watch::Receiver<bool>,
    sender: mpsc::Sender<Bytes>,
    peer: Peer,
    app: Arc<App>,
    _counted: Counted,
}

impl SseStream {
    async fn run(mut self) {
        // Ended is how every stream ends, for whatever reason; the client comes back by itself.
        if self.send(OPENING.to_owned()).await.is_err() {
            return;
        }
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), Ended> {
        if *self.draining.borrow() {
            return self.goodbye().await;
        }
        self.moved.borrow_and_update();
        let feed = Arc::clone(self.session.feed());
        feed.refresh(&mut self.view);
        match self.session.next(&self.view) {
            Step::Say(control) => self.say(&control).await,
            Step::TakeRows => {
                let blocks: Vec<Arc<Block>> =
                    self.view.after(self.session.position()).cloned().collect();
                self.send_rows(&blocks).await
            }
            Step::ReadPage => self.send_page().await,
            Step::AskBounds => self.open_session().await,
            Step::Wait => self.wait().await,
            Step::Close(_) => Err(Ended),
        }
    }

    async fn wait(&mut self) -> Result<(), Ended> {
        tokio::select! {
            moved = self.moved.changed() => moved.map_err(|_| Ended),
            _ = self.draining.changed() => Ok(()),
            () = self.sender.closed() => Err(Ended),
            () = tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECS)) => self.send(":\n\n".to_owned()).await,
        }
    }

    async fn goodbye(&mut self) -> Result<(), Ended> {
        if self.session.is_resumable() {
            let reconnect_after_ms = 250 + u64::from(std::process::id()) % 750;
            self.say(&Control::Goodbye { reconnect_after_ms }).await?;
        }
        Err(Ended)
    }

    async fn say(&mut self, control: &Control) -> Result<(), Ended> {
        self.send(format!(
            "event: {}\ndata: {}\n\n",
            control.name(),
            control.json()
        ))
        .await
    }

    async fn open_session(&mut self) -> Result<(), Ended> {
        let (sender, receiver) = oneshot::channel::<Result<Bounds, _>>();
        self.app.catchup.bounds(&self.session, move |bounds| {
            let _ = sender.send(bounds);
        });
        match receiver.await {
            Ok(Ok(bounds)) => match self.session.opened(&bounds) {
                Some(control) => self.say(&control).await,
                None => Ok(()),
            },
            _ => self.try_later().await,
        }
    }

    async fn send_page(&mut self) -> Result<(), Ended> {
        let (sender, receiver) = oneshot::channel();
        self.app.catchup.page(&self.session, move |page| {
            let _ = sender.send(page);
        });
        match receiver.await {
            Ok(Ok((page, generation))) if self.session.accepts(&page, generation) => {
                self.send_rows(&[page]).await
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(PageError::Pruned | PageError::FilterGone)) => Err(Ended),
            _ => self.try_later().await,
        }
    }

    async fn try_later(&mut self) -> Result<(), Ended> {
        tokio::select! {
            () = self.sender.closed() => Err(Ended),
            () = tokio::time::sleep(RETRY) => Ok(()),
        }
    }

    /// Sends all rows of `blocks` that are this subscriber's.
    async fn send_rows(&mut self, blocks: &[Arc<Block>]) -> Result<(), Ended> {
        let end = blocks
            .last()
            .map_or(self.session.position(), |block| block.last);
        while self.session.position() < end {
            let position = self.session.position();
            let rest = blocks.iter().filter(|block| block.last > position);
            let batch = Batch::gather(rest, self.session.filter_id(), position, BATCH);
            let Some(reaches) = batch.reaches else {
                return Ok(());
            };
            let mut text = String::with_capacity(batch.bytes + batch.rows * 40);
            for (id, frame) in batch.runs.iter().flat_map(|run| run.frames()) {
                let data = String::from_utf8_lossy(payload(frame));
                text.push_str(&format!("id: {}:{id}\ndata: {data}\n\n", self.view.epoch));
            }
            let rows = batch.rows as u64;
            drop(batch);
            if !text.is_empty() {
                self.send(text).await?;
            }
            self.app.metrics.messages_sent.inc_by(rows);
            self.session.advance(reaches);
        }
        Ok(())
    }

    /// Hands a chunk to the connection. One that takes none for the write timeout is cut off.
    async fn send(&mut self, text: String) -> Result<(), Ended> {
        let patience = *self.app.write_timeout.lock();
        match tokio::time::timeout(patience, self.sender.send(Bytes::from(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended),
            Err(_) => {
                self.app.metrics.connection_error("write_timeout");
                self.peer.abort.notify_one();
                Err(Ended)
            }
        }
    }
}

/// Counts an SSE connection for as long as it lives.
struct Counted {
    metrics: Arc<Metrics>,
    _ticket: Arc<Ticket>,
}

impl Counted {
    fn new(metrics: &Arc<Metrics>, ticket: Arc<Ticket>) -> Counted {
        metrics.sse_connections.inc();
        Counted {
            metrics: Arc::clone(metrics),
            _ticket: ticket,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.sse_connections.dec();
    }
}
