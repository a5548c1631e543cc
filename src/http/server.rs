//! Accepting connections: limits, deadlines, origins; then the routes.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tower_service::Service;
use warp::filters::BoxedFilter;
use warp::http::Request;
use warp::reply::{Reply, Response};

use crate::http::access::{self, Verdict};
use crate::http::clock::{Answering, Clock, Lapse, Watched};
use crate::http::error::HttpError;
use crate::http::limits::{Admission, Refusal};
use crate::http::{App, Peer};

/// Largest request head; browsers send about 1 KiB, with cookies and tokens some more.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Bytes the kernel may hold for a client that does not read. Without a bound it is up to 2.8 MB each; this is
/// several hundred rows, enough to keep a client on another continent busy between two writes.
const SEND_BUFFER: usize = 128 * 1024;
/// While the daemon drains, a connection without a request yet is kept for so long: the request may be on its way.
const FIRST_REQUEST_PATIENCE: Duration = Duration::from_millis(500);
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

    /// Binds a Unix socket. A socket left behind by a daemon that was killed is replaced; one somebody listens on is
    /// not, and neither is a file of another kind.
    pub async fn bind_unix(path: &Path) -> io::Result<Listener> {
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a file that is no socket; remove it or choose another path",
                ));
            }
            match tokio::net::UnixStream::connect(path).await {
                Ok(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "another process listens on it",
                    ));
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Listener::Unix(
            UnixListener::bind(path)?,
            Some(SocketFile(path.to_owned())),
        ))
    }
}

/// Serves one listener until the daemon drains.
pub async fn serve(listener: Listener, app: Arc<App>, routes: BoxedFilter<(Response,)>) {
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &app, &routes) => accepted,
            () = drains(&app) => return,
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
    app.connections.room().await;
    match listener {
        Listener::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            bound_send_buffer(&stream)?;
            admit(stream, Some(peer.ip()), app, routes);
        }
        Listener::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            bound_send_buffer(&stream)?;
            admit(stream, None, app, routes);
        }
    }
    Ok(())
}

fn bound_send_buffer(socket: &impl AsFd) -> io::Result<()> {
    socket2::SockRef::from(socket).set_send_buffer_size(SEND_BUFFER)
}

fn admit<S>(stream: S, ip: Option<IpAddr>, app: &Arc<App>, routes: &BoxedFilter<(Response,)>)
where
    S: AsyncRead + AsyncWrite + AsRawFd + Unpin + Send + 'static,
{
    let (ticket, over) = match app.connections.admit(ip) {
        Admission::Welcome(ticket) => (ticket, None),
        Admission::Refused(ticket, refusal) => (ticket, Some(refusal)),
    };
    let clock = Clock::start(&stream, Arc::clone(&app.write_timeout));
    let connection = Connection {
        app: Arc::clone(app),
        routes: routes.clone(),
        peer: Peer { ticket },
        over,
        clock,
        fresh: AtomicBool::new(true),
    };
    tokio::spawn(connection.run(stream));
}

/// One connection while it speaks HTTP.
struct Connection {
    app: Arc<App>,
    routes: BoxedFilter<(Response,)>,
    peer: Peer,
    /// Why it is only told so.
    over: Option<Refusal>,
    clock: Arc<Clock>,
    /// No request has come yet.
    fresh: AtomicBool,
}

impl Connection {
    async fn run<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (app, clock) = (Arc::clone(&self.app), Arc::clone(&self.clock));
        let evicted = self
            .over
            .as_ref()
            .map(|refusal| Arc::clone(&refusal.evicted));
        let evicted = async {
            match evicted {
                Some(evicted) => evicted.notified().await,
                None => std::future::pending().await,
            }
        };
        let this = Arc::new(self);
        let connection = Arc::clone(&this);
        let service = service_fn(move |request| Arc::clone(&this).answer(request));
        let stream = Watched::new(stream, Arc::clone(&clock));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let serving = builder
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut serving = std::pin::pin!(serving);
        let lapse = tokio::select! {
            lapse = clock.run(serving.as_mut()) => Some(lapse),
            () = connection.may_end() => None,
            () = evicted => return app.metrics.connection_error("capacity"),
        };
        let lapse = match lapse {
            Some(lapse) => lapse,
            None => {
                serving.as_mut().graceful_shutdown();
                clock.run(serving).await
            }
        };
        // However else it ended, it has ended; clients that vanish are no news.
        if lapse == Some(Lapse::Stalled) {
            app.metrics.connection_error("write_timeout");
        }
    }

    /// Resolves when the daemon drains and no first request is to be expected; hyper would close such a connection, and a
    /// client that has just been accepted would be left without an answer.
    async fn may_end(&self) {
        drains(&self.app).await;
        if self.fresh.load(Ordering::Relaxed) {
            tokio::time::sleep(FIRST_REQUEST_PATIENCE).await;
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<warp::http::Response<Answer>, Infallible> {
        self.fresh.store(false, Ordering::Relaxed);
        let answering = self.clock.answering();
        let response = self.respond(request).await?;
        Ok(response.map(|body| Answer {
            body,
            _answering: answering,
        }))
    }

    async fn respond(&self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        if let Some(Refusal { limit, .. }) = self.over
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

/// Resolves when the daemon drains.
async fn drains(app: &App) {
    let mut draining = app.draining.clone();
    // The sender gone means that the daemon is, too.
    let _ = draining.wait_for(|draining| *draining).await;
}

type Body = <Response as IntoBody>::Body;

/// Names the type of warp's bodies, which it does not export.
trait IntoBody {
    type Body;
}

impl<B> IntoBody for warp::http::Response<B> {
    type Body = B;
}

/// The body of an answer, which is being given until hyper has taken all of it.
struct Answer {
    body: Body,
    _answering: Answering,
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
