//! Serving connections: limits, deadlines, who may come in; then the routes.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;
use warp::filters::BoxedFilter;
use warp::http::request::Parts;
use warp::http::{HeaderMap, Method, Request};
use warp::reply::{Reply, Response};

use crate::access::{AuthFailure, Grant, Presenter};
use crate::config::TrustedProxy;
use crate::http::error::HttpError;
use crate::http::forwarded::{self, Said};
use crate::http::host_and_origin::{Admitted, Denied};
use crate::http::refused::Patience;
use crate::http::timeouts::{Answering, Lapse, Timeouts, WatchedSocket};
use crate::http::{App, Peer, refused, request_line, router, ws};
use crate::model::read_owner::Client;
use crate::net::connection_limits::{Admission, Refusal, Ticket};
use crate::net::listener::{
    Accepted, Listener, Reserve, is_of_one_connection, is_out_of_descriptors,
};
use crate::wire::control::CloseCode;
use crate::wire::control::ConnectionError;

/// Largest request head; browsers send about 1 KiB, with cookies and tokens some more.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long a connection above a limit may take to be told of the daemon's health.
const HEALTH_PATIENCE: Duration = Duration::from_secs(1);
/// How long a connection may take to come for which accepting it has just failed.
const SECOND_ATTEMPT: Duration = Duration::from_millis(10);
/// While the daemon drains, a connection without a request yet is kept for so long: the request may be on its way.
const FIRST_REQUEST_PATIENCE: Duration = Duration::from_millis(500);
/// When accepting fails, most likely for want of descriptors, others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all those are counted as whose headers contradict each other. Were they counted as their proxy, who is counted for
/// nothing on loopback, any client behind it could do away with its limit by sending the header that its proxy does not
/// set.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What is served where a listener listens.
#[derive(Clone)]
pub struct Offer {
    routes: BoxedFilter<(Response,)>,
    /// Only what is counted, and the daemon's health; nobody is asked who they are.
    metrics_alone: bool,
}

impl Offer {
    pub fn everything(routes: &BoxedFilter<(Response,)>) -> Offer {
        Offer {
            routes: routes.clone(),
            metrics_alone: false,
        }
    }

    /// `/metrics` for whoever can connect, with `/healthz` and `/readyz`.
    pub fn metrics_alone(routes: &BoxedFilter<(Response,)>) -> Offer {
        Offer {
            metrics_alone: true,
            ..Offer::everything(routes)
        }
    }
}

/// Serves one listener until the daemon drains.
pub async fn serve(listener: Listener, app: Arc<App>, offer: Offer) {
    let mut reserve = Reserve::default();
    // What keeps connections from being accepted is said once, until one was accepted again.
    let mut failing = false;
    loop {
        reserve.fill();
        let accepted = tokio::select! {
            accepted = next(&listener, &app) => accepted,
            () = drains(&app) => return,
        };
        match accepted {
            Ok(accepted) => {
                failing = false;
                accepted.admit(&app, &offer);
            }
            Err(e) if is_of_one_connection(&e) => {}
            Err(e) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("a connection can't be accepted: {e}");
                }
                if !(is_out_of_descriptors(&e) && reserve.release()) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                } else if let Ok(Ok(accepted)) =
                    tokio::time::timeout(SECOND_ATTEMPT, next(&listener, &app)).await
                {
                    accepted.serve_without_room(&app, &offer).await;
                }
            }
        }
    }
}

/// The next connection, once there is room for it.
async fn next(listener: &Listener, app: &App) -> io::Result<Accepted> {
    app.connections.room().await;
    listener.accept().await
}

impl Accepted {
    /// Counts it in and serves it, as a task of its own.
    fn admit(self, app: &Arc<App>, offer: &Offer) {
        let address = match &self {
            Accepted::Tcp(_, address) => Some(*address),
            Accepted::Unix(_) => None,
        };
        // Behind a proxy many share an address; there each request is counted for its own.
        let proxied = is_proxy(app, address);
        let admission = app.connections.admit(address.filter(|_| !proxied));
        match self {
            Accepted::Tcp(stream, _) => admit(stream, address, admission, app, offer),
            Accepted::Unix(stream) => admit(stream, address, admission, app, offer),
        }
    }

    /// Serves it here and now, with the reserve's descriptor: told that there is no room, or of the daemon's health.
    async fn serve_without_room(self, app: &Arc<App>, offer: &Offer) {
        let (ticket, refusal) = app.connections.admit_without_room();
        match self {
            Accepted::Tcp(stream, address) => {
                let connection = Connection::new(&stream, Some(address), ticket, app, offer);
                connection.refuse(stream, refusal, Patience::IN_TURN).await;
            }
            Accepted::Unix(stream) => {
                let connection = Connection::new(&stream, None, ticket, app, offer);
                connection.refuse(stream, refusal, Patience::IN_TURN).await;
            }
        }
    }
}

fn is_proxy(app: &App, address: Option<IpAddr>) -> bool {
    let access = Arc::clone(&app.access.lock());
    access
        .trusted_proxies()
        .iter()
        .any(|proxy| proxy.is(address))
}

