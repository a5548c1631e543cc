//! Why a subscription that is served on the runtime ends, and how the log words it.

use std::fmt;

use crate::wire::control::CloseCode;

/// Why it ends.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) enum StreamEnd {
    /// The client is gone, or took nothing for the write timeout.
    ClientGone,
    /// The daemon drains.
    Drain,
    /// The history or the table's columns changed, or rows it needs were deleted: the client comes back and is told.
    StartsOver,
    /// Reads have failed for long.
    ReadsFail,
    /// The feed's table was dropped.
    FeedGone,
    /// Its token has expired, was revoked or changed, or the feed was taken away.
    Unauthorised(CloseCode),
}

impl StreamEnd {
    /// Returns the close code that tells a client of it.
    pub(in crate::http) fn code(self) -> CloseCode {
        match self {
            StreamEnd::ClientGone | StreamEnd::Drain | StreamEnd::StartsOver => CloseCode::Restart,
            StreamEnd::ReadsFail => CloseCode::TryAgainLater,
            StreamEnd::FeedGone => CloseCode::FeedGone,
            StreamEnd::Unauthorised(code) => code,
        }
    }
}

/// In words, for the log.
impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamEnd::ClientGone => "the client is gone, or took nothing for the write timeout",
            StreamEnd::Drain => "the daemon drains",
            StreamEnd::StartsOver => {
                "the history or the table's columns changed, or rows were deleted"
            }
            StreamEnd::ReadsFail => "rows can't be read",
            StreamEnd::FeedGone => "the feed's table was dropped",
            StreamEnd::Unauthorised(_) => "its token has expired, was revoked or changed",
        })
    }
}
