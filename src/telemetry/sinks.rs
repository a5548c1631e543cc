//! What is counted of sinks.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::metrics::{int_counter_vec, int_gauge_vec, registered};

/// Why a delivery failed, as `walcast_sink_failures_total` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkFailure {
    /// There was no connection: no such name, refused, or none in time.
    Connect,
    /// The receiver's certificate was not good, or TLS failed otherwise.
    Tls,
    /// The connection ended before the answer did, or what came was no answer.
    Protocol,
    /// There was no answer in time.
    Timeout,
    /// The receiver answered that it is elsewhere (3xx).
    Redirect,
    /// The receiver answered that something is wrong with what was posted (4xx).
    ClientError,
    /// The receiver answered that something is wrong with itself (5xx).
    ServerError,
    /// The receiver answered that it wants no rows any more (410).
    Gone,
}

impl SinkFailure {
    /// Every one there is.
    pub const ALL: [SinkFailure; 8] = [
        SinkFailure::Connect,
        SinkFailure::Tls,
        SinkFailure::Protocol,
        SinkFailure::Timeout,
        SinkFailure::Redirect,
        SinkFailure::ClientError,
        SinkFailure::ServerError,
        SinkFailure::Gone,
    ];

    /// Returns the label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            SinkFailure::Connect => "connect",
            SinkFailure::Tls => "tls",
            SinkFailure::Protocol => "protocol",
            SinkFailure::Timeout => "timeout",
            SinkFailure::Redirect => "redirect",
            SinkFailure::ClientError => "client_error",
            SinkFailure::ServerError => "server_error",
            SinkFailure::Gone => "gone",
        }
    }
}

/// What is counted of sinks, each by its name.
pub struct SinkMetrics {
    pub lag_rows: IntGaugeVec,
    pub lag_seconds: GaugeVec,
    pub deliveries: IntCounterVec,
    pub rows: IntCounterVec,
    /// `reason`
    pub failures: IntCounterVec,
}

impl SinkMetrics {
    pub(super) fn new(r: &Registry) -> prometheus::Result<SinkMetrics> {
        let seconds = Opts::new(
            "walcast_sink_lag_seconds",
            "How long the oldest row has waited that the sink's receiver has not taken.",
        );
        Ok(SinkMetrics {
            lag_rows: int_gauge_vec(
                r,
                "walcast_sink_lag_rows",
                "Ids between the last row that the sink's receiver has taken and the feed's head.",
                &["sink"],
            )?,
            lag_seconds: registered(r, GaugeVec::new(seconds, &["sink"]))?,
            deliveries: int_counter_vec(
                r,
                "walcast_sink_deliveries_total",
                "Requests that the sink's receiver answered with 2xx.",
                &["sink"],
            )?,
            rows: int_counter_vec(
                r,
                "walcast_sink_rows_total",
                "Rows that the sink's receiver has taken.",
                &["sink"],
            )?,
            failures: int_counter_vec(
                r,
                "walcast_sink_failures_total",
                "Requests that the sink's receiver did not answer with 2xx.",
                &["sink", "reason"],
            )?,
        })
    }

    /// Makes the series of a sink exist before anything happened.
    pub fn announce(&self, sink: &str) {
        self.lag_rows.with_label_values(&[sink]);
        self.lag_seconds.with_label_values(&[sink]);
        self.deliveries.with_label_values(&[sink]);
        self.rows.with_label_values(&[sink]);
        for reason in SinkFailure::ALL {
            self.failures.with_label_values(&[sink, reason.label()]);
        }
    }
}
