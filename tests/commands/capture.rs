//! `walcast capture`: what it puts into a file, says of it, and takes out again.

use std::path::Path;
use std::process::Output;

use rusqlite::Connection;

use crate::common::directory;
use crate::program::{database, text, walcast};

const ORDERS: &str = "CREATE TABLE orders(uuid TEXT PRIMARY KEY, tenant TEXT, total REAL);
    CREATE TABLE plain(a); INSERT INTO orders VALUES ('a-1', 'acme', 1.5)";

fn capture(path: &Path, arguments: &[&str]) -> Output {
    let mut command = walcast();
    command.arg("capture").args(arguments);
    command.arg("--db").arg(path).output().unwrap()
}

#[track_caller]
fn said(path: &Path, arguments: &[&str]) -> String {
    let output = capture(path, arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn refused(path: &Path, arguments: &[&str]) -> String {
    let output = capture(path, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    text(&output.stderr)
}

/// Everything of the schema, byte for byte.
fn schema(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT quote(type) || quote(name) || quote(tbl_name) || rootpage || quote(sql) FROM sqlite_schema ORDER BY rowid")
        .unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn number(path: &Path, sql: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn installed_looked_at_pruned_and_removed() {
    let place = directory();
    let path = &database(&place, ORDERS);
    let before = schema(path);
    let installed = said(path, &["install", "orders", "--filter", "tenant"]);
    assert!(
        installed.contains(
            "orders is captured from now on: keys, key uuid, filters on tenant, log _walcast_orders"
        ),
        "{installed}"
    );
    let again = said(path, &["install", "ORDERS", "--filter", "tenant"]);
    assert!(again.contains("captured already"), "{again}");

    let writer = Connection::open(path).unwrap();
    writer
        .execute_batch("UPDATE orders SET total = 2; INSERT INTO orders VALUES ('a-2', 'acme', 1); DELETE FROM orders")
        .unwrap();
    drop(writer);
    let status = said(path, &["status"]);
    assert!(
        status.contains("changes 1 to 4, the oldest of 20"),
        "{status}"
    );
    assert!(status.contains("tenant can't be dropped"), "{status}");
    assert!(said(path, &["prune", "orders", "--older", "1h"]).contains("0 changes"));
    assert!(said(path, &["prune", "orders"]).contains("3 changes"));
    assert_eq!(number(path, "SELECT seq FROM _walcast_orders"), 4);

    assert!(said(path, &["remove", "orders"]).contains("not captured any more"));
    assert_eq!(schema(path), before);
    assert!(said(path, &["status"]).contains("no table of"));
}

#[test]
fn printed_sql_does_the_same() {
    let place = directory();
    let path = &database(&place, ORDERS);
    let before = schema(path);
    let sql = said(path, &["install", "orders", "--full", "--print"]);
    assert_eq!(schema(path), before, "printing changes nothing");
    let migration = Connection::open(path).unwrap();
    migration
        .execute_batch(&format!("BEGIN; {sql} COMMIT"))
        .unwrap();
    drop(migration);
    assert!(said(path, &["install", "orders", "--full"]).contains("captured already"));
    let sql = said(path, &["remove", "orders", "--print"]);
    Connection::open(path).unwrap().execute_batch(&sql).unwrap();
    assert_eq!(schema(path), before);
}

#[test]
fn printed_sql_captures_anew_what_is_captured_already() {
    let place = directory();
    let path = &database(&place, ORDERS);
    said(path, &["install", "orders"]);
    let printed = said(path, &["install", "orders", "--full", "--print"]);
    let file = Connection::open(path).unwrap();
    let changed = "UPDATE orders SET total = total + 1";
    // Where it is captured, then where its triggers went with a table that was built anew, then where it never was.
    let rebuilt = "CREATE TABLE anew(uuid TEXT PRIMARY KEY, tenant TEXT, total REAL); \
                   INSERT INTO anew SELECT * FROM orders; DROP TABLE orders; ALTER TABLE anew RENAME TO orders;";
    let removed = &said(path, &["remove", "orders", "--print"]);
    for before in ["", rebuilt, removed] {
        file.execute_batch(&format!("BEGIN; {before} {printed} COMMIT; {changed}"))
            .unwrap();
        assert!(said(path, &["status"]).contains("orders"));
        assert!(number(path, "SELECT count(*) FROM _walcast_orders") > 0);
        assert_eq!(number(path, "SELECT count(*) FROM _walcast_capture"), 1);
    }
}

#[test]
fn a_broken_capture_is_told_and_begun_anew() {
    let place = directory();
    let path = &database(&place, ORDERS);
    said(path, &["install", "orders", "--full", "--filter", "uuid"]);
    Connection::open(path)
        .unwrap()
        .execute_batch("CREATE TABLE n(uuid TEXT PRIMARY KEY); DROP TABLE orders; ALTER TABLE n RENAME TO orders")
        .unwrap();
    let output = capture(path, &["status"]);
    assert_eq!(output.status.code(), Some(1));
    let status = text(&output.stdout);
    assert!(
        status.contains("changes may be missing")
            && status.contains(" --full --filter uuid orders`"),
        "{status}"
    );
    let anew = said(path, &["install", "orders"]);
    assert!(
        anew.contains("captured anew")
            && anew.contains("captured otherwise before")
            && anew.contains(" --full --filter uuid orders"),
        "{anew}"
    );
    said(path, &["status", "orders"]);
    let before = schema(path).len();
    Connection::open(path)
        .unwrap()
        .execute_batch("DROP TABLE orders")
        .unwrap();
    let status = text(&capture(path, &["status"]).stdout);
    assert!(status.contains("walcast capture remove --db"), "{status}");
    said(path, &["remove", "orders"]);
    assert!(schema(path).len() < before, "{:?}", schema(path));
}

#[test]
fn what_cannot_be_done_is_refused_in_words() {
    let place = directory();
    let path = &database(&place, ORDERS);
    let why = refused(path, &["install", "plain"]);
    assert!(
        why.contains("no primary key") && why.contains("declare one"),
        "{why}"
    );
    let why = refused(path, &["install", "order"]);
    assert!(why.contains("did you mean \"orders\"?"), "{why}");
    let why = refused(path, &["install", "orders", "--filter", "tennant"]);
    assert!(why.contains("did you mean \"tenant\"?"), "{why}");
    for command in ["remove", "prune", "status"] {
        let why = refused(path, &[command, "orders"]);
        assert!(why.contains("orders is not captured"), "{why}");
    }
    let why = refused(&place.path().join("evnts.db"), &["status"]);
    assert!(why.contains("events.db"), "{why}");
    let output = capture(path, &["prune", "orders", "--older", "soon"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("24h"), "{output:?}");
}

#[test]
fn check_tells_of_captures() {
    let place = directory();
    let path = &database(&place, ORDERS);
    let config = place.path().join("walcast.toml");
    let toml = "[feeds.orders]\ncapture = \"keys\"\ncapture_keep = \"1m\"\n";
    std::fs::write(&config, toml).unwrap();
    let check = || {
        let mut command = walcast();
        command.arg("check").arg("--config").arg(&config);
        text(&command.arg("--db").arg(path).output().unwrap().stdout)
    };
    let report = check();
    assert!(report.contains("not captured yet"), "{report}");
    said(path, &["install", "orders"]);
    std::fs::write(&config, "[feeds.orders]\n").unwrap();
    let report = check();
    assert!(
        report.contains(
            "changes of table orders are captured (keys), but this feed is of its inserted rows"
        ) && report.contains("capture = \"keys\" in [feeds.orders]"),
        "{report}"
    );
    std::fs::write(&config, toml).unwrap();
    let report = check();
    assert!(
        report.contains("keys in _walcast_orders: no change yet"),
        "{report}"
    );
    let writer = Connection::open(path).unwrap();
    writer
        .execute_batch("UPDATE orders SET total = 3; UPDATE orders SET total = 4; UPDATE _walcast_orders SET at = at - 1")
        .unwrap();
    let report = check();
    assert!(
        report.contains("the log grows") && report.contains("--older 1m"),
        "{report}"
    );
    writer
        .execute_batch("DROP TRIGGER _walcast_orders_delete")
        .unwrap();
    let report = check();
    assert!(
        report.contains("_walcast_orders_delete is gone"),
        "{report}"
    );
}

#[test]
fn a_configuration_made_of_a_captured_table_leaves_its_capture_as_it_is() {
    let place = directory();
    let path = &database(&place, ORDERS);
    said(path, &["install", "orders", "--full", "--filter", "tenant"]);
    let config = place.path().join("walcast.toml");
    let mut init = walcast();
    init.arg("init").arg(path).arg("--output").arg(&config);
    assert!(init.output().unwrap().status.success());
    let toml = std::fs::read_to_string(&config).unwrap();
    assert!(
        toml.contains("capture = \"full\"") && toml.contains("capture_filters = [\"tenant\"]"),
        "{toml}"
    );
    let mut check = walcast();
    check.arg("check").arg("--config").arg(&config);
    let report = text(&check.output().unwrap().stdout);
    assert!(
        report.contains("full in _walcast_orders") && !report.contains("captured otherwise"),
        "{report}"
    );
}
