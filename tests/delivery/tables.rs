//! A feed for every table, as they come and go.

use serde_json::{Value, json};

use crate::common::{Daemon, EventSource, Subscriber, http, settings, wait_until};

const ALL: &str = "feeds = \"*\"";

const SCHEMA: &str = "
    CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);
    CREATE TABLE \"Order Lines\"(no INT PRIMARY KEY, n);
    CREATE TABLE words(word TEXT PRIMARY KEY, seq INTEGER NOT NULL UNIQUE);
    INSERT INTO orders(what) VALUES ('tea');";

fn names(walcast: &Daemon) -> Vec<Value> {
    let feeds = walcast.get("/api/feeds").json();
    let feeds = feeds["feeds"].as_array().cloned().unwrap_or_default();
    feeds.into_iter().map(|feed| feed["name"].clone()).collect()
}

fn handshake(walcast: &Daemon, path: &str) -> u16 {
    http::upgrade(walcast.address(), path, &[]).status
}

#[test]
fn every_table_that_can_be_a_feed_is_one_and_the_file_stays_as_it_is() {
    let walcast = Daemon::on_new_file().with_tables(SCHEMA).toml(ALL).start();
    assert_eq!(names(&walcast), ["orders", "order_lines"]);
    walcast.wait_for_log("not a feed: table words");
    assert!(walcast.log().contains("key = \"seq\""), "{}", walcast.log());
    assert_eq!(walcast.get("/readyz").status, 200);
    let mut orders = walcast.subscribe_to("/ws/orders", "since=earliest");
    let mut lines = walcast.subscribe_to("/ws/order_lines", "");
    orders.expect("hello");
    assert_eq!(orders.next_row()["id"], 1);
    orders.expect("live");
    walcast.database().execute(
        "BEGIN; INSERT INTO orders(what) VALUES ('milk'); INSERT INTO \"Order Lines\" VALUES (7, 1); COMMIT",
    );
    assert_eq!(orders.next_row(), json!({"id": 2, "what": "milk"}));
    assert_eq!(lines.next_row(), json!({"no": 7, "n": 1}));
    let database = walcast.database();
    assert_eq!(
        database.query("PRAGMA journal_mode"),
        [json!({"journal_mode": "delete"})]
    );
    assert_eq!(
        database.number(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ),
        3
    );
}

#[test]
fn a_table_that_was_there_is_not_called_new_when_it_becomes_a_feed() {
    let walcast = Daemon::on_new_file().with_tables(SCHEMA).toml(ALL).start();
    walcast.wait_for_log("not a feed: table words");
    let mut capture = settings::program();
    capture.args(["capture", "install", "--db"]);
    let captured = capture.arg(walcast.database().path()).arg("words").output();
    assert!(captured.unwrap().status.success());
    walcast
        .wait_for_log("feed words: its table is captured now; it is one of changes, at /ws/words");
    let database = walcast.database();
    database.execute("CREATE TABLE notes(what TEXT)");
    walcast.wait_for_log("not a feed: table notes");
    database.execute("BEGIN; DROP TABLE notes; CREATE TABLE notes(id INTEGER PRIMARY KEY); COMMIT");
    walcast.wait_for_log("the table notes can be a feed now: feed notes at /ws/notes");
    database.execute("CREATE TABLE later(id INTEGER PRIMARY KEY)");
    walcast.wait_for_log("the table later is new: feed later at /ws/later");
    let log = walcast.log();
    assert!(
        !log.contains("words is new") && !log.contains("notes is new"),
        "{log}"
    );
}

#[test]
fn tables_that_come_become_feeds_and_dropped_ones_go() {
    let walcast = Daemon::on_new_file().with_tables(SCHEMA).toml(ALL).start();
    assert_eq!(handshake(&walcast, "/ws/later"), 404);
    walcast
        .database()
        .execute("CREATE TABLE later(id INTEGER PRIMARY KEY AUTOINCREMENT, x)");
    wait_until("the new table is a feed", || {
        handshake(&walcast, "/ws/later") == 101
    });
    let mut plain = walcast.subscribe_to("/ws/later", "");
    let mut resumable = walcast.subscribe_to("/ws/later", "since=earliest");
    let epoch = resumable.expect("hello")["epoch"].clone();
    resumable.expect("live");
    let mut stream = EventSource::open(walcast.address(), "/sse/later?since=earliest", &[]);
    stream.expect("hello");
    stream.expect("live");
    let mut beside = walcast.subscribe_to("/ws/orders", "");
    walcast
        .database()
        .execute("INSERT INTO later(x) VALUES (1)");
    assert_eq!(plain.next_row(), json!({"id": 1, "x": 1}));
    assert_eq!(resumable.next_row()["id"], 1);
    assert_eq!(stream.next_row(), 1);

    walcast.database().execute("DROP TABLE later");
    // It may be a migration that makes the table anew.
    for told in [resumable.expect("waiting"), stream.expect("waiting")] {
        assert_eq!(told["reason"], "no_table");
    }
    plain.expect_nothing();
    assert_eq!(handshake(&walcast, "/ws/later"), 101);
    assert_eq!(walcast.get("/readyz").status, 200, "nobody misses it");
    resumable.expect_close(4504);
    plain.expect_close(4504);
    stream.expect("goodbye");
    assert!(stream.next().is_none());
    assert_eq!(names(&walcast), ["orders", "order_lines"]);
    for path in ["/ws/later", "/sse/later", "/api/feeds/later/events"] {
        assert_eq!(walcast.get(path).status, 404, "{path}");
    }
    assert_eq!(walcast.get("/readyz").status, 200);

    walcast
        .database()
        .execute("CREATE TABLE later(id INTEGER PRIMARY KEY AUTOINCREMENT, y)");
    wait_until("the table is a feed again", || {
        handshake(&walcast, "/ws/later") == 101
    });
    let hello = walcast
        .subscribe_to("/ws/later", "since=now")
        .expect("hello");
    assert_ne!(hello["epoch"], epoch, "another table is another history");
    walcast
        .database()
        .execute("INSERT INTO orders(what) VALUES ('milk')");
    assert_eq!(beside.next_row()["id"], 2);
}

