//! Counters, gauges and histograms, and their Prometheus text.

use std::sync::Arc;

pub use super::compression::CompressionMetrics;
pub use super::publish::{PublishFailure, PublishMetrics};
pub use super::sinks::{SinkFailure, SinkMetrics};

use crate::access::{AUTH_FAILURES, AuthFailure};
use crate::sqlite::error::BrokenKind;
use crate::wire::block::Block;
use crate::wire::control::ConnectionError;
use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// Everything walcast counts. Names and labels are what dashboards and alerts rely on.
pub struct Metrics {
    registry: Registry,
    pub ws_connections: IntGauge,
    pub sse_connections: IntGauge,
    pub messages_sent: IntCounter,
    /// `kind`: `ping` or `other`.
    pub client_messages: IntCounterVec,
    /// `reason`
    pub connection_errors: IntCounterVec,
    /// `reason`
    pub auth_failures: IntCounterVec,
    /// `source`: `wal`, `hook` or `poll`.
    pub wakes: IntCounterVec,
    pub rows_read: IntCounterVec,
    pub feed_head: IntGaugeVec,
    pub feed_subscribers: IntGaugeVec,
    pub catchup_reads: IntCounterVec,
    pub reads_waiting: IntGauge,
    pub histories_waiting: IntGauge,
    /// `reason`: `waiting`, `answers` or `time`.
    pub histories_refused: IntCounterVec,
    pub answers_held: IntGauge,
    /// Wake to row read, seconds.
    pub detect: Histogram,
    /// Row read to handed to the last socket, seconds.
    pub broadcast: Histogram,
    /// `kind`
    pub database_errors: IntCounterVec,
    pub epoch_changes: IntCounterVec,
    pub rows_below_head: IntCounterVec,
    /// `name`: the first one the certificate is for.
    pub certificate_expiry: IntGaugeVec,
    pub sinks: SinkMetrics,
    pub publish: PublishMetrics,
    pub compression: CompressionMetrics,
    /// Seconds for which a feed of an edge may not have all that its origin has.
    pub edge_lag: GaugeVec,
    pub edge_older_reads_waiting: IntGauge,
}

