//! `-wal` and `-shm` removed or replaced while the database is in use.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::{
    Daemon, Database, STOCK_HISTORY, Subscriber, assert_ledger, directory, wait_until,
};
use crate::scale;

const OPENED_ANEW: &str = "it is opened anew";

fn companion(database: &Database, suffix: &str) -> PathBuf {
    let mut name = database.path().as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(database: &Database, suffixes: &[&str]) {
    for suffix in suffixes {
        fs::remove_file(companion(database, suffix)).unwrap();
    }
}

/// The rows of the history that holds this id, as the subscriber was sent them; those of a history before it count for
/// nothing.
#[track_caller]
fn rows_of_history(subscriber: &mut Subscriber, last: i64) -> Vec<Value> {
    let mut rows = vec![];
    loop {
        match subscriber.next_row_or_frame() {
            None => rows.push(subscriber.ledger().last().unwrap().clone()),
            Some(frame) if frame["type"] == "reset" => rows.clear(),
            Some(_) => {}
        }
        if rows.last().is_some_and(|row| row["id"] == last) {
            return rows;
        }
    }
}

/// Everybody gets what is written afterwards, history and a fresh subscriber see all of it.
#[track_caller]
fn expect_served(walcast: &Daemon, subscriber: &mut Subscriber, rounds: usize) {
    let database = walcast.database();
    let mut python = database.python();
    let last = (0..rounds).map(|_| python.insert(1)[0]).last().unwrap();
    rows_of_history(subscriber, last);
    let (mut fresh, _) = walcast.resume("since=earliest");
    fresh.rows_to(last);
    assert_ledger(fresh.ledger(), &database.rows());
    let total = walcast.get(STOCK_HISTORY).json()["total"].clone();
    assert_eq!(total, database.rows().len());
    walcast.wait_until_ready();
}

#[test]
fn rows_come_after_companions_were_removed() {
    for suffixes in [&["-shm"][..], &["-wal"], &["-wal", "-shm"]] {
        for by_poll in [false, true] {
            let directory = directory();
            Database::with_stock_table(directory.path()).insert_many(20);
            let settings = Daemon::on(directory.path());
            let walcast = match by_poll {
                true => settings.without_file_events().start(),
                false => settings.without_poll().start(),
            };
            let mut subscriber = walcast.subscribe_live();
            remove(&walcast.database(), suffixes);
            walcast.wait_for_log(OPENED_ANEW);
            expect_served(&walcast, &mut subscriber, scale::sized(3, 50));
            let log = walcast.log();
            assert!(log.contains(&suffixes.join(" and ")), "{log}");
            assert_eq!(log.matches(OPENED_ANEW).count(), 1, "{log}");
        }
    }
}

#[test]
fn companions_put_in_place_of_others_are_noticed() {
    let directory = directory();
    let walcast = Daemon::on(directory.path()).without_poll().start();
    let database = walcast.database();
    walcast.fill(20);
    let mut subscriber = walcast.subscribe_live();
    for suffix in ["-wal", "-shm"] {
        let path = companion(&database, suffix);
        let copy = path.with_extension("copy");
        fs::copy(&path, &copy).unwrap();
        fs::rename(&copy, &path).unwrap();
    }
    walcast.wait_for_log(OPENED_ANEW);
    expect_served(&walcast, &mut subscriber, 3);
}

#[test]
fn companions_moved_away_and_back_are_noticed() {
    let directory = directory();
    let walcast = Daemon::on(directory.path()).without_poll().start();
    let database = walcast.database();
    walcast.fill(20);
    let mut subscriber = walcast.subscribe_live();
    for suffix in ["-wal", "-shm"] {
        let path = companion(&database, suffix);
        fs::rename(&path, path.with_extension("away")).unwrap();
    }
    walcast.wait_for_log(OPENED_ANEW);
    expect_served(&walcast, &mut subscriber, 3);
}

#[test]
fn companions_removed_while_commits_come_densely_are_noticed() {
    let directory = directory();
    let settings = Daemon::on(directory.path())
        .without_poll()
        .without_write_timeout();
    let walcast = settings.start();
    let mut subscriber = walcast.subscribe_live();
    walcast.commit_densely();
    remove(&walcast.database(), &["-wal", "-shm"]);
    walcast.wait_for_log(OPENED_ANEW);
    expect_served(&walcast, &mut subscriber, 3);
}

#[test]
fn reads_beside_the_feed_are_fresh_too_after_companions_were_removed() {
    let directory = directory();
    let walcast = Daemon::on(directory.path())
        .without_poll()
        .stock_feed("ingest = true\nws = \"/ws/remediation\"\nhistory = \"/ops/remediate/history\"")
        .start();
    let database = walcast.database();
    walcast.fill(20);
    // A connection of the pool and that of ingest are open.
    assert_eq!(walcast.get(STOCK_HISTORY).json()["total"], 20);
    let row = serde_json::json!({"ts": "2026-01-01T00:00:00Z"});
    let posted = walcast.post("/api/feeds/remediation/events", &row);
    assert_eq!(posted.json()["ids"][0], 21);
    remove(&database, &["-shm"]);
    walcast.wait_for_log(OPENED_ANEW);
    assert_eq!(database.insert("beside"), 22);
    wait_until("history has it", || {
        walcast.get(STOCK_HISTORY).json()["total"] == 22
    });
    let posted = walcast.post("/api/feeds/remediation/events", &row);
    assert_eq!(posted.json()["ids"][0], 23);
    assert_eq!(database.rows().len(), 23);
}

/// To write the removed WAL to the database at the end, and to remove the file that has its name now, would be to lose
/// what was committed to that.
#[test]
fn what_was_written_to_new_companions_outlives_the_daemon() {
    let directory = directory();
    Database::with_stock_table(directory.path()).insert_many(20);
    let walcast = Daemon::on(directory.path()).without_poll().start();
    let database = walcast.database();
    // In the WAL alone.
    walcast.fill(20);
    walcast.freeze();
    remove(&database, &["-wal", "-shm"]);
    let mut python = database.python();
    let written = python.insert(5);
    walcast.signal(libc::SIGTERM);
    walcast.signal(libc::SIGCONT);
    let mut walcast = walcast;
    assert!(walcast.wait_for_exit().success());
    assert_eq!(written, [21, 22, 23, 24, 25]);
    assert_eq!(database.rows().len(), 25);
    let verdict = database.query("PRAGMA integrity_check");
    assert_eq!(verdict[0]["integrity_check"], "ok");
}

#[test]
fn the_wal_of_a_file_put_in_place_outlives_the_old_one() {
    let directory = directory();
    let walcast = Daemon::on(directory.path()).without_poll().start();
    let database = walcast.database();
    walcast.fill(20);
    let other = Database::at(directory.path().join("other.db"));
    other.execute(include_str!("../../schema.sql"));
    other.insert_many(3);
    walcast.freeze();
    remove(&database, &["-wal", "-shm"]);
    fs::rename(other.path(), database.path()).unwrap();
    let writer = database.connect();
    writer.pragma_update(None, "journal_mode", "wal").unwrap();
    drop(writer);
    // Left by a writer that was killed: its commit is in the WAL alone.
    let mut python = database.python();
    python.begin();
    let committed = python.add(1, 20);
    python.commit();
    python.begin();
    python.kill();
    walcast.signal(libc::SIGCONT);
    walcast.wait_for_log("was replaced by another file");
    let last = committed[0];
    walcast.wait_for_head(last);
    assert_eq!(database.rows().len(), 4);
}

#[test]
fn the_last_to_close_tidies_up() {
    let directory = directory();
    let walcast = Daemon::start(directory.path());
    let database = walcast.database();
    walcast.fill(20);
    assert_eq!(walcast.get(STOCK_HISTORY).json()["total"], 20);
    walcast.stop();
    for suffix in ["-wal", "-shm"] {
        assert!(!companion(&database, suffix).exists(), "{suffix} is left");
    }
    assert_eq!(database.rows().len(), 20);
}

#[test]
fn what_happens_to_the_file_is_noticed_however_rarely_is_polled() {
    let directory = directory();
    let walcast = Daemon::on(directory.path())
        .without_file_events()
        .without_poll()
        .start();
    let database = walcast.database();
    database.insert_many(5);
    remove(&database, &["-wal", "-shm"]);
    walcast.wait_for_log(OPENED_ANEW);
    let other = Database::at(directory.path().join("other.db"));
    other.execute(include_str!("../../schema.sql"));
    fs::rename(other.path(), database.path()).unwrap();
    walcast.wait_for_log("was replaced by another file");
}
