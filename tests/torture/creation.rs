//! Who makes the file, and in whose way that is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::common::database::{STOCK_SCHEMA, insert};
use crate::common::{Daemon, Database, assert_ledger, directory, wait_until};
use crate::scale;

fn pragma(database: &Database, name: &str) -> String {
    let connection = database.connect();
    connection
        .query_row(&format!("PRAGMA {name}"), [], |row| {
            row.get_ref(0).map(|value| match value {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => other.as_str().unwrap_or_default().to_owned(),
            })
        })
        .unwrap()
}

/// Makes the file as a program does that chooses how, with a pause after each statement.
fn choose_and_make(connection: &Connection, pause: Duration) {
    for statement in [
        "PRAGMA page_size = 8192",
        "PRAGMA auto_vacuum = 2",
        "PRAGMA encoding = 'UTF-16le'",
        STOCK_SCHEMA,
    ] {
        connection.execute_batch(statement).unwrap();
        std::thread::sleep(pause);
    }
}

#[track_caller]
fn expect_chosen(database: &Database) {
    let chosen = ["page_size", "auto_vacuum", "encoding"].map(|name| pragma(database, name));
    assert_eq!(chosen, ["8192", "2", "UTF-16le"]);
}

#[test]
fn a_writer_that_makes_the_file_gets_it_as_it_chose() {
    for pause in [0, 1, 10, 300].map(Duration::from_millis) {
        let walcast = Daemon::on_new_file()
            .stock_feed("create = false\nws = \"/ws/remediation\"")
            .start();
        let database = walcast.database();
        for _ in 0..scale::sized(2, 20) {
            let (mut resumable, _) = match walcast.get("/readyz").status {
                200 => walcast.resume("since=now"),
                _ => {
                    let mut waiting = walcast.subscribe("since=now");
                    let said = waiting.expect("waiting");
                    (waiting, said)
                }
            };
            let writer = Connection::open(database.path()).unwrap();
            choose_and_make(&writer, pause);
            insert(&writer, "acme", "first");
            drop(writer);
            while resumable.ledger().is_empty() {
                resumable.next_row_or_frame();
            }
            expect_chosen(&database);
            assert_ledger(resumable.ledger(), &database.rows());
            database.delete();
            wait_until("the daemon knows that it is gone", || {
                walcast.get("/readyz").status == 503
            });
        }
    }
}

#[test]
fn an_empty_file_that_a_writer_has_open_at_start_is_left_to_it() {
    let directory = directory();
    let database = Database::within(directory.path());
    let writer = Connection::open(database.path()).unwrap();
    writer.execute_batch("PRAGMA page_size = 8192").unwrap();
    let walcast = Daemon::start(directory.path());
    let reason = walcast.get("/readyz").text();
    assert!(reason.contains("is empty"), "{reason}");
    let mut plain = walcast.subscribe("");
    choose_and_make(&writer, Duration::from_millis(100));
    insert(&writer, "acme", "first");
    assert_eq!(plain.next_row()["id"], 1);
    expect_chosen(&database);
}

