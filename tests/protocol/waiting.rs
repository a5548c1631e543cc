//! Subscriptions while there is nothing to read: they are told why, and greeted when there is.

use std::fs;

use serde_json::{Value, json};

use crate::common::database::STOCK_SCHEMA;
use crate::common::{Daemon, STOCK_SSE, Subscriber, ids};

fn without_table() -> Daemon {
    Daemon::on_new_file().stock_feed("create = false").start()
}

/// The reason of the next frame, which must be `waiting` and name nothing of this machine.
#[track_caller]
fn reason(walcast: &Daemon, subscriber: &mut Subscriber) -> String {
    worded(walcast, subscriber.expect("waiting"))
}

#[track_caller]
fn worded(walcast: &Daemon, frame: Value) -> String {
    let message = frame["message"].as_str().expect("a message");
    let directory = walcast.directory().to_string_lossy().into_owned();
    assert!(!message.is_empty() && !message.contains(&directory));
    assert_eq!(frame.as_object().expect("an object").len(), 3);
    frame["reason"].as_str().expect("a reason").to_owned()
}

#[test]
fn what_there_is_to_wait_for_comes_first_and_hello_follows() {
    let walcast = without_table();
    let queries = ["since=now", "since=0", "since=7", "last=2"];
    let mut subscribers = queries.map(|query| walcast.subscribe(query));
    for subscriber in &mut subscribers {
        assert_eq!(reason(&walcast, subscriber), "no_database");
        subscriber.expect_nothing();
    }
    let mut stream = walcast.event_source("/sse/remediation?since=0", &[]);
    assert_eq!(worded(&walcast, stream.expect("waiting")), "no_database");

    let database = walcast.database();
    database.execute("CREATE TABLE others(x)");
    for subscriber in &mut subscribers {
        assert_eq!(reason(&walcast, subscriber), "no_table");
    }
    assert_eq!(worded(&walcast, stream.expect("waiting")), "no_table");
    let mut late = walcast.subscribe("since=now");
    assert_eq!(reason(&walcast, &mut late), "no_table");

    database.execute(&format!("BEGIN; {STOCK_SCHEMA}; INSERT INTO remediation_events(ts) VALUES ('1'), ('2'), ('3'); COMMIT"));
    for (subscriber, (recovered, rows)) in subscribers.iter_mut().zip([
        (true, vec![1, 2, 3]),
        (true, vec![1, 2, 3]),
        (false, vec![1, 2, 3]),
        (true, vec![2, 3]),
    ]) {
        let hello = subscriber.expect("hello");
        assert_eq!(hello["recovered"], recovered, "{hello}");
        assert_eq!(hello["since"], rows[0] - 1, "{hello}");
        assert_eq!(subscriber.replay(), (rows, 3));
    }
    stream.expect("hello");
    assert_eq!(
        [stream.next_row(), stream.next_row(), stream.next_row()],
        [1, 2, 3]
    );
}

#[test]
fn a_live_subscription_hears_that_the_table_went_and_goes_on_when_it_is_back() {
    let walcast = Daemon::start_new();
    walcast.fill(3);
    let (mut resumable, hello) = walcast.resume("since=1");
    assert_eq!(resumable.replay(), (vec![2, 3], 3));
    let mut plain = walcast.subscribe("");
    let database = walcast.database();
    database.execute("ALTER TABLE remediation_events RENAME TO away");
    assert_eq!(reason(&walcast, &mut resumable), "no_table");
    resumable.expect_nothing();
    plain.expect_nothing();
    database.execute(
        "BEGIN; ALTER TABLE away RENAME TO remediation_events; INSERT INTO remediation_events(ts) VALUES ('x'); COMMIT",
    );
    let again = resumable.expect("hello");
    assert_eq!(
        (&again["epoch"], &again["since"], &again["recovered"]),
        (&hello["epoch"], &json!(3), &json!(true))
    );
    // Before `live` or after it, as the row was read.
    while resumable.ledger().last().is_none_or(|row| row["id"] != 4) {
        if let Some(frame) = resumable.next_row_or_frame() {
            assert_eq!(frame["type"], "live");
        }
    }
    assert_eq!(ids(resumable.ledger()), [2, 3, 4]);
    assert_eq!(plain.next_row()["id"], 4);
}

#[test]
fn another_history_after_a_wait_is_told_by_a_reset() {
    let walcast = Daemon::start_new();
    walcast.fill(9);
    let mut since = walcast.subscribe_live();
    let (mut last, _) = walcast.resume("last=1");
    last.replay();
    let database = walcast.database();
    database.execute("DROP TABLE remediation_events");
    assert_eq!(reason(&walcast, &mut since), "no_table");
    assert_eq!(reason(&walcast, &mut last), "no_table");
    database.execute(STOCK_SCHEMA);
    for subscriber in [&mut since, &mut last] {
        assert_eq!(subscriber.expect("reset")["earliest"], Value::Null);
        assert_eq!(subscriber.replay(), (vec![], 0));
    }
    assert_eq!(database.insert("new"), 1);
    assert_eq!(since.next_row()["id"], 1);
    assert_eq!(last.next_row()["id"], 1);
}

#[test]
fn a_file_that_can_not_be_read_is_said_to_be_and_plain_subscribers_hear_nothing() {
    let walcast = Daemon::start_new();
    walcast.fill(3);
    let mut live = walcast.subscribe_live();
    let mut plain = walcast.subscribe("");
    // Alone, the file has all of it.
    walcast
        .database()
        .execute("PRAGMA wal_checkpoint(TRUNCATE)");
    let (path, kept) = (
        walcast.directory().join("walcast.db"),
        walcast.directory().join("kept.db"),
    );
    fs::rename(&path, &kept).expect("the file can be moved");
    assert_eq!(reason(&walcast, &mut live), "no_database");
    fs::write(&path, "not a database, whatever its name says ".repeat(100))
        .expect("a file can be written");
    assert_eq!(reason(&walcast, &mut live), "unreadable");
    let mut late = walcast.subscribe("last=1");
    assert_eq!(reason(&walcast, &mut late), "unreadable");
    plain.expect_nothing();
    let mut stream = walcast.event_source(STOCK_SSE, &[]);
    fs::rename(&kept, &path).expect("the file can be moved back");
    live.expect("hello");
    live.expect("live");
    late.expect("hello");
    assert_eq!(late.replay(), (vec![3], 3));
    let next = walcast.database().insert("next");
    for subscriber in [&mut live, &mut late, &mut plain] {
        assert_eq!(ids(&subscriber.next_rows(1)), [next]);
    }
    assert_eq!(stream.next_row(), next);
}
