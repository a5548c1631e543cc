//! Feeds, history, ingest, health, metrics and server-sent events, as clients of HTTP see them.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::database::{self, STOCK_SCHEMA};
use common::http;
use common::wait::pause;
use common::{Daemon, Database, PATIENCE, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::Message;

const EVENTS: &str = "/api/feeds/remediation/events";
const HISTORY: &str = "/ops/remediate/history";

/// The stock feed as a file has to spell it out to change one thing of it.
const STOCK: &str = "[feeds.remediation]
table = \"remediation_events\"
ws = \"/ws/remediation\"
history = \"/ops/remediate/history\"
message = { type = \"remediation_event\", body = \"event\" }
";

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

fn stock_with(key: &str) -> String {
    format!("{STOCK}{key}\n")
}

fn ingesting(directory: &Path) -> Daemon {
    Daemon::on(directory)
        .toml(stock_with("create = true\ningest = true"))
        .start()
}

fn item_ids(history: &Value) -> Vec<i64> {
    let items = history["items"].as_array().expect("items are an array");
    common::ids(items)
}

// --- feeds and history ---

#[test]
fn feeds_say_what_they_are_and_where() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let feed = || walcast.get("/api/feeds").json()["feeds"][0].take();
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
        (
            "columns",
            json!([
                "id",
                "ts",
                "alertname",
                "tenant",
                "action",
                "status",
                "details"
            ]),
        ),
        ("epoch", empty["epoch"].clone()),
        ("head", json!(3)),
        ("earliest", json!(2)),
        ("subscribers", json!(1)),
        ("ws", json!(["/ws/remediation"])),
        ("sse", json!("/sse/remediation")),
        ("events", json!(EVENTS)),
        ("history", json!([HISTORY])),
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

#[test]
fn history_is_newest_first_and_pages_in_both_directions() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert_many(600);
    let newest = |query: &str| walcast.get(&format!("{EVENTS}{query}")).json();
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
    let dir = directory();
    let walcast = Daemon::start(dir.path());
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
        let history = walcast.get(&format!("{HISTORY}?{query}")).json();
        assert_eq!(item_ids(&history), ids, "{query}");
        assert_eq!(history["total"], total, "{query}");
        assert_eq!(history["head"], 5, "{query}");
    }
}

#[test]
fn the_alias_gives_the_columns_of_the_table_and_nothing_else() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().execute(
        "INSERT INTO remediation_events VALUES (7, 't', 'HighCPU', NULL, 'restart', 'success', 'd')",
    );
    let history = walcast.get(HISTORY);
    assert_eq!(history.header("Content-Type"), Some("application/json"));
    let text = history.text();
    assert!(
        text.starts_with(r#"{"items":[{"id":7,"ts":"t","alertname":"HighCPU","tenant":null,"action":"restart","status":"success","details":"d"}],"total":1,"#),
        "{text}"
    );
}

#[test]
fn head_requests_get_the_head_of_the_answer_alone() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    for path in ["/api/feeds", HISTORY, "/healthz", "/metrics", "/"] {
        let mut stream = TcpStream::connect(walcast.address()).expect("walcast accepts");
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("walcast reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("walcast answers");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{path}: {answer}");
    }
}

#[test]
fn totals_are_exact_up_to_ten_thousand_and_capped_above() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert_many(10_000);
    let exact = walcast.get(HISTORY).json();
    assert_eq!(exact["total"], 10_000);
    assert_eq!(exact.get("total_is_capped"), None);
    walcast.database().insert_for("acme", "one more");
    walcast.database().insert_for("other", "of few");
    let capped = walcast.get(HISTORY).json();
    assert_eq!(capped["total"], 10_000);
    assert_eq!(capped["total_is_capped"], true);
    let few = walcast.get(&format!("{HISTORY}?tenant=other")).json();
    assert_eq!(
        (&few["total"], few.get("total_is_capped")),
        (&json!(1), None)
    );
}

#[test]
fn bad_parameters_of_history_are_named() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
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
        for path in [EVENTS, HISTORY] {
            let response = walcast.get(&format!("{path}?{query}"));
            assert_eq!(response.status, 400, "{query}");
            let message = response.json()["error"]["message"].to_string();
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
        let walcast = Daemon::on(dir.path())
            .toml(stock_with("create = false"))
            .start();
        for path in [HISTORY, EVENTS, "/ops/remediate/history?tenant=acme"] {
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
            walcast.get(HISTORY).json()["total"] == 1
        });
    }
}

