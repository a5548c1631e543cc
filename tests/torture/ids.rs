//! Ids that no counter gives: zero, negative ones, the lowest and the highest there are, and those below the head.

use serde_json::{Value, json};

use crate::common::{Daemon, wait_until};

const KINDS: [&str; 2] = ["AUTOINCREMENT", ""];

fn serving(kind: &str, sql: &str) -> Daemon {
    Daemon::on_new_file()
        .with_tables(&format!(
            "CREATE TABLE t(id INTEGER PRIMARY KEY {kind}, x TEXT); {sql}"
        ))
        .toml("[feeds.t]\n")
        .start()
}

fn insert(walcast: &Daemon, id: i64) {
    walcast
        .database()
        .execute(&format!("INSERT INTO t VALUES ({id}, 'x')"));
}

/// An id as a frame holds it.
fn shown(id: i64) -> Value {
    match id.unsigned_abs() < 1 << 53 {
        true => json!(id),
        false => json!(id.to_string()),
    }
}

#[test]
fn ascending_ids_are_sent_wherever_they_begin() {
    for kind in KINDS {
        for ids in [
            [0, 1, 2],
            [-5, -4, -3],
            [-2, 0, 3],
            [i64::MIN + 1, -9, i64::MAX],
        ] {
            let walcast = serving(kind, "");
            let mut plain = walcast.subscribe_to("/ws/t", "");
            let mut resumable = walcast.subscribe_to("/ws/t", "since=now");
            let hello = resumable.expect("hello");
            assert_eq!((&hello["head"], &hello["since"]), (&json!(0), &json!(0)));
            assert_eq!(resumable.expect("live")["id"], 0);
            for id in ids {
                insert(&walcast, id);
                assert_eq!(plain.next_row()["id"], shown(id), "{kind} {ids:?}");
                assert_eq!(resumable.next_row()["id"], shown(id), "{kind} {ids:?}");
            }
            let mut replay = walcast.subscribe_to("/ws/t", "since=earliest");
            let hello = replay.expect("hello");
            assert_eq!(
                (&hello["head"], &hello["earliest"]),
                (&shown(ids[2]), &shown(ids[0]))
            );
            for id in ids {
                assert_eq!(replay.next_row()["id"], shown(id));
            }
            let epoch = hello["epoch"].as_str().unwrap().to_owned();
            let walcast = walcast.restart();
            assert_eq!(walcast.epoch(), epoch, "{kind} {ids:?}");
            let query = format!("since={}&epoch={epoch}", ids[1]);
            let mut resumed = walcast.subscribe_to("/ws/t", &query);
            assert_eq!(resumed.expect("hello")["recovered"], true, "{kind} {ids:?}");
            let rows = if ids[1] == 0 { &ids[..] } else { &ids[2..] };
            for id in rows {
                assert_eq!(resumed.next_row()["id"], shown(*id), "{kind} {ids:?}");
            }
        }
    }
}

#[test]
fn rows_with_negative_ids_may_be_deleted() {
    for kind in KINDS {
        let walcast = serving(kind, "INSERT INTO t(id) VALUES (-5), (-4)");
        let epoch = walcast.epoch();
        let mut plain = walcast.subscribe_to("/ws/t", "");
        walcast.database().execute("DELETE FROM t WHERE id = -5");
        insert(&walcast, -3);
        assert_eq!(plain.next_row()["id"], -3);
        assert_eq!(walcast.epoch(), epoch);
    }
}

#[test]
fn the_lowest_id_there_can_be_is_in_replays_and_history() {
    for kind in KINDS {
        let ids = [i64::MIN, -1, 5];
        let walcast = serving(
            kind,
            "INSERT INTO t VALUES (-9223372036854775808, 'x'), (-1, 'x'), (5, 'y')",
        );
        for (query, expected) in [
            ("since=earliest", &ids[..]),
            ("last=3", &ids),
            ("last=3&x=x", &ids[..2]),
        ] {
            let mut replay = walcast.subscribe_to("/ws/t", query);
            replay.expect("hello");
            for id in expected {
                assert_eq!(replay.next_row()["id"], shown(*id), "{kind} {query}");
            }
            replay.expect("live");
        }
        let history = walcast.get("/api/feeds/t/events").json();
        assert_eq!(history["total"], 3, "{history}");
        assert_eq!(history["items"][2]["id"], shown(i64::MIN));
    }
}

#[test]
fn a_first_row_with_the_lowest_id_there_can_be_comes_with_the_second() {
    let walcast = serving("", "");
    let mut plain = walcast.subscribe_to("/ws/t", "");
    insert(&walcast, i64::MIN);
    insert(&walcast, -7);
    assert_eq!(plain.next_row()["id"], shown(i64::MIN));
    assert_eq!(plain.next_row()["id"], -7);
}

/// SQLite gives ids at random then. They have no order to follow, so whoever is there is told that it must start over.
#[test]
fn a_row_after_the_highest_id_there_can_be_is_told_of() {
    let walcast = serving("", "");
    let mut plain = walcast.subscribe_to("/ws/t", "");
    let mut resumable = walcast.subscribe_to("/ws/t", "since=earliest");
    resumable.expect("hello");
    resumable.expect("live");
    insert(&walcast, i64::MAX);
    assert_eq!(plain.next_row()["id"], shown(i64::MAX));
    assert_eq!(resumable.next_row()["id"], shown(i64::MAX));
    walcast
        .database()
        .execute("INSERT INTO t(x) VALUES ('at random')");
    plain.expect_close(1012);
    assert_eq!(resumable.expect("reset")["head"], shown(i64::MAX));
    assert_eq!(resumable.next_row()["x"], "at random");
    assert_eq!(resumable.next_row()["id"], shown(i64::MAX));
}

#[test]
fn rows_below_the_head_are_counted_and_said_once() {
    const COUNTER: &str = r#"walcast_rows_below_head_total{feed="t"}"#;
    for kind in KINDS {
        let walcast = serving(kind, "INSERT INTO t(id) VALUES (10), (20), (30), (100)");
        let mut plain = walcast.subscribe_to("/ws/t", "");
        assert_eq!(walcast.metric(COUNTER), 0.0);
        walcast
            .database()
            .execute("INSERT INTO t(id) VALUES (15), (25), (5)");
        wait_until("they are counted", || walcast.metric(COUNTER) == 3.0);
        walcast.wait_for_log("3 rows were inserted below the head (100)");
        // Together with one above the head, and among rows that are deleted or replaced.
        walcast.database().execute(
            "BEGIN; INSERT INTO t(id) VALUES (-7), (101); REPLACE INTO t(id, x) VALUES (20, 'again'); COMMIT",
        );
        assert_eq!(plain.next_row()["id"], 101);
        wait_until("it is counted", || {
            // A look of its own, where the one above the head came too soon after the last.
            walcast
                .database()
                .execute("UPDATE t SET x = 'y' WHERE id = 10");
            walcast.metric(COUNTER) == 4.0
        });
        assert_eq!(
            walcast.log().matches("below the head").count(),
            1,
            "said at most once a minute"
        );
        insert(&walcast, 102);
        assert_eq!(plain.next_row()["id"], 102);
    }
}
