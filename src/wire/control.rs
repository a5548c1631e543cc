//! Every control message and close code that leaves walcast, and the limits that clients are held to.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::model::position::{Cursor, Epoch};

/// Seconds of silence after which a resumable subscriber gets a heartbeat, and every client a protocol Ping. Under the
/// 30 to 60 s after which common proxies drop a silent connection.
pub const HEARTBEAT_SECS: u64 = 25;
/// How long a peer has for its own close frame, in seconds.
pub const CLOSE_PATIENCE_SECS: u64 = 5;
/// Seconds from the last sign of life after which a client counts as dead: two Pings and some patience.
pub const PONG_TIMEOUT_SECS: u64 = 60;
/// Largest inbound message: clients have nothing to say but `ping`.
pub const MAX_INBOUND_BYTES: usize = 4096;
/// Inbound messages a second that a client may go on sending.
pub const INBOUND_PER_SECOND: f32 = 20.0;
/// Inbound messages a client may send at once.
pub const INBOUND_BURST: f32 = 60.0;
/// Bytes a second that are read of one client, and at once: twice what its messages may come to, for frames have
/// headers, and Pings and Pongs are no messages.
pub const INBOUND_BYTES_PER_SECOND: f32 = 2.0 * INBOUND_PER_SECOND * MAX_INBOUND_BYTES as f32;
/// Bytes that a client may send at once: twice its burst of messages, each as large as may be.
pub const INBOUND_BURST_BYTES: f32 = 2.0 * INBOUND_BURST * MAX_INBOUND_BYTES as f32;

/// Why walcast closes a connection, as clients see it. A client that closes first is answered with its own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// The peer broke the WebSocket protocol.
    ProtocolError,
    /// A text frame was not UTF-8.
    InvalidPayload,
    /// Too many messages.
    Policy,
    TooBig,
    /// The server restarts, drains or changed its history: reconnect.
    Restart,
    /// At capacity: reconnect later.
    TryAgainLater,
    /// The client accepted no byte for `write_timeout`.
    WriteTimeout,
    /// Nothing came from the client for [`PONG_TIMEOUT_SECS`].
    NoPong,
    /// The credentials have expired, or stand for something else now: come back with fresh ones and resume.
    Expired,
    /// The credentials were revoked or refused.
    Revoked,
    /// The feed's table was dropped, or the feed is not granted any more: there is nothing to come back to.
    FeedGone,
}

impl CloseCode {
    /// The number on the wire (RFC 6455, section 7.4).
    pub fn code(self) -> u16 {
        match self {
            CloseCode::ProtocolError => 1002,
            CloseCode::InvalidPayload => 1007,
            CloseCode::Policy => 1008,
            CloseCode::TooBig => 1009,
            CloseCode::Restart => 1012,
            CloseCode::TryAgainLater => 1013,
            CloseCode::WriteTimeout => 4008,
            CloseCode::NoPong => 4009,
            CloseCode::Expired => 4401,
            CloseCode::Revoked => 4501,
            CloseCode::FeedGone => 4504,
        }
    }

    /// Returns the error that it counts as; `None` for closings that are none.
    pub fn error(self) -> Option<ConnectionError> {
        match self {
            CloseCode::Restart | CloseCode::Expired | CloseCode::Revoked | CloseCode::FeedGone => {
                None
            }
            CloseCode::ProtocolError | CloseCode::InvalidPayload => Some(ConnectionError::Protocol),
            CloseCode::Policy => Some(ConnectionError::Policy),
            CloseCode::TooBig => Some(ConnectionError::TooBig),
            CloseCode::TryAgainLater => Some(ConnectionError::Capacity),
            CloseCode::WriteTimeout => Some(ConnectionError::WriteTimeout),
            CloseCode::NoPong => Some(ConnectionError::NoPong),
        }
    }
}

