//! The file system of the writer is slow or fails, not that of the daemon.

use std::os::unix::fs::symlink;
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::places::{Fault, Order, Place};
use super::vfs;
use crate::common::database::insert;
use crate::common::subscriber::{Received, row_of};
use crate::common::{Daemon, Database, directory, wait_until};

#[test]
fn a_commit_whose_sync_takes_two_seconds_is_seen_when_it_returns() {
    let daemon = Daemon::start_new();
    daemon.wait_until_ready();
    let mut plain = daemon.subscribe("");
    let mut resumable = daemon.subscribe_live();
    vfs::register(false);
    let path = daemon.database().path().to_owned();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let writer = Connection::open_with_flags_and_vfs(path, flags, "faulty").unwrap();
    writer.pragma_update(None, "synchronous", "FULL").unwrap();
    for _ in 0..2 {
        vfs::arm(Order {
            place: Place::Sync,
            fault: Fault::Slow,
            passed: 0,
            failing: 1,
        });
        let began = Instant::now();
        let id = insert(&writer, "acme", "slow");
        assert!(began.elapsed() >= vfs::SLOW);
        assert_eq!(vfs::disarm(), 1);
        // Between the write that made an event and the commit there was nothing to hear. It is seen long before a silence
        // that brings a heartbeat, and before a fresh connection looks.
        let row = match resumable.receive() {
            Received::Text(text) => serde_json::from_str(&text).ok(),
            Received::Closed(_) => None,
        };
        let row = row.as_ref().and_then(row_of).expect("a row");
        assert_eq!((&row["id"], &plain.next_row()), (&json!(id), &row));
    }
}

#[test]
fn a_path_that_can_not_be_looked_up_for_a_while_costs_no_row() {
    let directory = directory();
    let link = directory.path().join("link");
    let real = directory.path().join("real");
    std::fs::create_dir(&real).unwrap();
    let database = Database::with_stock_table(&real);
    let point = |target: &std::path::Path| {
        let beside = directory.path().join("new");
        symlink(target, &beside).unwrap();
        std::fs::rename(&beside, &link).unwrap();
    };
    point(&real);
    let settings = Daemon::on(directory.path()).database(link.join("walcast.db"));
    let daemon = settings.start();
    let mut resumable = daemon.subscribe_live();
    let mut plain = daemon.subscribe("");
    for round in 0..2 {
        // A link to itself: neither "not there" nor "not allowed".
        point(&link);
        wait_until("it is not ready", || daemon.get("/readyz").status == 503);
        let id = database.insert("unseen");
        point(&real);
        wait_until("it is ready", || daemon.get("/readyz").status == 200);
        assert_eq!(plain.next_row()["id"], id, "round {round}");
        while let Some(frame) = resumable.next_row_or_frame() {
            assert_ne!(frame["type"], "reset", "it is the same file");
        }
        assert_eq!(resumable.ledger().last().unwrap()["id"], id);
    }
}