/// From 20 µs, faster than any commit, to 5 s, slower than any promise.
const SECONDS: [f64; 16] = [
    2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

impl Metrics {
    /// Counts a request that was refused for its credentials.
    pub fn auth_failure(&self, failure: &AuthFailure) {
        let failures = &self.auth_failures;
        failures.with_label_values(&[failure.code()]).inc();
    }

    /// Registers everything; each name once, so registering can only fail through a mistake in this file.
    pub fn new() -> prometheus::Result<Arc<Metrics>> {
        let registry = Registry::new();
        let r = &registry;
        let build = int_gauge_vec(
            r,
            "walcast_build_info",
            "The version that runs, as a label; always 1.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let lag = Opts::new(
            "walcast_edge_lag_seconds",
            "For how long a feed of an edge may not have all that its origin has; 0 while it hears of it.",
        );
        Ok(Arc::new(Metrics {
            ws_connections: int_gauge(
                r,
                "walcast_ws_connections_active",
                "WebSocket connections open.",
            )?,
            sse_connections: int_gauge(
                r,
                "walcast_sse_connections_active",
                "SSE connections open.",
            )?,
            messages_sent: int_counter(
                r,
                "walcast_messages_sent_total",
                "Rows handed to sockets, each counted for every subscriber.",
            )?,
            client_messages: int_counter_vec(
                r,
                "walcast_client_messages_total",
                "Messages from clients.",
                &["kind"],
            )?,
            connection_errors: int_counter_vec(
                r,
                "walcast_connection_errors_total",
                "Connections refused or closed for a fault.",
                &["reason"],
            )?,
            auth_failures: int_counter_vec(
                r,
                "walcast_auth_failures_total",
                "Requests refused for their credentials, or for want of any.",
                &["reason"],
            )?,
            wakes: int_counter_vec(
                r,
                "walcast_wakes_total",
                "What made the feed loop look for commits.",
                &["source"],
            )?,
            rows_read: int_counter_vec(
                r,
                "walcast_rows_read_total",
                "Rows read from the table, live and for catch-up.",
                &["feed"],
            )?,
            feed_head: int_gauge_vec(
                r,
                "walcast_feed_head",
                "The highest id given in the feed's epoch.",
                &["feed"],
            )?,
            feed_subscribers: int_gauge_vec(
                r,
                "walcast_feed_subscribers",
                "Subscribers of the feed.",
                &["feed"],
            )?,
            catchup_reads: int_counter_vec(
                r,
                "walcast_catchup_reads_total",
                "Pages read from the table for subscribers behind the log in memory.",
                &["feed"],
            )?,
            reads_waiting: int_gauge(
                r,
                "walcast_reads_waiting",
                "Reads for clients that wait for their turn.",
            )?,
            histories_waiting: int_gauge(
                r,
                "walcast_histories_waiting",
                "Requests for history that wait for their rows.",
            )?,
            histories_refused: int_counter_vec(
                r,
                "walcast_histories_refused_total",
                "Requests for history answered with 503: too many wait, no room for the answer, no rows in time.",
                &["reason"],
            )?,
            answers_held: int_gauge(
                r,
                "walcast_answers_held_bytes",
                "Bytes of answers that clients have not taken yet.",
            )?,
            detect: histogram(r, "walcast_detect_seconds", "From a wake to the row read.")?,
            broadcast: histogram(
                r,
                "walcast_broadcast_seconds",
                "From the row read to its hand-over to the last socket.",
            )?,
            database_errors: int_counter_vec(
                r,
                "walcast_database_errors_total",
                "Failed attempts to open or read the database.",
                &["kind"],
            )?,
            epoch_changes: int_counter_vec(
                r,
                "walcast_epoch_changes_total",
                "Histories replaced, restored or started over.",
                &["feed"],
            )?,
            rows_below_head: int_counter_vec(
                r,
                "walcast_rows_below_head_total",
                "Rows inserted below the head, which can't be sent.",
                &["feed"],
            )?,
            certificate_expiry: int_gauge_vec(
                r,
                "walcast_tls_certificate_expiry_seconds",
                "Time until a certificate of the TLS listeners ends; below zero once it has.",
                &["name"],
            )?,
            sinks: SinkMetrics::new(r)?,
            publish: PublishMetrics::new(r)?,
            compression: CompressionMetrics::new(r)?,
            edge_lag: registered(r, GaugeVec::new(lag, &["feed"]))?,
            edge_older_reads_waiting: int_gauge(
                r,
                "walcast_edge_older_reads_waiting",
                "Reads of rows that an edge has no more, which wait for their turn at its upstream.",
            )?,
            registry,
        }))
    }

    /// Makes the series of a feed exist before anything happened, so that rates and alerts have a zero to start from.
    pub fn announce_feed(&self, feed: &str) {
        let counters = [
            &self.rows_read,
            &self.catchup_reads,
            &self.epoch_changes,
            &self.rows_below_head,
        ];
        for counter in counters {
            counter.with_label_values(&[feed]);
        }
        self.feed_head.with_label_values(&[feed]);
        self.feed_subscribers.with_label_values(&[feed]);
        for source in ["wal", "hook", "poll"] {
            self.wakes.with_label_values(&[source]);
        }
        for kind in ["ping", "other"] {
            self.client_messages.with_label_values(&[kind]);
        }
        self.database_errors.with_label_values(&["busy"]);
        for kind in BrokenKind::ALL {
            self.database_errors.with_label_values(&[kind.label()]);
        }
        for reason in ["waiting", "answers", "time"] {
            self.histories_refused.with_label_values(&[reason]);
        }
        for error in ConnectionError::ALL {
            self.connection_errors.with_label_values(&[error.label()]);
        }
        for reason in AUTH_FAILURES {
            self.auth_failures.with_label_values(&[reason]);
        }
    }

    /// A block's rows were handed to the last socket.
    pub fn handed_on(&self, block: &Block) {
        if !block.entries.is_empty() {
            self.broadcast
                .observe(block.read_at.elapsed().as_secs_f64());
        }
    }

    /// Counts one in `walcast_connection_errors_total`.
    pub fn connection_error(&self, error: ConnectionError) {
        self.connection_errors
            .with_label_values(&[error.label()])
            .inc();
    }

    /// Returns all metrics in the Prometheus text format.
    pub fn text(&self) -> prometheus::Result<String> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}

/// Counts one in a gauge for as long as it lives.
pub struct GaugeGuard(IntGauge);

impl GaugeGuard {
    /// Counts one in, until it is dropped.
    pub fn of(gauge: &IntGauge) -> GaugeGuard {
        gauge.inc();
        GaugeGuard(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

pub(super) fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> prometheus::Result<M> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn int_counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    registered(registry, IntCounter::new(name, help))
}

pub(super) fn int_counter_vec(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

pub(super) fn int_gauge(
    registry: &Registry,
    name: &str,
    help: &str,
) -> prometheus::Result<IntGauge> {
    registered(registry, IntGauge::new(name, help))
}

pub(super) fn int_gauge_vec(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn histogram(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Histogram> {
    let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
    registered(registry, Histogram::with_opts(options))
}
