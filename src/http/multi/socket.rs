//! A socket with several subscriptions: hears its client, and writes what these have, a batch of each in turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::Span;
use warp::http::StatusCode;

use super::message::{self, BadMessage, ClientMessage, Subscribe, bad_message};
use super::outbox::Outbox;
use super::subscription::{End, Outgoing, Shared, serve};
use crate::fanout::frame_reader::{Assembler, Inbound};
use crate::fanout::rate_limit::RateLimit;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::telemetry::metrics::GaugeGuard;
use crate::wire::control::{
    CLOSE_PATIENCE_SECS, CloseCode, Control, HEARTBEAT_SECS, PONG_TIMEOUT_SECS, answer_to,
    reconnect_after,
};

const BEAT: Duration = Duration::from_secs(HEARTBEAT_SECS);
const PATIENCE: Duration = Duration::from_secs(PONG_TIMEOUT_SECS);
const CLOSE_PATIENCE: Duration = Duration::from_secs(CLOSE_PATIENCE_SECS);
/// When a client is read again that sent more than it may.
const PAUSE: Duration = Duration::from_millis(250);
/// A deadline noticed so much later than it came tells that the process did not run meanwhile. That time does not count.
const STANDSTILL: Duration = Duration::from_secs(2);
/// When it is looked again at a clock that may have been set.
const LOOK: Duration = Duration::from_secs(60);
/// Bytes read of the client at once.
const READ: usize = 4096;
/// Bytes a client may go on sending after it was told that the connection closes.
const DISCARDED: usize = 4 * 1024 * 1024;
/// Pages that the subscriptions of one socket hold at once, read or being read.
const PAGES: usize = 4;

/// A WebSocket with several subscriptions.
pub(super) struct Socket {
    reading: ReadHalf<TokioIo<Upgraded>>,
    writing: WriteHalf<TokioIo<Upgraded>>,
    buffer: Box<[u8]>,
    assembler: Assembler,
    rate: RateLimit,
    outbox: Outbox,
    shared: Shared,
    subscriptions: HashMap<String, Subscription>,
    tasks: JoinSet<()>,
    batches: mpsc::Receiver<Outgoing>,
    grants: watch::Receiver<()>,
    draining: watch::Receiver<bool>,
    last_heard: Instant,
    last_ping: Instant,
    closing: Option<Closing>,
    /// Tells it apart when all come back after a drain.
    serial: u64,
    span: Span,
    _counted: GaugeGuard,
}

/// A subscription that runs, under its name.
struct Subscription {
    feed: String,
    stop: Option<oneshot::Sender<()>>,
}

/// The close frame is on its way.
#[derive(Debug, Clone, Copy)]
struct Closing {
    since: Instant,
    peer_closed: bool,
    /// Bytes that came since.
    discarded: usize,
}

/// The other end is gone.
struct Gone;

impl Socket {
    pub(super) fn new(upgraded: Upgraded, peer: Peer, span: Span, app: Arc<App>) -> Socket {
        let (reading, writing) = tokio::io::split(TokioIo::new(upgraded));
        let (sender, batches) = mpsc::channel(1);
        let now = Instant::now();
        Socket {
            reading,
            writing,
            buffer: vec![0; READ].into(),
            assembler: Assembler::new(false),
            rate: RateLimit::with_more(app.max_subscriptions, now),
            outbox: Outbox::default(),
            subscriptions: HashMap::new(),
            tasks: JoinSet::new(),
            batches,
            grants: app.gate.ended(),
            draining: app.draining.clone(),
            last_heard: now,
            last_ping: now,
            closing: None,
            serial: app.streams.fetch_add(1, Ordering::Relaxed),
            span,
            _counted: GaugeGuard::of(&app.metrics.ws_connections),
            shared: Shared {
                app,
                peer: Arc::new(peer),
                sender,
                pages: Arc::new(Semaphore::new(PAGES)),
            },
        }
    }

