//! Which log is gone on from, and which is another: a stretch of time in which no change was missed is one history.

use serde_json::json;
use walcast::config::CaptureMode::{Full, Keys};

use crate::common::{Database, Settings, wait_until};
use crate::scenes::{Held, ORDERS, capture, follow, follow_live, orders};

/// The table built anew, as migrations do it. Its triggers go with the old one.
const REBUILD: &str = "BEGIN IMMEDIATE;
    CREATE TABLE made(id INTEGER PRIMARY KEY, tenant TEXT, total REAL, note TEXT, more TEXT);
    INSERT INTO made SELECT *, 'more' FROM orders;
    DROP TABLE orders; ALTER TABLE made RENAME TO orders;
    UPDATE orders SET total = 0 WHERE id = 1; COMMIT";

#[test]
fn a_capture_that_was_interrupted_is_told_and_the_table_follows() {
    let walcast = orders(Keys, &[]);
    let database = walcast.database();
    database.execute("INSERT INTO orders VALUES (1, 'acme', 5, NULL), (2, 'acme', 6, NULL)");
    let (mut subscriber, mut held) = follow_live(&walcast, "since=earliest");
    let mut plain = walcast.subscribe_to("/ws/orders", "");
    database.execute(REBUILD);
    capture(&database, "orders", Keys, &[]);
    let reset = subscriber.expect("reset");
    assert_eq!(
        (&reset["reason"], &reset["snapshot"]),
        (&json!("capture_interrupted"), &json!(true))
    );
    held.0.clear();
    held.take_until_live(&mut subscriber);
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
    plain.expect_close(1012);
    let (_, hello) = follow(&walcast, "since=now");
    assert_eq!(hello["epoch"], reset["epoch"]);
}

#[test]
fn changes_pruned_before_they_were_seen_are_no_silent_gap() {
    let walcast = orders(Keys, &["tenant"]);
    let database = walcast.database();
    database.execute("INSERT INTO orders VALUES (1, 'acme', 5, NULL), (2, 'acme', 6, NULL)");
    let (mut all, _) = follow_live(&walcast, "since=earliest");
    let (mut acme, _) = follow_live(&walcast, "since=now&tenant=acme");
    database.execute(
        "BEGIN; UPDATE orders SET total = 7 WHERE id = 1; DELETE FROM orders WHERE id = 2;
         INSERT INTO orders VALUES (3, 'globex', 1, NULL); DELETE FROM _walcast_orders WHERE seq < 5; COMMIT",
    );
    for (subscriber, condition) in [(&mut all, "1"), (&mut acme, "tenant = 'acme'")] {
        let reset = subscriber.expect("reset");
        assert_eq!(reset["reason"], "capture_interrupted");
        let mut held = Held::default();
        held.take_until_live(subscriber);
        let sql = format!("SELECT * FROM orders WHERE {condition}");
        assert_eq!(held, Held::of(&database, &sql, &["id"]));
    }
}

#[test]
fn a_log_that_was_emptied_and_filled_again_is_no_silent_gap() {
    let walcast = orders(Keys, &[]);
    let database = walcast.database();
    database.execute("INSERT INTO orders VALUES (1, 'acme', 5, NULL), (2, 'acme', 6, NULL)");
    let (mut subscriber, _) = follow_live(&walcast, "since=earliest");
    database.execute(
        "BEGIN; UPDATE orders SET total = 7 WHERE id = 1; DELETE FROM _walcast_orders;
         UPDATE orders SET total = 8 WHERE id = 2; UPDATE orders SET total = 9 WHERE id = 2;
         UPDATE orders SET total = 8 WHERE id = 2; COMMIT",
    );
    subscriber.expect("reset");
    let mut held = Held::default();
    held.take_until_live(&mut subscriber);
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
}

#[test]
fn a_log_survives_a_restart_and_ends_where_it_was_interrupted_meanwhile() {
    let walcast = orders(Full, &[]);
    let database = walcast.database();
    database.execute("INSERT INTO orders VALUES (1, 'acme', 5, NULL), (2, 'acme', 6, NULL)");
    let (mut subscriber, _) = follow_live(&walcast, "since=earliest");
    let epoch = walcast.epoch();
    database.execute("UPDATE orders SET total = 7; DELETE FROM orders WHERE id = 2");
    subscriber.next_rows(3);
    drop(subscriber);
    let settings = walcast.stop();
    database.execute("UPDATE orders SET total = 8");
    let walcast = settings.start();
    let (mut subscriber, hello) = follow(&walcast, &format!("since=5&epoch={epoch}"));
    assert_eq!(
        (&hello["recovered"], hello.get("snapshot")),
        (&json!(true), None)
    );
    assert_eq!(subscriber.next_row()["before"]["total"], 7.0);
    subscriber.expect("live");
    drop(subscriber);
    let settings = walcast.stop();
    database.execute("DROP TRIGGER _walcast_orders_update; UPDATE orders SET total = 9");
    capture(&database, "orders", Full, &[]);
    let walcast = settings.start();
    let (_, hello) = follow(&walcast, &format!("since=6&epoch={epoch}"));
    assert_eq!(
        (&hello["recovered"], &hello["snapshot"]),
        (&json!(false), &json!(true))
    );
}

#[test]
fn a_table_captured_by_others_is_a_feed_of_changes_where_every_table_is_one() {
    let settings = Settings::on_new_file().with_tables(&format!(
        "{ORDERS}; CREATE TABLE plain(id INTEGER PRIMARY KEY); CREATE TABLE words(w TEXT PRIMARY KEY)"
    ));
    let database = Database::at(settings.database_path());
    capture(&database, "orders", Full, &[]);
    capture(&database, "words", Keys, &[]);
    let walcast = settings.toml("feeds = \"*\"").start();
    let feeds = walcast.get("/api/feeds").json();
    let listed: Vec<_> = feeds["feeds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|feed| {
            (
                feed["name"].as_str().unwrap(),
                feed["kind"].as_str(),
                &feed["key_columns"],
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("orders", Some("changes"), &json!(["id"])),
            ("plain", None, &json!(null)),
            ("words", Some("changes"), &json!(["w"])),
        ]
    );
    let mut words = walcast.subscribe_to("/ws/words", "");
    database.execute("INSERT INTO words VALUES ('a')");
    assert_eq!(words.next_frame()["type"], "words_change");
    wait_until("the metrics know it", || {
        walcast.metric(r#"walcast_feed_head{feed="words"}"#) == 1.0
    });
}