/// Why a connection was refused or ended, as `walcast_connection_errors_total` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionError {
    /// There was no room for it.
    Capacity,
    /// It came under a name that is not the daemon's.
    Host,
    /// Nothing came from the client for too long.
    NoPong,
    /// It came from a page that may not.
    Origin,
    /// The client sent too much.
    Policy,
    /// The client broke the protocol.
    Protocol,
    /// The handshake of TLS came to nothing.
    Tls,
    /// A message was too big.
    TooBig,
    /// The client took nothing for too long.
    WriteTimeout,
}

impl ConnectionError {
    /// Every one there is.
    pub const ALL: [ConnectionError; 9] = [
        ConnectionError::Capacity,
        ConnectionError::Host,
        ConnectionError::NoPong,
        ConnectionError::Origin,
        ConnectionError::Policy,
        ConnectionError::Protocol,
        ConnectionError::Tls,
        ConnectionError::TooBig,
        ConnectionError::WriteTimeout,
    ];

    /// Returns the label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            ConnectionError::Capacity => "capacity",
            ConnectionError::Host => "host",
            ConnectionError::NoPong => "no_pong",
            ConnectionError::Origin => "origin",
            ConnectionError::Policy => "policy",
            ConnectionError::Protocol => "protocol",
            ConnectionError::Tls => "tls",
            ConnectionError::TooBig => "too_big",
            ConnectionError::WriteTimeout => "write_timeout",
        }
    }
}

/// In words, for the log.
impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseCode::ProtocolError => "the client broke the WebSocket protocol",
            CloseCode::InvalidPayload => "the client sent text that is not UTF-8",
            CloseCode::Policy => "the client sends too much",
            CloseCode::TooBig => "the client sent a message that is too big",
            CloseCode::Restart => {
                "the daemon drains, or the history or the table's columns changed"
            }
            CloseCode::TryAgainLater => "rows can't be read at the moment",
            CloseCode::WriteTimeout => "the client accepted no byte for the write timeout",
            CloseCode::NoPong => "nothing came from the client for too long",
            CloseCode::Expired => "its token has expired, or stands for something else now",
            CloseCode::Revoked => "its token was revoked or refused",
            CloseCode::FeedGone => "the feed's table was dropped, or it is not granted any more",
        })
    }
}

/// What a feed is of, where not of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedKind {
    /// Of the changes of a captured table.
    Changes,
}

/// Why another history began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// The table, or the file, is another one, or was restored to an earlier state.
    #[default]
    DatabaseReplaced,
    /// Changes of the table may have been missed: for a time nothing noted them.
    CaptureInterrupted,
}

impl ResetReason {
    /// As clients are told it.
    pub fn as_str(self) -> &'static str {
        match self {
            ResetReason::CaptureInterrupted => "capture_interrupted",
            ResetReason::DatabaseReplaced => "database_replaced",
        }
    }

    /// Returns the reason that is told so; the usual one where this version does not know the word.
    pub fn of(text: &str) -> ResetReason {
        match text == ResetReason::CaptureInterrupted.as_str() {
            true => ResetReason::CaptureInterrupted,
            false => ResetReason::DatabaseReplaced,
        }
    }
}

/// The text frames of a resumable subscription that are not rows.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Control {
    Hello {
        feed: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<FeedKind>,
        key: String,
        epoch: Epoch,
        head: Cursor,
        earliest: Option<Cursor>,
        since: Cursor,
        recovered: bool,
        /// Whether the table as it is follows, which takes the place of all that the client holds of it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        snapshot: bool,
    },
    Live {
        id: Cursor,
    },
    Heartbeat {
        head: Cursor,
    },
    Reset {
        epoch: Epoch,
        reason: ResetReason,
        head: Cursor,
        earliest: Option<Cursor>,
        /// As in the hello.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        snapshot: bool,
    },
    Goodbye {
        reconnect_after_ms: u64,
    },
    /// Whoever asked may read no more. Over a WebSocket its close code says so.
    #[serde(rename = "goodbye")]
    GrantEnded {
        code: u16,
    },
    /// What the rows are of, for who takes them whole: before the hello, and whenever it changes.
    #[serde(skip)]
    Table {
        /// The message, ready to be sent.
        message: Arc<str>,
    },
    /// There is nothing to read.
    Waiting {
        reason: &'static str,
        message: String,
    },
}

