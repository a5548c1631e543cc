//! What is counted of compression.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::metrics::{int_counter_vec, int_gauge};

/// What is compressed, once for everybody or for each client.
const KINDS: [&str; 3] = ["rows", "events", "answers"];

/// Bytes that were compressed, and bytes that need not be sent for it.
pub struct CompressionMetrics {
    /// WebSocket connections that agreed on it.
    pub ws_connections: IntGauge,
    /// `of`: `rows`, `events` or `answers`; `side`: `in` or `out`.
    bytes: IntCounterVec,
    /// `to`: `ws`, `sse` or `http`.
    saved: IntCounterVec,
}

impl CompressionMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<CompressionMetrics> {
        let metrics = CompressionMetrics {
            ws_connections: int_gauge(
                registry,
                "walcast_ws_deflate_connections_active",
                "WebSocket connections that agreed on compressed messages.",
            )?,
            bytes: int_counter_vec(
                registry,
                "walcast_compression_bytes_total",
                "Bytes that went into compression and came out of it; a row counts once, however many clients get it.",
                &["of", "side"],
            )?,
            saved: int_counter_vec(
                registry,
                "walcast_compression_saved_bytes_total",
                "Bytes that did not have to be sent, counted for every client.",
                &["to"],
            )?,
        };
        for kind in KINDS {
            metrics.made(kind, 0, 0);
        }
        for to in ["ws", "sse", "http"] {
            metrics.saved.with_label_values(&[to]);
        }
        Ok(metrics)
    }

    /// Of so many bytes of a kind came so many.
    pub fn made(&self, of: &str, taken: u64, made: u64) {
        self.bytes.with_label_values(&[of, "in"]).inc_by(taken);
        self.bytes.with_label_values(&[of, "out"]).inc_by(made);
    }

    /// So many bytes did not have to be sent.
    pub fn saved(&self, to: &str, bytes: usize) {
        if bytes > 0 {
            self.saved.with_label_values(&[to]).inc_by(bytes as u64);
        }
    }
}
