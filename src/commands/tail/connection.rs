//! One connection to a daemon: how it is made, what a refusal means, and how long to wait before the next.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::anyhow;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::client::Request;
use tungstenite::http::{HeaderValue, Response, header};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, WebSocket};

use super::url::{FeedUrl, Start};
use crate::cli::ClientToken;

/// How long one address may take to accept a connection, and the daemon to answer the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The daemon says something every 25 s; after more than two of those it is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// The first pause before connecting again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why a connection could not be made.
pub(super) enum ConnectError {
    /// Nobody answers there.
    Unreachable(io::Error),
    /// The daemon, or a proxy before it, can't serve right now.
    Later {
        why: String,
        after: Option<Duration>,
    },
    Refused(anyhow::Error),
}

/// Connects and subscribes.
pub(super) fn connect(
    target: &FeedUrl,
    start: &Start,
    token: &ClientToken,
) -> Result<WebSocket<TcpStream>, ConnectError> {
    let request = request(target, start, token).map_err(ConnectError::Refused)?;
    let stream = connect_tcp(&target.address()).map_err(ConnectError::Unreachable)?;
    let timed = stream.set_read_timeout(Some(CONNECT_TIMEOUT));
    timed
        .and_then(|()| stream.set_nodelay(true))
        .map_err(ConnectError::Unreachable)?;
    // The daemon bounds its messages itself, and its operator may have raised the bound.
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let (socket, _) = match tungstenite::client::client_with_config(request, stream, Some(config)) {
        Ok(connected) => connected,
        Err(HandshakeError::Failure(Error::Http(response))) => {
            return Err(refusal(target, &response));
        }
        Err(HandshakeError::Failure(Error::Io(e))) => return Err(ConnectError::Unreachable(e)),
        // A daemon that stops drops who is not upgraded yet.
        Err(HandshakeError::Failure(Error::Protocol(ProtocolError::HandshakeIncomplete))) => {
            return Err(ConnectError::Unreachable(
                io::ErrorKind::ConnectionReset.into(),
            ));
        }
        Err(HandshakeError::Failure(e)) => {
            return Err(ConnectError::Refused(anyhow!(
                "{} is not a WebSocket of walcast: {e}",
                target.shown()
            )));
        }
        // A blocking socket is interrupted by nothing but its time limit.
        Err(HandshakeError::Interrupted(_)) => {
            return Err(ConnectError::Unreachable(io::ErrorKind::TimedOut.into()));
        }
    };
    socket
        .get_ref()
        .set_read_timeout(Some(SILENCE))
        .map_err(ConnectError::Unreachable)?;
    Ok(socket)
}

/// The handshake, with the token as it is now: a file may hold a fresh one since the last connection.
fn request(target: &FeedUrl, start: &Start, token: &ClientToken) -> anyhow::Result<Request> {
    let mut request = target.url(start).into_client_request()?;
    if let Some(token) = token.read()? {
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    Ok(request)
}

fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

/// What an answer other than an upgrade means.
fn refusal(target: &FeedUrl, response: &Response<Option<Vec<u8>>>) -> ConnectError {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let said = error_message(body)
        .unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason").to_owned());
    let why = format!("{} answered {}: {said}", target.shown(), status.as_u16());
    if status.is_server_error() || status.as_u16() == 429 {
        let seconds = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        return ConnectError::Later {
            why,
            after: seconds.map(Duration::from_secs),
        };
    }
    ConnectError::Refused(anyhow!(why))
}

/// The message in walcast's JSON errors.
fn error_message(body: &[u8]) -> Option<String> {
    let error: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(error.get("error")?.get("message")?.as_str()?.to_owned())
}

/// Pauses that double, with jitter, so that many tails of one daemon don't come back at the same moment.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff(BACKOFF.0)
    }

    pub(super) fn reset(&mut self) {
        self.0 = BACKOFF.0;
    }

    /// The next pause: between half of its nominal length and all of it.
    pub(super) fn next_pause(&mut self) -> Duration {
        use std::hash::{BuildHasher, RandomState};
        let pause = self.0;
        self.0 = (pause * 2).min(BACKOFF.1);
        let share = (RandomState::new().hash_one(pause) % 1000) as u32;
        pause / 2 + pause / 2 * share / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..10).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] >= BACKOFF.0 / 2 && pauses[0] <= BACKOFF.0);
        assert!(pauses[9] >= BACKOFF.1 / 2 && pauses[9] <= BACKOFF.1);
    }
}
