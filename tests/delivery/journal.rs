//! Files that stay in rollback-journal mode, and files that are switched to WAL.

use crate::common::database::STOCK_SCHEMA;
use crate::common::{Daemon, Database, assert_ledger, directory};

fn journal_mode(database: &Database) -> String {
    let connection = database.connect();
    connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn a_file_with_a_rollback_journal_is_served_and_left_as_it_is() {
    let walcast = Daemon::on_new_file()
        .with_tables(STOCK_SCHEMA)
        .without_poll()
        .toml("journal_mode = \"keep\"\n")
        .start();
    let database = walcast.database();
    let mut plain = walcast.subscribe("");
    let mut python = database.python();
    for id in 1..=5 {
        assert_eq!(python.insert(1), [id]);
        assert_eq!(plain.next_row()["id"], id);
    }
    plain.expect_nothing();
    python.begin_spilling();
    python.add(100, 10_000);
    plain.expect_nothing();
    python.rollback();
    let last = python.insert(50)[49];
    plain.rows_to(last);
    assert_ledger(plain.ledger(), &database.rows());
    assert_eq!(journal_mode(&database), "delete");
}

#[test]
fn a_file_is_switched_to_wal_once_its_writer_lets_go() {
    let dir = directory();
    let database = Database::with_stock_table(dir.path());
    // A writer that is in a transaction keeps the mode from being changed.
    let mut python = database.python();
    python.begin();
    python.add(1, 20);
    let walcast = Daemon::start(dir.path());
    let mut plain = walcast.subscribe("");
    python.commit();
    assert_eq!(plain.next_row()["id"], 1);
    walcast.wait_for_log("switched from delete to wal");
    assert_eq!(journal_mode(&database), "wal");
    assert_eq!(python.insert(1), [2]);
    assert_eq!(plain.next_row()["id"], 2);
}
