//! What a daemon does to keep captured tables captured.

use crate::common::{Daemon, Database, wait_until};

const ORDERS: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY, total)";
const CAPTURED: &str = "[feeds.orders]\ncapture = \"keys\"\n";

fn generation(database: &Database) -> Option<String> {
    let connection = database.connect();
    let generation = connection.query_row(
        "SELECT generation FROM _walcast_capture WHERE table_name = 'orders'",
        [],
        |row| row.get(0),
    );
    generation.ok()
}

fn logged(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM _walcast_orders")
}

#[test]
fn what_is_configured_is_captured_from_the_start_on_and_stays_so_over_a_restart() {
    let daemon = Daemon::on_new_file()
        .with_tables(ORDERS)
        .toml(CAPTURED)
        .start();
    daemon.wait_for_log("table orders: changes are captured from now on");
    daemon.wait_for_log("walcast capture remove --db");
    let database = daemon.database();
    database.execute(
        "INSERT INTO orders VALUES (1, 5); UPDATE orders SET total = 6; DELETE FROM orders",
    );
    assert_eq!(logged(&database), 3);
    let first = generation(&database);
    let daemon = daemon.restart();
    daemon.wait_until_ready();
    assert_eq!(generation(&database), first);
    assert!(!daemon.log().contains("captured"), "{}", daemon.log());
}

#[test]
fn a_table_that_comes_later_is_captured() {
    let daemon = Daemon::on_new_file()
        .with_tables("CREATE TABLE other(id INTEGER PRIMARY KEY)")
        .toml(CAPTURED)
        .start();
    daemon.database().execute(ORDERS);
    daemon.wait_for_log("table orders: changes are captured from now on");
    assert!(generation(&daemon.database()).is_some());
}

#[test]
fn a_table_that_was_built_anew_is_captured_anew() {
    let daemon = Daemon::on_new_file()
        .with_tables(ORDERS)
        .toml(CAPTURED)
        .start();
    let database = daemon.database();
    let first = generation(&database);
    database.execute(
        "BEGIN; CREATE TABLE n(id INTEGER PRIMARY KEY, total, note); INSERT INTO n SELECT *, '' FROM orders;
         DROP TABLE orders; ALTER TABLE n RENAME TO orders; COMMIT",
    );
    daemon.wait_for_log("changes may have been missed (the trigger _walcast_orders_insert is gone");
    assert_ne!(generation(&database), first);
    database.execute("INSERT INTO orders VALUES (7, 1, '')");
    assert_eq!(logged(&database), 1);
    // A trigger of somebody else's that would fire before those of walcast.
    let second = generation(&database);
    database.execute("CREATE TRIGGER z AFTER INSERT ON orders BEGIN SELECT 1; END");
    wait_until("it is captured anew", || generation(&database) != second);
}

#[test]
fn a_table_that_was_built_anew_while_nobody_watched_is_captured_anew() {
    let daemon = Daemon::on_new_file()
        .with_tables(ORDERS)
        .toml(CAPTURED)
        .start();
    let database = daemon.database();
    let first = generation(&database);
    let settings = daemon.stop();
    database.execute("CREATE TABLE n(id INTEGER PRIMARY KEY, total); DROP TABLE orders; ALTER TABLE n RENAME TO orders");
    let daemon = settings.start();
    daemon.wait_for_log("changes may have been missed");
    assert_ne!(generation(&database), first);
}

#[test]
fn old_changes_are_pruned_and_the_newest_stays() {
    let daemon = Daemon::on_new_file()
        .with_tables(ORDERS)
        .toml(format!("{CAPTURED}capture_keep = \"1s\"\n"))
        .start();
    let database = daemon.database();
    database.execute(
        "INSERT INTO orders WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i, i FROM n",
    );
    wait_until("the old changes are gone", || logged(&database) == 1);
    assert_eq!(database.number("SELECT seq FROM _walcast_orders"), 500);
}

#[test]
fn a_file_served_as_it_is_is_not_changed() {
    let settings = Daemon::on_new_file().with_tables(ORDERS);
    let database = Database::at(settings.database_path());
    let daemon = settings.toml("feeds = \"*\"\n").start();
    daemon.wait_until_ready();
    assert_eq!(generation(&database), None);
}

#[test]
fn a_table_that_cannot_be_captured_is_told_of() {
    let daemon = Daemon::on_new_file()
        .with_tables("CREATE TABLE orders(id INTEGER PRIMARY KEY, total)")
        .toml(format!("{CAPTURED}capture_filters = [\"tenant\"]\n"))
        .start();
    daemon.wait_for_log("table orders can't be captured: table orders has no column tenant");
}
