//! Accepting connections: limits, deadlines, origins; then the routes.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tower_service::Service;
use warp::filters::BoxedFilter;
use warp::http::Request;
use warp::reply::{Reply, Response};

use crate::http::access::{self, Verdict};
use crate::http::error::HttpError;
use crate::http::limits::{Admission, Ticket};
use crate::http::{App, Peer};

/// A request head must be here, whole, this soon after the connection was made.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// A kept-alive connection without a request is closed after this.
const IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// Largest request head; browsers send about 1 KiB, with cookies and tokens some more.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// When accepting fails, most likely for want of descriptors, others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener. Whoever runs the daemon binds it, or has it passed in.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, Option<SocketFile>),
}

/// A socket file that is ours to remove.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Where clients reach it: `http://127.0.0.1:8010`, `unix:/run/walcast.sock`.
    pub fn url(&self) -> String {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map_or_else(
                |e| format!("unknown ({e})"),
                |address| format!("http://{address}"),
            ),
            Listener::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                format!("unix:{}", path.unwrap_or(Path::new("")).display())
            }
        }
    }

    pub async fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
        TcpListener::bind(address).await.map(Listener::Tcp)
    }

    /// Binds a Unix socket. A file left behind by a daemon that was killed is replaced; one somebody listens on is not.
    pub async fn bind_unix(path: &Path) -> io::Result<Listener> {
        if path.exists() {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process listens on it",
                ));
            }
            std::fs::remove_file(path)?;
        }
        Ok(Listener::Unix(
            UnixListener::bind(path)?,
            Some(SocketFile(path.to_owned())),
        ))
    }
}

/// Serves one listener until the daemon drains.
pub async fn serve(listener: Listener, app: Arc<App>, routes: BoxedFilter<(Response,)>) {
    let mut draining = app.draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &app, &routes) => accepted,
            _ = draining.changed() => return,
        };
        if let Err(e) = accepted {
            tracing::warn!("a connection can't be accepted: {e}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn accept(
    listener: &Listener,
    app: &Arc<App>,
    routes: &BoxedFilter<(Response,)>,
) -> io::Result<()> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            admit(stream, Some(peer.ip()), app, routes);
        }
        Listener::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            admit(stream, None, app, routes);
        }
    }
    Ok(())
}

fn admit<S>(stream: S, ip: Option<IpAddr>, app: &Arc<App>, routes: &BoxedFilter<(Response,)>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ticket, over) = match app.connections.admit(ip) {
        Admission::Welcome(ticket) => (ticket, None),
        Admission::Refused(ticket, limit) => (ticket, Some(limit)),
        Admission::Dropped => return app.metrics.connection_error("capacity"),
    };
    let connection = Connection::new(Arc::clone(app), routes.clone(), ticket, over);
    tokio::spawn(connection.run(stream));
}

/// One connection while it speaks HTTP.
struct Connection {
    app: Arc<App>,
    routes: BoxedFilter<(Response,)>,
    peer: Peer,
    /// The limit it is over.
    over: Option<&'static str>,
    clock: Arc<Clock>,
}

impl Connection {
    fn new(
        app: Arc<App>,
        routes: BoxedFilter<(Response,)>,
        ticket: Arc<Ticket>,
        over: Option<&'static str>,
    ) -> Self {
        let peer = Peer {
            ticket,
            abort: Arc::new(Notify::new()),
        };
        Connection {
            app,
            routes,
            peer,
            over,
            clock: Arc::new(Clock::new()),
        }
    }

    async fn run<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut draining: watch::Receiver<bool> = self.app.draining.clone();
        let (clock, abort) = (Arc::clone(&self.clock), Arc::clone(&self.peer.abort));
        let this = Arc::new(self);
        let service = service_fn(move |request| Arc::clone(&this).answer(request));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let serving = builder
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut serving = std::pin::pin!(serving);
        loop {
            let deadline = clock.deadline();
            tokio::select! {
                // However it ends, it has ended; clients that vanish are no news.
                _ = serving.as_mut() => return,
                () = tokio::time::sleep_until(deadline.unwrap_or_else(|| Instant::now() + IDLE_PATIENCE)) => {
                    if clock.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
                        return;
                    }
                }
                _ = draining.changed() => serving.as_mut().graceful_shutdown(),
                () = abort.notified() => return,
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<warp::http::Response<Answer>, Infallible> {
        let busy = self.clock.begin_request();
        let response = self.respond(request).await?;
        Ok(response.map(|body| Answer { body, _busy: busy }))
    }

    async fn respond(&self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        if let Some(limit) = self.over
            && !matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics")
        {
            self.app.metrics.connection_error("capacity");
            let mut response = HttpError::at_capacity(limit).into_response();
            let close = warp::http::HeaderValue::from_static("close");
            response
                .headers_mut()
                .insert(warp::http::header::CONNECTION, close);
            return Ok(response);
        }
        let origins = Arc::clone(&self.app.origins.lock());
        let origin = match access::check(&request, &origins) {
            Verdict::Pass(origin) => origin,
            Verdict::Answer(response) => {
                if response.status() == warp::http::StatusCode::FORBIDDEN {
                    self.app.metrics.connection_error("origin");
                }
                return Ok(*response);
            }
        };
        tracing::debug!(method = %request.method(), path = request.uri().path(), "request");
        request.extensions_mut().insert(self.peer.clone());
        let mut response = warp::service(self.routes.clone()).call(request).await?;
        access::name_origin(&mut response, origin);
        Ok(response)
    }
}

/// Tells when a connection has been without a request for too long.
struct Clock {
    made: Instant,
    /// Milliseconds from `made` to the deadline; `BUSY` while a request is being answered.
    deadline: AtomicU64,
}

const BUSY: u64 = u64::MAX;

impl Clock {
    fn new() -> Clock {
        Clock {
            made: Instant::now(),
            deadline: AtomicU64::new(HEAD_PATIENCE.as_millis() as u64),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.deadline.load(Ordering::Acquire) {
            BUSY => None,
            millis => Some(self.made + Duration::from_millis(millis)),
        }
    }

    fn begin_request(self: &Arc<Self>) -> Busy {
        self.deadline.store(BUSY, Ordering::Release);
        Busy(Arc::clone(self))
    }
}

/// While this lives a request is being answered.
struct Busy(Arc<Clock>);

type Body = <Response as IntoBody>::Body;

/// Names the type of warp's bodies, which it does not export.
trait IntoBody {
    type Body;
}

impl<B> IntoBody for warp::http::Response<B> {
    type Body = B;
}

/// The body of an answer; the connection is busy until it was sent whole.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Answer {
    type Data = bytes::Bytes;
    type Error = warp::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let idle_until = self.0.made.elapsed() + IDLE_PATIENCE;
        self.0
            .deadline
            .store(idle_until.as_millis() as u64, Ordering::Release);
    }
}
