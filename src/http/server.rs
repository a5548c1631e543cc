//! Accepting connections: each is counted, then served as a task of its own, or told that there is no room.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::http::connection::{Connection, drains};
use crate::http::offer::Offer;
use crate::http::refused::Patience;
use crate::http::state::App;
use crate::net::connection_limits::Admission;
use crate::net::listener::{
    Accepted, Listener, Reserve, is_of_one_connection, is_out_of_descriptors,
};

/// How long a connection may take to come for which accepting it has just failed.
const SECOND_ATTEMPT: Duration = Duration::from_millis(10);
/// When accepting fails, most likely for want of descriptors, others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
            Accepted::Tcp(_, address) | Accepted::Tls(_, address, _) => Some(*address),
            Accepted::Unix(_) => None,
        };
        // Behind a proxy many share an address; there each request is counted for its own.
        let proxied = is_proxy(app, address);
        let admission = app.connections.admit(address.filter(|_| !proxied));
        match self {
            Accepted::Tcp(stream, _) => admit(stream, address, admission, app, offer),
            Accepted::Tls(stream, _, server) => {
                let (ticket, refusal) = match admission {
                    Admission::Welcome(ticket) => (ticket, None),
                    Admission::Refused(ticket, refusal) => (ticket, Some(refusal)),
                };
                let connection = Connection::new(&stream, address, ticket, app, offer);
                let refusal = refusal.map(|refusal| (refusal, Patience::PLACED));
                tokio::spawn(connection.shake_hands(stream, server, refusal));
            }
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
            Accepted::Tls(stream, address, server) => {
                let connection = Connection::new(&stream, Some(address), ticket, app, offer);
                let refusal = Some((refusal, Patience::IN_TURN));
                connection.shake_hands(stream, server, refusal).await;
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
