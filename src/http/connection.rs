//! A connection while it speaks HTTP: its deadlines, who may come in; then the routes.

use std::convert::Infallible;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower_service::Service;
use warp::http::header::{CONTENT_TYPE, STRICT_TRANSPORT_SECURITY};
use warp::http::request::Parts;
use warp::http::{HeaderMap, Method, Request, Version};
use warp::reply::{Reply, Response};

use crate::access::{AuthFailure, ClientCertificate, Grant, Presenter};
use crate::http::accept_encoding::takes_gzip;
use crate::http::error::HttpError;
use crate::http::forwarded::CameFrom;
use crate::http::host_and_origin::{Admitted, Denied};
use crate::http::offer::{Offer, Offered};
use crate::http::peer::Peer;
use crate::http::refused::Patience;
use crate::http::state::App;
use crate::http::stream_clock::StreamClock;
use crate::http::timed_body::TimedBody;
use crate::http::timeouts::{Lapse, Timeouts, WatchedSocket};
use crate::http::{handshake, redirect, refused, request_line, router, tls};
use crate::model::read_owner::Client;
use crate::net::connection_limits::{OverLimit, Ticket};
use crate::net::tls_server::TlsServer;
use crate::wire::control::CloseCode;
use crate::wire::control::ConnectionError;

/// Largest request head; browsers send about 1 KiB, with cookies and tokens some more.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long a connection above a limit may take to be told of the daemon's health.
const HEALTH_PATIENCE: Duration = Duration::from_secs(1);
/// While the daemon drains, a connection without a request yet is kept for so long: the request may be on its way.
const FIRST_REQUEST_PATIENCE: Duration = Duration::from_millis(500);

/// A connection for as long as it speaks HTTP.
pub(super) struct Connection {
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
    /// The certificate that the client has shown.
    certificate: Option<ClientCertificate>,
    over_tls: bool,
    /// No request has come yet.
    fresh: AtomicBool,
}

