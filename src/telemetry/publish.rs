//! What is counted of feeds that are published.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::metrics::{int_counter_vec, int_gauge_vec, registered};

/// Why a feed could not be published on, as `walcast_publish_failures_total` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishFailure {
    /// There is no connection to a server.
    Connection,
    /// The stream could not be found, made or read, or is not one of walcast's.
    Stream,
    /// The stream ended elsewhere than where it was left.
    Elsewhere,
    /// The server did not take a message, or did not answer in time.
    Refused,
    /// Another daemon publishes the same.
    Rival,
}

impl PublishFailure {
    /// Every one there is.
    pub const ALL: [PublishFailure; 5] = [
        PublishFailure::Connection,
        PublishFailure::Stream,
        PublishFailure::Elsewhere,
        PublishFailure::Refused,
        PublishFailure::Rival,
    ];

    /// Returns the label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            PublishFailure::Connection => "connection",
            PublishFailure::Stream => "stream",
            PublishFailure::Elsewhere => "elsewhere",
            PublishFailure::Refused => "refused",
            PublishFailure::Rival => "rival",
        }
    }
}

/// What is counted of feeds that are published, each by its name.
pub struct PublishMetrics {
    pub lag_rows: IntGaugeVec,
    pub lag_seconds: GaugeVec,
    pub messages: IntCounterVec,
    pub rows: IntCounterVec,
    pub bytes: IntCounterVec,
    /// `reason`
    pub failures: IntCounterVec,
}

impl PublishMetrics {
    pub(super) fn new(r: &Registry) -> prometheus::Result<PublishMetrics> {
        let seconds = Opts::new(
            "walcast_publish_lag_seconds",
            "How long the oldest row has waited that the feed's stream does not have.",
        );
        Ok(PublishMetrics {
            lag_rows: int_gauge_vec(
                r,
                "walcast_publish_lag_rows",
                "Ids between the last row that the feed's stream has and the feed's head.",
                &["feed"],
            )?,
            lag_seconds: registered(r, GaugeVec::new(seconds, &["feed"]))?,
            messages: int_counter_vec(
                r,
                "walcast_publish_messages_total",
                "Messages that the feed's stream has taken.",
                &["feed"],
            )?,
            rows: int_counter_vec(
                r,
                "walcast_publish_rows_total",
                "Rows that the feed's stream has taken.",
                &["feed"],
            )?,
            bytes: int_counter_vec(
                r,
                "walcast_publish_bytes_total",
                "Bytes of the messages that the feed's stream has taken, without their headers.",
                &["feed"],
            )?,
            failures: int_counter_vec(
                r,
                "walcast_publish_failures_total",
                "Times that the feed could not be published on.",
                &["feed", "reason"],
            )?,
        })
    }

    /// Makes the series of a feed exist before anything happened.
    pub fn announce(&self, feed: &str) {
        self.lag_rows.with_label_values(&[feed]);
        self.lag_seconds.with_label_values(&[feed]);
        self.messages.with_label_values(&[feed]);
        self.rows.with_label_values(&[feed]);
        self.bytes.with_label_values(&[feed]);
        for reason in PublishFailure::ALL {
            self.failures.with_label_values(&[feed, reason.label()]);
        }
    }

    /// Counts one in `walcast_publish_failures_total`.
    pub fn failed(&self, feed: &str, reason: PublishFailure) {
        self.failures
            .with_label_values(&[feed, reason.label()])
            .inc();
    }
}
