//! What operators see: the log and the metrics.

pub mod connection_span;
pub mod logging;
pub mod metrics;
