//! Rows that come by HTTP.

use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use crate::common::database::STOCK_SCHEMA;
use crate::common::http;
use crate::common::{Daemon, STOCK_EVENTS, ids};

fn ingesting() -> Daemon {
    Daemon::on_new_file().stock_feed("ingest = true").start()
}

#[test]
fn ingested_rows_get_ids_and_reach_subscribers() {
    let walcast = ingesting();
    let mut subscriber = walcast.subscribe("");
    let one = walcast.post(STOCK_EVENTS, &json!({"ts": "a", "tenant": "acme"}));
    assert_eq!((one.status, one.json()), (201, json!({"ids": [1]})));
    let many = walcast.post(
        STOCK_EVENTS,
        &json!([{"ts": "b"}, {"details": null, "ts": "c"}]),
    );
    assert_eq!((many.status, many.json()), (201, json!({"ids": [2, 3]})));
    assert_eq!(ids(&subscriber.next_rows(3)), [1, 2, 3]);
    assert_eq!(subscriber.ledger()[0]["tenant"], "acme");
    assert_eq!(subscriber.ledger(), walcast.database().rows());
    assert!(walcast.metric(r#"walcast_wakes_total{source="hook"}"#) >= 1.0);
}

const JOBS: &str = "CREATE TABLE jobs(
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, n INTEGER, x REAL, data BLOB,
    secret TEXT, level INTEGER CHECK (level < 5), code TEXT UNIQUE)";

#[test]
fn rows_that_do_not_fit_the_table_are_refused_naming_the_field() {
    let walcast = Daemon::on_new_file()
        .with_tables(JOBS)
        .toml("[feeds.jobs]\ntable = \"jobs\"\nexclude = [\"secret\"]\ningest = true\n")
        .start();
    let database = walcast.database();
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
        let message = response.error_message();
        assert!(message.contains(field), "{body}: {message}");
    }
    for body in ["", "{", "{\"name\":\"a\"} trailing", "\u{0}"] {
        assert_eq!(walcast.post_text(path, body).status, 400, "{body:?}");
    }
    assert_eq!(database.number("SELECT count(*) FROM jobs"), 1);
}

