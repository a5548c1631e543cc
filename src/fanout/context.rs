//! What all shards share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::catchup::CatchUp;
use crate::hub::Hub;
use crate::telemetry::metrics::Metrics;

/// Handles that all shards share.
pub struct Context {
    pub hub: Arc<Hub>,
    pub catchup: CatchUp,
    pub metrics: Arc<Metrics>,
    /// Read anew at each use: a reload may change it.
    pub write_timeout: Arc<Mutex<Duration>>,
}
