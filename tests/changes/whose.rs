//! Filters and scopes decide on what a row was and on what it is.

use serde_json::json;
use walcast::config::CaptureMode::{Full, Keys};

use crate::common::secrets::add_token;
use crate::common::{Subscriber, directory};
use crate::scenes::{ORDERS, captured, follow_live, next_change, orders};

const SCOPE: &str = "scope = { tenant = \"claim:tenant\" }";

#[test]
fn a_row_comes_into_a_filter_and_leaves_it() {
    for mode in [Keys, Full] {
        let walcast = orders(mode, &["tenant"]);
        let database = walcast.database();
        let (mut acme, _) = follow_live(&walcast, "since=now&tenant=acme");
        database.execute("INSERT INTO orders VALUES (1, 'globex', 1, NULL)");
        database.execute("UPDATE orders SET tenant = 'acme'");
        let row = json!({"id": 1, "tenant": "acme", "total": 1.0, "note": null});
        // What it was is none of theirs.
        let entered = json!({"op": "u", "key": {"id": 1}, "after": row});
        assert_eq!(next_change(&mut acme), entered);
        database.execute("UPDATE orders SET tenant = 'globex', id = 2");
        let left = json!({"op": "d", "key": {"id": 1}, "left": true});
        assert_eq!(next_change(&mut acme), left);
        database.execute("DELETE FROM orders");
        acme.expect_nothing();
        let history = walcast.get("/api/feeds/orders/events?tenant=globex").json();
        let ops = history["items"].as_array().unwrap().iter();
        let ops: Vec<_> = ops
            .map(|item| (&item["op"], item.get("left").is_some()))
            .collect();
        let (d, u, c) = (json!("d"), json!("u"), json!("c"));
        match mode {
            Full => assert_eq!(ops, [(&d, false), (&u, false), (&d, true), (&c, false)]),
            // Of rows that are gone nothing can be shown.
            Keys => assert_eq!(ops, [(&d, false), (&d, true)]),
        }
    }
}

#[test]
fn a_key_that_its_collation_takes_for_another_is_another() {
    let tables = "CREATE TABLE orders(tenant TEXT COLLATE NOCASE, id INT, note TEXT, PRIMARY KEY(tenant COLLATE BINARY, id));
         CREATE TABLE other(id INTEGER PRIMARY KEY)";
    let walcast = captured(tables, "orders", Keys, &[], "");
    let database = walcast.database();
    let (mut acme, _) = follow_live(&walcast, "since=now&tenant=acme");
    database.execute("INSERT INTO orders VALUES ('ACME', 1, 'theirs'), ('acme', 1, 'mine')");
    let row = json!({"tenant": "acme", "id": 1, "note": "mine"});
    let key = json!({"tenant": "acme", "id": 1});
    assert_eq!(
        next_change(&mut acme),
        json!({"op": "c", "key": key, "after": row})
    );
    database.execute("DELETE FROM orders WHERE tenant = 'acme' COLLATE BINARY");
    assert_eq!(next_change(&mut acme), json!({"op": "d", "key": key}));
    acme.expect_nothing();
    let history = walcast.get("/api/feeds/orders/events?tenant=acme").text();
    assert!(!history.contains("theirs"), "{history}");
}

#[test]
fn a_filter_on_what_is_not_recorded_is_refused_and_says_what_is() {
    let walcast = orders(Keys, &["tenant"]);
    let refused = walcast.refused_upgrade("/ws/orders?note=x");
    assert_eq!(
        (refused.status, &*refused.error_code()),
        (400, "unknown_column")
    );
    let message = refused.error_message();
    assert!(message.contains("there are id, tenant"), "{message}");
    assert!(message.contains("capture_filters"), "{message}");
    assert_eq!(walcast.get("/api/feeds/orders/events?total=1").status, 400);
    assert_eq!(walcast.get("/api/feeds/orders/events?id=1").status, 200);
    let full = orders(Full, &[]);
    assert_eq!(full.get("/api/feeds/orders/events?note=x").status, 200);
}

#[test]
fn whoever_is_kept_to_their_own_rows_learns_nothing_of_others() {
    for mode in [Keys, Full] {
        let directory = directory();
        let tokens = directory.path().join("tokens.toml");
        let token = add_token(
            &tokens,
            &["acme", "--feed", "orders", "--where", "tenant=acme"],
        );
        let keys = format!("{SCOPE}\nexclude = [\"tenant\"]\n[auth]\ntokens = {tokens:?}");
        let walcast = captured(ORDERS, "orders", mode, &["tenant"], &keys);
        let database = walcast.database();
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", &*bearer)];
        database.execute("INSERT INTO orders VALUES (1, 'acme', 1, 'a'), (2, 'globex', 2, 'b'), (3, NULL, 3, 'c')");
        let mut acme =
            Subscriber::connect_with(walcast.address(), "/ws/orders", "since=earliest", &headers);
        acme.expect("hello");
        let row = json!({"id": 1, "total": 1.0, "note": "a"});
        assert_eq!(
            acme.next_row(),
            json!({"op": "r", "key": {"id": 1}, "after": row})
        );
        acme.expect("live");
        database.execute("UPDATE orders SET note = 'secret', id = id + 10 WHERE id > 1");
        database.execute("UPDATE orders SET tenant = 'acme' WHERE id = 12");
        let row = json!({"id": 12, "total": 2.0, "note": "secret"});
        assert_eq!(
            next_change(&mut acme),
            json!({"op": "u", "key": {"id": 12}, "after": row})
        );
        database.execute("UPDATE orders SET tenant = NULL, id = 20 WHERE id = 12");
        assert_eq!(
            next_change(&mut acme),
            json!({"op": "d", "key": {"id": 12}, "left": true})
        );
        database.execute("DELETE FROM orders WHERE id <> 1");
        acme.expect_nothing();
        let history = walcast.request("GET", "/api/feeds/orders/events", &headers, b"");
        let text = history.text();
        // Of a row that is gone by now there is nothing to show.
        let told = if mode == Full { 3 } else { 2 };
        assert_eq!(history.json()["total"], told, "{text}");
        assert!(
            !text.contains("globex") && !text.contains("\"id\":2}"),
            "{text}"
        );
        // Filters are no way around it.
        let refused = walcast.request(
            "GET",
            "/api/feeds/orders/events?tenant=globex",
            &headers,
            b"",
        );
        assert_eq!(refused.status, 400);
    }
}

#[test]
fn a_scope_on_what_is_not_recorded_is_refused_with_the_remedy() {
    let directory = directory();
    let tokens = directory.path().join("tokens.toml");
    let token = add_token(
        &tokens,
        &["acme", "--feed", "orders", "--where", "tenant=acme"],
    );
    let keys = format!("{SCOPE}\n[auth]\ntokens = {tokens:?}");
    let walcast = captured(ORDERS, "orders", Keys, &[], &keys);
    let bearer = format!("Bearer {token}");
    let refused = walcast.upgrade("/ws/orders", &[("Authorization", &bearer)]);
    assert_eq!(refused.status, 503);
    let message = refused.error_message();
    assert!(
        message.contains("capture_filters") && message.contains("tenant"),
        "{message}"
    );
}
