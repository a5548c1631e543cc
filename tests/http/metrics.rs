//! What Prometheus is told.

use crate::common::{Daemon, STOCK_SSE, wait_until};

const METRICS: [(&str, &str); 18] = [
    ("walcast_ws_connections_active", "gauge"),
    ("walcast_sse_connections_active", "gauge"),
    ("walcast_messages_sent_total", "counter"),
    ("walcast_client_messages_total", "counter"),
    ("walcast_connection_errors_total", "counter"),
    ("walcast_wakes_total", "counter"),
    ("walcast_rows_read_total", "counter"),
    ("walcast_feed_head", "gauge"),
    ("walcast_feed_subscribers", "gauge"),
    ("walcast_catchup_reads_total", "counter"),
    ("walcast_detect_seconds", "histogram"),
    ("walcast_broadcast_seconds", "histogram"),
    ("walcast_database_errors_total", "counter"),
    ("walcast_epoch_changes_total", "counter"),
    ("walcast_ws_deflate_connections_active", "gauge"),
    ("walcast_compression_bytes_total", "counter"),
    ("walcast_compression_saved_bytes_total", "counter"),
    ("walcast_build_info", "gauge"),
];

#[test]
fn every_metric_is_there_before_anything_happened() {
    let walcast = Daemon::start_new();
    let response = walcast.get("/metrics");
    assert!(
        response
            .header("Content-Type")
            .is_some_and(|kind| kind.starts_with("text/plain"))
    );
    let text = response.text();
    let missing: Vec<_> = METRICS
        .into_iter()
        .filter(|(name, kind)| {
            let has_type = text.contains(&format!("# TYPE {name} {kind}\n"));
            !(has_type && text.contains(&format!("# HELP {name} ")))
        })
        .collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

#[test]
fn metrics_count_what_happens() {
    let walcast = Daemon::start_new();
    let feed = |name: &str| walcast.metric(&format!("{name}{{feed=\"remediation\"}}"));
    let mut plain = walcast.subscribe("");
    let mut sse = walcast.event_source(STOCK_SSE, &[]);
    // A socket is handed over once the answer to its handshake is out.
    wait_until("both are connected", || {
        walcast.metric("walcast_ws_connections_active") == 1.0
            && walcast.metric("walcast_sse_connections_active") == 1.0
    });
    assert_eq!(feed("walcast_feed_subscribers"), 2.0);
    walcast.database().insert("one");
    walcast.database().insert("two");
    plain.next_rows(2);
    sse.next_row();
    sse.next_row();
    wait_until("both rows are counted for both", || {
        walcast.metric("walcast_messages_sent_total") == 4.0
    });
    assert_eq!(feed("walcast_rows_read_total"), 2.0);
    assert_eq!(feed("walcast_feed_head"), 2.0);
    assert!(walcast.metric(r#"walcast_wakes_total{source="wal"}"#) >= 1.0);
    assert!(walcast.metric("walcast_detect_seconds_count") >= 1.0);
    assert!(walcast.metric("walcast_broadcast_seconds_count") >= 1.0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        walcast.metric(&format!("walcast_build_info{{version=\"{version}\"}}")),
        1.0
    );
    drop((plain, sse));
    wait_until("nobody is connected", || {
        walcast.metric("walcast_ws_connections_active") == 0.0
            && walcast.metric("walcast_sse_connections_active") == 0.0
    });
    let walcast = walcast.restart();
    let (mut replaying, _) = walcast.resume("since=0");
    replaying.next_rows(2);
    let reads = walcast.metric(r#"walcast_catchup_reads_total{feed="remediation"}"#);
    assert!(reads >= 1.0, "{reads}");
}

#[test]
fn a_row_is_late_for_its_last_subscriber_and_not_for_who_comes_after_it() {
    let walcast = Daemon::start_new();
    let handed_on = || walcast.metric("walcast_broadcast_seconds_count");
    walcast.fill(3);
    let mut first = walcast.subscribe_live();
    assert_eq!(handed_on(), 0.0, "nobody was there to be late for");
    // Over all threads that serve sockets.
    let mut others: Vec<_> = (0..20).map(|_| walcast.subscribe_live()).collect();
    for expected in 1..=3 {
        let id = walcast.database().insert("live");
        for subscriber in others.iter_mut().chain([&mut first]) {
            assert_eq!(subscriber.next_row()["id"], id);
        }
        wait_until("the row was handed on once", || {
            handed_on() == f64::from(expected)
        });
    }
    let late: Vec<_> = (0..5)
        .map(|_| walcast.subscribe("since=earliest"))
        .collect();
    drop(late);
    assert_eq!(handed_on(), 3.0);
}