/// Tables that have their own say in what is stored: a refusal names what is wrong, and nothing is written.
#[test]
fn tables_with_a_mind_of_their_own_refuse_in_words() {
    let walcast = Daemon::on_new_file()
        .with_tables(
            "CREATE TABLE owner(id INTEGER PRIMARY KEY);
             CREATE TABLE strict(id INTEGER PRIMARY KEY, n INT, t TEXT, any ANY) STRICT;
             CREATE TABLE keyless(id INTEGER PRIMARY KEY, t TEXT) WITHOUT ROWID;
             CREATE TABLE made(id INTEGER PRIMARY KEY, t TEXT, long INT AS (length(t)) STORED, up TEXT AS (upper(t)));
             CREATE TABLE owned(id INTEGER PRIMARY KEY, owner INTEGER REFERENCES owner(id),
                later INTEGER REFERENCES owner(id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TABLE guarded(id INTEGER PRIMARY KEY, t TEXT UNIQUE ON CONFLICT IGNORE);
             CREATE TRIGGER guard BEFORE INSERT ON guarded BEGIN
                SELECT RAISE(ABORT, 'no, never') WHERE NEW.t = 'abort';
                SELECT RAISE(FAIL, 'failed') WHERE NEW.t = 'fail';
                SELECT RAISE(ROLLBACK, 'rolled back') WHERE NEW.t = 'rollback';
                SELECT RAISE(IGNORE) WHERE NEW.t = 'ignore';
             END;",
        )
        .toml(
            "[feeds.strict]\ningest = true\n[feeds.keyless]\ningest = true\n[feeds.made]\ningest = true\n\
             [feeds.owned]\ningest = true\n[feeds.guarded]\ningest = true\n",
        )
        .start();
    for (table, body, named) in [
        ("strict", json!({"n": "five"}), "n"),
        ("strict", json!({"n": 1.5}), "n"),
        ("strict", json!({"t": 1}), "t"),
        ("keyless", json!({"t": "a"}), "id"),
        ("made", json!({"t": "a", "long": 1}), "long"),
        ("made", json!({"up": "A"}), "up"),
        ("owned", json!({"owner": 7}), "FOREIGN KEY"),
        (
            "owned",
            json!([{"owner": null}, {"later": 7}]),
            "FOREIGN KEY",
        ),
        (
            "guarded",
            json!([{"t": "a"}, {"t": "abort"}]),
            "row 1: no, never",
        ),
        (
            "guarded",
            json!([{"t": "a"}, {"t": "fail"}]),
            "row 1: failed",
        ),
        (
            "guarded",
            json!([{"t": "a"}, {"t": "rollback"}]),
            "row 1: rolled back",
        ),
        (
            "guarded",
            json!([{"t": "a"}, {"t": "ignore"}]),
            "row 1: the table ignores",
        ),
        (
            "guarded",
            json!([{"t": "a"}, {"t": "a"}]),
            "row 1: the table ignores",
        ),
    ] {
        let response = walcast.post(&format!("/api/feeds/{table}/events"), &body);
        assert_eq!(response.status, 400, "{table} {body}: {}", response.text());
        let message = response.error_message();
        assert!(message.contains(named), "{table} {body}: {message}");
        let rows = walcast
            .database()
            .number(&format!("SELECT count(*) FROM {table}"));
        assert_eq!(rows, 0, "{table} {body}");
    }
    // Each goes on as if nothing had been.
    for table in ["strict", "made", "guarded"] {
        let mut subscriber = walcast.subscribe_to(&format!("/ws/{table}"), "");
        let response = walcast.post(&format!("/api/feeds/{table}/events"), &json!({"t": "b"}));
        assert_eq!(response.json(), json!({"ids": [1]}), "{table}");
        assert_eq!(subscriber.next_row()["t"], "b");
    }
}

#[test]
fn bodies_that_are_no_plain_rows_are_refused_whole() {
    let walcast = ingesting();
    let deep = format!(r#"{{"ts":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    let names = format!(
        r#"{{"ts":"a",{}}}"#,
        vec![r#""tenant":"b""#; 30_000].join(",")
    );
    for (body, named) in [
        (r#"{"ts":NaN}"#, "JSON"),
        (r#"{"ts":"a","ts":"b"}"#, "ts"),
        (
            r#"[{"ts":"a"},{"ts":"a","tenant":"x","tenant":"x"}]"#,
            "tenant",
        ),
        (r#"{"ts":"\ud800"}"#, "ts"),
        (r#"{"ts":12345678901234567890123456789}"#, "ts"),
        (r#"{"ts":{"a":1}}"#, "ts"),
        (&deep, "ts"),
        (&names, "tenant"),
        (r#"[[{"ts":"a"}]]"#, "row 0"),
        ("null", "object"),
    ] {
        let json = [("Content-Type", "application/json")];
        let response = walcast.request("POST", STOCK_EVENTS, &json, body.as_bytes());
        let shown = &body[..body.len().min(60)];
        assert_eq!(response.status, 400, "{shown}");
        let message = response.error_message();
        assert!(message.contains(named), "{shown}: {message}");
        assert!(message.len() < 1000, "{shown}");
    }
    let json = [("Content-Type", "application/json")];
    let response = walcast.request("POST", STOCK_EVENTS, &json, b"{\"ts\":\"\xff\"}");
    assert_eq!(response.status, 400);
    assert!(walcast.database().rows().is_empty());
}

#[test]
fn more_than_ten_thousand_rows_are_refused_whole() {
    let walcast = ingesting();
    let rows = |count: usize| serde_json::Value::from(vec![json!({"ts": "a"}); count]);
    let response = walcast.post(STOCK_EVENTS, &rows(10_001));
    assert_eq!(
        (response.status, response.error_code().as_str()),
        (413, "too_large")
    );
    assert!(
        response.error_message().contains("10000 rows"),
        "{}",
        response.text()
    );
    assert!(walcast.database().rows().is_empty());
    let response = walcast.post(STOCK_EVENTS, &rows(10_000));
    assert_eq!(response.status, 201);
    assert_eq!(response.json()["ids"][9_999], 10_000);
}

#[test]
fn a_body_over_one_mebibyte_is_refused_whole() {
    const MAX: usize = 1 << 20;
    let walcast = ingesting();
    let body = |bytes: usize| {
        let text = "x".repeat(bytes - r#"{"ts":""}"#.len());
        format!(r#"{{"ts":"{text}"}}"#)
    };
    let post = |body: &str| walcast.post_text(STOCK_EVENTS, body);
    assert_eq!(post(&body(MAX)).status, 201);
    for size in [MAX + 1, 4 * MAX] {
        let response = post(&body(size));
        assert_eq!(response.status, 413, "{size} bytes");
        assert_eq!(response.error_code(), "too_large");
    }
    let chunked = format!(
        "POST {STOCK_EVENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        MAX + 1,
        body(MAX + 1)
    );
    let response = http::exchange(walcast.address(), chunked.as_bytes());
    assert_eq!(response.status, 413, "in chunks");
    assert_eq!(walcast.database().rows().len(), 1);
}

#[test]
fn ingest_is_off_unless_allowed() {
    let walcast = Daemon::start_new();
    let response = walcast.post(STOCK_EVENTS, &json!({"ts": "a"}));
    assert_eq!(response.status, 403);
    assert!(response.text().contains("ingest"));
    assert_eq!(
        walcast.post("/api/feeds/nope/events", &json!({})).status,
        404
    );
    assert!(walcast.database().rows().is_empty());
}

/// A form of any page can post what needs no preflight.
#[test]
fn only_what_is_said_to_be_json_is_taken() {
    let walcast = ingesting();
    let post = |types: &[&str]| {
        let headers: Vec<_> = types.iter().map(|kind| ("Content-Type", *kind)).collect();
        walcast.request("POST", STOCK_EVENTS, &headers, br#"{"ts":"a"}"#)
    };
    for types in [
        &[][..],
        &["text/plain"],
        &["application/x-www-form-urlencoded"],
        &["multipart/form-data"],
        &["text/plain; application/json"],
        &["application/jsonp"],
        &["text/plain", "application/json"],
    ] {
        let response = post(types);
        assert_eq!(response.status, 415, "{types:?}");
        let message = response.error_message();
        assert!(message.contains("application/json"), "{message}");
    }
    assert!(walcast.database().rows().is_empty());
    assert_eq!(post(&["Application/JSON; charset=utf-8"]).status, 201);
}

/// Takes five seconds: the patience with others' locks, however many wait.
#[test]
fn ingest_into_a_database_locked_by_others_is_refused_and_writes_nothing() {
    const REQUESTS: usize = 24;
    const WAITING: usize = 16;
    let walcast = ingesting();
    let mut writer = walcast.database().python();
    writer.begin();
    let patient = walcast.database().connect();
    // Waiting for those before and then for the lock would take twice as long.
    patient.busy_timeout(Duration::from_secs(9)).unwrap();
    let (answered, received) = mpsc::channel();
    let answers: Vec<_> = std::thread::scope(|scope| {
        for _ in 0..REQUESTS {
            let (answered, walcast) = (answered.clone(), &walcast);
            scope.spawn(move || {
                let answer = walcast.post(STOCK_EVENTS, &json!({"ts": "a"}));
                answered.send(answer).expect("it is waited for");
            });
        }
        drop(answered);
        let mut answers: Vec<_> = received.iter().take(REQUESTS - WAITING).collect();
        // All the others wait by now.
        let patient = scope.spawn(move || patient.execute_batch("BEGIN IMMEDIATE; ROLLBACK"));
        answers.extend(received.iter().take(WAITING));
        writer.rollback();
        let outlasted = patient.join().expect("it ends");
        outlasted.expect("who began after them still waits when all are answered");
        answers
    });
    for answer in &answers {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
    let locked = answers
        .iter()
        .filter(|answer| answer.text().contains("locked"));
    assert!(locked.count() >= 1);
    let full = answers
        .iter()
        .filter(|answer| answer.text().contains("too many"));
    assert_eq!(full.count(), REQUESTS - WAITING);
    assert!(walcast.database().rows().is_empty());
    assert_eq!(walcast.post(STOCK_EVENTS, &json!({"ts": "b"})).status, 201);
}

#[test]
fn ingest_without_a_table_is_refused_until_it_is_there() {
    let walcast = Daemon::on_new_file()
        .stock_feed("create = false\ningest = true")
        .start();
    assert_eq!(walcast.post(STOCK_EVENTS, &json!({"ts": "a"})).status, 503);
    walcast.database().execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
    assert_eq!(walcast.post(STOCK_EVENTS, &json!({"ts": "a"})).status, 201);
}

#[test]
fn why_rows_can_not_be_written_is_logged_once_and_told_without_paths() {
    let walcast = Daemon::on_new_file()
        .toml("[feeds.remediation]\ningest = true\n[feeds.broken]\ningest = true\n")
        .with_tables(&format!(
            "{STOCK_SCHEMA}; CREATE TABLE broken(id INTEGER PRIMARY KEY, t TEXT)"
        ))
        .start();
    // A function that only its own writer has.
    walcast.database().execute(
        "CREATE TRIGGER own AFTER INSERT ON broken BEGIN SELECT its_own_function(NEW.t); END",
    );
    for _ in 0..3 {
        let response = walcast.post("/api/feeds/broken/events", &json!({"t": "a"}));
        assert_eq!(response.status, 503, "{}", response.text());
        let directory = walcast.directory().display().to_string();
        assert!(!response.text().contains(&directory), "{}", response.text());
    }
    let told = walcast.log().matches("its_own_function").count();
    assert_eq!(told, 1, "{}", walcast.log());
    assert_eq!(walcast.database().number("SELECT count(*) FROM broken"), 0);
    assert_eq!(walcast.post(STOCK_EVENTS, &json!({"ts": "a"})).status, 201);
}
