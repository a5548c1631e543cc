//! One table's trouble is nobody else's.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::Command;

use serde_json::json;

use crate::common::{Daemon, Database, wait_until};

const TABLES: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, x);
    CREATE TABLE b(id INTEGER PRIMARY KEY AUTOINCREMENT, x);
    INSERT INTO a(x) VALUES (1), (2);
    INSERT INTO b(x) VALUES (1);";

/// Fails unless a row of `b` comes, and `/readyz` gives this answer about feed `a`.
#[track_caller]
fn expect_b_goes_on(walcast: &Daemon, a_is_ready: bool) {
    let mut plain = walcast.subscribe_to("/ws/b", "");
    walcast
        .database()
        .execute("INSERT INTO b(x) VALUES ('another')");
    let id = plain.next_row()["id"].clone();
    let history = walcast.get("/api/feeds/b/events");
    assert_eq!(
        (history.status, &history.json()["items"][0]["id"]),
        (200, &id)
    );
    let ready = walcast.get("/readyz");
    assert_eq!(
        ready.status,
        if a_is_ready { 200 } else { 503 },
        "{}",
        ready.text()
    );
    assert!(
        a_is_ready || ready.text().contains("feed a"),
        "{}",
        ready.text()
    );
}

#[test]
fn anything_may_stand_in_sqlite_sequence() {
    for wrong in [
        "UPDATE sqlite_sequence SET seq = (SELECT max(id) FROM a) WHERE name = 'a'",
        "UPDATE sqlite_sequence SET seq = '7' WHERE name = 'a'",
        "UPDATE sqlite_sequence SET seq = 1e3 WHERE name = 'a'",
        "UPDATE sqlite_sequence SET seq = x'00' WHERE name = 'a'",
        "UPDATE sqlite_sequence SET seq = 'seven' WHERE name = 'a'",
        "DELETE FROM sqlite_sequence WHERE name = 'a'",
        "INSERT INTO sqlite_sequence VALUES ('a', 2), ('a', NULL), (NULL, NULL)",
    ] {
        let walcast = Daemon::on_new_file()
            .with_tables(TABLES)
            .toml("[feeds.a]\n[feeds.b]\n")
            .start();
        let database = walcast.database();
        let mut a = walcast.subscribe_to("/ws/a", "since=earliest");
        a.expect("hello");
        a.next_rows(2);
        a.expect("live");
        database.execute(&format!("DELETE FROM a; {wrong}"));
        expect_b_goes_on(&walcast, true);
        database.execute("INSERT INTO a(x) VALUES ('and so does a')");
        let id = database.number("SELECT max(id) FROM a");
        // The ids may have begun again; then that was said before.
        let row = loop {
            if a.next_row_or_frame().is_none() {
                break a.ledger().last().unwrap().clone();
            }
        };
        assert_eq!(
            row,
            json!({"id": id, "x": "and so does a"}),
            "after {wrong}"
        );
        assert_eq!(walcast.get("/readyz").status, 200);
    }
}

const COMPUTED: &str = "ALTER TABLE a ADD COLUMN g TEXT AS (slug(x)) VIRTUAL";

/// Runs SQL in a process that has the function.
fn with_function(database: &Database, sql: &str) {
    const SCRIPT: &str = "
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30)
connection.create_function('slug', 1, lambda text: str(text).lower(), deterministic=True)
connection.executescript(sys.argv[2])";
    let python = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(database.path())
        .arg(sql)
        .output()
        .expect("python3 can be run");
    let failure = String::from_utf8_lossy(&python.stderr);
    assert!(python.status.success(), "{failure}");
}

