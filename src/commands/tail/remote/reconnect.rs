//! The subscription's connections, one after the other.

use std::time::Duration;

use anyhow::anyhow;
use tungstenite::WebSocket;
use tungstenite::protocol::CloseFrame;

use super::Told;
use super::subscriber::{End, Heard, Subscriber};
use crate::net::backoff::Backoff;
use crate::net::feed_socket::{ConnectError, connect, lost, request};
use crate::net::remote_daemon::{DaemonStream, RemoteDaemon};

impl Subscriber {
    pub(super) fn run(mut self, daemon: &RemoteDaemon) {
        let mut backoff = Backoff::new();
        let mut told = false;
        loop {
            let (why, after) = match self.connection(daemon, &mut backoff, &mut told) {
                End::Lost { why, after } => (why, after),
                End::Refused(error) => return drop(self.events.send(Told::Failed(error))),
                End::Unwanted => return,
            };
            if !told && self.tell(format!("{why}; reconnecting")).is_err() {
                return;
            }
            told = true;
            std::thread::sleep(after.unwrap_or_else(|| backoff.next_pause()));
        }
    }

    /// The handshake, with the token as it is now: a file may hold a fresh one since the last connection.
    fn connect(&self, daemon: &RemoteDaemon) -> Result<WebSocket<DaemonStream>, ConnectError> {
        let token = self.token.read();
        let token = token.map_err(|e| ConnectError::refused(format!("{e:#}")))?;
        let url = self.target.url(&self.start);
        let request = request(&url, token.as_deref(), None)?;
        connect(daemon, request, &self.target.shown())
    }

    /// One connection, from its first byte to its last.
    fn connection(&mut self, daemon: &RemoteDaemon, backoff: &mut Backoff, told: &mut bool) -> End {
        let mut socket = match self.connect(daemon) {
            Ok(socket) => socket,
            Err(ConnectError::Refused { why, .. }) => return End::Refused(anyhow!(why)),
            Err(ConnectError::Later { why, after }) => return End::Lost { why, after },
            Err(ConnectError::Unreachable(e)) => {
                let why = format!("no connection to {}: {e}", self.target.shown());
                return match self.position {
                    Some(_) => End::Lost { why, after: None },
                    None => End::Refused(anyhow!("{why}; is walcast running there?")),
                };
            }
        };
        let mut goodbye = None;
        loop {
            let frame = match socket.read() {
                Ok(frame) => frame,
                Err(e) => {
                    return End::Lost {
                        why: lost(&e),
                        after: goodbye,
                    };
                }
            };
            let taken = match &frame {
                tungstenite::Message::Text(text) => self.take(text),
                tungstenite::Message::Close(frame) => return closed(frame.as_ref(), goodbye),
                _ => continue,
            };
            match taken {
                Ok(Heard::Nothing) => {}
                Ok(Heard::Hello) => {
                    backoff.reset();
                    *told = false;
                }
                Ok(Heard::Goodbye(after)) => goodbye = Some(after),
                Err(end) => return end,
            }
        }
    }
}

/// Whether a close means "come back".
fn closed(frame: Option<&CloseFrame>, goodbye: Option<Duration>) -> End {
    let code = frame.map_or(1005, |frame| u16::from(frame.code));
    match code {
        1008 | 4500..=4999 => End::Refused(anyhow!(
            "the daemon ended the subscription for good (close code {code})"
        )),
        1012 => End::Lost {
            why: "the daemon restarts".to_owned(),
            after: goodbye,
        },
        1013 => End::Lost {
            why: "the daemon is at capacity".to_owned(),
            after: goodbye,
        },
        _ => End::Lost {
            why: format!("the daemon closed the connection (code {code})"),
            after: goodbye,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_say_whether_to_come_back() {
        let end = |code: u16| {
            closed(
                Some(&CloseFrame {
                    code: code.into(),
                    reason: "".into(),
                }),
                None,
            )
        };
        for code in [1001, 1011, 1012, 1013, 4008, 4009, 4499] {
            assert!(matches!(end(code), End::Lost { .. }), "{code}");
        }
        for code in [1008, 4501, 4504] {
            assert!(matches!(end(code), End::Refused(_)), "{code}");
        }
    }
}
