//! Pages of history: their order, filters and totals.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::common::database::{self, STOCK_SCHEMA};
use crate::common::{
    Daemon, Database, STOCK_EVENTS, STOCK_HISTORY, StopAtEnd, directory, ids, wait_until,
};

fn item_ids(history: &Value) -> Vec<i64> {
    let items = history["items"].as_array().expect("items are an array");
    ids(items)
}

#[test]
fn history_is_newest_first_and_pages_in_both_directions() {
    let walcast = Daemon::start_new();
    walcast.database().insert_many(600);
    let newest = |query: &str| walcast.get(&format!("{STOCK_EVENTS}{query}")).json();
    let descending = |from: i64, to: i64| (to..=from).rev().collect::<Vec<_>>();
    for (query, ids) in [
        ("", descending(600, 501)),
        ("?limit=1", vec![600]),
        ("?limit=500", descending(600, 101)),
        ("?limit=3&before=10", vec![9, 8, 7]),
        ("?before=3", vec![2, 1]),
        ("?before=1", vec![]),
        ("?limit=3&after=10", vec![13, 12, 11]),
        ("?limit=3&after=598", vec![600, 599]),
        ("?after=600", vec![]),
        ("?limit=2&after=10&before=20", vec![19, 18]),
        ("?after=10&before=13", vec![12, 11]),
        ("?after=13&before=10", vec![]),
    ] {
        let history = newest(query);
        assert_eq!(item_ids(&history), ids, "{query}");
        assert_eq!(history["total"], 600, "{query}");
        assert_eq!(history["head"], 600, "{query}");
        assert!(history["epoch"].is_string() && history.get("total_is_capped").is_none());
        assert!(history.get("truncated").is_none());
    }
}

#[test]
fn history_is_filtered_and_counts_what_matches() {
    let walcast = Daemon::start_new();
    for tenant in ["a", "b", "a", "c", "a"] {
        walcast.database().insert_for(tenant, "");
    }
    for (query, ids, total) in [
        ("tenant=a", vec![5, 3, 1], 3),
        ("tenant=a&tenant=c&limit=2", vec![5, 4], 4),
        ("tenant=a&id=3", vec![3], 1),
        ("tenant=a&before=5&limit=1", vec![3], 3),
        ("tenant=nobody", vec![], 0),
    ] {
        let history = walcast.get(&format!("{STOCK_HISTORY}?{query}")).json();
        assert_eq!(item_ids(&history), ids, "{query}");
        assert_eq!(history["total"], total, "{query}");
        assert_eq!(history["head"], 5, "{query}");
    }
}

#[test]
fn the_alias_gives_the_columns_of_the_table_and_nothing_else() {
    let walcast = Daemon::start_new();
    walcast.database().execute(
        "INSERT INTO remediation_events VALUES (7, 't', 'HighCPU', NULL, 'restart', 'success', 'd')",
    );
    let history = walcast.get(STOCK_HISTORY);
    assert_eq!(history.header("Content-Type"), Some("application/json"));
    let text = history.text();
    assert!(
        text.starts_with(r#"{"items":[{"id":7,"ts":"t","alertname":"HighCPU","tenant":null,"action":"restart","status":"success","details":"d"}],"total":1,"#),
        "{text}"
    );
}

#[test]
fn totals_are_exact_up_to_ten_thousand_and_capped_above() {
    let walcast = Daemon::start_new();
    walcast.database().insert_many(10_000);
    let exact = walcast.get(STOCK_HISTORY).json();
    assert_eq!(exact["total"], 10_000);
    assert_eq!(exact.get("total_is_capped"), None);
    walcast.database().insert_for("acme", "one more");
    walcast.database().insert_for("other", "of few");
    let capped = walcast.get(STOCK_HISTORY).json();
    assert_eq!(capped["total"], 10_000);
    assert_eq!(capped["total_is_capped"], true);
    let few = walcast.get(&format!("{STOCK_HISTORY}?tenant=other")).json();
    assert_eq!(
        (&few["total"], few.get("total_is_capped")),
        (&json!(1), None)
    );
}

#[test]
fn bad_parameters_of_history_are_named() {
    let walcast = Daemon::start_new();
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        ("limit=1&limit=2", "limit"),
        ("before=x", "before"),
        ("before=1&before=2", "before"),
        ("after=", "after"),
        ("since=5", "since"),
        ("last=5", "last"),
        ("nope=1", "nope"),
        ("tenant", "tenant"),
    ] {
        for path in [STOCK_EVENTS, STOCK_HISTORY] {
            let response = walcast.get(&format!("{path}?{query}"));
            assert_eq!(response.status, 400, "{query}");
            let message = response.error_message();
            assert!(message.contains(name), "{query}: {message}");
        }
    }
}

#[test]
fn a_missing_file_or_table_has_an_empty_history() {
    for create_file in [false, true] {
        let dir = directory();
        if create_file {
            Database::within(dir.path()).execute("CREATE TABLE other(id INTEGER PRIMARY KEY)");
        }
        let walcast = Daemon::on(dir.path()).stock_feed("create = false").start();
        for path in [
            STOCK_HISTORY,
            STOCK_EVENTS,
            "/ops/remediate/history?tenant=acme",
        ] {
            let history = walcast.get(path);
            assert_eq!(history.status, 200);
            let history = history.json();
            assert_eq!(
                (&history["items"], &history["total"]),
                (&json!([]), &json!(0))
            );
            assert_eq!(history["head"], 0);
        }
        walcast.database().execute(STOCK_SCHEMA);
        walcast.database().insert("the first");
        wait_until("history has the row", || {
            walcast.get(STOCK_HISTORY).json()["total"] == 1
        });
    }
}

#[test]
fn the_head_of_history_is_never_below_its_rows() {
    let walcast = Daemon::start_new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let connection = walcast.database().connect();
            connection
                .pragma_update(None, "synchronous", "NORMAL")
                .expect("a pragma");
            while !stop.load(Ordering::Relaxed) {
                database::insert(&connection, "acme", "");
            }
        });
        let _stop_at_end = StopAtEnd(&stop);
        let below = (0..200).find_map(|_| {
            let history = walcast.get("/ops/remediate/history?limit=1").json();
            (history["items"][0]["id"].as_i64() > history["head"].as_i64()).then_some(history)
        });
        assert_eq!(below, None);
    });
}
