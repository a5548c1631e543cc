//! Rows over TLS: replayed, live, to clients that don't read, in order and once.

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::common::tls_front::Front;
use crate::common::{
    Daemon, STOCK_EVENTS, STOCK_FEED, STOCK_HISTORY, STOCK_SSE, Subscriber, assert_ledger, ids,
    wait_until,
};

#[test]
fn every_route_answers_over_tls() {
    let daemon = Daemon::on_new_file()
        .stock_feed("ingest = true")
        .over_tls()
        .start();
    let posted = daemon.post(STOCK_EVENTS, &json!({"ts": "2026-01-01T00:00:00Z"}));
    assert_eq!(posted.status, 201);
    daemon.wait_for_head(1);
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/feeds",
        "/",
        "/walcast.js",
    ] {
        assert_eq!(daemon.get(path).status, 200, "{path}");
    }
    assert_eq!(daemon.get(STOCK_HISTORY).json()["total"], 1);
    let mut events = daemon.event_source(&format!("{STOCK_SSE}?since=earliest"), &[]);
    events.expect("hello");
    let mut subscriber = daemon.subscribe("since=earliest");
    subscriber.expect("hello");
    assert_eq!(subscriber.replay(), (vec![1], 1));
    daemon.database().insert_many(3);
    assert_eq!(ids(&subscriber.next_rows(3)), [2, 3, 4]);
    // Whoever closes is answered, and who breaks the protocol is told why.
    subscriber.send(&"x".repeat(5000));
    subscriber.expect_close(1009);
}

#[test]
fn a_long_replay_over_tls_goes_on_live() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let head = daemon.fill(20_000);
    let mut subscribers: Vec<_> = (0..5).map(|_| daemon.subscribe("since=earliest")).collect();
    let live = daemon.database().insert_many(2_000);
    let table = daemon.database().rows();
    for subscriber in &mut subscribers {
        subscriber.expect("hello");
        let (replayed, _) = subscriber.replay();
        assert!(replayed.len() as i64 >= head);
        while subscriber.ledger().len() < table.len() {
            subscriber.next_row();
        }
        assert_ledger(subscriber.ledger(), &table);
    }
    assert_eq!(live as usize, table.len());
}

#[test]
fn clients_of_each_version_keep_the_same_ledger() {
    let daemon = Daemon::on_new_file().over_tls().start();
    daemon.fill(5_000);
    let fronts = [&TLS12, &TLS13].map(|version| {
        let config = daemon.settings().authority().client_of(&[version]);
        Front::without_tls(daemon.own_address(), config)
    });
    let subscribe =
        |front: &Front| Subscriber::connect(front.address, STOCK_FEED, "since=earliest");
    let mut subscribers: Vec<_> = fronts.iter().map(subscribe).collect();
    daemon.database().insert_many(1_000);
    let table = daemon.database().rows();
    for subscriber in &mut subscribers {
        subscriber.expect("hello");
        subscriber.replay();
        while subscriber.ledger().len() < table.len() {
            subscriber.next_row();
        }
        assert_ledger(subscriber.ledger(), &table);
        subscriber.expect_nothing();
    }
}

/// Rows that are larger than a record of TLS, than what the kernel holds, and than both ends' buffers.
#[test]
fn large_rows_over_tls_come_whole() {
    let daemon = Daemon::on_new_file()
        .stock_feed("truncate = {}")
        .over_tls()
        .start();
    let mut live = daemon.subscribe_live();
    let details = |n: usize| "0123456789abcdef".repeat(n);
    let writer = daemon.database().connect();
    for size in [1, 1_000, 1_024, 20_000, 60_000] {
        writer
            .execute(
                "INSERT INTO remediation_events (ts, details) VALUES ('t', ?1)",
                [details(size)],
            )
            .expect("the row is written");
    }
    for size in [1, 1_000, 1_024, 20_000, 60_000] {
        assert_eq!(live.next_row()["details"], details(size));
    }
}

#[test]
fn a_client_that_reads_nothing_over_tls_loses_nothing_and_holds_little() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let mut slow = daemon.subscribe_slow(STOCK_FEED, "since=earliest");
    slow.expect("hello");
    slow.expect("live");
    let mut others = daemon.subscribe_live();
    let before = daemon.memory("VmRSS");
    // Some 50 MB of frames, of which the log holds 8.
    let mut last = 0;
    for _ in 0..40 {
        last = daemon.fill(5_000);
        assert_eq!(others.rows_to(last).len(), 5_000);
    }
    let grown = daemon.memory("VmRSS").saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes more");
    slow.enlarge_buffer();
    assert_eq!(slow.rows_to(last).len() as i64, last);
    assert_ledger(slow.ledger(), others.ledger());
    wait_until("nobody is behind", || {
        daemon.metric("walcast_reads_waiting") == 0.0
    });
}
