//! Files served as they are: a capture that comes or goes takes effect while they are served.

use serde_json::{Value, json};
use walcast::config::CaptureMode::Keys;
use walcast::sqlite::capture::remove;

use crate::common::{Daemon, Database, EventSource, Settings, wait_until};
use crate::scenes::{Held, ORDERS, capture, follow, follow_live, next_change};

/// Names and kinds of the feeds there are.
fn listed(walcast: &Daemon) -> Vec<(String, Value)> {
    let feeds = walcast.get("/api/feeds").json();
    let feeds = feeds["feeds"].as_array().expect("a list").iter();
    let told = |feed: &Value| {
        (
            feed["name"].as_str().unwrap().to_owned(),
            feed["kind"].clone(),
        )
    };
    feeds.map(told).collect()
}

fn kinds(kinds: &[(&str, Option<&str>)]) -> Vec<(String, Value)> {
    let kinds = kinds.iter();
    kinds
        .map(|(name, kind)| ((*name).to_owned(), json!(kind)))
        .collect()
}

fn uncapture(database: &Database, table: &str) {
    assert!(remove(&mut database.connect(), table).expect("it can be removed"));
}

#[test]
fn a_capture_that_comes_makes_the_feed_one_of_changes() {
    let tables = format!("{ORDERS}; CREATE TABLE words(w TEXT PRIMARY KEY)");
    let walcast = Settings::on_new_file()
        .with_tables(&tables)
        .toml("feeds = \"*\"")
        .start();
    let database = walcast.database();
    database.execute("INSERT INTO orders VALUES (1, 'acme', 5, NULL)");
    assert_eq!(listed(&walcast), kinds(&[("orders", None)]));
    let mut plain = walcast.subscribe_to("/ws/orders", "");
    let mut resumable = walcast.subscribe_to("/ws/orders", "since=earliest");
    let epoch = resumable.expect("hello")["epoch"].clone();
    assert_eq!(resumable.next_row()["id"], 1);
    resumable.expect("live");
    let mut stream = EventSource::open(walcast.address(), "/sse/orders", &[]);
    capture(&database, "orders", Keys, &["tenant"]);
    capture(&database, "words", Keys, &[]);
    plain.expect_close(1012);
    resumable.expect_close(1012);
    assert!(stream.next().is_none(), "the stream goes on");
    let both = kinds(&[("orders", Some("changes")), ("words", Some("changes"))]);
    wait_until("both are feeds of changes", || listed(&walcast) == both);
    let query = format!("since=1&epoch={}", epoch.as_str().unwrap());
    let (_, hello) = follow(&walcast, &query);
    assert_eq!(
        (&hello["kind"], &hello["recovered"]),
        (&json!("changes"), &json!(false))
    );
    let (mut acme, held) = follow_live(&walcast, "since=earliest&tenant=acme");
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
    database.execute("UPDATE orders SET total = 6");
    assert_eq!(next_change(&mut acme)["after"]["total"], 6.0);
    assert_eq!(walcast.get("/readyz").status, 200);
}

#[test]
fn a_capture_that_goes_makes_the_feed_one_of_rows_unless_it_comes_back_soon() {
    let tables = format!("{ORDERS}; CREATE TABLE words(w TEXT PRIMARY KEY)");
    let settings = Settings::on_new_file().with_tables(&tables);
    let database = Database::at(settings.database_path());
    capture(&database, "orders", Keys, &[]);
    capture(&database, "words", Keys, &[]);
    let walcast = settings.toml("feeds = \"*\"").start();
    database.execute("INSERT INTO orders VALUES (1, 'acme', 5, NULL)");
    let (mut orders, _) = follow_live(&walcast, "since=earliest");
    let mut words = walcast.subscribe_to("/ws/words", "");
    // As a migration does that runs the removal first and the installation last.
    uncapture(&database, "orders");
    let waiting = orders.expect("waiting");
    let message = waiting["message"].as_str().unwrap();
    assert!(message.contains("not captured"), "{message}");
    assert_eq!(walcast.get("/readyz").status, 200);
    database.execute("UPDATE orders SET total = 6");
    capture(&database, "orders", Keys, &[]);
    let reset = orders.expect("reset");
    assert_eq!(reset["reason"], "capture_interrupted");
    let mut held = Held::default();
    held.take_until_live(&mut orders);
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
    uncapture(&database, "orders");
    uncapture(&database, "words");
    orders.expect("waiting");
    orders.expect_close(1012);
    words.expect_close(1012);
    wait_until("orders is a feed of rows", || {
        listed(&walcast) == kinds(&[("orders", None)])
    });
    assert_eq!(walcast.upgrade("/ws/words", &[]).status, 404);
    let mut rows = walcast.subscribe_to("/ws/orders", "since=earliest");
    rows.expect("hello");
    assert_eq!(rows.next_row()["id"], 1);
    rows.expect("live");
    database.execute("INSERT INTO orders VALUES (2, 'acme', 5, NULL)");
    assert_eq!(rows.next_row()["id"], 2);
    // And once more to changes.
    capture(&database, "orders", Keys, &[]);
    rows.expect_close(1012);
    let (mut orders, _) = follow_live(&walcast, "since=earliest");
    database.execute("DELETE FROM orders WHERE id = 2");
    assert_eq!(next_change(&mut orders)["op"], "d");
    let epoch = walcast.epoch();
    let walcast = walcast.restart();
    assert_eq!(walcast.epoch(), epoch);
}