#[test]
fn a_column_that_only_its_writer_can_compute_is_one_feed_s_trouble() {
    let walcast = Daemon::on_new_file()
        .with_tables(TABLES)
        .toml("[feeds.a]\n[feeds.b]\n")
        .start();
    let database = walcast.database();
    let mut a = walcast.subscribe_to("/ws/a", "");
    with_function(
        &database,
        &format!("{COMPUTED}; INSERT INTO a(x) VALUES ('new')"),
    );
    wait_until("it is said which feed it is", || {
        walcast.get("/readyz").text().contains("feed a")
    });
    expect_b_goes_on(&walcast, false);
    assert_eq!(walcast.get("/api/feeds/a/events").status, 503);
    let log = walcast.log();
    assert_eq!(log.matches("slug").count(), 1, "{log}");
    assert!(log.contains("`exclude`"), "{log}");
    // It is tried again without being said again, and goes on where it was.
    wait_until("it was tried again", || {
        walcast.metric(r#"walcast_database_errors_total{kind="unreadable"}"#) >= 3.0
    });
    assert_eq!(walcast.log().matches("slug").count(), 1);
    with_function(&database, "ALTER TABLE a DROP COLUMN g");
    assert_eq!(a.next_row()["x"], "new");
    expect_b_goes_on(&walcast, true);
}

#[test]
fn a_column_that_only_its_writer_can_compute_may_be_left_out() {
    let settings = Daemon::on_new_file().with_tables(TABLES);
    let database = Database::at(settings.database_path());
    with_function(
        &database,
        &format!("{COMPUTED}; CREATE INDEX by_g ON a(slug(x))"),
    );
    let walcast = settings
        .toml("[feeds.a]\nexclude = [\"g\"]\n[feeds.b]\n")
        .start();
    let mut a = walcast.subscribe_to("/ws/a", "since=earliest");
    a.expect("hello");
    a.next_rows(2);
    a.expect("live");
    with_function(&database, "INSERT INTO a(x) VALUES ('new')");
    assert_eq!(a.next_row(), json!({"id": 3, "x": "new"}));
    expect_b_goes_on(&walcast, true);
}

/// Overwrites the first page of table `a` where it stands in the file; gives what was there.
fn garble(database: &Database) -> (u64, Vec<u8>) {
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)");
    let root = database.number("SELECT rootpage FROM sqlite_schema WHERE name = 'a'");
    let size = database.number("PRAGMA page_size");
    let at = ((root - 1) * size) as u64;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(database.path())
        .unwrap();
    let mut before = vec![0; size as usize];
    file.read_exact_at(&mut before, at).unwrap();
    file.write_all_at(&vec![0x55; before.len()], at).unwrap();
    (at, before)
}

#[test]
fn a_damaged_page_of_one_table_is_that_feed_s_trouble_and_it_recovers() {
    // With three feeds, they are asked together which of them moved.
    for feeds in [
        "[feeds.a]\n[feeds.b]\n",
        "[feeds.a]\n[feeds.b]\n[feeds.c]\n[feeds.d]\n",
    ] {
        let settings = Daemon::on_new_file().with_tables(&format!(
            "{TABLES} CREATE TABLE c(id INTEGER PRIMARY KEY, x); CREATE TABLE d(id INTEGER PRIMARY KEY, x);"
        ));
        let database = Database::at(settings.database_path());
        let (at, page) = garble(&database);
        let walcast = settings.toml(feeds).start();
        expect_b_goes_on(&walcast, false);
        assert_eq!(walcast.get("/api/feeds/a/events").status, 503);
        // While nobody has the file open but readers, its pages can be put back.
        let file = OpenOptions::new()
            .write(true)
            .open(database.path())
            .unwrap();
        file.write_all_at(&page, at).unwrap();
        drop(file);
        walcast.wait_until_ready();
        assert_eq!(walcast.get("/api/feeds/a/events").json()["total"], 2);
        expect_b_goes_on(&walcast, true);
    }
}

#[test]
fn one_unfit_table_does_not_keep_the_others_from_being_served() {
    for unfit in [
        "CREATE TABLE a(x TEXT)",
        "CREATE VIEW a AS SELECT 1 AS id",
        "CREATE VIRTUAL TABLE a USING fts5(x)",
    ] {
        let walcast = Daemon::on_new_file()
            .with_tables(&format!(
                "{unfit}; CREATE TABLE b(id INTEGER PRIMARY KEY AUTOINCREMENT, x)"
            ))
            .toml("[feeds.a]\n[feeds.b]\n")
            .start();
        expect_b_goes_on(&walcast, false);
        assert_eq!(walcast.get("/api/feeds/a/events").status, 503);
        walcast.database().execute(&format!(
            "DROP {} a; CREATE TABLE a(id INTEGER PRIMARY KEY, x)",
            if unfit.contains("VIEW") {
                "VIEW"
            } else {
                "TABLE"
            }
        ));
        expect_b_goes_on(&walcast, true);
    }
}

#[test]
fn a_table_dropped_and_made_with_another_key_goes_on_by_that() {
    let walcast = Daemon::on_new_file()
        .with_tables(TABLES)
        .toml("[feeds.a]\n[feeds.b]\n")
        .start();
    let mut a = walcast.subscribe_to("/ws/a", "since=earliest");
    a.expect("hello");
    a.next_rows(2);
    a.expect("live");
    walcast.database().execute(
        "BEGIN; DROP TABLE a; CREATE TABLE a(x, number INTEGER PRIMARY KEY); INSERT INTO a VALUES ('of another', 7); COMMIT",
    );
    assert_eq!(a.expect("reset")["head"], 7);
    assert_eq!(a.next_row(), json!({"x": "of another", "number": 7}));
    expect_b_goes_on(&walcast, true);
}