impl Control {
    /// The message as clients get it.
    pub fn json(&self) -> String {
        if let Control::Table { message } = self {
            return message.to_string();
        }
        // Strings, numbers and options only: nothing in it can fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The name of the event in SSE.
    pub fn name(&self) -> &'static str {
        match self {
            Control::Hello { .. } => "hello",
            Control::Live { .. } => "live",
            Control::Heartbeat { .. } => "heartbeat",
            Control::Reset { .. } => "reset",
            Control::Goodbye { .. } | Control::GrantEnded { .. } => "goodbye",
            Control::Table { .. } => "table",
            Control::Waiting { .. } => "waiting",
        }
    }
}

/// When to come back after a drain, in milliseconds: nobody sooner than a restart takes, and spread so that some sixteen
/// hundred clients a second return, ten thousand within 7 s: half of what two cores shake hands with when all come at once.
/// `serial` tells apart the `total` clients that are sent away.
pub fn reconnect_after(serial: u64, total: usize) -> u64 {
    const SOONEST: u64 = 250;
    let spread = 750 + total as u64 * 3 / 5;
    // Fibonacci hashing: neighbours land far apart.
    let random = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    SOONEST + random % spread
}

/// The answer to a client's text `ping`.
pub const TEXT_PONG: &str = "pong";
/// The answer to `{"type":"ping",…}`.
pub const JSON_PONG: &str = r#"{"type":"pong"}"#;

/// Returns the answer to a client's `ping`, in the form it asked in; `None` where it says something else. Who types it in
/// a terminal sends the line's end too.
pub fn answer_to(text: &str) -> Option<&'static str> {
    if text.trim_end_matches(['\r', '\n']) == "ping" {
        return Some(TEXT_PONG);
    }
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    (json.get("type")? == "ping").then_some(JSON_PONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_frames_are_worded_as_promised() {
        let epoch = Epoch::new("e1");
        let hello = Control::Hello {
            feed: "remediation".into(),
            kind: None,
            key: "id".into(),
            epoch: epoch.clone(),
            head: Cursor(123),
            earliest: Some(Cursor(1)),
            since: Cursor(100),
            recovered: true,
            snapshot: false,
        };
        assert_eq!(
            hello.json(),
            r#"{"type":"hello","feed":"remediation","key":"id","epoch":"e1","head":123,"earliest":1,"since":100,"recovered":true}"#
        );
        assert_eq!(
            Control::Live { id: Cursor(123) }.json(),
            r#"{"type":"live","id":123}"#
        );
        assert_eq!(
            Control::Heartbeat {
                head: Cursor(1 << 60)
            }
            .json(),
            r#"{"type":"heartbeat","head":"1152921504606846976"}"#
        );
        let reset = Control::Reset {
            epoch,
            reason: ResetReason::DatabaseReplaced,
            head: Cursor(5),
            earliest: None,
            snapshot: false,
        };
        assert_eq!(
            reset.json(),
            r#"{"type":"reset","epoch":"e1","reason":"database_replaced","head":5,"earliest":null}"#
        );
        assert_eq!(
            Control::Goodbye {
                reconnect_after_ms: 1234
            }
            .json(),
            r#"{"type":"goodbye","reconnect_after_ms":1234}"#
        );
        assert_eq!(
            Control::GrantEnded { code: 4401 }.json(),
            r#"{"type":"goodbye","code":4401}"#
        );
        let waiting = Control::Waiting {
            reason: "no_table",
            message: "not yet".into(),
        };
        assert_eq!(
            waiting.json(),
            r#"{"type":"waiting","reason":"no_table","message":"not yet"}"#
        );
    }
}