    /// Serves the socket to its end.
    pub(super) async fn run(mut self) {
        self.span.in_scope(|| tracing::debug!("connected"));
        self.look_at_grant();
        while !self.is_over() && self.turn().await.is_ok() {}
        if self.is_over() && !self.outbox.is_empty() {
            self.span
                .in_scope(|| tracing::debug!("the client did not close in time"));
        }
        // Whoever took all may wait for the end; who did not has had its time.
        let _ = tokio::time::timeout(CLOSE_PATIENCE, self.writing.shutdown()).await;
        if self.closing.is_some_and(|closing| !closing.peer_closed) {
            let _ = tokio::time::timeout(CLOSE_PATIENCE, self.hear_the_end()).await;
        }
        self.span.in_scope(|| match self.closing {
            Some(_) => tracing::debug!("closed"),
            None => tracing::debug!("closed: the client went without a close frame"),
        });
    }

    fn is_over(&self) -> bool {
        let Some(closing) = self.closing else {
            return false;
        };
        self.outbox.is_empty() || closing.since.elapsed() >= CLOSE_PATIENCE
    }

    /// Does what there is to do next.
    async fn turn(&mut self) -> Result<(), Gone> {
        let peer = Arc::clone(&self.shared.peer);
        let held = || peer.timeouts.held();
        self.outbox.take_up(held);
        let due = self.due();
        let (open, idle) = (self.closing.is_none(), self.outbox.is_idle());
        let reads = self.may_read();
        tokio::select! {
            read = self.reading.read(&mut self.buffer), if reads => match read {
                Ok(0) | Err(_) => Err(Gone),
                Ok(bytes) => {
                    self.received(bytes);
                    Ok(())
                }
            },
            wrote = self.outbox.write(&mut self.writing), if !idle => {
                let wrote = wrote.and_then(|wrote| self.outbox.wrote(wrote, held));
                if wrote.map_err(|_| Gone)? {
                    self.last_heard = Instant::now();
                }
                Ok(())
            }
            Some(batch) = self.batches.recv(), if open && idle => {
                self.take(batch);
                Ok(())
            }
            Some(ended) = self.tasks.join_next(), if open => {
                if ended.is_err() {
                    // A panic, which is logged. Its subscription would be silent for ever.
                    self.close(CloseCode::Restart);
                }
                Ok(())
            }
            _ = self.grants.changed(), if open => {
                self.look_at_grant();
                Ok(())
            }
            _ = drained(&mut self.draining), if open => {
                self.say_goodbye();
                Ok(())
            }
            () = sleep_until(due.into()) => {
                self.look_at_clocks(due);
                Ok(())
            }
        }
    }

    /// Returns whether the client may be read by now.
    fn may_read(&mut self) -> bool {
        match self.closing {
            Some(closing) => !closing.peer_closed,
            None => self.outbox.has_room_for_answers() && self.rate.may_read(Instant::now()),
        }
    }

    /// When it is to be looked at the clocks again.
    fn due(&mut self) -> Instant {
        let now = Instant::now();
        let write_timeout = *self.shared.app.write_timeout.lock();
        if let Some(closing) = self.closing {
            return closing.since + CLOSE_PATIENCE;
        }
        let mut due = (self.last_ping + BEAT).min(self.last_heard + PATIENCE);
        if let Some(stalled) = self.outbox.due(write_timeout) {
            due = due.min(stalled);
        }
        if !self.rate.may_read(now) {
            due = due.min(now + PAUSE);
        }
        if let Some(expires) = self.shared.peer.grant.expires() {
            // In the past it is over.
            let left = expires.duration_since(SystemTime::now());
            due = due.min(now + left.unwrap_or_default().min(LOOK));
        }
        due
    }