#[test]
fn an_empty_file_prepared_for_the_daemon_is_made_a_database() {
    let directory = directory();
    let database = Database::within(directory.path());
    fs::write(database.path(), "").unwrap();
    fs::set_permissions(database.path(), fs::Permissions::from_mode(0o660)).unwrap();
    let walcast = Daemon::start(directory.path());
    walcast.wait_until_ready();
    walcast.wait_for_log("created the table remediation_events");
    let mode = fs::metadata(database.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(database.python().insert(1), [1]);
    walcast.wait_for_head(1);
}

#[test]
fn an_empty_file_is_made_a_database_once_who_had_it_open_lets_go() {
    let directory = directory();
    let database = Database::within(directory.path());
    let holding = fs::File::create(database.path()).unwrap();
    let walcast = Daemon::start(directory.path());
    assert_eq!(walcast.get("/readyz").status, 503);
    drop(holding);
    walcast.wait_until_ready();
    assert_eq!(database.rows().len(), 0);
}

#[test]
fn nothing_is_made_in_a_file_with_tables_of_others() {
    let walcast = Daemon::on_new_file()
        .with_tables("CREATE TABLE zebra(x); CREATE TABLE apple(y)")
        .start();
    let database = walcast.database();
    walcast.wait_for_log("tables there are: apple, zebra");
    assert_eq!(walcast.get("/readyz").status, 503);
    assert_eq!(database.number("SELECT count(*) FROM sqlite_schema"), 2);
    assert_eq!(pragma(&database, "journal_mode"), "delete");
    let mut plain = walcast.subscribe("");
    let last = database.python().insert(3)[2];
    plain.rows_to(last);
    assert_ledger(plain.ledger(), &database.rows());
}

#[test]
fn tables_of_others_that_come_later_are_named_too() {
    let walcast = Daemon::on_new_file()
        .toml("[feeds.orders]\ntable = \"order\"\n")
        .start();
    let database = walcast.database();
    database
        .connect()
        .execute_batch("CREATE TABLE orders(id INTEGER PRIMARY KEY, x); CREATE TABLE apple(y)")
        .unwrap();
    walcast.wait_for_log("feed orders: the table order does not exist yet");
    walcast.wait_for_log("tables there are: apple, orders");
    assert_eq!(database.number("SELECT count(*) FROM sqlite_schema"), 2);
}

#[test]
fn a_file_deleted_later_is_not_made_again() {
    let walcast = Daemon::start_new();
    walcast.wait_for_log("created ");
    let database = walcast.database();
    let deleted = Instant::now();
    database.delete();
    walcast.wait_for_log("does not exist");
    // Longer than everything that is tried now and then.
    wait_until("some seconds have passed", || {
        deleted.elapsed() > Duration::from_millis(1_500)
    });
    assert!(!database.path().exists());
    let mut plain = walcast.subscribe("");
    assert_eq!(database.python().insert(1), [1]);
    assert_eq!(plain.next_row()["id"], 1);
}

#[test]
fn a_file_that_is_locked_at_start_keeps_nobody_waiting() {
    for pragma in [
        "PRAGMA journal_mode = delete",
        "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = wal",
    ] {
        let directory = directory();
        let database = Database::with_stock_table(directory.path());
        let writer = database.connect();
        writer.execute_batch(pragma).unwrap();
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        insert(&writer, "acme", "before");
        let walcast = Daemon::start(directory.path());
        let mut resumable = walcast.subscribe("since=earliest");
        assert_eq!(resumable.expect("waiting")["reason"], "unreadable");
        let ready = walcast.get("/readyz");
        assert_eq!(ready.status, 503);
        assert!(ready.text().contains("locked"), "{}", ready.text());
        walcast.wait_for_log("rows are read as soon as the lock is gone");
        let held = format!("(process {})", std::process::id());
        assert!(walcast.log().contains(&held), "{}", walcast.log());
        writer.execute_batch("COMMIT").unwrap();
        drop(writer);
        walcast.wait_until_ready();
        let last = database.insert("after");
        while resumable
            .ledger()
            .last()
            .is_none_or(|row| row["id"] != last)
        {
            resumable.next_row_or_frame();
        }
        assert_ledger(resumable.ledger(), &database.rows());
    }
}

#[test]
fn a_writer_that_keeps_its_journal_is_not_refused() {
    for mode in ["PERSIST", "TRUNCATE"] {
        let directory = directory();
        let database = Database::with_stock_table(directory.path());
        let write = || {
            let writer = database.connect();
            writer
                .execute_batch(&format!("PRAGMA journal_mode = {mode}"))
                .unwrap();
            insert(&writer, "acme", mode)
        };
        write();
        let walcast = Daemon::start(directory.path());
        let mut resumable = walcast.subscribe_live();
        walcast.wait_for_log("stays in its journal mode");
        for _ in 0..3 {
            let id = write();
            assert_eq!(resumable.next_row()["id"], id);
        }
        // It does not any more: then nothing is in the way of WAL mode.
        fs::remove_file(database.path().with_extension("db-journal")).unwrap();
        walcast.wait_for_log("switched from delete to wal; back with");
    }
}

#[test]
fn a_file_that_was_set_back_from_wal_mode_stays_so() {
    let directory = directory();
    let database = Database::with_stock_table(directory.path());
    let walcast = Daemon::start(directory.path());
    database.insert("first");
    walcast.wait_for_log("switched from delete to wal; back with");
    drop(walcast);
    let write = || {
        let writer = database.connect();
        writer
            .execute_batch("PRAGMA journal_mode = DELETE")
            .unwrap();
        insert(&writer, "acme", "set back")
    };
    write();
    let walcast = Daemon::start(directory.path());
    let mut resumable = walcast.subscribe_live();
    for _ in 0..3 {
        let id = write();
        assert_eq!(resumable.next_row()["id"], id);
    }
    walcast.wait_for_log("somebody set it back");
    let id = write();
    assert_eq!(resumable.next_row()["id"], id);
}
