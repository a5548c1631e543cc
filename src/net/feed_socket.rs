//! A WebSocket of a feed of another daemon: how it is opened, and what a refusal means.

use std::io;
use std::time::Duration;

use tungstenite::client::IntoClientRequest as _;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::client::Request;
use tungstenite::http::{HeaderValue, Response, header};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, WebSocket};

use super::remote_daemon::{DaemonStream, RemoteDaemon, Unreachable};

/// How long one address may take to accept a connection, and the daemon to answer the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The daemon says something every 25 s; after more than two of those it is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a connection could not be made.
#[derive(Debug)]
pub enum ConnectError {
    /// Nobody answers there.
    Unreachable(io::Error),
    /// The daemon, or a proxy before it, can't serve right now.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// To try again would change nothing. `status` is that of an answer.
    Refused { why: String, status: Option<u16> },
}

impl ConnectError {
    /// Something is wrong with what is asked for, or with who answers.
    pub fn refused(why: impl Into<String>) -> ConnectError {
        ConnectError::Refused {
            why: why.into(),
            status: None,
        }
    }
}

/// The handshake for `url`, with a token where there is one, and the subprotocol that is to be spoken where it is not the
/// usual one.
///
/// # Errors
/// The URL or the token can't stand in a request.
pub fn request(
    url: &str,
    token: Option<&str>,
    subprotocol: Option<&'static str>,
) -> Result<Request, ConnectError> {
    let wrong = |e: &dyn std::fmt::Display| ConnectError::refused(e.to_string());
    let mut request = url.into_client_request().map_err(|e| wrong(&e))?;
    if let Some(token) = token {
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        let mut bearer = bearer.map_err(|e| wrong(&e))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    if let Some(subprotocol) = subprotocol {
        let offered = HeaderValue::from_static(subprotocol);
        let headers = request.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
    Ok(request)
}

/// Connects and subscribes. `shown` is how errors call the feed.
///
/// # Errors
/// There is no connection, and whether there may be one later.
pub fn connect(
    daemon: &RemoteDaemon,
    request: Request,
    shown: &str,
) -> Result<WebSocket<DaemonStream>, ConnectError> {
    let stream = daemon.connect(CONNECT_TIMEOUT).map_err(|e| match e {
        Unreachable::Io(e) => ConnectError::Unreachable(e),
        Unreachable::Tls(_) => ConnectError::refused(format!("{shown}: {e}")),
    })?;
    // The daemon bounds its messages itself, and its operator may have raised the bound.
    let config = WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let (socket, _) = match tungstenite::client::client_with_config(request, stream, Some(config)) {
        Ok(connected) => connected,
        Err(HandshakeError::Failure(Error::Http(response))) => {
            return Err(refusal(shown, &response));
        }
        Err(HandshakeError::Failure(Error::Io(e))) => return Err(ConnectError::Unreachable(e)),
        // A daemon that stops drops who is not upgraded yet.
        Err(HandshakeError::Failure(Error::Protocol(ProtocolError::HandshakeIncomplete))) => {
            return Err(ConnectError::Unreachable(
                io::ErrorKind::ConnectionReset.into(),
            ));
        }
        Err(HandshakeError::Failure(e)) => {
            return Err(ConnectError::refused(format!(
                "{shown} is not a WebSocket of walcast: {e}"
            )));
        }
        // A blocking socket is interrupted by nothing but its time limit.
        Err(HandshakeError::Interrupted(_)) => {
            return Err(ConnectError::Unreachable(io::ErrorKind::TimedOut.into()));
        }
    };
    socket
        .get_ref()
        .set_read_timeout(SILENCE)
        .map_err(ConnectError::Unreachable)?;
    Ok(socket)
}

/// Returns, in words, how a connection was lost that was being read.
pub fn lost(error: &Error) -> String {
    match error {
        Error::Io(e)
            if matches!(
                e.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ) =>
        {
            format!("nothing came for {} s", SILENCE.as_secs())
        }
        e => format!("the connection was lost ({e})"),
    }
}

/// What an answer other than an upgrade means.
fn refusal(shown: &str, response: &Response<Option<Vec<u8>>>) -> ConnectError {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let said = error_message(body)
        .unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason").to_owned());
    let why = format!("{shown} answered {}: {said}", status.as_u16());
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
    ConnectError::Refused {
        why,
        status: Some(status.as_u16()),
    }
}

/// The message in walcast's JSON errors.
fn error_message(body: &[u8]) -> Option<String> {
    let error: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(error.get("error")?.get("message")?.as_str()?.to_owned())
}