    fn look_at_clocks(&mut self, due: Instant) {
        let now = Instant::now();
        let late = now.saturating_duration_since(due);
        if late >= STANDSTILL {
            self.last_heard = (self.last_heard + late).min(now);
            self.outbox.forgive(late, now);
        }
        if self.closing.is_some() {
            return;
        }
        self.look_at_grant();
        let write_timeout = *self.shared.app.write_timeout.lock();
        if self.outbox.due(write_timeout).is_some_and(|due| now >= due) {
            match self
                .outbox
                .has_read_meanwhile(self.shared.peer.timeouts.held())
            {
                true => self.last_heard = now,
                false => return self.close(CloseCode::WriteTimeout),
            }
        }
        if now - self.last_heard >= PATIENCE {
            return self.close(CloseCode::NoPong);
        }
        if now - self.last_ping >= BEAT {
            self.last_ping = now;
            // Also to a slow reader: what it can't have seen it can't answer.
            self.outbox.push_ping();
        }
    }

    /// Ends what is not granted any more.
    fn look_at_grant(&mut self) {
        let (now, grant) = (SystemTime::now(), Arc::clone(&self.shared.peer.grant));
        if !self.shared.app.gate.asks() || self.closing.is_some() {
            return;
        }
        let Some(code) = grant.ended(now) else {
            return;
        };
        let gone = CloseCode::FeedGone;
        for (id, subscription) in &self.subscriptions {
            if grant.close_code(&subscription.feed, now) == Some(gone) {
                let closed = message::closed(id, gone.code(), &gone.to_string());
                self.outbox.push_text(&closed);
            }
        }
        self.close(code);
    }