fn admit<S>(stream: S, address: Option<IpAddr>, admission: Admission, app: &Arc<App>, offer: &Offer)
where
    S: AsyncRead + AsyncWrite + AsRawFd + Unpin + Send + 'static,
{
    match admission {
        Admission::Welcome(ticket) => {
            let connection = Connection::new(&stream, address, ticket, app, offer);
            tokio::spawn(connection.welcome(stream));
        }
        Admission::Refused(ticket, refusal) => {
            let connection = Connection::new(&stream, address, ticket, app, offer);
            tokio::spawn(connection.refuse(stream, refusal, Patience::PLACED));
        }
    }
}

/// A connection for as long as it speaks HTTP.
struct Connection {
    app: Arc<App>,
    offer: Offer,
    /// The other end; `None` on a Unix socket.
    address: Option<IpAddr>,
    ticket: Arc<Ticket>,
    /// Whoever is there, where its address does not tell.
    client: Client,
    /// Why it is only told so.
    over: Option<&'static str>,
    timeouts: Arc<Timeouts>,
    /// No request has come yet.
    fresh: AtomicBool,
}

impl Connection {
    fn new(
        stream: &impl AsRawFd,
        address: Option<IpAddr>,
        ticket: Arc<Ticket>,
        app: &Arc<App>,
        offer: &Offer,
    ) -> Connection {
        Connection {
            app: Arc::clone(app),
            offer: offer.clone(),
            address,
            ticket,
            client: Client::of_connection(),
            over: None,
            timeouts: Timeouts::start(stream, Arc::clone(&app.write_timeout)),
            fresh: AtomicBool::new(true),
        }
    }

