//! One subscription of a socket that has several: a task that serves its session, in turn with the others.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::PATH;
use super::message::{self, Subscribe, envelope};
use crate::http::entry::{enter, refuse_unfit, scope_of};
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::http::subscriber::{Chunk, Outlet, StreamEnd, Subscriber};
use crate::model::position::{Cursor, Epoch};
use crate::session::Batch;
use crate::telemetry::connection_span::connection_span;
use crate::wire::control::{CloseCode, Control};
use crate::wire::frame::push_text_header;

/// The close code of a subscription that its client ended.
const NORMAL: u16 = 1000;

/// What a subscription has for its socket.
pub(super) enum Outgoing {
    /// Whole frames.
    Frames(Vec<Bytes>),
    /// The last word of it.
    Ended { id: String, end: End },
}

/// How a subscription ended.
pub(super) enum End {
    /// It is told so.
    Told(String),
    /// So does the whole socket, which tells that itself.
    WithSocket(Option<CloseCode>),
}

/// What the subscriptions of one socket share.
#[derive(Clone)]
pub(super) struct Shared {
    pub app: Arc<App>,
    pub peer: Arc<Peer>,
    /// Takes one batch at a time; those who wait to put one in have it in the order in which they came.
    pub sender: mpsc::Sender<Outgoing>,
    /// Turns to read a page, which is held until it was sent.
    pub pages: Arc<Semaphore>,
}

/// Serves a subscription until it ends, or until `stop` says so, or is dropped.
pub(super) async fn serve(shared: Shared, asked: Subscribe, stop: oneshot::Receiver<()>) {
    let (id, sender) = (asked.id.clone(), shared.sender.clone());
    let end = tokio::select! {
        end = run(shared, asked) => end,
        _ = stop => End::Told(message::closed(&id, NORMAL, "unsubscribed")),
    };
    // A socket that is gone need not hear it.
    let _ = sender.send(Outgoing::Ended { id, end }).await;
}

async fn run(shared: Shared, asked: Subscribe) -> End {
    let id = asked.id.clone();
    let mut subscriber = match begin(shared, asked).await {
        Ok(subscriber) => subscriber,
        Err(error) => return End::Told(message::error(Some(&id), &error)),
    };
    let ended = subscriber.run().await;
    subscriber
        .span
        .in_scope(|| tracing::debug!(reason = %ended, "closed"));
    match (ended, ended.code()) {
        (StreamEnd::ClientGone | StreamEnd::Drain, _) => End::WithSocket(None),
        (_, code @ (CloseCode::Expired | CloseCode::Revoked)) => End::WithSocket(Some(code)),
        (_, code) => End::Told(message::closed(&id, code.code(), &ended.to_string())),
    }
}

async fn begin(shared: Shared, asked: Subscribe) -> Result<Subscriber<Turns>, HttpError> {
    let Shared {
        app,
        peer,
        sender,
        pages,
    } = shared;
    app.learn_feeds();
    let feed = app.feed(&asked.feed, &peer.grant)?;
    refuse_unfit(&feed)?;
    let envelope = envelope(&asked.id);
    let mut request = asked.request(feed.schema().as_deref())?;
    request.filter = request.filter.within(scope_of(&app, &feed, &peer.grant)?);
    let epoch = feed.standing().epoch;
    let session = enter(&app, &feed, request, &peer).await?;
    let span = connection_span(&feed.config.name, PATH, peer.address);
    let turns = Turns {
        sender,
        room: None,
        pages,
        page: None,
        envelope,
    };
    Ok(Subscriber::new(&app, (session, epoch), turns, span))
}

/// Where the frames of one subscription go: into the socket's, in turn with those of others.
struct Turns {
    sender: mpsc::Sender<Outgoing>,
    room: Option<OwnedPermit<Outgoing>>,
    pages: Arc<Semaphore>,
    page: Option<OwnedSemaphorePermit>,
    /// What stands before each frame.
    envelope: Vec<u8>,
}

impl Turns {
    /// Appends the beginning of a frame around so many bytes.
    fn open(&self, out: &mut Vec<u8>, bytes: usize) {
        push_text_header(out, self.envelope.len() + bytes + CLOSING.len());
        out.extend_from_slice(&self.envelope);
    }
}

/// What ends an envelope.
const CLOSING: &[u8] = b"}";

impl Outlet for Turns {
    async fn room(&mut self) -> Result<(), StreamEnd> {
        if self.room.is_none() {
            let room = self.sender.clone().reserve_owned().await;
            self.room = Some(room.map_err(|_| StreamEnd::ClientGone)?);
        }
        Ok(())
    }

    fn let_go(&mut self) {
        self.room = None;
    }

    async fn turn_to_read(&mut self) {
        // Never closed.
        self.page = Arc::clone(&self.pages).acquire_owned().await.ok();
    }

    fn read_is_over(&mut self) {
        self.page = None;
    }

    async fn send(&mut self, pieces: Vec<Bytes>) -> Result<(), StreamEnd> {
        self.room().await?;
        if let Some(room) = self.room.take() {
            room.send(Outgoing::Frames(pieces));
        }
        Ok(())
    }

    fn closed(&self) -> impl Future<Output = ()> + Send {
        self.sender.closed()
    }

    fn rows(&self, batch: &Batch<'_>, _: Option<&Epoch>) -> Chunk {
        Chunk::of(batch, |out, _, bytes| self.open(out, bytes), CLOSING)
    }

    fn words(&self, control: &Control, _: (&Epoch, Cursor)) -> Bytes {
        let (json, mut frame) = (control.json(), Vec::new());
        self.open(&mut frame, json.len());
        frame.extend_from_slice(json.as_bytes());
        frame.extend_from_slice(CLOSING);
        frame.into()
    }

    fn comment(&self) -> Option<Bytes> {
        None
    }
}
