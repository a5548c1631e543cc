//! An edge serves what its origin does: the same rows, paths, frames, epochs and heads.

use serde_json::json;

use super::pair::{edge_of, epoch, pair, replayed, url};
use crate::common::{Daemon, STOCK_HISTORY, Settings, assert_ledger, wait_until};

#[test]
fn what_is_there_and_what_comes_is_served_as_at_the_origin() {
    let origin = Daemon::start_new();
    let head = origin.fill(3000);
    let edge = edge_of(&origin).start();
    edge.wait_until_ready();
    assert_eq!(epoch(&edge), epoch(&origin));
    let mut at_edge = edge.subscribe("since=earliest");
    let mut at_origin = origin.subscribe("since=earliest");
    assert_eq!(at_edge.expect("hello"), at_origin.expect("hello"));
    assert_eq!(at_edge.replay(), at_origin.replay());
    let mut plain = edge.subscribe("");
    plain.expect_nothing();
    for n in 0..20 {
        let id = origin.database().insert(&format!("row {n}"));
        assert_eq!(plain.next_row()["id"], id);
        assert_eq!(at_edge.next_row(), at_origin.next_row());
    }
    let last = origin.database().insert_many(5000);
    at_edge.rows_to(last);
    at_origin.rows_to(last);
    assert_ledger(at_edge.ledger(), at_origin.ledger());
    assert_eq!(last, head + 5020);
    let mut stream = edge.event_source("/sse/remediation?last=2", &[]);
    stream.expect("hello");
    assert_eq!(stream.next_row(), last - 1);
    assert_eq!(
        edge.get(STOCK_HISTORY).json(),
        origin.get(STOCK_HISTORY).json()
    );
}

#[test]
fn paths_messages_columns_and_values_are_those_of_the_origin() {
    let origin = Settings::on_new_file()
        .with_tables(
            "CREATE TABLE orders(id INTEGER PRIMARY KEY, items JSON, note VARCHAR(20), card TEXT, raw BLOB, n REAL);
             CREATE TABLE audit(at TEXT, seq INT UNIQUE NOT NULL, what ANY) STRICT;
             CREATE TABLE bare(text TEXT);",
        )
        .toml(
            "[feeds.orders]\njson = [\"items\"]\ntruncate = { note = 3 }\nexclude = [\"card\"]\n\
             ws = [\"/ws/orders\", \"/live\"]\nhistory = \"/orders/history\"\nmessage = { type = \"order\", body = \"row\" }\n\
             [feeds.again]\ntable = \"orders\"\n[feeds.audit]\nkey = \"seq\"\n[feeds.bare]\nkey = \"rowid\"\n",
        )
        .start();
    origin.database().execute(
        "INSERT INTO orders(items, note, card, raw, n) VALUES
            ('{\"a\": [1]}', 'longer', 'secret', x'00ff', 9e999), ('no json', NULL, NULL, NULL, 1.0);
         INSERT INTO audit VALUES ('now', 7, '123'), ('then', 9, 5), ('last', 9007199254740995, x'01');
         INSERT INTO bare VALUES ('a'), (CAST(x'61ff' AS TEXT));",
    );
    let edge = edge_of(&origin).start();
    edge.wait_until_ready();
    for path in ["/ws/orders", "/live", "/ws/again", "/ws/audit", "/ws/bare"] {
        let frames = |daemon: &Daemon| {
            let mut subscriber = daemon.subscribe_to(path, "since=earliest");
            let mut frames = vec![];
            while frames
                .last()
                .is_none_or(|frame: &String| !frame.contains("\"live\""))
            {
                frames.push(subscriber.next_text());
            }
            frames
        };
        let at_origin = frames(&origin);
        assert!(at_origin.len() > 3, "{at_origin:?}");
        assert_eq!(frames(&edge), at_origin, "{path}");
    }
    let listed = |daemon: &Daemon| {
        let feeds = daemon.get("/api/feeds").json()["feeds"].clone();
        let mut feeds: Vec<serde_json::Value> = feeds.as_array().expect("a list").clone();
        feeds.sort_by_key(|feed| feed["name"].to_string());
        for feed in &mut feeds {
            // One of two feeds of a table has another one at an edge.
            feed["table"] = json!(null);
            // The edge is a subscriber itself.
            feed["subscribers"] = json!(null);
        }
        feeds
    };
    assert_eq!(listed(&edge), listed(&origin));
    let filtered = "/api/feeds/audit/events?what=123";
    assert_eq!(edge.get(filtered).json(), origin.get(filtered).json());
    assert_eq!(edge.get(filtered).json()["total"], 1);
    assert_eq!(edge.get("/orders/history").status, 200);
    let post = |daemon: &Daemon| daemon.post("/api/feeds/orders/events", &json!({"note": "x"}));
    assert_eq!(post(&edge).text(), post(&origin).text());
}

