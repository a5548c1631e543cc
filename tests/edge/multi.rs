//! Several feeds of an edge over one WebSocket.

use serde_json::json;

use super::older::pruned_pair;
use super::pair::{edge_of, guarded_pair};
use crate::common::multi::{MULTI, Multi};
use crate::common::{Settings, Subscriber, wait_until};

const TABLES: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT);
    CREATE TABLE news(id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT)";

#[test]
fn subscriptions_go_on_at_an_edge_where_they_were_at_its_origin() {
    let origin = Settings::on_new_file()
        .with_tables(TABLES)
        .toml("[feeds.orders]\n[feeds.news]\n")
        .start();
    let edge = edge_of(&origin).start();
    edge.wait_until_ready();
    let write = |sql: &str| origin.database().execute(sql);
    write("INSERT INTO orders(tenant) VALUES ('acme'), ('globex'), ('acme')");
    write("INSERT INTO news(title) VALUES ('first')");
    let mut there = Multi::connect(&origin);
    there.subscribe("a", "orders", json!({"since": 0}));
    there.subscribe("b", "news", json!({"last": 1}));
    let epochs = ["a", "b"].map(|id| there.expect(id, "hello")["epoch"].clone());
    assert_eq!(there.rows_until("a", "live").0, [1, 2, 3]);
    assert_eq!(there.rows_until("b", "live").0, [1]);
    drop(there);
    write("INSERT INTO orders(tenant) VALUES ('globex'), ('acme')");

    wait_until("the edge has the rows", || {
        let all = "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM news)";
        edge.database().number(all) == 6
    });
    let mut here = Multi::connect(&edge);
    here.subscribe(
        "a",
        "orders",
        json!({"since": 3, "epoch": epochs[0], "filters": {"tenant": "acme"}}),
    );
    here.subscribe("b", "news", json!({"since": 1, "epoch": epochs[1]}));
    here.subscribe("c", "news", json!({"since": 1, "epoch": "another"}));
    for (id, recovered) in [("a", true), ("b", true), ("c", false)] {
        assert_eq!(here.expect(id, "hello")["recovered"], recovered, "{id}");
    }
    assert_eq!(here.rows_until("a", "live").0, [5]);
    assert_eq!(here.rows_until("b", "live").0, Vec::<i64>::new());
    assert_eq!(here.rows_until("c", "live").0, [1]);
    write("INSERT INTO news(title) VALUES ('second')");
    write("INSERT INTO orders(tenant) VALUES ('acme')");
    assert_eq!(here.next_row("b")["title"], "second");
    assert_eq!(here.next_row("c")["id"], 2);
    assert_eq!(here.next_row("a")["id"], 6);
    here.expect_nothing();
    assert_eq!(edge.metric("walcast_ws_connections_active"), 1.0);
}

#[test]
fn rows_older_than_the_spool_come_in_turn_with_others() {
    let (origin, edge, head) = pruned_pair();
    let mut multi = Multi::connect(&edge);
    multi.subscribe("old", "remediation", json!({"since": 5}));
    multi.subscribe("new", "remediation", json!({"since": "now"}));
    assert_eq!(multi.expect("old", "hello")["recovered"], true);
    multi.expect("new", "hello");
    multi.expect("new", "live");
    assert_eq!(
        multi.rows_until("old", "live").0,
        (6..=head).collect::<Vec<_>>()
    );
    let id = origin.database().insert("after");
    for name in ["old", "new"] {
        assert_eq!(multi.next_row(name)["id"], id);
    }
}

#[test]
fn scopes_hold_for_each_subscription() {
    let table = "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, item TEXT)";
    let pair = guarded_pair(table, "");
    pair.origin.database().execute(
        "INSERT INTO orders(customer, item) VALUES ('acme', 'a'), ('globex', 'a'), ('acme', 'b')",
    );
    wait_until("the edge has the rows", || {
        pair.edge.database().number("SELECT count(*) FROM orders") == 3
    });
    let bearer = format!("Bearer {}", pair.acme);
    let headers = [MULTI, ("Authorization", bearer.as_str())];
    let socket = Subscriber::connect_with(pair.edge.address(), "/ws", "", &headers);
    let mut multi = Multi::over(socket);
    multi.subscribe("all", "orders", json!({"since": 0}));
    multi.subscribe("a", "orders", json!({"since": 0, "filters": {"item": "a"}}));
    multi.subscribe("other", "news", json!({"since": 0}));
    for (id, rows) in [("all", vec![1, 3]), ("a", vec![1])] {
        multi.expect(id, "hello");
        assert_eq!(multi.rows_until(id, "live").0, rows, "{id}");
    }
    assert_eq!(multi.expect_error("other").1, 404);
}
