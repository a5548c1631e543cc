//! Resumable subscriptions: hello, replay, live.

use serde_json::json;

use crate::common::database;
use crate::common::{Daemon, id, ids};

fn hello(epoch: &str, head: i64, earliest: &str, since: i64, recovered: bool) -> String {
    format!(
        r#"{{"type":"hello","feed":"remediation","key":"id","epoch":"{epoch}","head":{head},"earliest":{earliest},"since":{since},"recovered":{recovered}}}"#
    )
}

#[test]
fn hello_replay_and_live_come_word_for_word() {
    let walcast = Daemon::start_new();
    walcast.database().insert_many(5);
    let epoch = walcast.epoch();
    for (query, since, expected) in [
        ("since=3", 3, vec![4, 5]),
        (&format!("since=3&epoch={epoch}"), 3, vec![4, 5]),
        ("since=5", 5, vec![]),
        ("since=0", 0, vec![1, 2, 3, 4, 5]),
        ("since=0&epoch=other", 0, vec![1, 2, 3, 4, 5]),
        ("since=earliest&epoch=other", 0, vec![1, 2, 3, 4, 5]),
        ("since=now&epoch=other", 5, vec![]),
        ("last=2&epoch=other", 3, vec![4, 5]),
        ("last=10000", 0, vec![1, 2, 3, 4, 5]),
    ] {
        let mut subscriber = walcast.subscribe(query);
        assert_eq!(
            subscriber.next_text(),
            hello(&epoch, 5, "1", since, true),
            "{query}"
        );
        let rows = subscriber.next_rows(expected.len());
        assert_eq!(ids(&rows), expected, "{query}");
        assert_eq!(subscriber.next_text(), r#"{"type":"live","id":5}"#);
        subscriber.expect_nothing();
    }
}

#[test]
fn a_cursor_that_cannot_be_honoured_is_not_recovered_and_goes_on_from_earliest() {
    let walcast = Daemon::start_new();
    walcast.database().insert_many(5);
    let epoch = walcast.epoch();
    let check = |earliest: &str, cases: &[(&str, i64, bool, &[i64])]| {
        for (query, since, recovered, ids) in cases {
            let mut subscriber = walcast.subscribe(query);
            assert_eq!(
                subscriber.next_text(),
                hello(&epoch, 5, earliest, *since, *recovered),
                "{query}"
            );
            assert_eq!(
                subscriber.replay(),
                (ids.to_vec(), 5),
                "{query} with earliest {earliest}"
            );
        }
    };
    check(
        "1",
        &[
            ("since=3&epoch=another", 0, false, &[1, 2, 3, 4, 5]),
            ("since=6", 0, false, &[1, 2, 3, 4, 5]),
            ("since=9223372036854775807", 0, false, &[1, 2, 3, 4, 5]),
        ],
    );
    walcast
        .database()
        .execute("DELETE FROM remediation_events WHERE id <= 2");
    check(
        "3",
        &[
            ("since=1", 2, false, &[3, 4, 5]),
            ("since=2", 2, true, &[3, 4, 5]),
            ("since=0", 2, true, &[3, 4, 5]),
            ("since=earliest", 2, true, &[3, 4, 5]),
        ],
    );
    walcast.database().execute("DELETE FROM remediation_events");
    check(
        "null",
        &[
            ("since=4", 5, false, &[]),
            ("since=5", 5, true, &[]),
            ("since=0", 5, true, &[]),
            ("since=earliest", 5, true, &[]),
            ("since=now", 5, true, &[]),
            ("last=3", 5, true, &[]),
        ],
    );
    let (mut goes_on, _) = walcast.resume("since=1");
    goes_on.expect("live");
    assert_eq!(walcast.database().insert("next"), 6);
    assert_eq!(goes_on.next_row()["id"], 6);
}

#[test]
fn a_row_deleted_before_a_subscription_is_not_replayed_from_memory() {
    let walcast = Daemon::start_new();
    walcast.fill(5);
    walcast.database().execute(
        "DELETE FROM remediation_events WHERE id = 4; UPDATE remediation_events SET status = 'edited' WHERE id = 5",
    );
    let mut since = walcast.subscribe("since=3");
    assert_eq!(since.expect("hello")["recovered"], true);
    let row = since.next_row();
    assert_eq!((&row["id"], &row["status"]), (&json!(5), &json!("edited")));
    since.expect("live");
    let mut last = walcast.subscribe("last=2");
    assert_eq!(last.expect("hello")["since"], 2);
    assert_eq!(last.replay(), (vec![3, 5], 5));
}

#[test]
fn the_last_rows_are_the_newest_that_match() {
    let walcast = Daemon::start_new();
    for tenant in ["a", "b", "a", "b", "a", "b", "b"] {
        walcast.database().insert_for(tenant, "");
    }
    let mut last = walcast.subscribe("last=2&tenant=a");
    assert_eq!(last.expect("hello")["since"], 2);
    assert_eq!(
        last.replay(),
        (vec![3, 5], 7),
        "live is the head, whatever the filter"
    );
    let mut none = walcast.subscribe("last=2&tenant=nobody");
    assert_eq!(none.expect("hello")["since"], 7);
    assert_eq!(none.replay(), (vec![], 7));
    let (mut since, _) = walcast.resume("since=1&tenant=a");
    assert_eq!(since.replay(), (vec![3, 5], 7));
    walcast.database().insert_for("b", "");
    walcast.database().insert_for("a", "");
    assert_eq!(since.next_row()["id"], 9);
    assert_eq!(last.next_row()["id"], 9);
}

#[test]
fn between_replay_and_live_no_row_is_missing_doubled_or_out_of_order() {
    const ROWS: i64 = 2000;
    let walcast = Daemon::start_new();
    let database = walcast.database();
    let writer = std::thread::spawn(move || {
        let connection = database.connect();
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .expect("a pragma");
        for number in 0..ROWS {
            let tenant = if number % 2 == 0 { "even" } else { "odd" };
            database::insert(&connection, tenant, "");
        }
    });
    for queries in [
        ["since=earliest", "since=earliest&tenant=odd"],
        ["since=0", "last=10000&tenant=odd"],
    ] {
        for quarter in 1..=4 {
            walcast.wait_for_head(ROWS / 8 * quarter);
            let [all, odd] = queries.map(|query| walcast.subscribe(query));
            for (mut subscriber, step) in [(all, 1), (odd, 2)] {
                subscriber.expect("hello");
                let (mut ids, live) = subscriber.replay();
                assert!(ids.last().is_none_or(|last| *last <= live), "live {live}");
                assert!(
                    ids.last().is_none_or(|last| *last > live - step),
                    "live {live}"
                );
                while ids.last() != Some(&ROWS) {
                    ids.push(id(&subscriber.next_row()));
                }
                let wanted: Vec<i64> = (step..=ROWS).step_by(step as usize).collect();
                assert_eq!(ids, wanted);
            }
        }
    }
    writer.join().expect("the writer wrote");
}