    /// Serves a connection for which there is room.
    async fn welcome<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = WatchedSocket::new(stream, Arc::clone(&self.timeouts));
        self.run(stream).await;
    }

    /// Tells one above a limit so, or of the daemon's health.
    async fn refuse<S>(mut self, stream: S, refusal: Refusal, patience: Patience)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.over = Some(refusal.limit);
        let app = Arc::clone(&self.app);
        let stream = WatchedSocket::new(stream, Arc::clone(&self.timeouts));
        let asked = tokio::select! {
            asked = refused::first_request(stream, &refusal, patience) => asked,
            () = self.may_end() => return,
        };
        let Some(stream) = asked else {
            return app.metrics.connection_error(ConnectionError::Capacity);
        };
        // Whoever needs longer has had as much as there is for one.
        let _ = tokio::time::timeout(HEALTH_PATIENCE, self.run(stream)).await;
    }

    async fn run<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (app, timeouts) = (Arc::clone(&self.app), Arc::clone(&self.timeouts));
        let this = Arc::new(self);
        let connection = Arc::clone(&this);
        let service = service_fn(move |request| Arc::clone(&this).answer(request));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let serving = builder
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut serving = std::pin::pin!(serving);
        let lapse = tokio::select! {
            lapse = timeouts.run(serving.as_mut()) => Some(lapse),
            () = connection.may_end() => None,
        };
        let lapse = match lapse {
            Some(lapse) => lapse,
            None => {
                serving.as_mut().graceful_shutdown();
                timeouts.run(serving).await
            }
        };
        // However else it ended, it has ended; clients that vanish are no news.
        if lapse == Some(Lapse::Stalled) {
            app.metrics.connection_error(ConnectionError::WriteTimeout);
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
    ) -> Result<warp::http::Response<TimedBody>, Infallible> {
        self.fresh.store(false, Ordering::Relaxed);
        let answering = self.timeouts.answering();
        let mut response = self.respond(request).await?;
        let kind = response.headers().get(warp::http::header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind == "text/event-stream") {
            answering.streams();
        }
        if self.over.is_some() {
            response = refused::closing(response);
        }
        Ok(response.map(|body| TimedBody {
            body,
            _answering: answering,
        }))
    }

    async fn respond(&self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        let admitted = match self.admit(&mut request) {
            Ok(admitted) => admitted,
            Err(Denied { reason, error }) => {
                if let Some(reason) = reason {
                    self.app.metrics.connection_error(reason);
                }
                return Ok(error.into_response());
            }
        };
        tracing::debug!(method = %request.method(), path = request.uri().path(), "request");
        let mut response = match admitted.preflight(&request) {
            Some(response) => response,
            None => self.route(request).await?,
        };
        admitted.sign(&mut response);
        Ok(response)
    }

    /// Whether a request may come in at all: by what its request line, its host and its origin say.
    fn admit(&self, request: &mut Request<Incoming>) -> Result<Admitted, Denied> {
        let target = request_line::origin_form(request)?;
        let access = Arc::clone(&self.app.access.lock());
        access.check(request, target.as_deref())
    }

    /// Has a request answered that may come in.
    async fn route(&self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        let path = request.uri().path();
        if let Some(limit) = self.over
            && !refused::is_exempt(path)
        {
            self.app.metrics.connection_error(ConnectionError::Capacity);
            return Ok(HttpError::at_capacity(limit).into_response());
        }
        if self.offer.metrics_alone && !refused::is_exempt(path) {
            let message = "only /metrics, /healthz and /readyz are served here";
            return Ok(HttpError::not_found(message).into_response());
        }
        let from = self.came_from(request.headers());
        let grant = match self.grant(&request, from) {
            Ok(grant) => grant,
            Err(failure) => return Ok(self.turn_away(request, failure)),
        };
        match router::answer_early(&self.app, &grant, request.method(), path) {
            Ok(None) => {}
            Ok(Some(answer)) => return Ok(answer),
            // Whether it is not there or not granted: it looks the same.
            Err(error) if self.app.gate.asks() => {
                let (error, (parts, _)) =
                    (error.closing(CloseCode::FeedGone), request.into_parts());
                return Ok(refuse(error, parts));
            }
            Err(error) => return Ok(error.into_response()),
        }
        let ticket = match self.ticket_for(from) {
            Ok(ticket) => ticket,
            Err(_) if refused::is_exempt(path) => Arc::clone(&self.ticket),
            Err(limit) => {
                self.app.metrics.connection_error(ConnectionError::Capacity);
                return Ok(HttpError::at_capacity(limit).into_response());
            }
        };
        if request.method() == Method::HEAD {
            // Only a GET may become something else.
            request.extensions_mut().remove::<OnUpgrade>();
        }
        let client = ticket.client().map_or(self.client, Client::Address);
        let peer = Peer {
            ticket,
            client,
            address: from.address(),
            timeouts: Arc::clone(&self.timeouts),
            grant,
        };
        request.extensions_mut().insert(peer);
        warp::service(self.offer.routes.clone()).call(request).await
    }

    /// What whoever asks may do; with what everybody may see, nobody is asked.
    fn grant(
        &self,
        request: &Request<Incoming>,
        from: CameFrom,
    ) -> Result<Arc<Grant>, AuthFailure> {
        let gate = &self.app.gate;
        if self.offer.metrics_alone {
            return Ok(gate.metrics());
        }
        let path = request.uri().path();
        if !gate.asks() || request.method() == Method::OPTIONS || router::is_public(path) {
            return Ok(gate.public());
        }
        gate.grant(Presenter {
            headers: request.headers(),
            query: request.uri().query().unwrap_or_default(),
            address: from.address(),
            through_proxy: self.address.is_none() || matches!(from, CameFrom::Proxy(_)),
        })
    }

    fn turn_away(&self, request: Request<Incoming>, failure: AuthFailure) -> Response {
        self.app.metrics.auth_failure(&failure);
        refuse(failure.into(), request.into_parts().0)
    }

    /// Returns where a request came from: the other end, or whoever a trusted proxy asks for.
    fn came_from(&self, headers: &HeaderMap) -> CameFrom {
        let access = Arc::clone(&self.app.access.lock());
        let proxies = access.trusted_proxies();
        match proxies.iter().any(|proxy| proxy.is(self.address)) {
            true => CameFrom::Proxy(said_client(headers, proxies, self.address)),
            false => CameFrom::Peer(self.address),
        }
    }

    /// Returns what a request is counted by: the ticket of the connection it came on, or, where a proxy made that, one of
    /// the proxy's client.
    ///
    /// # Errors
    /// The client has as many connections as it may have; the error says so in words.
    fn ticket_for(&self, from: CameFrom) -> Result<Arc<Ticket>, &'static str> {
        match from {
            CameFrom::Proxy(Some(client)) => {
                self.app.connections.admit_request(client, &self.ticket)
            }
            CameFrom::Proxy(None) | CameFrom::Peer(_) => Ok(Arc::clone(&self.ticket)),
        }
    }
}

/// Where a request came from; no address over a Unix socket.
#[derive(Debug, Clone, Copy)]
enum CameFrom {
    /// From the other end of its connection.
    Peer(Option<IpAddr>),
    /// From the client of a trusted proxy, which made the connection.
    Proxy(Option<IpAddr>),
}

impl CameFrom {
    fn address(self) -> Option<IpAddr> {
        match self {
            CameFrom::Peer(address) | CameFrom::Proxy(address) => address,
        }
    }
}

/// Whom a proxy asks for, `proxy` being its own address.
fn said_client(
    headers: &HeaderMap,
    proxies: &[TrustedProxy],
    proxy: Option<IpAddr>,
) -> Option<IpAddr> {
    match forwarded::client(headers, proxies) {
        Said::Client(client) => Some(client),
        // A proxy that does not say whom it asks for asks for itself.
        Said::Nothing => proxy,
        Said::Contradiction => Some(NOBODY),
    }
}

/// Refuses a request, so that whoever asked can see why.
fn refuse(error: HttpError, mut request: Parts) -> Response {
    let on_upgrade = request.extensions.remove::<OnUpgrade>();
    let on_upgrade = on_upgrade.filter(|_| request.method == Method::GET);
    ws::refuse(error, &request.headers, on_upgrade)
}

/// Waits until the daemon drains.
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
struct TimedBody {
    body: Body,
    _answering: Answering,
}

impl hyper::body::Body for TimedBody {
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
