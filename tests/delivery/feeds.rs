//! Feeds of other tables: several in one file, other names of the key, tables without AUTOINCREMENT.

use serde_json::{Value, json};

use crate::common::Daemon;

const SCHEMA: &str = "
    CREATE TABLE orders(order_no INTEGER PRIMARY KEY, what TEXT);
    CREATE TABLE \"odd \"\"name\"(note TEXT, seq INTEGER NOT NULL UNIQUE);
    CREATE TABLE rowless(k INTEGER PRIMARY KEY, v) WITHOUT ROWID;";

const FEEDS: &str = r#"
[feeds.orders]
message = { type = "order", body = "order" }

[feeds.odd]
table = 'odd "name'
key = "seq"
ws = ["/ws/odd", "/live"]

[feeds.rowless]
"#;

#[test]
fn several_feeds_of_one_file_keep_apart() {
    let walcast = Daemon::on_new_file()
        .with_tables(SCHEMA)
        .without_poll()
        .toml(FEEDS)
        .start();
    let database = walcast.database();
    let paths = ["/ws/orders", "/live", "/ws/rowless"];
    let mut feeds = paths.map(|path| walcast.subscribe_to(path, ""));
    let expected: [fn(i64) -> Value; 3] = [
        |id| json!({"type": "order", "order": {"order_no": id, "what": "tea"}}),
        |id| json!({"type": "odd_event", "event": {"note": "n", "seq": id}}),
        |id| json!({"type": "rowless_event", "event": {"k": id, "v": 1.5}}),
    ];
    for id in [1, 2, 7] {
        database.execute(&format!(
            "BEGIN; INSERT INTO rowless VALUES ({id}, 1.5); INSERT INTO orders VALUES ({id}, 'tea');
             INSERT INTO \"odd \"\"name\" VALUES ('n', {id}); COMMIT;"
        ));
        for (feed, expected) in feeds.iter_mut().zip(expected) {
            assert_eq!(feed.next_frame(), expected(id));
        }
    }
    feeds.iter_mut().for_each(|feed| feed.expect_nothing());
    for (path, key) in paths.iter().zip(["order_no", "seq", "k"]) {
        let mut replay = walcast.subscribe_to(path, "since=2");
        let hello = replay.expect("hello");
        assert_eq!(
            (&hello["key"], &hello["head"], &hello["earliest"]),
            (&json!(key), &json!(7), &json!(1))
        );
        replay.next_row();
        replay.expect("live");
    }
}

#[test]
fn a_feed_waits_for_its_table_while_others_are_served() {
    let walcast = Daemon::on_new_file()
        .with_tables("CREATE TABLE here(id INTEGER PRIMARY KEY AUTOINCREMENT, v)")
        .without_poll()
        .toml("[feeds.here]\n[feeds.later]\n")
        .start();
    let database = walcast.database();
    let mut here = walcast.subscribe_to("/ws/here", "");
    let mut later = walcast.subscribe_to("/ws/later", "");
    database.execute("INSERT INTO here(v) VALUES (1)");
    assert_eq!(here.next_row(), json!({"id": 1, "v": 1}));
    database.execute(
        "BEGIN; CREATE TABLE later(id INTEGER PRIMARY KEY, v); INSERT INTO later VALUES (1, 'first'); COMMIT",
    );
    assert_eq!(later.next_row(), json!({"id": 1, "v": "first"}));
    database.execute("INSERT INTO later VALUES (2, 'second'); INSERT INTO here(v) VALUES (2);");
    assert_eq!(later.next_row(), json!({"id": 2, "v": "second"}));
    assert_eq!(here.next_row(), json!({"id": 2, "v": 2}));
}

#[test]
fn without_autoincrement_a_deleted_newest_row_is_no_new_history() {
    let walcast = Daemon::on_new_file()
        .with_tables(
            "CREATE TABLE orders(id INTEGER PRIMARY KEY, what TEXT);
             INSERT INTO orders(what) VALUES ('a'), ('b'), ('c')",
        )
        .toml("[feeds.orders]\n")
        .start();
    let database = walcast.database();
    let mut resumable = walcast.subscribe_to("/ws/orders", "since=now");
    let epoch = resumable.expect("hello")["epoch"].clone();
    resumable.expect("live");
    database.execute("DELETE FROM orders WHERE id = 3");
    database.execute("INSERT INTO orders VALUES (4, 'd')");
    assert_eq!(resumable.next_row()["id"], 4);
    drop(resumable);
    database.execute("DELETE FROM orders WHERE id = 4");
    let walcast = walcast.restart();
    walcast.wait_until_ready();
    let mut again = walcast.subscribe_to("/ws/orders", "since=4");
    let hello = again.expect("hello");
    assert_eq!(
        (&hello["epoch"], &hello["head"], &hello["recovered"]),
        (&epoch, &json!(4), &json!(true))
    );
    again.expect("live");
    // The id 4 must not be given to another row unnoticed: SQLite gives 3 next, which is below the head.
    database.execute("INSERT INTO orders(what) VALUES ('again')");
    assert_eq!(again.expect("reset")["head"], 3);
}

#[test]
fn a_table_that_has_only_its_key_is_a_feed_too() {
    let walcast = Daemon::on_new_file()
        .with_tables("CREATE TABLE ticks(id INTEGER PRIMARY KEY)")
        .toml("[feeds.ticks]")
        .start();
    let mut ticks = walcast.subscribe_to("/ws/ticks", "");
    walcast
        .database()
        .execute("INSERT INTO ticks DEFAULT VALUES");
    assert_eq!(ticks.next_row(), json!({"id": 1}));
}
