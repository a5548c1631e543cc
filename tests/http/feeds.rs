//! What the list of feeds says.

use serde_json::{Value, json};

use crate::common::database::STOCK_COLUMNS;
use crate::common::{Daemon, STOCK_EVENTS, STOCK_FEED, STOCK_HISTORY, STOCK_SSE, wait_until};

#[test]
fn feeds_say_what_they_are_and_where() {
    let walcast = Daemon::start_new();
    let feed = || walcast.feed();
    let empty = feed();
    assert_eq!(
        (&empty["head"], &empty["earliest"]),
        (&json!(0), &Value::Null)
    );
    // In one transaction: the head is the highest id given, also where nobody could see that row.
    walcast.database().execute(
        "BEGIN; INSERT INTO remediation_events(ts) VALUES ('a'), ('b'), ('c');
         DELETE FROM remediation_events WHERE id IN (1, 3); COMMIT",
    );
    let subscriber = walcast.subscribe("");
    let full = feed();
    for (key, value) in [
        ("name", json!("remediation")),
        ("table", json!("remediation_events")),
        ("key", json!("id")),
        ("columns", json!(STOCK_COLUMNS)),
        (
            "types",
            json!({"id": "INTEGER", "ts": "TEXT", "alertname": "TEXT", "tenant": "TEXT", "action": "TEXT", "status": "TEXT", "details": "TEXT"}),
        ),
        ("epoch", empty["epoch"].clone()),
        ("head", json!(3)),
        ("earliest", json!(2)),
        ("subscribers", json!(1)),
        ("ws", json!([STOCK_FEED])),
        ("sse", json!(STOCK_SSE)),
        ("events", json!(STOCK_EVENTS)),
        ("history", json!([STOCK_HISTORY])),
    ] {
        assert_eq!(full[key], value, "{key} of {full}");
    }
    assert!(
        full["epoch"]
            .as_str()
            .is_some_and(|epoch| !epoch.is_empty())
    );
    drop(subscriber);
    wait_until("the subscriber is gone", || feed()["subscribers"] == 0);
}
