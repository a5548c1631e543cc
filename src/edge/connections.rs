//! The connections over which one feed is had, one after the other, wherever they lead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::intake::Closed;
use super::taking::{NotTaken, Taking};
use crate::net::backoff::Backoff;

/// A connection that is sent back sooner is not followed by the next one at once.
const BRIEF: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(super) enum End {
    Lost {
        why: String,
        /// How long to wait; `None`: as long as after others that were lost.
        after: Option<Duration>,
    },
    /// It is to begin again at once, from where the spool is then.
    SentBack,
    /// Nobody takes what comes.
    Closed,
}

impl End {
    pub(super) fn lost(why: impl Into<String>) -> End {
        let why = why.into();
        End::Lost { why, after: None }
    }

    /// The same, followed by the next connection after this time where nothing else is said.
    pub(super) fn or_after(self, pause: Duration) -> End {
        match self {
            End::Lost { why, after } => End::Lost {
                why,
                after: after.or(Some(pause)),
            },
            other => other,
        }
    }
}

impl From<Closed> for End {
    fn from(_: Closed) -> End {
        End::Closed
    }
}

impl From<NotTaken> for End {
    fn from(not: NotTaken) -> End {
        match not {
            NotTaken::Closed => End::Closed,
            // Of a table that changed in this moment: a new connection begins with what it is.
            NotTaken::Undescribed => End::SentBack,
            NotTaken::Wrong(why) => End::lost(why),
        }
    }
}

/// Has one feed over a connection.
pub(super) trait Connect {
    /// How what comes is taken in.
    fn taking(&self) -> &Taking;

    /// One connection, from its first byte to its last. Blocks. It resets `backoff` once it works.
    fn connection(&mut self, backoff: &mut Backoff) -> End;
}

/// Has the feed until it is `stopped`, or nobody takes it. Blocks.
pub(super) fn keep_connected(mut feeder: impl Connect, stopped: &AtomicBool) {
    let mut backoff = Backoff::new();
    while !stopped.load(Ordering::Relaxed) {
        let began = Instant::now();
        match feeder.connection(&mut backoff) {
            End::Lost { why, after } => {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let taking = feeder.taking();
                taking.status.cut_off(&taking.feed, &why);
                std::thread::sleep(after.unwrap_or_else(|| backoff.next_pause()));
            }
            End::SentBack if began.elapsed() < BRIEF => {
                std::thread::sleep(backoff.next_pause());
            }
            End::SentBack => {}
            End::Closed => return,
        }
    }
}
