//! Several subscriptions over one WebSocket.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::common::multi::{MULTI, Multi};
use crate::common::subscriber::{Received, row_of};
use crate::common::{Daemon, Settings, Subscriber, id, wait_until};
use crate::raw::{TEXT, frame, send_raw};
use crate::timeouts::ATTEMPTS;

const TABLES: &str =
    "CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, note TEXT);
    CREATE TABLE news(id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT)";
const FEEDS: &str = "[feeds.orders]\n[feeds.news]\n";

fn two_feeds() -> Settings {
    Daemon::on_new_file().with_tables(TABLES).toml(FEEDS)
}

fn write_orders(daemon: &Daemon, tenant: &str, count: usize) {
    daemon.database().execute(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO orders(tenant, note) SELECT '{tenant}', printf('%040d', i) FROM n"
    ));
}

fn write_news(daemon: &Daemon, title: &str) {
    daemon
        .database()
        .execute(&format!("INSERT INTO news(title) VALUES ('{title}')"));
}

#[test]
fn each_subscription_gets_the_frames_of_one_of_its_own_in_an_envelope() {
    let walcast = two_feeds().start();
    write_orders(&walcast, "acme", 1);
    let mut own = walcast.subscribe_to("/ws/orders", "since=0");
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("a \"quoted\" name", "orders", json!({"since": 0}));
    for _ in 0..3 {
        assert_eq!(
            multi.socket.next_text(),
            format!(
                r#"{{"id":"a \"quoted\" name","message":{}}}"#,
                own.next_text()
            )
        );
    }
    write_orders(&walcast, "acme", 1);
    assert_eq!(
        multi.socket.next_text(),
        format!(
            r#"{{"id":"a \"quoted\" name","message":{}}}"#,
            own.next_text()
        )
    );
    multi.expect_nothing();
}

