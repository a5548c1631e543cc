//! Bounds on what clients and bursts may cost.

use std::time::Duration;

use super::kinds::{bytes, count, time, time_or_zero};
use super::setting::settings;

/// The heading of help that the flags stand under.
pub(super) const LIMITS: &str = "Limits";

settings! {
    /// Bounds on what clients and bursts may cost.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Limits {
        /// Connections served at once, WebSocket and HTTP together.
        "max_connections" max_connections: Option<usize> = None,
            count().optional("the descriptor limit less 64").flag("--max-connections").under(LIMITS).live();

        /// Connections from one IPv4 address or IPv6 /64; loopback is exempt.
        "max_connections_per_ip" max_connections_per_ip: usize = 1000,
            count().flag("--max-connections-per-ip").under(LIMITS).live();

        /// Subscriptions that one WebSocket of several feeds may have at once.
        "max_subscriptions" max_subscriptions: usize = 64,
            count().flag("--max-subscriptions").under(LIMITS);

        /// How long a client may accept no byte before it is closed: 250ms, 30s, 1m, or seconds.
        "write_timeout" write_timeout: Duration = Duration::from_secs(30),
            time().flag("--write-timeout").under(LIMITS).live();

        /// How long a shutdown waits for clients.
        // Not to wait at all is a choice somebody may make; a client or a poll that is never waited for is not.
        "drain_timeout" drain_timeout: Duration = Duration::from_secs(10),
            time_or_zero().flag("--drain-timeout").under(LIMITS).live();

        /// How often the database is looked at when no file event tells of a commit.
        "poll_interval" poll_interval: Duration = Duration::from_millis(250),
            time().flag("--poll-interval").under(LIMITS);

        /// Rows of each feed kept ready in memory.
        "ring.rows" ring_rows: usize = 16_384,
            count().flag("--ring-rows").under(LIMITS);

        /// Bytes of each feed kept ready in memory.
        "ring.bytes" ring_bytes: usize = 8 << 20,
            bytes().flag("--ring-bytes").under(LIMITS);

        /// Replays that read from the table at once.
        "replays" replays: usize = 8,
            count().flag("--replays").under(LIMITS);

        /// Size of a message in bytes of JSON above which its longest values are cut.
        "max_row_bytes" max_row_bytes: usize = 1 << 20,
            bytes().flag("--max-row-bytes").under(LIMITS);
    }
    parts {
        /// What histories may cost.
        history: HistoryLimits,
    }
}

settings! {
    /// Bounds on requests for history.
    #[derive(Debug, Clone, PartialEq)]
    pub struct HistoryLimits {
        /// Requests that may wait for their rows at once.
        "history.waiting" waiting: usize = 32, count();

        /// The same, of one client.
        "history.waiting_per_client" waiting_per_client: usize = 4, count();

        /// How long one may wait until its rows are looked for.
        "history.wait" wait: Duration = Duration::from_secs(10), time();

        /// How long rows may be looked for.
        "history.time" time: Duration = Duration::from_secs(5), time();

        /// Bytes of answers that may be held for clients that take their time.
        "history.answers" answers: usize = 64 << 20, bytes();
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::unset()
    }
}
