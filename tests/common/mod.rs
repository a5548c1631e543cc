//! The harness: the real daemon on a real file, real writers in processes of their own, and real clients. A test reads
//! like the feature: start, insert, expect. Nothing here sleeps to synchronise; [`wait_until`] polls a condition.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod authority;
pub mod clients;
pub mod daemon;
pub mod database;
pub mod deflated;
pub mod disks;
pub mod event_source;
pub mod http;
pub mod log;
pub mod multi;
pub mod nginx;
pub mod random;
pub mod secrets;
pub mod settings;
pub mod steps;
pub mod subscriber;
pub mod tls_front;
pub mod wait;
pub mod writer;

pub use clients::{STOCK_EVENTS, STOCK_FEED, STOCK_HISTORY, STOCK_SSE};
pub use daemon::Daemon;
pub use database::Database;
pub use event_source::EventSource;
pub use http::Response;
pub use settings::Settings;
pub use steps::Steps;
pub use subscriber::Subscriber;
pub use wait::{PATIENCE, StopAtEnd, wait_until};
pub use writer::Writer;

/// The ids of rows.
pub fn ids(rows: &[serde_json::Value]) -> Vec<i64> {
    rows.iter().map(id).collect()
}

/// The id of a row of a table whose key is `id`.
pub fn id(row: &serde_json::Value) -> i64 {
    row["id"]
        .as_i64()
        .unwrap_or_else(|| panic!("a row without an id: {row}"))
}

/// A directory of its own for each test; gone with the value.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// Compares what a subscriber got with what it should have got, and names the first difference.
#[track_caller]
pub fn assert_ledger(ledger: &[serde_json::Value], expected: &[serde_json::Value]) {
    if ledger == expected {
        return;
    }
    let same = ledger
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count();
    let (got, wanted) = (ledger.get(same), expected.get(same));
    panic!(
        "got {} rows of {}; after {same} equal ones got {got:.300?}, wanted {wanted:.300?}",
        ledger.len(),
        expected.len()
    );
}