#[test]
fn a_row_too_large_is_cut_and_says_so() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .toml(stock_with("create = true"))
        .option("--max-row-bytes", "1024")
        .start();
    let mut subscriber = walcast.subscribe("");
    walcast.database().insert("short");
    walcast.database().execute(
        "INSERT INTO remediation_events(ts, alertname, action) VALUES ('t', hex(zeroblob(4000)), 'restart')",
    );
    let small = subscriber.next_frame();
    assert_eq!(small.get("truncated"), None);
    let large = subscriber.next_frame();
    assert_eq!(large["truncated"], json!(["alertname"]));
    assert_eq!(large["event"]["action"], "restart");
    let history = walcast.get(EVENTS).json();
    assert_eq!(history["truncated"], json!({"2": ["alertname"]}));
    let cut = history["items"][0]["alertname"].as_str().expect("text");
    assert!(cut.len() < 1024 && cut.chars().all(|c| c == '0'), "{cut}");
    assert_eq!(history["items"][1]["details"], "short");
}

/// Clients bound what they take: a Python client takes 1 MiB, the default here, and not a byte more.
#[test]
fn a_cut_message_is_no_larger_than_max_row_bytes() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .option("--max-row-bytes", "1024")
        .start();
    let mut subscriber = walcast.subscribe("");
    walcast
        .database()
        .execute("INSERT INTO remediation_events(ts, alertname) VALUES ('t', hex(zeroblob(4000)))");
    let text = subscriber.next_text();
    assert!(text.len() <= 1024, "{} bytes", text.len());
}

#[test]
fn the_head_of_history_is_never_below_its_rows() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
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
        let below = (0..200).find_map(|_| {
            let history = walcast.get("/ops/remediate/history?limit=1").json();
            (history["items"][0]["id"].as_i64() > history["head"].as_i64()).then_some(history)
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(below, None);
    });
}

// --- routes, origins, limits ---

#[test]
fn errors_are_json_with_a_code_and_a_message() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    for (method, path, status) in [
        ("GET", "/nope", 404),
        ("GET", "/api/feeds/nope/events", 404),
        ("GET", "/sse/nope", 404),
        ("DELETE", "/api/feeds", 405),
        ("POST", HISTORY, 405),
    ] {
        let response = http::request(walcast.address(), method, path, &[], b"");
        assert_eq!(response.status, status, "{method} {path}");
        let error = response.json()["error"].take();
        assert!(
            error["code"].is_string() && error["message"].is_string(),
            "{error}"
        );
    }
}

#[test]
fn an_unknown_path_is_404_whatever_the_method() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let response = http::request(walcast.address(), method, "/nope", &[], b"");
        assert_eq!(response.status, 404, "{method}");
    }
}

#[test]
fn a_browser_on_another_loopback_port_may_send_its_own_headers() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let origin = ("Origin", "http://localhost:5173");
    let preflight = http::request(
        walcast.address(),
        "OPTIONS",
        HISTORY,
        &[
            origin,
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "x-user-roles"),
        ],
        b"",
    );
    assert!(
        matches!(preflight.status, 200 | 204),
        "{}",
        preflight.status
    );
    assert_eq!(
        preflight.header("Access-Control-Allow-Origin"),
        Some(origin.1)
    );
    let allows = |name: &str, value: &str| {
        let header = preflight.header(name).unwrap_or_default();
        header
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(value))
    };
    assert!(allows("Access-Control-Allow-Headers", "x-user-roles"));
    assert!(allows("Access-Control-Allow-Methods", "GET"));
    let history = http::request(
        walcast.address(),
        "GET",
        HISTORY,
        &[origin, ("X-User-Roles", "admin")],
        b"",
    );
    assert_eq!(history.status, 200);
    assert_eq!(
        history.header("Access-Control-Allow-Origin"),
        Some(origin.1)
    );
    assert_eq!(
        walcast.get(HISTORY).header("Access-Control-Allow-Origin"),
        None
    );
}

