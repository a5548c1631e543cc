//! Has one feed from the origin: a subscription that goes on where the spool ends, over as many connections as it takes.

use std::sync::Arc;
use std::time::Duration;

use tungstenite::Message;

use super::connections::{Connect, End};
use super::frames::{OriginControl, OriginFrame};
use super::intake::Closed;
use super::origin::Origin;
use super::taking::Taking;
use crate::hub::SourceDesk;
use crate::net::backoff::Backoff;
use crate::net::feed_socket::{ConnectError, lost};
use crate::sqlite::spool::SpoolItem;
use crate::wire::control::{CloseCode, ResetReason};

/// The pause after a refusal that will not pass by itself, but by somebody's doing.
const REFUSED: Duration = Duration::from_secs(5);

/// One feed, as it is had.
pub(super) struct Feeder {
    pub taking: Taking,
    /// Its WebSocket at the origin.
    pub path: String,
    pub origin: Origin,
    pub desk: Arc<SourceDesk>,
}

/// What is known on one connection.
#[derive(Default)]
struct Known {
    goodbye: Option<Duration>,
}

impl Connect for Feeder {
    fn taking(&self) -> &Taking {
        &self.taking
    }

    fn connection(&mut self, backoff: &mut Backoff) -> End {
        self.taking.status.begins(&self.taking.feed);
        let position = match self.taking.intake.position(&self.taking.feed) {
            Ok(position) => position,
            Err(Closed) => return End::Closed,
        };
        let mut socket = match self.origin.subscribe(&self.path, position.as_ref()) {
            Ok(socket) => socket,
            Err(ConnectError::Unreachable(e)) => {
                let why = format!("{} does not answer: {e}", self.origin.shown());
                return End::lost(why);
            }
            Err(ConnectError::Later { why, after }) => return End::Lost { why, after },
            Err(ConnectError::Refused { why, status }) => {
                if status == Some(404) {
                    self.desk.look_again();
                }
                return End::Lost {
                    why,
                    after: Some(REFUSED),
                };
            }
        };
        if !self
            .taking
            .status
            .connected(&self.taking.feed, socket.get_ref().socket())
        {
            return End::SentBack;
        }
        let mut known = Known::default();
        self.taking.forget();
        loop {
            let text = match socket.read() {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(frame)) => {
                    let code = frame.map_or(1005, |frame| u16::from(frame.code));
                    if code == CloseCode::FeedGone.code() {
                        self.desk.look_again();
                    }
                    return closed(code, known.goodbye);
                }
                Ok(_) => {
                    self.taking.status.heard(&self.taking.feed);
                    continue;
                }
                Err(_) if self.taking.status.is_sent_back(&self.taking.feed) => {
                    return End::SentBack;
                }
                Err(e) => {
                    return End::Lost {
                        why: lost(&e),
                        after: known.goodbye,
                    };
                }
            };
            self.taking.status.heard(&self.taking.feed);
            let taken = OriginFrame::parse(&text)
                .map_err(|e| {
                    End::lost(format!("what the origin sent is not understood ({e}); is it of a version that is much newer?"))
                })
                .and_then(|frame| self.take(frame, text.len(), &mut known, backoff));
            if let Err(end) = taken {
                return end.or_after(REFUSED);
            }
        }
    }
}

impl Feeder {
    fn take(
        &mut self,
        frame: OriginFrame,
        bytes: usize,
        known: &mut Known,
        backoff: &mut Backoff,
    ) -> Result<(), End> {
        let control = match frame {
            OriginFrame::Row(row) => return Ok(self.taking.row(row, bytes)?),
            OriginFrame::Change(change) => return Ok(self.taking.change(change, bytes)?),
            OriginFrame::Control(control) => control,
        };
        let item = match control {
            OriginControl::Table { schema, table } => {
                return Ok(self.taking.table(schema, *table, bytes)?);
            }
            OriginControl::Hello {
                epoch,
                recovered,
                snapshot,
            } => {
                backoff.reset();
                SpoolItem::Begin {
                    epoch,
                    goes_on: recovered && !snapshot,
                    reason: ResetReason::default(),
                }
            }
            OriginControl::Reset { epoch, reason } => SpoolItem::Begin {
                epoch,
                goes_on: false,
                reason: ResetReason::of(&reason),
            },
            OriginControl::Live { id } | OriginControl::Heartbeat { head: id } => {
                SpoolItem::UpTo(id.0)
            }
            OriginControl::Goodbye { reconnect_after_ms } => {
                known.goodbye = reconnect_after_ms.map(Duration::from_millis);
                return Ok(());
            }
            OriginControl::Waiting { message } => {
                self.taking
                    .status
                    .cut_off(&self.taking.feed, &format!("the origin waits: {message}"));
                return Ok(());
            }
            OriginControl::Unknown => return Ok(()),
        };
        Ok(self.taking.intake.push(&self.taking.feed, item, bytes)?)
    }
}

fn closed(code: u16, goodbye: Option<Duration>) -> End {
    let (why, after) = match code {
        1012 => ("the origin restarts".to_owned(), goodbye),
        1013 => ("the origin is at capacity".to_owned(), goodbye),
        4401 => (
            "the token has expired, or stands for something else now".to_owned(),
            None,
        ),
        4501 => ("the token was revoked".to_owned(), Some(REFUSED)),
        4504 => (
            "the origin does not have the feed any more, or grants it no more".to_owned(),
            Some(REFUSED),
        ),
        code => (
            format!("the origin closed the connection (code {code})"),
            goodbye,
        ),
    };
    End::Lost { why, after }
}