    /// Takes what a subscription has.
    fn take(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Frames(frames) => self.outbox.push_frames(frames),
            Outgoing::Ended { id, end } => {
                self.subscriptions.remove(&id);
                match end {
                    End::Told(word) => {
                        self.span
                            .in_scope(|| tracing::debug!(frame = word, "a subscription ended"));
                        self.outbox.push_text(&word);
                    }
                    End::WithSocket(Some(code)) => self.close(code),
                    // It drains, and is about to say so.
                    End::WithSocket(None) => {}
                }
            }
        }
    }

    /// Takes bytes of the client.
    fn received(&mut self, bytes: usize) {
        let now = Instant::now();
        self.last_heard = now;
        let buffer = std::mem::take(&mut self.buffer);
        match self.closing {
            Some(_) => self.discard(&buffer[..bytes]),
            None => self.hear(&buffer[..bytes], now),
        }
        self.buffer = buffer;
    }

    fn hear(&mut self, bytes: &[u8], now: Instant) {
        self.rate.take_bytes(bytes.len(), now);
        let mut assembler = std::mem::take(&mut self.assembler);
        let mut closed = None;
        let result = assembler.take(bytes, |message| {
            match message {
                Inbound::Text(text) => {
                    self.rate.take_message(now)?;
                    self.heard(text);
                }
                Inbound::Binary => {
                    self.rate.take_message(now)?;
                    self.count("other");
                    self.refuse(None, &bad_message("messages are text, not binary"));
                }
                Inbound::Ping(payload) => self.outbox.pong(payload),
                Inbound::Pong => {}
                Inbound::Close(code) => closed = Some(code),
            }
            Ok(())
        });
        self.assembler = assembler;
        match (result, closed) {
            (Err(code), _) => self.close(code),
            (Ok(()), Some(code)) => self.answer_close(code),
            (Ok(()), None) => {}
        }
    }

    fn heard(&mut self, text: &str) {
        let answer = answer_to(text);
        self.count(if answer.is_some() { "ping" } else { "other" });
        if let Some(answer) = answer {
            return self.outbox.answer(answer);
        }
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Subscribe(asked)) => self.subscribe(asked),
            Ok(ClientMessage::Unsubscribe { id }) => self.unsubscribe(&id),
            Err(BadMessage { id, error }) => self.refuse(id.as_deref(), &error),
        }
    }

    fn count(&self, kind: &str) {
        let messages = &self.shared.app.metrics.client_messages;
        messages.with_label_values(&[kind]).inc();
    }

    fn subscribe(&mut self, asked: Subscribe) {
        let most = self.shared.app.max_subscriptions;
        if self.subscriptions.contains_key(&asked.id) {
            let message =
                "a subscription of this connection has that id, or its end was not told yet";
            let error = HttpError::new(StatusCode::CONFLICT, "id_in_use", message);
            return self.refuse(Some(&asked.id), &error);
        }
        if self.subscriptions.len() >= most {
            let message = format!(
                "this connection has {most} subscriptions, the most there may be (max_subscriptions); end one, or open \
                 another connection"
            );
            let (status, code) = (StatusCode::TOO_MANY_REQUESTS, "too_many_subscriptions");
            return self.refuse(Some(&asked.id), &HttpError::new(status, code, message));
        }
        let (stop, stopped) = oneshot::channel();
        let subscription = Subscription {
            feed: asked.feed.clone(),
            stop: Some(stop),
        };
        self.subscriptions.insert(asked.id.clone(), subscription);
        let shared = self.shared.clone();
        self.tasks.spawn(serve(shared, asked, stopped));
    }

    /// The end of a subscription comes in its turn: nothing of it follows. One that is over already was told so.
    fn unsubscribe(&mut self, id: &str) {
        if let Some(subscription) = self.subscriptions.get_mut(id) {
            // To drop it is to say so.
            subscription.stop = None;
        }
    }

    fn refuse(&mut self, id: Option<&str>, error: &HttpError) {
        self.span
            .in_scope(|| tracing::debug!(id, code = error.code(), "a message was refused"));
        self.outbox.push_text(&message::error(id, error));
    }

    fn say_goodbye(&mut self) {
        let clients = self.shared.app.connections.open();
        let reconnect_after_ms = reconnect_after(self.serial, clients);
        let goodbye = Control::Goodbye { reconnect_after_ms };
        self.outbox.push_text(&goodbye.json());
        self.close(CloseCode::Restart);
    }

    /// Sends a close frame and waits a moment for the peer's.
    fn close(&mut self, code: CloseCode) {
        if self.closing.is_some() {
            return;
        }
        if let Some(error) = code.error() {
            self.shared.app.metrics.connection_error(error);
        }
        self.span
            .in_scope(|| tracing::debug!(code = code.code(), reason = %code, "closing"));
        self.send_close(Some(code.code()), false);
    }

    /// The peer has closed: its own code, or none where it gave none, is the answer and the last word.
    fn answer_close(&mut self, code: Option<u16>) {
        self.span
            .in_scope(|| tracing::debug!(code, "the client closes"));
        if self.closing.is_none() {
            self.send_close(code, true);
        }
    }

    fn send_close(&mut self, code: Option<u16>, peer_closed: bool) {
        self.outbox.push_close(code);
        self.closing = Some(Closing {
            since: Instant::now(),
            peer_closed,
            discarded: 0,
        });
        // What they still have is theirs no more.
        self.batches.close();
        self.tasks.abort_all();
        self.subscriptions.clear();
    }

    /// Takes what a client sends after it was told that the connection closes: nothing but its Close means anything.
    fn discard(&mut self, bytes: &[u8]) {
        let Some(closing) = &mut self.closing else {
            return;
        };
        closing.discarded += bytes.len();
        // Whatever else is wrong with it, the connection ends.
        let _ = self.assembler.take(bytes, |message| {
            closing.peer_closed |= matches!(message, Inbound::Close(_));
            Ok(())
        });
        closing.peer_closed |= closing.discarded > DISCARDED;
    }

    /// Reads until the peer has closed, too.
    async fn hear_the_end(&mut self) {
        while self.closing.is_some_and(|closing| !closing.peer_closed)
            && let Ok(bytes @ 1..) = self.reading.read(&mut self.buffer).await
        {
            self.received(bytes);
        }
    }
}

/// Resolves when the daemon drains.
async fn drained(draining: &mut watch::Receiver<bool>) {
    // The sender gone means that the daemon is, too.
    let _ = draining.wait_for(|draining| *draining).await;
}