#[test]
fn a_foreign_origin_is_refused_on_every_route() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let origin = ("Origin", "https://evil.example");
    for (method, path) in [
        ("GET", HISTORY),
        ("GET", "/api/feeds"),
        ("GET", "/sse/remediation"),
        ("POST", EVENTS),
    ] {
        let response = http::request(walcast.address(), method, path, &[origin], b"");
        assert_eq!(response.status, 403, "{method} {path}");
        assert_eq!(response.header("Access-Control-Allow-Origin"), None);
    }
    let preflight = [origin, ("Access-Control-Request-Method", "GET")];
    let response = http::request(walcast.address(), "OPTIONS", HISTORY, &preflight, b"");
    assert_eq!(response.status, 403);
}

#[test]
fn above_the_connection_limit_only_health_and_metrics_are_answered() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .option("--max-connections", "2")
        .start();
    let first = walcast.subscribe("");
    let _second = walcast.subscribe("");
    for path in ["/api/feeds", HISTORY, "/sse/remediation", "/"] {
        let response = walcast.get(path);
        assert_eq!(response.status, 503, "{path}");
        let seconds = response.header("Retry-After").expect("Retry-After");
        assert!(seconds.parse::<u32>().is_ok(), "{seconds}");
        assert_eq!(response.json()["error"]["code"], "at_capacity");
    }
    let upgrade = http::refused_upgrade(walcast.address(), "/ws/remediation", &[]);
    assert_eq!(upgrade.status, 503);
    assert!(upgrade.header("Retry-After").is_some());
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(walcast.get(path).status, 200, "{path}");
    }
    assert_eq!(
        walcast.metric(r#"walcast_connection_errors_total{reason="capacity"}"#),
        5.0
    );
    drop(first);
    wait_until("the place is free again", || {
        walcast.get("/api/feeds").status == 200
    });
}

#[test]
fn health_is_answered_however_many_idle_connections_are_above_the_limit() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .option("--max-connections", "2")
        .start();
    let idle: Vec<_> = (0..60)
        .map(|_| TcpStream::connect(walcast.address()).expect("walcast accepts"))
        .collect();
    assert_eq!(walcast.get("/healthz").status, 200);
    drop(idle);
}

/// Takes ten seconds: the time a request head may take.
#[test]
fn a_request_head_that_dribbles_in_is_cut_off() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut silent = TcpStream::connect(walcast.address()).expect("walcast accepts");
    let mut dribbling = TcpStream::connect(walcast.address()).expect("walcast accepts");
    for stream in [&silent, &dribbling] {
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a socket takes a time limit");
    }
    let deadline = Instant::now() + Duration::from_secs(10) + PATIENCE;
    dribbling
        .write_all(b"GET /api/feeds HTTP/1.1\r\nX-Slow: ")
        .expect("walcast reads");
    let mut buffer = [0; 512];
    loop {
        assert!(Instant::now() < deadline, "the connection is still open");
        // Once it is cut off, a write may fail before a read has told.
        let cut = dribbling.write_all(b"x").is_err();
        match dribbling.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => panic!("an answer: {}", String::from_utf8_lossy(&buffer[..n])),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock) && !cut => {}
            Err(_) => break,
        }
    }
    silent
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket takes a time limit");
    assert_eq!(silent.read(&mut buffer).expect("an orderly end"), 0);
    assert_eq!(walcast.get("/healthz").status, 200);
}

#[test]
fn a_connection_is_kept_alive_for_further_requests() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut stream = TcpStream::connect(walcast.address()).expect("walcast accepts");
    for path in ["/healthz", "/api/feeds", "/nope", HISTORY] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", walcast.address());
        stream.write_all(head.as_bytes()).expect("walcast reads");
        let response = http::read_response(&mut stream);
        assert_eq!(response.status, if path == "/nope" { 404 } else { 200 });
    }
}