impl Connection {
    pub(super) fn new(
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
            certificate: None,
            over_tls: false,
            fresh: AtomicBool::new(true),
        }
    }

    /// Serves a connection for which there is room.
    pub(super) async fn welcome<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = WatchedSocket::new(stream, Arc::clone(&self.timeouts));
        self.run(stream).await;
    }

    /// Begins TLS, then serves a connection, or tells one above a limit so.
    pub(super) async fn shake_hands(
        mut self,
        stream: TcpStream,
        server: Arc<TlsServer>,
        refusal: Option<(OverLimit, Patience)>,
    ) {
        let stream = WatchedSocket::new(stream, Arc::clone(&self.timeouts));
        // Who is above a limit is told so over the simpler protocol.
        let config = match &refusal {
            None => server.config(),
            Some(_) => server.config_without_http_2(),
        };
        let handshake = std::pin::pin!(tls::handshake(stream, &server, config));
        // The time for it is part of that for the request.
        let shaken = async {
            match &refusal {
                None => self.timeouts.run(handshake).await.ok(),
                Some((refusal, patience)) => refused::in_time(handshake, refusal, *patience).await,
            }
        };
        let shaken = tokio::select! {
            shaken = shaken => shaken,
            () = self.may_end() => return,
        };
        let stream = match shaken {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                tracing::debug!("a TLS handshake failed: {error}");
                return self.app.metrics.connection_error(ConnectionError::Tls);
            }
            None if refusal.is_some() => {
                return self.app.metrics.connection_error(ConnectionError::Capacity);
            }
            None => return self.app.metrics.connection_error(ConnectionError::Tls),
        };
        (self.over_tls, self.certificate) = (true, tls::client_certificate(&stream));
        match refusal {
            None if tls::speaks_http_2(&stream) => self.run_h2(stream).await,
            None => self.run(stream).await,
            Some((refusal, patience)) => self.tell_refused(stream, refusal, patience).await,
        }
    }

    /// Tells one above a limit so, or of the daemon's health.
    pub(super) async fn refuse<S>(self, stream: S, refusal: OverLimit, patience: Patience)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = WatchedSocket::new(stream, Arc::clone(&self.timeouts));
        self.tell_refused(stream, refusal, patience).await;
    }

    async fn tell_refused<S>(mut self, stream: S, refusal: OverLimit, patience: Patience)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.over = Some(refusal.limit);
        let app = Arc::clone(&self.app);
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
        let served = tokio::select! {
            served = timeouts.run(serving.as_mut()) => Some(served),
            () = connection.may_end() => None,
        };
        let served = match served {
            Some(served) => served,
            None => {
                serving.as_mut().graceful_shutdown();
                timeouts.run(serving).await
            }
        };
        // However else it ended, it has ended; clients that vanish are no news.
        if matches!(served, Err(Lapse::Stalled)) {
            app.metrics.connection_error(ConnectionError::WriteTimeout);
        }
    }

    /// Resolves when the daemon drains and no first request is to be expected; hyper would close such a connection, and a
    /// client that has just been accepted would be left without an answer.
    pub(super) async fn may_end(&self) {
        drains(&self.app).await;
        if self.fresh.load(Ordering::Relaxed) {
            tokio::time::sleep(FIRST_REQUEST_PATIENCE).await;
        }
    }

    pub(super) fn app(&self) -> &Arc<App> {
        &self.app
    }

    pub(super) fn timeouts(&self) -> &Arc<Timeouts> {
        &self.timeouts
    }

    /// Answers on a stream of HTTP/2.
    pub(super) async fn answer_stream(
        self: Arc<Self>,
        request: Request<Incoming>,
        clock: Arc<StreamClock>,
    ) -> Result<http::Response<TimedBody>, Infallible> {
        self.fresh.store(false, Ordering::Relaxed);
        let response = self.respond(request).await?;
        Ok(TimedBody::of_stream(response, clock))
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<http::Response<TimedBody>, Infallible> {
        self.fresh.store(false, Ordering::Relaxed);
        let answering = self.timeouts.answering();
        let mut response = self.respond(request).await?;
        let kind = response.headers().get(CONTENT_TYPE);
        if kind.is_some_and(|kind| kind == "text/event-stream") {
            answering.streams();
        }
        if self.over.is_some() {
            response = refused::closing(response);
        }
        Ok(TimedBody::of(response, answering))
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
        let mut response = match (self.offer.offered, admitted.preflight(&request)) {
            (Offered::Redirect { port }, _) => redirect::to(port, &request),
            (_, Some(response)) => response,
            (_, None) => self.route(request).await?,
        };
        admitted.sign(&mut response);
        if let Some(hsts) = self.app.hsts.clone().filter(|_| self.over_tls) {
            let headers = response.headers_mut();
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts);
        }
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
        if self.offer.offered == Offered::MetricsAlone && !refused::is_exempt(path) {
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
        let ticket = match self.ticket_for(from, request.version()) {
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
            takes_gzip: takes_gzip(request.headers()),
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
        if self.offer.offered == Offered::MetricsAlone {
            return Ok(gate.metrics());
        }
        let path = request.uri().path();
        if !gate.asks() || request.method() == Method::OPTIONS || router::is_public(path) {
            return Ok(gate.public());
        }
        self.app.learn_feeds();
        gate.grant(Presenter {
            headers: request.headers(),
            query: request.uri().query().unwrap_or_default(),
            address: from.address(),
            certificate: self.certificate.as_ref(),
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
        CameFrom::of(headers, access.trusted_proxies(), self.address)
    }

    /// Returns what a request is counted by: the ticket of the connection it came on, or, where a proxy made that, one of
    /// the proxy's client. A stream of HTTP/2 counts as a connection of its own.
    ///
    /// # Errors
    /// There are as many connections as there may be, in all or of the client; the error says so in words.
    fn ticket_for(&self, from: CameFrom, version: Version) -> Result<Arc<Ticket>, &'static str> {
        match from {
            CameFrom::Proxy(Some(client)) => {
                self.app.connections.admit_request(client, &self.ticket)
            }
            _ if version == Version::HTTP_2 => self.app.connections.admit_stream(&self.ticket),
            CameFrom::Proxy(None) | CameFrom::Peer(_) => Ok(Arc::clone(&self.ticket)),
        }
    }
}

/// Refuses a request, so that whoever asked can see why.
fn refuse(error: HttpError, mut request: Parts) -> Response {
    let on_upgrade = request.extensions.remove::<OnUpgrade>();
    let on_upgrade = on_upgrade.filter(|_| request.method == Method::GET);
    handshake::refuse(error, &request.headers, on_upgrade)
}

/// Waits until the daemon drains.
pub(super) async fn drains(app: &App) {
    let mut draining = app.draining.clone();
    // The sender gone means that the daemon is, too.
    let _ = draining.wait_for(|draining| *draining).await;
}
