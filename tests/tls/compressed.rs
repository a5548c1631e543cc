//! Compressed rows over TLS: the frames that are shared are encrypted for each.

use crate::common::deflated::OFFER;
use crate::common::{Daemon, STOCK_FEED, Subscriber, assert_ledger, wait_until};

/// Text that gets smaller, of so many words.
fn details(words: usize) -> String {
    (0..words)
        .map(|n| format!("node-{} restarted ", n * n % 89))
        .collect()
}

fn daemon() -> Daemon {
    Daemon::on_new_file()
        .stock_feed("truncate = {}\ncompression = \"on\"")
        .over_tls()
        .start()
}

fn offering(daemon: &Daemon, query: &str) -> Subscriber {
    Subscriber::connect_with(daemon.address(), STOCK_FEED, query, &[OFFER])
}

/// From a word to rows of many records of TLS.
fn write_rows_of_every_size(daemon: &Daemon) {
    let writer = daemon.database().connect();
    for words in [1, 20, 60, 1_000, 1_500, 20_000, 2].repeat(5) {
        let row = "INSERT INTO remediation_events (ts, details) VALUES ('t', ?1)";
        writer
            .execute(row, [details(words)])
            .expect("the row is written");
    }
}

#[test]
fn ledgers_are_the_same_with_and_without_compression() {
    let daemon = daemon();
    write_rows_of_every_size(&daemon);
    let mut subscribers: Vec<Subscriber> = (0..4)
        .map(|n| match n % 2 {
            0 => offering(&daemon, "since=earliest"),
            _ => daemon.subscribe("since=earliest"),
        })
        .collect();
    assert_eq!(daemon.metric("walcast_ws_deflate_connections_active"), 2.0);
    write_rows_of_every_size(&daemon);
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
    assert!(daemon.metric("walcast_compression_saved_bytes_total{to=\"ws\"}") > 0.0);
}

#[test]
fn a_slow_client_misses_nothing_wherever_a_compressed_frame_is_cut() {
    let daemon = daemon();
    let mut slow = Subscriber::connect_with_small_buffer(
        daemon.address(),
        STOCK_FEED,
        "since=earliest",
        &[OFFER],
    );
    let mut others = offering(&daemon, "since=earliest");
    for _ in 0..6 {
        write_rows_of_every_size(&daemon);
    }
    let table = daemon.database().rows();
    slow.enlarge_buffer();
    for subscriber in [&mut others, &mut slow] {
        subscriber.expect("hello");
        while subscriber.ledger().len() < table.len() {
            subscriber.next_row_or_frame();
        }
        assert_ledger(subscriber.ledger(), &table);
    }
    wait_until("nobody is behind", || {
        daemon.metric("walcast_reads_waiting") == 0.0
    });
}
