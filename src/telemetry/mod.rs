//! What operators see: the log and the metrics.

mod compression;
pub mod connection_span;
pub mod logging;
pub mod metrics;
mod publish;
mod sinks;
