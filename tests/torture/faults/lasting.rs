//! Calls fail for as long as something is wrong: that is said, once, and everything goes on when it is mended.

use std::time::{Duration, Instant};

use serde_json::json;

use super::faulty::{Control, Newcomer, RING, ROWS, Watchers, check_history, faulty, lasting};
use super::places::{Fault, Order, Place};
use crate::common::database::STOCK_SCHEMA;
use crate::common::wait::pause;
use crate::common::{Daemon, PATIENCE, STOCK_EVENTS, wait_until};
use crate::scale;

fn daemon() -> Daemon {
    let settings = Daemon::on_new_file()
        .with_tables(STOCK_SCHEMA)
        .stock_feed("ingest = true");
    let daemon = faulty(settings).option("--ring-rows", RING).start();
    daemon.wait_until_ready();
    daemon.fill(usize::try_from(ROWS).expect("it is positive"));
    daemon
}

/// As long as `orders` are in force the daemon is not ready, and says so in the log no more than a few times.
fn fails_until_mended(orders: &[Order], said: &str) {
    let daemon = daemon();
    let mut control = Control::of(&daemon);
    let mut watchers = Watchers::new(&daemon);
    let before = watchers.head;
    for order in orders {
        control.arm(*order);
    }
    watchers.write();
    wait_until("it is not ready", || daemon.get("/readyz").status == 503);
    let answer = daemon.get("/readyz").json();
    assert!(
        answer["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "{answer}"
    );
    assert_eq!(daemon.get("/healthz").status, 200);
    daemon.wait_for_log(said);
    watchers.write();
    let newcomer = Newcomer::to(&daemon);
    check_history(&daemon);
    wait_until("it was tried several times", || {
        let text = daemon.get("/metrics").text();
        let counted = text
            .lines()
            .filter(|line| line.starts_with("walcast_database_errors_total{"))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        counted.sum::<f64>() >= 3.0
    });
    let errors = daemon
        .log()
        .lines()
        .filter(|line| line.contains("ERROR"))
        .count();
    assert!((1..=3).contains(&errors), "{errors} errors for one cause");
    assert!(control.disarm() > 0);
    watchers.expect_rows(before);
    newcomer.expect_all(watchers.head);
    daemon.wait_until_ready();
    daemon.wait_for_log("can be read again");
    drop(watchers);
    daemon.stop();
}

#[test]
fn no_read_works_for_a_while() {
    let order = |place| lasting(place, Fault::Io);
    fails_until_mended(
        &[order(Place::ReadDatabase), order(Place::ReadWal)],
        "disk I/O error",
    );
}

#[test]
fn no_file_can_be_opened_for_a_while() {
    let order = |place| lasting(place, Fault::Io);
    let orders = [order(Place::OpenDatabase), order(Place::ShmLock)];
    fails_until_mended(&orders, "can't be");
}

#[test]
fn the_wal_index_can_not_be_mapped_for_a_while() {
    let order = |place| lasting(place, Fault::Io);
    fails_until_mended(
        &[order(Place::ShmMap), order(Place::ShmLock)],
        "disk I/O error",
    );
}

/// A fresh connection reads every 30 s; nothing else would notice while nobody writes.
#[test]
fn a_file_that_can_not_be_read_any_more_is_noticed_although_nobody_writes() {
    if !scale::is_full() {
        eprintln!("skipped: it takes half a minute; WALCAST_TORTURE=full");
        return;
    }
    let daemon = daemon();
    let mut control = Control::of(&daemon);
    let mut watchers = Watchers::new(&daemon);
    let before = watchers.head;
    control.arm(lasting(Place::ReadDatabase, Fault::Io));
    control.arm(lasting(Place::ReadWal, Fault::Io));
    let deadline = Instant::now() + Duration::from_secs(30) + PATIENCE;
    while daemon.get("/readyz").status == 200 {
        assert!(Instant::now() < deadline, "not noticed");
        pause();
    }
    assert!(control.disarm() > 0);
    daemon.wait_until_ready();
    watchers.write();
    watchers.expect_rows(before);
}

#[test]
fn a_full_disk_refuses_what_is_posted_and_nothing_else() {
    let daemon = daemon();
    let mut control = Control::of(&daemon);
    let mut watchers = Watchers::new(&daemon);
    let event = json!({"ts": "2026-01-01T00:00:00Z", "tenant": "acme", "details": "posted"});
    for place in [Place::WriteWal, Place::Sync, Place::ShmLock] {
        let before = watchers.head;
        let fault = if place == Place::WriteWal {
            Fault::Full
        } else {
            Fault::Io
        };
        control.arm(lasting(place, fault));
        let answer = daemon.post(STOCK_EVENTS, &event);
        assert!((500..600).contains(&answer.status), "{}", answer.text());
        control.disarm();
        let count = daemon
            .database()
            .number("SELECT count(*) FROM remediation_events");
        assert_eq!(
            count, before,
            "{place:?}: it was refused, so nothing is written"
        );
        watchers.write();
        watchers.expect_rows(before);
        let before = watchers.head;
        let answer = daemon.post(STOCK_EVENTS, &event);
        assert_eq!(answer.status, 201, "{}", answer.text());
        watchers.head = answer.json()["ids"][0].as_i64().expect("an id");
        watchers.expect_rows(before);
    }
    drop(watchers);
    daemon.stop();
}
