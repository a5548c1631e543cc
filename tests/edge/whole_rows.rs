//! Rows as an edge is given them: nothing cut, nothing left out that a scope compares, and what they are of before them.

use serde_json::{Value, json};

use crate::common::secrets::add_token;
use crate::common::{Daemon, Settings, Subscriber};

const EDGE: (&str, &str) = ("Sec-WebSocket-Protocol", "walcast.edge.v1");

const ORDERS: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, card TEXT, note TEXT, number, raw BLOB)";

fn serving(toml: &str) -> Daemon {
    let settings = Settings::on_new_file().with_tables(ORDERS);
    settings.toml(toml).start()
}

fn edge_of(daemon: &Daemon, query: &str) -> Subscriber {
    Subscriber::connect_with(daemon.address(), "/ws/orders", query, &[EDGE])
}

/// The next frame but control frames, which is a row: its values.
#[track_caller]
fn next_values(subscriber: &mut Subscriber) -> Value {
    loop {
        let frame = subscriber.next_frame();
        if frame["type"] == "row" {
            return frame["row"].clone();
        }
    }
}

#[test]
fn rows_leave_whole_and_plain_subscribers_get_what_they_always_did() {
    let daemon = serving(
        "max_row_bytes = 4096\n[feeds.orders]\nexclude = [\"customer\", \"card\"]\ntruncate = { note = 3 }\n\
         scope = { customer = \"claim:customer\" }\n",
    );
    let long = "é".repeat(10_000);
    let insert = format!(
        "INSERT INTO orders(customer, card, note, number, raw) VALUES
           ('acme', '4711', '{long}', 9007199254740993, x'00ff'),
           ('acme', '4712', CAST(x'61ff' AS TEXT), 9e999, NULL)"
    );
    daemon.database().execute(&insert);
    let mut edge = edge_of(&daemon, "since=earliest");
    let table = edge.expect("table");
    let columns = json!([
        {"name": "id", "type": "INTEGER"}, {"name": "note", "type": "TEXT"}, {"name": "number", "type": ""},
        {"name": "raw", "type": "BLOB"}, {"name": "customer", "type": "TEXT", "hidden": true}
    ]);
    assert_eq!(table["columns"], columns);
    assert_eq!(table["scope"], json!({"customer": "claim:customer"}));
    assert_eq!(
        table["message"],
        json!({"type": "orders_event", "body": "event"})
    );
    let hello = edge.expect("hello");
    assert_eq!(
        (&hello["head"], &hello["recovered"]),
        (&json!(2), &json!(true))
    );
    let first = edge.next_frame();
    assert_eq!(first["schema"], table["schema"]);
    let whole = json!([1, long, {"$int": "9007199254740993"}, {"$blob": "AP8="}, "acme"]);
    assert_eq!(first["row"], whole);
    let second = json!([2, {"$text": "Yf8="}, {"$real": "Infinity"}, null, "acme"]);
    assert_eq!(next_values(&mut edge), second);
    edge.expect("live");

    let mut plain = daemon.subscribe_to("/ws/orders", "");
    plain.expect_nothing();
    daemon
        .database()
        .execute("INSERT INTO orders(note) VALUES ('live')");
    assert_eq!(next_values(&mut edge), json!([3, "live", null, null, null]));
    assert_eq!(
        plain.next_row(),
        json!({"id": 3, "note": "liv", "number": null, "raw": null})
    );
}

#[test]
fn bursts_and_columns_that_come_reach_an_edge_in_order() {
    let daemon = serving("[feeds.orders]\n");
    let mut edge = edge_of(&daemon, "since=now");
    for kind in ["table", "hello", "live"] {
        edge.expect(kind);
    }
    let database = daemon.database();
    database.execute(
        "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 5000) INSERT INTO orders(number) SELECT n FROM s",
    );
    for id in 1..=5000 {
        assert_eq!(next_values(&mut edge)[0], id);
    }
    database.execute("ALTER TABLE orders ADD COLUMN size INTEGER DEFAULT 7");
    let table = edge.expect("table");
    let columns = table["columns"].as_array().expect("columns are listed");
    assert_eq!(
        columns.last(),
        Some(&json!({"name": "size", "type": "INTEGER"}))
    );
    database.execute("INSERT INTO orders(number) VALUES (1)");
    let row = edge.next_frame();
    assert_eq!(
        (&row["schema"], &row["row"][6]),
        (&table["schema"], &json!(7))
    );
}