#[test]
fn a_unix_socket_serves_the_same() {
    let dir = directory();
    let socket = dir.path().join("walcast.sock");
    let walcast = Daemon::on(dir.path())
        .option("--listen", format!("unix:{}", socket.display()))
        .start();
    let mut stream = UnixStream::connect(&socket).expect("walcast accepts");
    stream
        .write_all(b"GET /api/feeds HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("walcast reads");
    assert_eq!(http::read_response(&mut stream).status, 200);
    let stream = UnixStream::connect(&socket).expect("walcast accepts");
    let (mut subscriber, _) = tungstenite::client("ws://localhost/ws/remediation", stream)
        .expect("the upgrade is granted");
    walcast.database().insert("over a Unix socket");
    let message = subscriber.read().expect("a frame comes");
    assert!(matches!(&message, Message::Text(text) if text.contains("over a Unix socket")));
    drop(subscriber);
    walcast.stop();
    assert!(!socket.exists(), "the socket file is left behind");
}

// --- ingest ---

#[test]
fn ingested_rows_get_ids_and_reach_subscribers() {
    let dir = directory();
    let walcast = ingesting(dir.path());
    let mut subscriber = walcast.subscribe("");
    let one = walcast.post(EVENTS, &json!({"ts": "a", "tenant": "acme"}));
    assert_eq!((one.status, one.json()), (201, json!({"ids": [1]})));
    let many = walcast.post(EVENTS, &json!([{"ts": "b"}, {"details": null, "ts": "c"}]));
    assert_eq!((many.status, many.json()), (201, json!({"ids": [2, 3]})));
    assert_eq!(common::ids(&subscriber.next_rows(3)), [1, 2, 3]);
    assert_eq!(subscriber.ledger()[0]["tenant"], "acme");
    assert_eq!(subscriber.ledger(), walcast.database().rows());
    assert!(walcast.metric(r#"walcast_wakes_total{source="hook"}"#) >= 1.0);
}

#[test]
fn rows_that_do_not_fit_the_table_are_refused_naming_the_field() {
    let dir = directory();
    let database = Database::within(dir.path());
    database.execute(
        "CREATE TABLE jobs(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, n INTEGER, x REAL, data BLOB,
         secret TEXT, level INTEGER CHECK (level < 5), code TEXT UNIQUE)",
    );
    let walcast = Daemon::on(dir.path())
        .toml("[feeds.jobs]\ntable = \"jobs\"\nexclude = [\"secret\"]\ningest = true\n")
        .start();
    let path = "/api/feeds/jobs/events";
    assert_eq!(
        walcast
            .post(path, &json!({"name": "a", "code": "taken"}))
            .status,
        201
    );
    for (body, field) in [
        (json!({"name": "a", "nope": 1}), "nope"),
        (json!({"name": "a", "secret": "s"}), "secret"),
        (json!({"name": "a", "id": 7}), "id"),
        (json!({"name": 5}), "name"),
        (json!({"name": true}), "name"),
        (json!({"name": ["a"]}), "name"),
        (json!({"name": null}), "name"),
        (json!({"n": 1}), "name"),
        (json!({"name": "a", "n": "one"}), "n"),
        (json!({"name": "a", "n": 1.5}), "n"),
        (json!({"name": "a", "x": "much"}), "x"),
        (json!({"name": "a", "data": "no base64!"}), "data"),
        (json!({"name": "a", "level": 9}), "level"),
        (json!({"name": "a", "code": "taken"}), "code"),
        (json!([{"name": "a"}, {"name": "b", "nope": 1}]), "nope"),
        (json!([{"name": "a"}, {"name": "b", "level": 9}]), "level"),
        (json!([{"name": "a"}, 5]), "5"),
        (json!([]), "array"),
        (json!({}), "object"),
        (json!([{}]), "object"),
        (json!("text"), "object"),
    ] {
        let response = walcast.post(path, &body);
        assert_eq!(response.status, 400, "{body}");
        let message = response.json()["error"]["message"].to_string();
        assert!(message.contains(field), "{body}: {message}");
    }
    for body in ["", "{", "{\"name\":\"a\"} trailing", "\u{0}"] {
        let response = http::request(walcast.address(), "POST", path, &[], body.as_bytes());
        assert_eq!(response.status, 400, "{body:?}");
    }
    assert_eq!(database.number("SELECT count(*) FROM jobs"), 1);
}

#[test]
fn a_body_over_one_mebibyte_is_refused_whole() {
    const MAX: usize = 1 << 20;
    let dir = directory();
    let walcast = ingesting(dir.path());
    let body = |bytes: usize| {
        let text = "x".repeat(bytes - r#"{"ts":""}"#.len());
        format!(r#"{{"ts":"{text}"}}"#)
    };
    let post = |body: &str| http::request(walcast.address(), "POST", EVENTS, &[], body.as_bytes());
    assert_eq!(post(&body(MAX)).status, 201);
    for size in [MAX + 1, 4 * MAX] {
        let response = post(&body(size));
        assert_eq!(response.status, 413, "{size} bytes");
        assert_eq!(response.json()["error"]["code"], "too_large");
    }
    let chunked = format!(
        "POST {EVENTS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        MAX + 1,
        body(MAX + 1)
    );
    let response = http::exchange(walcast.address(), chunked.as_bytes());
    assert_eq!(response.status, 413, "in chunks");
    assert_eq!(walcast.database().rows().len(), 1);
}

#[test]
fn ingest_is_off_unless_allowed() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let response = walcast.post(EVENTS, &json!({"ts": "a"}));
    assert_eq!(response.status, 403);
    assert!(response.text().contains("ingest"));
    assert_eq!(
        walcast.post("/api/feeds/nope/events", &json!({})).status,
        404
    );
    assert!(walcast.database().rows().is_empty());
}

/// Takes five seconds: the patience with others' locks.
#[test]
fn ingest_into_a_database_locked_by_others_is_refused_and_writes_nothing() {
    let dir = directory();
    let walcast = ingesting(dir.path());
    let mut writer = walcast.database().python();
    writer.begin();
    let response = walcast.post(EVENTS, &json!({"ts": "a"}));
    assert_eq!(response.status, 503);
    assert!(response.text().contains("locked"), "{}", response.text());
    writer.rollback();
    assert!(walcast.database().rows().is_empty());
    assert_eq!(walcast.post(EVENTS, &json!({"ts": "b"})).status, 201);
}

#[test]
fn ingest_without_a_table_is_refused_until_it_is_there() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .toml(stock_with("create = false\ningest = true"))
        .start();
    assert_eq!(walcast.post(EVENTS, &json!({"ts": "a"})).status, 503);
    walcast.database().execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
    assert_eq!(walcast.post(EVENTS, &json!({"ts": "a"})).status, 201);
}

// --- health ---

/// Waits until `/readyz` says 503, for one or more of these reasons.
#[track_caller]
fn wait_for_reason(walcast: &Daemon, patience: Duration, reason: &str) {
    let deadline = Instant::now() + patience;
    let mut last = String::new();
    while Instant::now() < deadline {
        let ready = walcast.get("/readyz");
        assert_eq!(walcast.get("/healthz").status, 200);
        last = ready.text();
        if ready.status == 503 && last.contains(reason) {
            return;
        }
        pause();
    }
    panic!("/readyz does not say {reason:?}: {last}");
}

#[test]
fn readiness_waits_for_file_and_table_and_comes_by_itself() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .toml(stock_with("create = false"))
        .start();
    wait_for_reason(&walcast, PATIENCE, "does not exist yet");
    walcast
        .database()
        .execute("CREATE TABLE other(id INTEGER PRIMARY KEY)");
    wait_for_reason(
        &walcast,
        PATIENCE,
        "the table remediation_events does not exist yet",
    );
    walcast.database().execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
    walcast.database().delete();
    wait_for_reason(&walcast, PATIENCE, "does not exist yet");
    walcast.database().execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
}

#[test]
fn a_missing_directory_is_waited_for() {
    let dir = directory();
    let inner = dir.path().join("not/yet");
    let walcast = Daemon::on(dir.path())
        .database(inner.join("events.db"))
        .start();
    wait_for_reason(&walcast, PATIENCE, "events.db");
    fs::create_dir_all(&inner).expect("a directory can be made");
    walcast.database().execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
    let mut subscriber = walcast.subscribe("");
    let id = walcast.database().insert("in a directory that came late");
    assert_eq!(subscriber.next_row()["id"], id);
}

#[test]
fn a_file_that_is_no_database_is_said_once_and_recovered_from() {
    let dir = directory();
    let database = Database::within(dir.path());
    fs::write(database.path(), "not a database\n".repeat(1000)).expect("a file can be written");
    let walcast = Daemon::start(dir.path());
    wait_for_reason(&walcast, PATIENCE, "not a SQLite database");
    assert_eq!(walcast.get(HISTORY).status, 503);
    assert!(walcast.metric(r#"walcast_database_errors_total{kind="not_a_database"}"#) >= 1.0);
    wait_until("it was tried again", || {
        walcast.metric(r#"walcast_database_errors_total{kind="not_a_database"}"#) >= 3.0
    });
    let errors = walcast
        .log()
        .lines()
        .filter(|line| line.contains("ERROR"))
        .count();
    assert_eq!(errors, 1, "the log floods:\n{}", walcast.log());
    database.delete();
    database.execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
    assert_eq!(walcast.get(HISTORY).status, 200);
}

/// Takes up to thirty seconds: a fresh connection looks no more often.
#[test]
fn a_file_garbled_in_place_is_noticed_and_recovered_from() {
    let dir = directory();
    let database = Database::with_stock_table(dir.path());
    database.insert_many(100);
    let walcast = Daemon::start(dir.path());
    walcast.wait_until_ready();
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)");
    let good = fs::read(database.path()).expect("the file can be read");
    fs::write(database.path(), vec![0x5a; good.len()]).expect("the file can be written");
    wait_for_reason(&walcast, Duration::from_secs(30) + PATIENCE, "database");
    fs::write(database.path(), good).expect("the file can be written");
    walcast.wait_until_ready();
    assert_eq!(walcast.get(HISTORY).json()["total"], 100);
}

/// Takes five seconds: so long reads may fail before the daemon counts as not ready.
#[test]
fn a_database_locked_for_long_is_not_ready_until_it_is_free() {
    let dir = directory();
    let database = Database::with_stock_table(dir.path());
    let walcast = Daemon::on(dir.path())
        .toml(format!(
            "journal_mode = \"keep\"\n{}",
            stock_with("create = false")
        ))
        .start();
    walcast.wait_until_ready();
    let mut subscriber = walcast.subscribe("");
    let mut writer = database.python();
    writer.begin_exclusive();
    writer.add(1, 20);
    wait_for_reason(&walcast, Duration::from_secs(5) + PATIENCE, "locked");
    writer.commit();
    walcast.wait_until_ready();
    assert_eq!(subscriber.next_row()["id"], 1);
}

// --- metrics ---

const METRICS: [(&str, &str); 15] = [
    ("walcast_ws_connections_active", "gauge"),
    ("walcast_sse_connections_active", "gauge"),
    ("walcast_messages_sent_total", "counter"),
    ("walcast_client_messages_total", "counter"),
    ("walcast_connection_errors_total", "counter"),
    ("walcast_wakes_total", "counter"),
    ("walcast_rows_read_total", "counter"),
    ("walcast_feed_head", "gauge"),
    ("walcast_feed_subscribers", "gauge"),
    ("walcast_catchup_reads_total", "counter"),
    ("walcast_detect_seconds", "histogram"),
    ("walcast_broadcast_seconds", "histogram"),
    ("walcast_database_errors_total", "counter"),
    ("walcast_epoch_changes_total", "counter"),
    ("walcast_build_info", "gauge"),
];

#[test]
fn every_metric_is_there_before_anything_happened() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let response = walcast.get("/metrics");
    assert!(
        response
            .header("Content-Type")
            .is_some_and(|kind| kind.starts_with("text/plain"))
    );
    let text = response.text();
    let missing: Vec<_> = METRICS
        .into_iter()
        .filter(|(name, kind)| {
            let has_type = text.contains(&format!("# TYPE {name} {kind}\n"));
            !(has_type && text.contains(&format!("# HELP {name} ")))
        })
        .collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

#[test]
fn metrics_count_what_happens() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let feed = |name: &str| walcast.metric(&format!("{name}{{feed=\"remediation\"}}"));
    let mut plain = walcast.subscribe("");
    let mut sse = Events::open(&walcast, "/sse/remediation", &[]);
    assert_eq!(walcast.metric("walcast_ws_connections_active"), 1.0);
    assert_eq!(walcast.metric("walcast_sse_connections_active"), 1.0);
    assert_eq!(feed("walcast_feed_subscribers"), 2.0);
    walcast.database().insert("one");
    walcast.database().insert("two");
    plain.next_rows(2);
    sse.next_row();
    sse.next_row();
    wait_until("both rows are counted for both", || {
        walcast.metric("walcast_messages_sent_total") == 4.0
    });
    assert_eq!(feed("walcast_rows_read_total"), 2.0);
    assert_eq!(feed("walcast_feed_head"), 2.0);
    assert!(walcast.metric(r#"walcast_wakes_total{source="wal"}"#) >= 1.0);
    assert!(walcast.metric("walcast_detect_seconds_count") >= 1.0);
    assert!(walcast.metric("walcast_broadcast_seconds_count") >= 1.0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        walcast.metric(&format!("walcast_build_info{{version=\"{version}\"}}")),
        1.0
    );
    drop((plain, sse));
    wait_until("nobody is connected", || {
        walcast.metric("walcast_ws_connections_active") == 0.0
            && walcast.metric("walcast_sse_connections_active") == 0.0
    });
    let walcast = walcast.restart();
    let mut replaying = walcast.subscribe("since=0");
    replaying.expect("hello");
    replaying.next_rows(2);
    let reads = walcast.metric(r#"walcast_catchup_reads_total{feed="remediation"}"#);
    assert!(reads >= 1.0, "{reads}");
}

// --- server-sent events ---

/// A block of an event stream.
#[derive(Debug, Default, PartialEq)]
struct Event {
    name: Option<String>,
    id: Option<String>,
    data: Option<String>,
    retry: Option<String>,
    comment: bool,
}

impl Event {
    fn json(&self) -> Value {
        let data = self.data.as_deref().expect("the event has data");
        serde_json::from_str(data).expect("the data is JSON")
    }
}

/// An EventSource, spoken over HTTP/1.0 so that the body is not cut in chunks.
struct Events(BufReader<TcpStream>);

impl Events {
    #[track_caller]
    fn open(walcast: &Daemon, path: &str, headers: &[(&str, &str)]) -> Events {
        let mut stream = TcpStream::connect(walcast.address()).expect("walcast accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(25) + PATIENCE))
            .expect("a socket takes a time limit");
        let mut head = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n", walcast.address());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .expect("walcast reads");
        let mut events = Events(BufReader::new(stream));
        let head = events.block().expect("an answer");
        assert!(head[0].contains(" 200 "), "{head:?}");
        let kind = "content-type: text/event-stream";
        assert!(
            head.iter()
                .any(|line| line.to_ascii_lowercase().starts_with(kind)),
            "{head:?}"
        );
        let first = events.next().expect("the stream begins");
        assert_eq!(first.retry.as_deref(), Some("2000"));
        events
    }

    /// Lines up to an empty one; `None` at the end.
    fn block(&mut self) -> Option<Vec<String>> {
        let mut lines = vec![];
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("the stream goes on");
            match line.trim_end_matches(['\r', '\n']) {
                _ if read == 0 => return None,
                "" if lines.is_empty() => {}
                "" => return Some(lines),
                text => lines.push(text.to_owned()),
            }
        }
    }

    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        for line in self.block()? {
            let (field, value) = line.split_once(':').expect("a field");
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "event" => event.name = Some(value),
                "id" => event.id = Some(value),
                "data" => event.data = Some(value),
                "retry" => event.retry = Some(value),
                "" => event.comment = true,
                other => panic!("an unknown field {other}"),
            }
        }
        Some(event)
    }

    /// The id within the next row; an event of another kind is a failure.
    #[track_caller]
    fn next_row(&mut self) -> i64 {
        let event = self.next().expect("a row");
        assert_eq!(event.name, None, "{event:?}");
        common::id(&event.json()["event"])
    }

    /// The data of the next event, which must have this name.
    #[track_caller]
    fn expect(&mut self, name: &str) -> Value {
        let event = self
            .next()
            .unwrap_or_else(|| panic!("the end instead of {name}"));
        assert_eq!(event.name.as_deref(), Some(name), "{event:?}");
        assert_eq!(event.json()["type"], name);
        event.json()
    }
}

fn epoch(walcast: &Daemon) -> String {
    let feed = walcast.get("/api/feeds").json()["feeds"][0].take();
    feed["epoch"].as_str().expect("an epoch").to_owned()
}

#[test]
fn a_plain_stream_has_rows_with_ids_and_no_control_events() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert("before");
    let mut stream = Events::open(&walcast, "/sse/remediation?tenant=acme", &[]);
    let mut socket = walcast.subscribe("");
    walcast.database().insert_for("other", "filtered out");
    walcast.database().insert("line one\nline two");
    socket.next_row();
    let same = socket.next_text();
    let event = stream.next().expect("a row");
    assert_eq!(event.data, Some(same));
    assert_eq!(event.id, Some(format!("{}:3", epoch(&walcast))));
    assert_eq!(event.name, None);
    walcast.signal(libc::SIGTERM);
    assert_eq!(stream.next(), None, "it ends without a goodbye");
}

#[test]
fn a_stream_resumes_from_the_last_event_id() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert_many(4);
    let epoch = epoch(&walcast);
    for (id, since, recovered) in [
        (format!("{epoch}:2"), 2, true),
        (format!("{epoch}:4"), 4, true),
        (format!("{epoch}:5"), 0, false),
        ("another:2".to_owned(), 0, false),
        ("nonsense".to_owned(), 0, false),
    ] {
        // What EventSource remembers goes before what the page asked for at first.
        for query in ["", "?last=1", "?since=now"] {
            let path = format!("/sse/remediation{query}");
            let mut stream = Events::open(&walcast, &path, &[("Last-Event-ID", &id)]);
            let hello = stream.expect("hello");
            assert_eq!(hello["since"], since, "{id}");
            assert_eq!(hello["recovered"], recovered, "{id}");
            for row in since + 1..=4 {
                assert_eq!(stream.next_row(), row, "{id}");
            }
            assert_eq!(stream.expect("live")["id"], 4);
        }
    }
    let mut empty = Events::open(&walcast, "/sse/remediation", &[("Last-Event-ID", "")]);
    walcast.database().insert("next");
    assert_eq!(empty.next_row(), 5);
}

#[test]
fn a_resumable_stream_gets_control_events_to_the_end() {
    let dir = directory();
    let mut walcast = Daemon::start(dir.path());
    walcast.database().insert_many(3);
    let mut stream = Events::open(&walcast, "/sse/remediation?last=2", &[]);
    assert_eq!(stream.expect("hello")["since"], 1);
    assert_eq!([stream.next_row(), stream.next_row()], [2, 3]);
    assert_eq!(stream.expect("live"), json!({"type": "live", "id": 3}));
    walcast.database().insert("live");
    assert_eq!(stream.next_row(), 4);
    walcast.signal(libc::SIGTERM);
    assert!(stream.expect("goodbye")["reconnect_after_ms"].is_u64());
    assert_eq!(stream.next(), None);
    assert!(walcast.wait_for_exit().success());
}

#[test]
fn a_replaced_history_ends_plain_streams_and_resets_resumable_ones() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert_many(5);
    let old = epoch(&walcast);
    let mut plain = Events::open(&walcast, "/sse/remediation", &[]);
    let mut resumable = Events::open(&walcast, "/sse/remediation?since=4", &[]);
    resumable.expect("hello");
    assert_eq!(resumable.next_row(), 5);
    resumable.expect("live");
    let new = Database::at(dir.path().join("new.db"));
    new.execute(STOCK_SCHEMA);
    new.insert_many(2);
    walcast.database().delete();
    fs::rename(new.path(), walcast.database().path()).expect("the file can be moved");
    assert_eq!(plain.next(), None);
    let reset = resumable.expect("reset");
    assert_ne!(reset["epoch"], json!(old));
    assert_eq!(reset["reason"], "database_replaced");
    assert_eq!([resumable.next_row(), resumable.next_row()], [1, 2]);
    assert_eq!(resumable.expect("live")["id"], 2);
    let id = format!("{old}:5");
    let mut back = Events::open(&walcast, "/sse/remediation", &[("Last-Event-ID", &id)]);
    assert_eq!(back.expect("hello")["recovered"], false);
    assert_eq!(back.next_row(), 1);
}

/// Takes 25 seconds: the time between comments.
#[test]
fn a_stream_gets_comments_while_its_filter_takes_nothing_of_a_busy_feed() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut idle = Events::open(&walcast, "/sse/remediation?id=0", &[]);
    // The writer has an end of its own, so that a failure of the reader is not waited for in vain.
    let until = Instant::now() + Duration::from_secs(25) + PATIENCE;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let connection = walcast.database().connect();
            while !stop.load(Ordering::Relaxed) && Instant::now() < until {
                database::insert(&connection, "acme", "for others");
                pause();
            }
        });
        let first = idle.next();
        stop.store(true, Ordering::Relaxed);
        assert!(first.is_some_and(|event| event.comment));
    });
}

#[test]
fn answers_are_json_that_no_cache_keeps() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    for path in [
        "/api/feeds",
        EVENTS,
        HISTORY,
        "/healthz",
        "/readyz",
        "/nope",
    ] {
        let response = walcast.get(path);
        assert_eq!(
            response.header("Content-Type"),
            Some("application/json"),
            "{path}"
        );
        assert_eq!(response.header("Cache-Control"), Some("no-store"), "{path}");
        response.json();
    }
}
