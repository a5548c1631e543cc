//! Reads beside the feed that take seconds, while the table changes under those that wait behind them.

use super::faulty::{Control, ROWS, faulty};
use super::places::{Fault, Order, Place};
use crate::common::database::STOCK_SCHEMA;
use crate::common::subscriber::Received;
use crate::common::{Daemon, Subscriber, ids, wait_until};

/// One read at a time, and none of the rows in memory.
fn daemon() -> Daemon {
    let settings = Daemon::on_new_file()
        .with_tables(STOCK_SCHEMA)
        .option("--replays", "1")
        .option("--ring-rows", "16");
    let daemon = faulty(settings).start();
    daemon.wait_until_ready();
    daemon.fill(usize::try_from(ROWS).expect("it is positive"));
    daemon.database().execute("PRAGMA wal_checkpoint(TRUNCATE)");
    daemon
}

/// Two who replay: the read of the first has begun, that of the second waits.
fn held_up(daemon: &Daemon, query: &str) -> [Subscriber; 2] {
    let mut control = Control::of(daemon);
    control.arm(Order {
        place: Place::ReadDatabase,
        fault: Fault::Slow,
        passed: 0,
        failing: 1,
    });
    ["", query].map(|query| daemon.subscribe(&format!("since=0{query}")))
}

/// Everything up to this id, in whatever history it is.
fn expect_up_to(subscriber: &mut Subscriber, last: i64) {
    let mut rows = vec![];
    while rows.last() != Some(&last) {
        match subscriber.next_row_or_frame() {
            None => rows.push(ids(subscriber.ledger())[subscriber.ledger().len() - 1]),
            Some(frame) if frame["type"] == "reset" => rows.clear(),
            Some(frame) => assert_ne!(frame["recovered"], false, "{frame}"),
        }
    }
    assert_eq!(rows, (1..=last).collect::<Vec<i64>>());
}

#[test]
fn those_who_wait_for_a_read_are_told_when_the_table_goes() {
    let daemon = daemon();
    let mut waiting = held_up(&daemon, "&tenant=acme");
    let database = daemon.database();
    database.execute("DROP TABLE remediation_events");
    wait_until("the table is missed", || {
        daemon.get("/readyz").status == 503
    });
    database.execute(STOCK_SCHEMA);
    let last = database.insert_many(20);
    for subscriber in &mut waiting {
        expect_up_to(subscriber, last);
    }
}

#[test]
fn those_who_wait_for_a_read_get_the_history_there_is_by_then() {
    let daemon = daemon();
    let mut waiting = held_up(&daemon, "&tenant=acme");
    let database = daemon.database();
    database.execute(&format!("DROP TABLE remediation_events; {STOCK_SCHEMA}"));
    let last = database.insert_many(20);
    for subscriber in &mut waiting {
        expect_up_to(subscriber, last);
    }
}

#[test]
fn who_waits_for_a_read_with_a_filter_on_a_column_that_goes_is_closed() {
    let daemon = daemon();
    let [mut all, mut filtered] = held_up(&daemon, "&alertname=HighCPU");
    let database = daemon.database();
    database.execute("ALTER TABLE remediation_events DROP COLUMN alertname");
    loop {
        match filtered.receive() {
            Received::Text(text) => assert!(!text.contains("reset"), "{text}"),
            Received::Closed(code) => break assert_eq!(code, Some(1012)),
        }
    }
    expect_up_to(&mut all, ROWS);
}