#[test]
fn rows_are_given_whole_only_where_that_was_granted() {
    let directory = crate::common::directory();
    let tokens = directory.path().join("tokens.toml");
    let token = |args: &[&str]| add_token(&tokens, args);
    let reader = token(&["reader", "--feed", "orders", "--where", "customer=acme"]);
    let edge = token(&["edge", "--edge", "--feed", "orders"]);
    let part = token(&[
        "part",
        "--edge",
        "--feed",
        "orders",
        "--where",
        "customer=acme",
    ]);
    let counter = token(&["counter", "--metrics"]);
    let daemon = Settings::on(directory.path())
        .with_tables(ORDERS)
        .metrics_by(counter)
        .toml(format!(
            "[auth]\ntokens = {tokens:?}\n[feeds.orders]\nexclude = [\"customer\"]\nscope = {{ customer = \"claim:customer\" }}\n"
        ))
        .start();
    daemon
        .database()
        .execute("INSERT INTO orders(customer) VALUES ('acme'), ('globex'), ('acme')");
    let refused = |token: &str, query: &str| {
        let bearer = format!("Bearer {token}");
        let path = format!("/ws/orders?{query}");
        let headers = [EDGE, ("Authorization", bearer.as_str())];
        let response = daemon.upgrade(&path, &headers);
        (response.status, response.error_code())
    };
    let not_granted = (403, "edge_not_granted".to_owned());
    assert_eq!(refused(&reader, "since=0"), not_granted);
    assert_eq!(refused(&edge, ""), (400, "bad_parameter".to_owned()));
    let ids = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [EDGE, ("Authorization", bearer.as_str())];
        let mut edge =
            Subscriber::connect_with(daemon.address(), "/ws/orders", "since=0", &headers);
        edge.expect("table");
        edge.expect("hello");
        let mut ids = Vec::new();
        loop {
            let frame = edge.next_frame();
            if frame["type"] == "live" {
                return ids;
            }
            ids.push(frame["row"][0].clone());
        }
    };
    assert_eq!(ids(&edge), [1, 2, 3]);
    assert_eq!(ids(&part), [1, 3]);
}

#[test]
fn changes_of_a_part_of_the_rows_are_not_given_whole() {
    let settings = Settings::on_new_file().with_tables(ORDERS);
    let daemon = settings
        .toml("[feeds.orders]\ncapture = \"keys\"\n")
        .start();
    let refused = daemon.upgrade("/ws/orders?since=0&id=1", &[EDGE]);
    assert_eq!(
        (refused.status, refused.error_code()),
        (400, "feed_of_changes".to_owned())
    );
}

#[test]
fn a_captured_table_comes_whole_before_its_changes() {
    let settings = Settings::on_new_file().with_tables(ORDERS);
    let keys = "[feeds.orders]\ncapture = \"keys\"\ncapture_filters = [\"customer\"]\nexclude = [\"customer\", \"card\"]\n";
    let daemon = settings.toml(keys).start();
    daemon.wait_until_ready();
    let database = daemon.database();
    database.execute("INSERT INTO orders(customer, number) VALUES ('acme', 1), ('globex', 2)");
    database.execute("UPDATE orders SET id = 7, customer = 'acme' WHERE id = 2");
    let mut edge = edge_of(&daemon, "since=earliest");
    let table = edge.expect("table");
    let changes = json!({
        "capture": "keys", "key": [{"name": "id", "collation": "BINARY"}], "rowid": true, "filters": ["customer"], "keep": 86400
    });
    assert_eq!(
        (&table["changes"], &table["key"]),
        (&changes, &json!("seq"))
    );
    let names: Vec<_> = table["columns"]
        .as_array()
        .expect("columns")
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["id", "note", "number", "raw", "customer"]);
    assert_eq!(edge.expect("hello")["snapshot"], true);
    assert_eq!(next_values(&mut edge), json!([1, null, 1, null, "acme"]));
    let moved = json!([7, null, 2, null, "acme"]);
    assert_eq!(next_values(&mut edge), moved);
    let change = |edge: &mut Subscriber| {
        let mut frame = edge.expect("change");
        assert!(frame["log"][2].is_f64(), "{frame}");
        frame["log"].as_array_mut().expect("values").remove(2);
        (frame["log"].clone(), frame.get("row").cloned())
    };
    let first = json!([1, "c", null, 1, null, null, "acme"]);
    assert_eq!(
        change(&mut edge),
        (first, Some(json!([1, null, 1, null, "acme"])))
    );
    // It has another key by now.
    assert_eq!(
        change(&mut edge),
        (json!([2, "c", null, 2, null, null, "globex"]), None)
    );
    assert_eq!(
        change(&mut edge),
        (json!([3, "u", 1, 7, 2, "globex", "acme"]), Some(moved))
    );
    assert_eq!(edge.expect("live")["id"], 3);
    database.execute("DELETE FROM orders WHERE id = 7");
    assert_eq!(
        change(&mut edge),
        (json!([4, "d", null, 7, null, "acme", null]), None)
    );
}
