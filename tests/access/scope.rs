//! Whoever may see only some rows sees those, all of them and no others, by every path.

use serde_json::{Value, json};

use super::office::Office;
use crate::common::{ids, wait_until};

const EVENTS: &str = "/api/feeds/orders/events";

fn fill(office: &Office) {
    office.daemon.database().execute(
        "INSERT INTO orders(customer, item, branch) VALUES
            ('acme', 'a', 1), ('globex', 'b', 1), (NULL, 'c', 1), ('ACME', 'd', 1), ('acme', 'e', 2), ('acme ', 'f', 2)",
    );
}

fn items(answer: &Value) -> Vec<i64> {
    let items = answer["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["id"].as_i64().expect("an id"))
        .collect()
}

#[test]
fn every_way_to_read_gives_a_customer_its_own_rows_and_no_others() {
    let office = Office::open();
    let (acme, globex) = (office.customer("acme"), office.customer("globex"));
    let mut plain = office.subscribe("/ws/orders", "", &acme);
    let mut other = office.subscribe("/ws/orders", "", &globex);
    fill(&office);
    assert_eq!(ids(&plain.next_rows(2)), [1, 5]);
    assert_eq!(ids(&other.next_rows(1)), [2]);
    assert!(
        plain
            .ledger()
            .iter()
            .all(|row| row.get("customer").is_none()),
        "it is not shown"
    );
    for query in ["since=earliest", "last=10", "since=0&branch=1&branch=2"] {
        let mut replayed = office.subscribe("/ws/orders", query, &acme);
        replayed.expect("hello");
        assert_eq!(replayed.rows_until("live").0, [1, 5], "{query}");
    }
    let mut narrowed = office.subscribe("/ws/orders", "since=earliest&branch=2", &acme);
    narrowed.expect("hello");
    assert_eq!(narrowed.rows_until("live").0, [5]);
    let mut events = office.event_source("/sse/orders?since=earliest", &acme);
    events.expect("hello");
    assert_eq!([events.next_row(), events.next_row()], [1, 5]);
    events.expect("live");
    for (query, found, total) in [
        ("", vec![5, 1], 2),
        ("?branch=1", vec![1], 1),
        ("?after=1&limit=1", vec![5], 2),
    ] {
        let answer = office.get(&format!("{EVENTS}{query}"), Some(&acme)).json();
        assert_eq!(
            (items(&answer), &answer["total"]),
            (found, &json!(total)),
            "{query}"
        );
    }
    let hidden = office.get(&format!("{EVENTS}?customer=globex"), Some(&acme));
    assert_eq!(
        (hidden.status, hidden.error_code()),
        (400, "unknown_column".into())
    );
    let listed = office.get("/api/feeds", Some(&acme)).json();
    let feeds = listed["feeds"].as_array().unwrap();
    assert_eq!(feeds.len(), 1);
    assert!(
        feeds[0].get("subscribers").is_none() && feeds[0]["head"] == 6,
        "{listed}"
    );
    plain.expect_nothing();
    other.expect_nothing();
}

#[test]
fn rows_that_fell_out_of_memory_are_kept_apart_too() {
    let office = Office::open();
    let (acme, globex) = (office.customer("acme"), office.customer("globex"));
    let mut slow = office.subscribe("/ws/orders", "since=now", &acme);
    slow.expect("hello");
    office.daemon.database().execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
         INSERT INTO orders(customer, item) SELECT iif(i % 2, 'acme', 'globex'), printf('%0200d', i) FROM n",
    );
    let own: Vec<i64> = (0..20_000).map(|n| 2 * n + 1).collect();
    slow.expect("live");
    assert_eq!(ids(&slow.next_rows(own.len())), own);
    for (token, first) in [(&globex, 2), (&acme, 1)] {
        let mut late = office.subscribe("/ws/orders", "since=0", token);
        late.expect("hello");
        let wanted: Vec<i64> = (0..20_000).map(|n| 2 * n + first).collect();
        assert_eq!(late.rows_until("live").0, wanted);
    }
}

#[test]
fn numbers_of_a_scope_are_integers_and_nothing_else() {
    let office = Office::open();
    let token = office.token(
        "branch",
        &[
            "--feed",
            "orders",
            "--where",
            "customer=acme",
            "--where",
            "branch=5",
        ],
    );
    office.daemon.database().execute(
        "INSERT INTO orders(customer, branch) VALUES ('acme', 5), ('acme', 5.5), ('acme', 'five'), ('acme', NULL), ('acme', 50)",
    );
    let answer = office.get(EVENTS, Some(&token)).json();
    assert_eq!((items(&answer), &answer["total"]), (vec![1], &json!(1)));
}

#[test]
fn rows_that_are_sent_are_the_senders_own() {
    let office = Office::open();
    let acme = office.customer("acme");
    let made = office.post(
        EVENTS,
        &acme,
        &json!([{"item": "x"}, {"item": "y", "branch": 2}]),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    let stored = office
        .daemon
        .database()
        .query("SELECT customer, item FROM orders");
    assert_eq!(
        stored,
        [
            json!({"customer": "acme", "item": "x"}),
            json!({"customer": "acme", "item": "y"})
        ]
    );
    // Whatever a trigger makes of it: what would be another's is not stored.
    office.daemon.database().execute(
        "CREATE TRIGGER stray AFTER INSERT ON orders WHEN new.item = 'stray'
         BEGIN UPDATE orders SET customer = 'globex' WHERE id = new.id; END",
    );
    wait_until("the trigger holds", || {
        let stray = office.post(EVENTS, &acme, &json!([{"item": "z"}, {"item": "stray"}]));
        (stray.status, stray.error_code()) == (403, "out_of_scope".into())
    });
    assert_eq!(office.orders_stored(), 2);
}

#[test]
fn a_feed_whose_scope_column_is_gone_is_not_served_until_it_is_back() {
    let office = Office::open();
    let acme = office.customer("acme");
    fill(&office);
    assert_eq!(office.get(EVENTS, Some(&acme)).json()["total"], 2);
    let database = office.daemon.database();
    database.execute("ALTER TABLE orders RENAME COLUMN customer TO client");
    wait_until("the feed is not served", || {
        office.upgrade_status(&acme) == 503
    });
    let answer = office.get(EVENTS, Some(&acme));
    assert_eq!(answer.status, 503, "{}", answer.text());
    database.execute("ALTER TABLE orders RENAME COLUMN client TO customer");
    wait_until("it is back", || {
        let answer = office.get(EVENTS, Some(&acme));
        answer.status == 200 && answer.json()["total"] == 2
    });
}

#[test]
fn a_customer_can_not_replace_a_row_of_another_by_the_tables_own_rule() {
    let office = Office::open();
    let acme = office.customer("acme");
    let database = office.daemon.database();
    database.execute(
        "DROP TABLE orders;
         CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT, item TEXT UNIQUE ON CONFLICT REPLACE, branch INTEGER);
         INSERT INTO orders(customer, item) VALUES ('globex', 'taken')",
    );
    let post = |item: &str| office.post(EVENTS, &acme, &json!({"item": item}));
    wait_until("the new table is served", || post("free").status == 201);
    let refused = post("taken");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("orders.item"), "{}", refused.text());
    let kept = "SELECT count(*) FROM orders WHERE item = 'taken' AND customer = 'globex'";
    assert_eq!(database.number(kept), 1);
}