#[test]
fn edges_feed_edges() {
    let (origin, first) = pair();
    let second = edge_of(&first).start();
    second.wait_until_ready();
    let mut subscriber = second.subscribe_live();
    let last = origin.database().insert_many(500);
    subscriber.rows_to(last);
    assert_eq!(epoch(&second), epoch(&origin));
    assert_ledger(subscriber.ledger(), &replayed_rows(&origin));
}

fn replayed_rows(daemon: &Daemon) -> Vec<serde_json::Value> {
    let (subscriber, _) = replayed(daemon, "since=earliest");
    subscriber.ledger().to_vec()
}

#[test]
fn columns_that_come_and_tables_that_come_and_go_reach_an_edge() {
    let origin = Settings::on_new_file()
        .with_tables("CREATE TABLE orders(id INTEGER PRIMARY KEY, note TEXT)")
        .toml("feeds = \"*\"\n")
        .start();
    let edge = edge_of(&origin).start();
    edge.wait_until_ready();
    let mut subscriber = edge.subscribe_to("/ws/orders", "since=now");
    subscriber.expect("hello");
    subscriber.expect("live");
    let database = origin.database();
    database.execute("INSERT INTO orders(note) VALUES ('a')");
    assert_eq!(subscriber.next_row(), json!({"id": 1, "note": "a"}));
    database
        .execute("ALTER TABLE orders ADD COLUMN size INTEGER; INSERT INTO orders(size) VALUES (5)");
    assert_eq!(
        subscriber.next_row(),
        json!({"id": 2, "note": null, "size": 5})
    );
    database.execute("ALTER TABLE orders RENAME COLUMN note TO remark");
    database.execute("INSERT INTO orders(remark) VALUES ('b')");
    let row = loop {
        // The table is had anew, which is waited for.
        if let Some(frame) = subscriber.next_row_or_frame() {
            assert!(
                ["waiting", "hello", "live"].contains(&frame["type"].as_str().unwrap_or("")),
                "{frame}"
            );
        } else {
            break subscriber.ledger().last().expect("a row came").clone();
        }
    };
    assert_eq!(row, json!({"id": 3, "remark": "b", "size": null}));
    let mut again = edge.subscribe_to("/ws/orders", "since=earliest");
    again.expect("hello");
    assert_eq!(
        again.next_row(),
        json!({"id": 1, "remark": "a", "size": null})
    );
    database.execute("CREATE TABLE more(id INTEGER PRIMARY KEY); INSERT INTO more VALUES (1)");
    wait_until("the new feed is served", || {
        edge.get("/api/feeds/more/events").status == 200
    });
    database.execute("DROP TABLE more");
    wait_until("the dropped feed is gone", || {
        edge.get("/api/feeds/more/events").status == 404
    });
}

#[test]
fn an_edge_of_what_does_not_answer_waits_for_it_and_says_so() {
    let origin = Daemon::start_new();
    origin.fill(3);
    let address = url(&origin);
    let settings = origin.stop();
    let edge = Settings::on_new_file().edge_of(address).start();
    let refused = edge.get("/api/feeds/remediation/events");
    assert_eq!(refused.status, 503, "{}", refused.text());
    edge.wait_for_log("does not answer");
    let origin = settings.start();
    wait_until("the feed is served", || {
        edge.get("/api/feeds/remediation/events").json()["total"] == 3
    });
    drop(origin);
}

#[test]
fn what_is_no_edge_says_what_to_give() {
    let run = |args: &[&str]| {
        let output = crate::common::settings::program()
            .args(args)
            .current_dir(std::env::temp_dir())
            .output()
            .expect("walcast can be run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = run(&["edge"]);
    assert!(code == Some(2) && said.contains("--upstream"), "{said}");
    let (code, said) = run(&["edge", "--upstream", "wss://h/ws/orders"]);
    assert!(
        code == Some(2) && said.contains("--upstream") && said.contains("wss://feeds.example.com"),
        "{said}"
    );
    let (code, said) = run(&["edge", "--upstream", "ws://127.0.0.1:1", "--db", "x.db"]);
    assert!(
        code == Some(2) && said.contains("--spool") || said.contains("edge.spool"),
        "{said}"
    );
    let (code, said) = run(&["edge", "--upstream", "ws://127.0.0.1:1", "--ca", "x.pem"]);
    assert!(code == Some(1) && said.contains("https and wss"), "{said}");
}