/// What somebody hears whose table goes and comes back.
fn subscribed(walcast: &Daemon) -> (Subscriber, Subscriber, EventSource, Value) {
    let plain = walcast.subscribe_to("/ws/orders", "");
    let mut resumable = walcast.subscribe_to("/ws/orders", "since=now");
    let epoch = resumable.expect("hello")["epoch"].clone();
    resumable.expect("live");
    let mut stream = walcast.event_source("/sse/orders?since=now", &[]);
    stream.expect("hello");
    stream.expect("live");
    (plain, resumable, stream, epoch)
}

#[test]
fn a_migration_that_makes_a_table_anew_ends_no_subscription() {
    let walcast = Daemon::on_new_file().with_tables(SCHEMA).toml(ALL).start();
    let (mut plain, mut resumable, mut stream, epoch) = subscribed(&walcast);
    let database = walcast.database();
    database.execute("DROP TABLE orders");
    for told in [resumable.expect("waiting"), stream.expect("waiting")] {
        assert_eq!(told["reason"], "no_table");
    }
    assert_eq!(walcast.get("/api/feeds/orders/events").status, 200);
    database.execute(
        "CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT, price REAL);
         INSERT INTO orders(what) VALUES ('coffee')",
    );
    // Another table holds another history: who can be told is told, who can't comes back.
    assert_ne!(resumable.expect("reset")["epoch"], epoch);
    assert_ne!(stream.expect("reset")["epoch"], epoch);
    let coffee = json!({"id": 1, "what": "coffee", "price": null});
    assert_eq!(resumable.next_row(), coffee);
    assert_eq!(stream.next_row(), 1);
    plain.expect_close(1012);
}

#[test]
fn a_migration_that_copies_a_table_loses_no_row() {
    let walcast = Daemon::on_new_file().with_tables(SCHEMA).toml(ALL).start();
    let (mut plain, mut resumable, mut stream, epoch) = subscribed(&walcast);
    let database = walcast.database();
    // The steps of SQLite's manual for changes that ALTER TABLE can't do, each committed by itself.
    database.execute(
        "CREATE TABLE new_orders(id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL)",
    );
    database.execute("INSERT INTO new_orders SELECT id, what FROM orders");
    database.execute("DROP TABLE orders");
    resumable.expect("waiting");
    stream.expect("waiting");
    database.execute("ALTER TABLE new_orders RENAME TO orders");
    database.execute("INSERT INTO orders(what) VALUES ('milk')");
    for hello in [resumable.expect("hello"), stream.expect("hello")] {
        assert_eq!(
            (&hello["epoch"], &hello["recovered"]),
            (&epoch, &json!(true))
        );
    }
    // The row may be seen with the table or after it.
    if resumable.rows_until("live").0.is_empty() {
        resumable.next_row();
    }
    let milk = json!({"id": 2, "what": "milk"});
    assert_eq!(resumable.ledger(), std::slice::from_ref(&milk));
    let events = [(); 2].map(|()| stream.next().expect("a row and a live").name);
    assert!(events.contains(&None) && events.contains(&Some("live".into())));
    assert_eq!(plain.next_row(), milk);
    wait_until("the name it had meanwhile is gone", || {
        names(&walcast) == ["orders", "order_lines"]
    });
}

#[test]
fn a_file_without_tables_is_served_until_they_come() {
    let walcast = Daemon::on_new_file().toml(ALL).start();
    assert_eq!(walcast.get("/readyz").status, 503);
    assert_eq!(names(&walcast), Vec::<Value>::new());
    let database = walcast.database();
    let tables: Vec<String> = (0..70)
        .map(|n| format!("CREATE TABLE t{n}(id INTEGER PRIMARY KEY);"))
        .collect();
    database.execute(&tables.concat());
    wait_until("all of them are feeds", || names(&walcast).len() == 70);
    let mut last = walcast.subscribe_to("/ws/t69", "");
    database.execute("INSERT INTO t69 DEFAULT VALUES");
    assert_eq!(last.next_row(), json!({"id": 1}));
    assert_eq!(walcast.get("/readyz").status, 200);
}
