//! Scopes and tokens hold at an edge as they do at the origin.

use serde_json::json;

use super::pair::{GuardedPair, guarded_pair, token_file, url};
use crate::common::secrets::add_token;
use crate::common::{Daemon, Settings, Subscriber, wait_until};

const ORDERS: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, item TEXT)";

fn rows_of(daemon: &Daemon, token: &str) -> Vec<serde_json::Value> {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let mut subscriber =
        Subscriber::connect_with(daemon.address(), "/ws/orders", "since=earliest", &headers);
    subscriber.expect("hello");
    subscriber.rows_until("live");
    subscriber.ledger().to_vec()
}

#[test]
fn scopes_and_tokens_hold_at_an_edge_as_at_its_origin() {
    let GuardedPair {
        origin,
        edge,
        edge_token,
        acme,
        unlimited,
        ..
    } = &guarded_pair(ORDERS, "");
    origin.database().execute(
        "INSERT INTO orders(customer, item) VALUES ('acme', 'a'), ('globex', 'b'), ('acme', 'c')",
    );
    wait_until("the edge has the rows", || {
        edge.database().number("SELECT count(*) FROM orders") == 3
    });
    let rows = json!([{"id": 1, "item": "a"}, {"id": 3, "item": "c"}]);
    assert_eq!(json!(rows_of(edge, acme)), rows);
    assert_eq!(rows_of(edge, acme), rows_of(origin, acme));
    assert_eq!(edge.get("/api/feeds/orders/events").status, 401);
    for daemon in [origin, edge] {
        let bearer = format!("Bearer {unlimited}");
        let headers = [("Authorization", bearer.as_str())];
        let refused = daemon.request("GET", "/api/feeds/orders/events", &headers, b"");
        assert_eq!(
            (refused.status, refused.error_code()),
            (401, "claim_missing".into())
        );
    }
    // What an edge is fed by is as good at another edge of it.
    assert_eq!(rows_of(edge, edge_token).len(), 3);
}

#[test]
fn a_token_that_is_not_an_edges_is_named_and_a_good_one_taken_when_it_comes() {
    let directory = crate::common::directory();
    let tokens = directory.path().join("tokens.toml");
    let reader = add_token(&tokens, &["reader", "--feed", "orders"]);
    let good = add_token(&tokens, &["edge", "--edge", "--feed", "orders"]);
    let counter = add_token(&tokens, &["counter", "--metrics"]);
    let origin = Settings::on(directory.path())
        .with_tables(ORDERS)
        .metrics_by(counter)
        .toml(format!("[auth]\ntokens = {tokens:?}\n[feeds.orders]\n"))
        .start();
    origin
        .database()
        .execute("INSERT INTO orders(item) VALUES ('a')");
    let at_edge = crate::common::directory();
    let edge = Settings::on(at_edge.path())
        .edge_of(url(&origin))
        .option("--token-file", token_file(&at_edge, &reader))
        .start();
    edge.wait_for_log("--edge");
    token_file(&at_edge, &good);
    wait_until("the feed is served", || {
        edge.get("/api/feeds/orders/events").status == 200
    });
}