#[test]
fn feeds_and_filters_share_a_socket_and_count_as_subscribers() {
    let walcast = two_feeds().start();
    write_orders(&walcast, "acme", 2);
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("all", "orders", json!({"since": "earliest"}));
    multi.subscribe(
        "some",
        "orders",
        json!({"last": 1, "filters": {"tenant": ["globex", "initech"]}}),
    );
    multi.subscribe("news", "news", json!({"since": "now"}));
    assert_eq!(multi.expect("all", "hello")["feed"], "orders");
    assert_eq!(multi.rows_until("all", "live").0, [1, 2]);
    multi.expect("some", "hello");
    multi.expect("some", "live");
    assert_eq!(multi.expect("news", "hello")["feed"], "news");
    multi.expect("news", "live");
    for (feed, subscribers) in [("orders", 2.0), ("news", 1.0)] {
        let metric = format!("walcast_feed_subscribers{{feed=\"{feed}\"}}");
        assert_eq!(walcast.metric(&metric), subscribers);
    }
    assert_eq!(walcast.metric("walcast_ws_connections_active"), 1.0);
    write_orders(&walcast, "globex", 1);
    write_orders(&walcast, "acme", 1);
    write_news(&walcast, "x");
    assert_eq!(multi.next_row("news")["title"], "x");
    assert_eq!(multi.next_row("some")["id"], 3);
    assert_eq!(multi.next_row("all")["id"], 3);
    assert_eq!(multi.next_row("all")["id"], 4);
    multi.expect_nothing();
    drop(multi);
    wait_until("nobody is left", || {
        walcast.metric(r#"walcast_feed_subscribers{feed="orders"}"#) == 0.0
            && walcast.metric("walcast_ws_connections_active") == 0.0
    });
}

#[test]
fn a_subscription_resumes_where_it_was_or_is_told() {
    let walcast = two_feeds().start();
    write_orders(&walcast, "acme", 5);
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("first", "orders", json!({"since": 2}));
    let epoch = multi.expect("first", "hello")["epoch"].clone();
    assert_eq!(multi.rows_until("first", "live").0, [3, 4, 5]);
    multi.subscribe("same", "orders", json!({"since": "4", "epoch": epoch}));
    assert_eq!(multi.expect("same", "hello")["recovered"], true);
    assert_eq!(multi.rows_until("same", "live").0, [5]);
    multi.subscribe("other", "orders", json!({"since": 4, "epoch": "other"}));
    assert_eq!(multi.expect("other", "hello")["recovered"], false);
    assert_eq!(multi.rows_until("other", "live").0, [1, 2, 3, 4, 5]);
}

#[test]
fn an_unsubscribed_name_is_silent_once_its_end_was_told_and_free_again() {
    let walcast = two_feeds().start();
    write_orders(&walcast, "acme", 20_000);
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("a", "orders", json!({"since": 0}));
    multi.expect("a", "hello");
    multi.next_row("a");
    multi.subscribe("a", "orders", json!({"since": 0}));
    multi.unsubscribe("a");
    let mut refused = 0;
    let code = loop {
        let frame = multi.next_of("a");
        match frame["type"].as_str() {
            Some("error") => {
                assert_eq!(frame["error"]["code"], "id_in_use");
                refused += 1;
            }
            Some("closed") => break frame["code"].as_i64(),
            _ => assert!(row_of(&frame).is_some() || frame["type"] == "live"),
        }
    };
    assert_eq!((code, refused), (Some(1000), 1));
    multi.expect_nothing();
    assert_eq!(
        walcast.metric(r#"walcast_feed_subscribers{feed="orders"}"#),
        0.0
    );
    multi.unsubscribe("a");
    multi.unsubscribe("never");
    multi.expect_nothing();
    multi.subscribe("a", "news", json!({"since": "now"}));
    assert_eq!(multi.expect("a", "hello")["feed"], "news");
    multi.expect("a", "live");
    write_orders(&walcast, "acme", 1);
    write_news(&walcast, "x");
    assert_eq!(multi.next_row("a")["title"], "x");
    multi.expect_nothing();
}

#[test]
fn what_cannot_be_subscribed_to_is_refused_as_over_http_and_the_others_go_on() {
    let walcast = two_feeds().start();
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("good", "news", json!({"since": "now"}));
    multi.expect("good", "hello");
    multi.expect("good", "live");
    for (feed, more, code, status) in [
        ("nope", json!({"since": 0}), "not_found", 404),
        ("orders", json!({}), "bad_parameter", 400),
        (
            "orders",
            json!({"since": 0, "last": 1}),
            "bad_parameter",
            400,
        ),
        ("orders", json!({"since": "x"}), "bad_parameter", 400),
        ("orders", json!({"last": 10_001}), "bad_parameter", 400),
        (
            "orders",
            json!({"since": 0, "filters": {"nope": 1}}),
            "unknown_column",
            400,
        ),
        (
            "orders",
            json!({"since": 0, "filters": {"tenant": []}}),
            "bad_parameter",
            400,
        ),
        (
            "orders",
            json!({"since": 0, "filters": {"since": 1}}),
            "bad_parameter",
            400,
        ),
        (
            "orders",
            json!({"since": 0, "until": 1}),
            "bad_message",
            400,
        ),
        (
            "orders",
            json!({"since": 0, "filters": "tenant"}),
            "bad_message",
            400,
        ),
    ] {
        multi.subscribe("x", feed, more.clone());
        let told = multi.expect_error("x");
        assert_eq!(told, (code.to_owned(), status), "{feed} {more}");
    }
    for text in [
        "hello",
        "[]",
        r#"{"type":"subscribe"}"#,
        r#"{"type":"publish"}"#,
        r#"{"type":"subscribe","id":7,"feed":"news","since":0}"#,
    ] {
        multi.socket.send(text);
        assert_eq!(multi.expect_error(""), ("bad_message".to_owned(), 400));
    }
    send_raw(&mut multi.socket, &frame(0x82, b"binary"));
    assert_eq!(multi.expect_error(""), ("bad_message".to_owned(), 400));
    multi.subscribe(&"x".repeat(65), "news", json!({"since": 0}));
    assert_eq!(multi.expect_error(""), ("bad_message".to_owned(), 400));
    multi.socket.send(r#"{"type":"ping"}"#);
    assert_eq!(multi.socket.next_text(), r#"{"type":"pong"}"#);
    write_news(&walcast, "still there");
    assert_eq!(multi.next_row("good")["id"], 1);
    multi.expect_nothing();
}

#[test]
fn handshakes_that_are_none_are_refused_with_words() {
    let walcast = two_feeds().start();
    let plain = walcast.get("/ws");
    assert_eq!(
        (plain.status, plain.error_code()),
        (426, "upgrade_required".into())
    );
    let how = plain.error_message();
    assert!(
        how.contains("walcast.multi.v1") && !how.contains("history"),
        "{how}"
    );
    let nothing_offered = walcast.upgrade("/ws", &[]);
    assert_eq!(
        (nothing_offered.status, nothing_offered.error_code()),
        (400, "subprotocol_required".into())
    );
    let parameters = walcast.upgrade("/ws?since=0", &[MULTI]);
    assert_eq!(
        (parameters.status, parameters.error_code()),
        (400, "bad_parameter".into())
    );
    let feed = walcast.upgrade("/ws/nope", &[MULTI]);
    assert_eq!(feed.status, 404);
}

#[test]
fn a_feed_may_have_the_path_and_the_subprotocol_tells_them_apart() {
    let walcast = Daemon::on_new_file()
        .with_tables(TABLES)
        .toml("[feeds.orders]\nws = \"/ws\"\n[feeds.news]\n")
        .start();
    let mut own = walcast.subscribe_to("/ws", "since=0");
    assert_eq!(own.expect("hello")["feed"], "orders");
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("n", "news", json!({"since": 0}));
    assert_eq!(multi.expect("n", "hello")["feed"], "news");
}

#[test]
fn subscriptions_are_bounded_and_may_all_come_at_once() {
    let walcast = two_feeds().option("--max-subscriptions", "100").start();
    let mut multi = Multi::connect(&walcast);
    for round in 0..2 {
        let names = (0..100).map(|n| format!("{round}.{n}"));
        let names: Vec<String> = names.collect();
        for name in &names {
            multi.subscribe(name, "orders", json!({"since": "now"}));
        }
        for name in &names {
            multi.expect(name, "hello");
            multi.expect(name, "live");
        }
        if round == 1 {
            break;
        }
        multi.subscribe("one more", "orders", json!({"since": "now"}));
        assert_eq!(
            multi.expect_error("one more"),
            ("too_many_subscriptions".into(), 429)
        );
        // All are closed at once, and come back.
        drop(multi);
        multi = Multi::connect(&walcast);
    }
    write_orders(&walcast, "acme", 1);
    for n in 0..100 {
        assert_eq!(multi.next_row(&format!("1.{n}"))["id"], 1);
    }
}

#[test]
fn too_much_and_too_large_messages_end_the_socket() {
    let walcast = two_feeds().option("--max-subscriptions", "1").start();
    let mut large = Multi::connect(&walcast);
    send_raw(&mut large.socket, &frame(TEXT, &[b'x'; 4097]));
    large.socket.expect_close(1009);
    let mut loud = Multi::connect(&walcast);
    let ping = frame(TEXT, b"{}").repeat(200);
    send_raw(&mut loud.socket, &ping);
    let code = loop {
        match loud.socket.receive() {
            Received::Text(_) => {}
            Received::Closed(code) => break code,
        }
    };
    assert_eq!(code, Some(1008));
    let mut wrong = Multi::connect(&walcast);
    send_raw(&mut wrong.socket, &[0x81, 0x01, b'x']);
    wrong.socket.expect_close(1002);
}

#[test]
fn no_row_is_lost_doubled_or_out_of_order_however_feeds_and_clients_interleave() {
    const ROUNDS: usize = 60;
    let walcast = two_feeds().start();
    let mut random = crate::common::random::Random::new(7);
    let mut multi = Multi::connect(&walcast);
    // Name → feed, filter, the position it began after and the ids that came.
    let mut running: BTreeMap<String, (&str, Option<&str>, Vec<i64>)> = BTreeMap::new();
    let mut serial = 0;
    for _ in 0..ROUNDS {
        match random.below(5) {
            0 => write_orders(&walcast, "acme", 1 + random.below(400)),
            1 => write_orders(&walcast, "globex", 1 + random.below(40)),
            2 => write_news(&walcast, "x"),
            3 if running.len() < 12 => {
                serial += 1;
                let name = format!("s{serial}");
                let (feed, tenant) =
                    [("orders", None), ("orders", Some("globex")), ("news", None)][random.below(3)];
                let filters = tenant.map_or(json!({}), |tenant| json!({ "tenant": tenant }));
                multi.subscribe(&name, feed, json!({"since": 0, "filters": filters}));
                running.insert(name, (feed, tenant, vec![]));
            }
            _ => {
                let names: Vec<String> = running.keys().cloned().collect();
                if let Some(name) = names.get(random.below(13)) {
                    multi.unsubscribe(name);
                    let (feed, tenant, mut ids) = running.remove(name).expect("it runs");
                    let closed = take_rows(&mut multi, name, &mut ids, |frame| {
                        frame["type"] == "closed"
                    });
                    assert_eq!(closed["code"], 1000);
                    let there = ids_of(&walcast, feed, tenant);
                    assert_eq!(ids, there[..ids.len()], "{name}");
                }
            }
        }
    }
    write_orders(&walcast, "globex", 1);
    write_news(&walcast, "the last");
    for (name, (feed, tenant, mut ids)) in running {
        let there = ids_of(&walcast, feed, tenant);
        while ids.len() < there.len() {
            let frame = multi.next_of(&name);
            if let Some(row) = row_of(&frame) {
                ids.push(id(&row));
            }
        }
        assert_eq!(ids, there, "{name}");
        multi.unsubscribe(&name);
        let mut more = vec![];
        take_rows(&mut multi, &name, &mut more, |frame| {
            frame["type"] == "closed"
        });
        assert!(more.is_empty(), "{name}: {more:?}");
    }
    multi.expect_nothing();
}

/// Takes frames of a subscription up to the first that is asked for; the ids of its rows join the others.
#[track_caller]
fn take_rows(
    multi: &mut Multi,
    name: &str,
    ids: &mut Vec<i64>,
    is_last: impl Fn(&Value) -> bool,
) -> Value {
    loop {
        let frame = multi.next_of(name);
        if is_last(&frame) {
            return frame;
        }
        ids.extend(row_of(&frame).map(|row| id(&row)));
    }
}

fn ids_of(walcast: &Daemon, feed: &str, tenant: Option<&str>) -> Vec<i64> {
    let filter = tenant.map_or(String::new(), |tenant| format!("WHERE tenant = '{tenant}'"));
    let rows = walcast
        .database()
        .query(&format!("SELECT id FROM {feed} {filter} ORDER BY id"));
    rows.iter().map(id).collect()
}

#[test]
fn a_client_that_reads_nothing_costs_no_memory_delays_nobody_and_is_closed_with_4008() {
    let walcast = two_feeds()
        .option("--write-timeout", "1s")
        .option("--log-level", "debug")
        .start();
    write_orders(&walcast, "acme", 60_000);
    let is_told = (0..ATTEMPTS).any(|_| {
        let code = end_of_who_reads_nothing(&walcast);
        wait_until("it is gone", || {
            walcast.metric("walcast_ws_connections_active") == 0.0
        });
        walcast.has_told(4008, code)
    });
    assert!(is_told, "nobody is told why");
}

/// The code that a client is told which does not read before it is to be closed.
fn end_of_who_reads_nothing(walcast: &Daemon) -> Option<u16> {
    let closed = || walcast.connection_errors("write_timeout");
    let before = closed();
    let slow = Subscriber::connect_with_small_buffer(walcast.address(), "/ws", "", &[MULTI]);
    let mut slow = Multi::over(slow);
    for n in 0..20 {
        slow.subscribe(&format!("s{n}"), "orders", json!({"since": 0}));
    }
    let mut other = Multi::connect(walcast);
    other.subscribe("o", "orders", json!({"since": 0}));
    other.expect("o", "hello");
    let (ids, _) = other.rows_until("o", "live");
    assert!(ids.len() >= 60_000);
    write_orders(walcast, "acme", 1);
    assert_eq!(
        other.next_row("o")["id"].as_i64(),
        ids.last().map(|id| id + 1)
    );
    wait_until("the write timeout has struck", || closed() > before);
    slow.socket.enlarge_buffer();
    let mut rows = 0;
    loop {
        match slow.socket.receive() {
            Received::Text(_) => rows += 1,
            Received::Closed(code) => {
                assert!(rows < 20 * 60_000, "all came");
                return code;
            }
        }
    }
}

#[test]
fn a_slow_reader_gets_every_row_of_each_subscription() {
    const ROWS: usize = 8_000;
    let walcast = two_feeds().start();
    write_orders(&walcast, "acme", ROWS);
    let slow = Subscriber::connect_with_small_buffer(walcast.address(), "/ws", "", &[MULTI]);
    let mut slow = Multi::over(slow);
    slow.subscribe("a", "orders", json!({"since": 0}));
    slow.subscribe(
        "b",
        "orders",
        json!({"since": 0, "filters": {"tenant": "acme"}}),
    );
    slow.subscribe("c", "news", json!({"since": "now"}));
    slow.expect("a", "hello");
    write_orders(&walcast, "acme", ROWS);
    write_news(&walcast, "in between");
    slow.socket.enlarge_buffer();
    let wanted: Vec<i64> = (1..=2 * ROWS as i64).collect();
    for name in ["a", "b"] {
        let mut ids = vec![];
        while ids.len() < wanted.len() {
            ids.extend(row_of(&slow.next_of(name)).map(|row| id(&row)));
        }
        assert_eq!(ids, wanted, "{name}");
    }
    slow.expect("c", "hello");
    let (ids, _) = slow.rows_until("c", "live");
    let ids = match ids.is_empty() {
        true => vec![id(&slow.next_row("c"))],
        false => ids,
    };
    assert_eq!(ids, [1]);
}

#[test]
fn a_drain_says_goodbye_once_and_closes_with_1012() {
    let mut walcast = two_feeds().start();
    let mut multi = Multi::connect(&walcast);
    for name in ["a", "b"] {
        multi.subscribe(name, "orders", json!({"since": 0}));
        multi.expect(name, "hello");
        multi.expect(name, "live");
    }
    let mut idle = Multi::connect(&walcast);
    idle.expect_nothing();
    walcast.signal(libc::SIGTERM);
    for client in [&mut multi, &mut idle] {
        let goodbye = client.expect("", "goodbye");
        assert!(goodbye["reconnect_after_ms"].is_u64(), "{goodbye}");
        client.socket.expect_close(1012);
    }
    drop((multi, idle));
    assert!(walcast.wait_for_exit().success());
}

#[test]
fn a_client_that_closes_is_answered_with_its_code() {
    let walcast = two_feeds().start();
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("a", "orders", json!({"since": 0}));
    multi.expect("a", "hello");
    multi.expect("a", "live");
    send_raw(&mut multi.socket, &frame(0x88, &4321u16.to_be_bytes()));
    multi.socket.expect_close(4321);
    wait_until("it is gone", || {
        walcast.metric("walcast_ws_connections_active") == 0.0
    });
}

#[test]
fn another_history_resets_the_subscriptions_of_its_feeds() {
    let walcast = two_feeds().start();
    write_orders(&walcast, "acme", 3);
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("a", "orders", json!({"since": "now"}));
    let before = multi.expect("a", "hello")["epoch"].clone();
    multi.expect("a", "live");
    walcast.database().replace_with(|new| {
        new.execute(TABLES);
        new.execute("INSERT INTO orders(tenant) VALUES ('x')");
    });
    let mut reset = multi.next_of("a");
    while reset["type"] == "waiting" {
        reset = multi.next_of("a");
    }
    assert_eq!(
        (&reset["type"], &reset["head"]),
        (&json!("reset"), &json!(1))
    );
    assert_ne!(reset["epoch"], before);
    assert_eq!(multi.rows_until("a", "live").0, [1]);
}

#[test]
fn a_dropped_column_or_table_closes_only_what_needs_it() {
    let walcast = Daemon::on_new_file()
        .with_tables(TABLES)
        .toml("feeds = \"*\"\n")
        .start();
    let mut multi = Multi::connect(&walcast);
    for (name, feed, filters) in [
        ("filtered", "orders", json!({"tenant": "acme"})),
        ("all", "orders", json!({})),
        ("news", "news", json!({})),
    ] {
        multi.subscribe(name, feed, json!({"since": "now", "filters": filters}));
        multi.expect(name, "hello");
        multi.expect(name, "live");
    }
    let database = walcast.database();
    database.execute("ALTER TABLE orders DROP COLUMN tenant");
    assert_eq!(multi.expect_closed("filtered"), 1012);
    database.execute("INSERT INTO orders(note) VALUES ('x')");
    assert_eq!(multi.next_row("all")["id"], 1);
    database.execute("DROP TABLE orders");
    // It may come back for a while.
    multi.expect("all", "waiting");
    assert_eq!(multi.expect_closed("all"), 4504);
    multi.subscribe("all", "orders", json!({"since": 0}));
    assert_eq!(multi.expect_error("all"), ("not_found".into(), 404));
    write_news(&walcast, "x");
    assert_eq!(multi.next_row("news")["id"], 1);
    multi.expect_nothing();
}

#[test]
fn what_is_not_there_yet_is_waited_for() {
    let walcast = Daemon::on_new_file().toml(FEEDS).start();
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("a", "orders", json!({"since": 0}));
    multi.expect("a", "waiting");
    multi.expect_nothing();
    walcast.database().execute(TABLES);
    write_orders(&walcast, "acme", 1);
    let mut frame = multi.next_of("a");
    while frame["type"] == "waiting" {
        frame = multi.next_of("a");
    }
    assert_eq!(frame["type"], "hello");
    let (mut ids, _) = multi.rows_until("a", "live");
    if ids.is_empty() {
        ids.push(id(&multi.next_row("a")));
    }
    assert_eq!(ids, [1]);
}

#[test]
fn a_feed_of_changes_tells_the_table_first() {
    let walcast = Daemon::on_new_file()
        .with_tables(TABLES)
        .toml("[feeds.orders]\ncapture = \"keys\"\n[feeds.news]\n")
        .start();
    walcast
        .database()
        .execute("INSERT INTO orders(tenant) VALUES ('a'), ('b')");
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("c", "orders", json!({"since": "earliest"}));
    let hello = multi.expect("c", "hello");
    assert_eq!(
        (&hello["kind"], &hello["snapshot"]),
        (&json!("changes"), &json!(true))
    );
    let mut ops = vec![];
    loop {
        let frame = multi.next_of("c");
        if frame["type"] == "live" {
            break;
        }
        ops.push(frame["change"]["op"].as_str().expect("an op").to_owned());
    }
    assert_eq!(ops.iter().filter(|op| *op == "r").count(), 2);
    walcast
        .database()
        .execute("DELETE FROM orders WHERE id = 1");
    let change = multi.next_of("c");
    assert_eq!(change["change"]["op"], "d");
}

#[test]
fn rows_of_any_size_come_whole() {
    let walcast = two_feeds().start();
    let mut multi = Multi::connect(&walcast);
    multi.subscribe("a", "orders", json!({"since": 0}));
    multi.expect("a", "hello");
    multi.expect("a", "live");
    for length in [0, 70, 80, 90, 100, 16_300, 16_400, 65_400, 65_530, 900_000] {
        let note = "x".repeat(length);
        walcast
            .database()
            .execute(&format!("INSERT INTO orders(note) VALUES ('{note}')"));
        assert_eq!(multi.next_row("a")["note"], note.as_str(), "{length}");
    }
}
