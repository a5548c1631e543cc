use rusqlite::Connection;

use super::value::depth;
use super::*;
use crate::sqlite::table::{Exposed, Table};

fn schema() -> Schema {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, ts TEXT NOT NULL, n INTEGER, r REAL, b BLOB, ok BOOLEAN, j TEXT, any, ts2 TEXT, d TEXT NOT NULL DEFAULT 'x',
         g TEXT AS (ts))",
    )
    .unwrap();
    let table = Table::introspect(&db, "t", None).unwrap();
    let exposed = table
        .columns
        .iter()
        .map(|c| Exposed {
            name: c.name.clone(),
            json: c.name == "j",
            truncate: None,
        })
        .collect();
    Schema {
        version: 1,
        table,
        exposed,
        key_place: 0,
        hidden: Vec::new(),
        changes: None,
        written: None,
    }
}

fn parsed(body: &str) -> Vec<NewRow> {
    parse_rows(&schema(), &Scope::default(), body.as_bytes()).unwrap()
}

fn value(name: &str, json: &str) -> Value {
    let row = parsed(&format!(r#"{{"ts":"a","{name}":{json}}}"#)).remove(0);
    let column = schema().table.columns.iter().position(|c| c.name == name);
    let mut fields = row.fields.into_iter();
    fields.find(|(c, _)| Some(*c) == column).unwrap().1
}

#[test]
fn good_rows_become_values() {
    let text = |text: &str| Value::Text(text.into());
    for (name, json, expected) in [
        (
            "n",
            r#""9007199254740993""#,
            Value::Integer(9007199254740993),
        ),
        ("n", "-9223372036854775808", Value::Integer(i64::MIN)),
        ("n", "null", Value::Null),
        ("b", r#""AAE=""#, Value::Blob(vec![0, 1])),
        ("ok", "true", Value::Integer(1)),
        ("r", r#""-Infinity""#, Value::Real(f64::NEG_INFINITY)),
        (
            "r",
            "12345678901234567890123",
            Value::Real(12345678901234567890123.0),
        ),
        ("r", "1e3", Value::Real(1000.0)),
        ("ts2", r#""\u00e9\u0000""#, text("é\0")),
        ("any", "9223372036854775807", Value::Integer(i64::MAX)),
        (
            "j",
            r#"{"k": [12345678901234567890123, 1.0],"k":2}"#,
            text(r#"{"k": [12345678901234567890123, 1.0],"k":2}"#),
        ),
        ("j", r#""text""#, text(r#""text""#)),
    ] {
        assert_eq!(value(name, json), expected, "{name} {json}");
    }
    let rows = parsed(r#" [{"ts":"a","n":1}, {"n":2,"ts":"b"}, {"ts":"c"}] "#);
    assert!(rows[0].has_columns_of(&rows[1]) && !rows[1].has_columns_of(&rows[2]));
}

#[test]
fn bad_rows_are_refused_naming_the_field() {
    let deep = format!(
        r#"{{"ts":"a","j":{}1{}}}"#,
        "[".repeat(129),
        "]".repeat(129)
    );
    for (body, names) in [
        (r#"{"ts":"a","nope":1}"#, "nope"),
        (r#"{"ts":"a","TS":"b"}"#, "TS"),
        (r#"{"ts":5}"#, "ts"),
        (r#"{"ts":null}"#, "ts"),
        (r#"{"ts":"a","ts":"a"}"#, "more than once"),
        (r#"{"ts":"a","t\u0073":"a"}"#, "\"ts\" is given more"),
        (r#"{"n":1}"#, "ts"),
        (r#"{"ts":"a","n":1.5}"#, "n"),
        (r#"{"ts":"a","n":"five"}"#, "n"),
        (
            r#"{"ts":"a","n":9223372036854775808}"#,
            "\"n\" takes INTEGER",
        ),
        (r#"{"ts":"a","n":true}"#, "n"),
        (r#"{"ts":"a","any":12345678901234567890123}"#, "any"),
        (r#"{"ts":"a","r":1e999}"#, "r"),
        (r#"{"ts":"a","r":NaN}"#, "JSON"),
        (r#"{"ts":"a","r":"NaN"}"#, "\"r\" takes REAL"),
        (r#"{"ts":"a","ok":"yes"}"#, "ok"),
        (r#"{"ts":"a","b":"!"}"#, "b"),
        (r#"{"ts":"a","d":null}"#, "d"),
        (r#"{"ts":"a","r":[1]}"#, "r"),
        (r#"{"ts":"\ud800"}"#, "ts"),
        (r#"{"ts":"a","g":"x"}"#, "g"),
        (r#"{"id":1,"ts":"a"}"#, "id"),
        (&deep, "128 levels"),
        (r#"[{"ts":"a"},{"ts":7}]"#, "row 1"),
        (r#"[{"ts":"a"},7]"#, "row 1"),
        (r#"[{"ts":"a"}]7"#, "JSON"),
        (r#"[{"ts":"a"},]"#, "JSON"),
        ("[]", "empty"),
        ("{}", "empty"),
        ("7", "object"),
        ("{", "JSON"),
        ("", "JSON"),
    ] {
        match parse_rows(&schema(), &Scope::default(), body.as_bytes()) {
            Err(BadRows::Invalid(error)) => assert!(error.contains(names), "{body}: {error}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    let long = format!(r#"{{"ts":[{}]}}"#, "é".repeat(10_000).escape_debug());
    assert!(parse_rows(&schema(), &Scope::default(), long.as_bytes()).is_err());
}

#[test]
fn ten_thousand_rows_are_taken_and_no_more() {
    let body = |rows: usize| format!("[{}]", vec![r#"{"ts":""}"#; rows].join(","));
    assert_eq!(parsed(&body(MAX_ROWS)).len(), MAX_ROWS);
    let refused = parse_rows(&schema(), &Scope::default(), body(MAX_ROWS + 1).as_bytes());
    assert_eq!(refused, Err(BadRows::TooMany));
}

#[test]
fn depth_does_not_count_what_stands_in_strings() {
    assert_eq!(depth(r#"{"a[{\"[":[1,{"b":"]"}]}"#), 3);
    assert_eq!(depth("7"), 0);
}
