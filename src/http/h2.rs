//! A connection that speaks HTTP/2: each stream is counted and timed as a connection of its own would be. WebSockets are not
//! among them: their sockets belong to the shards, and a stream has none; clients open them over HTTP/1.1, as they do wherever
//! a server does not say otherwise (RFC 8441).

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use warp::http::Request;

use crate::http::connection::{Connection, MAX_HEAD_BYTES};
use crate::http::frame_watch::FrameWatch;
use crate::http::state::App;
use crate::http::stream_clock::{StreamClock, StreamEnd};
use crate::http::timed_body::TimedBody;
use crate::http::timeouts::Lapse;
use crate::wire::control::ConnectionError;

/// Streams of one connection at once; browsers take a hundred to be the least.
const STREAMS: u32 = 100;
/// Streams that were reset before they could be looked at (rapid reset, CVE-2023-44487).
const RESET_UNSEEN: usize = 20;
/// Streams that were reset for what their client did wrong on them (CVE-2025-8671).
const RESET_FOR_ERRORS: usize = 100;
/// Bytes of a body that a client may send before they were taken, on one stream and on all.
const INBOUND_WINDOW: u32 = 64 * 1024;
const INBOUND_WINDOW_OF_ALL: u32 = 256 * 1024;
/// Bytes that are held for one stream beyond what its client has asked for.
const HELD: usize = 64 * 1024;
/// How long a connection that is idle may take to hear so.
const LAST_WORD: Duration = Duration::from_secs(1);

impl Connection {
    /// Serves a connection on which HTTP/2 was agreed on.
    pub(super) async fn run_h2<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let this = Arc::new(self);
        this.timeouts().multiplex();
        let streams = Streams {
            app: Arc::clone(this.app()),
            next: Arc::default(),
            stuck: Arc::default(),
        };
        let (connection, clocks) = (Arc::clone(&this), streams.clone());
        let service = service_fn(move |request| clocks.begin(&connection, request));
        let serving = http2::Builder::new(streams.clone())
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESET_UNSEEN)
            .max_local_error_reset_streams(RESET_FOR_ERRORS)
            .max_header_list_size(MAX_HEAD_BYTES as u32)
            .initial_stream_window_size(INBOUND_WINDOW)
            .initial_connection_window_size(INBOUND_WINDOW_OF_ALL)
            .max_send_buf_size(HELD)
            .serve_connection(TokioIo::new(FrameWatch::new(stream)), service);
        let mut serving = std::pin::pin!(serving);
        let ended = tokio::select! {
            served = this.timeouts().run(serving.as_mut()) => Some(served),
            () = streams.stuck.notified() => return,
            () = this.may_end() => None,
        };
        let ended = match ended {
            Some(Err(Lapse::Idle)) | None => {
                serving.as_mut().graceful_shutdown();
                let is_idle = ended.is_some();
                let going = async {
                    tokio::select! {
                        served = this.timeouts().run(serving) => Some(served),
                        () = streams.stuck.notified() => None,
                    }
                };
                match is_idle {
                    // Whether it has heard or not, it ends.
                    true => return drop(tokio::time::timeout(LAST_WORD, going).await),
                    false => going.await,
                }
            }
            ended => ended,
        };
        match ended {
            Some(Err(Lapse::Stalled)) => {
                this.app()
                    .metrics
                    .connection_error(ConnectionError::WriteTimeout);
            }
            Some(Ok(Err(error))) if is_flood(&error) => {
                tracing::debug!("a client of HTTP/2 was cut off: {error}");
                this.app().metrics.connection_error(ConnectionError::Policy);
            }
            // Clients that vanish are no news.
            _ => {}
        }
    }
}

/// Whether somebody was cut off who only kept the server busy, by the library or by [`FrameWatch`].
fn is_flood(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("ask for nothing") || text.contains("excessive load") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Runs the streams of one connection, each with its clock.
#[derive(Clone)]
struct Streams {
    app: Arc<App>,
    /// The clock of the stream that begins: hyper has the service called, and its future run, one right after the other.
    next: Arc<Mutex<Option<Arc<StreamClock>>>>,
    /// A client took too little of what can't be called back.
    stuck: Arc<Notify>,
}

impl Streams {
    fn begin(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<http::Response<TimedBody>, Infallible>> + Send + use<> {
        let write_timeout = *self.app.write_timeout.lock();
        let clock = StreamClock::new(write_timeout, connection.timeouts().answering());
        *self.next.lock() = Some(Arc::clone(&clock));
        Arc::clone(connection).answer_stream(request, clock)
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let clock = self.next.lock().take();
        let (metrics, stuck) = (Arc::clone(&self.app.metrics), Arc::clone(&self.stuck));
        tokio::spawn(async move {
            let Some(clock) = clock else {
                return stream.await;
            };
            let end = clock.drive(stream).await;
            if end != StreamEnd::Taken {
                metrics.connection_error(ConnectionError::WriteTimeout);
            }
            if end == StreamEnd::Stuck {
                stuck.notify_one();
            }
        });
    }
}
