//! Values of every kind, as text, because a number that is rounded on the way still compares equal as a float.

use serde_json::json;

use crate::common::Daemon;

#[test]
fn values_of_every_kind_arrive_as_promised() {
    let walcast = Daemon::on_new_file()
        .with_tables("CREATE TABLE things(id INTEGER PRIMARY KEY, v)")
        .toml("[feeds.things]\n")
        .start();
    let values = [
        ("NULL", "null"),
        ("0", "0"),
        ("-1", "-1"),
        ("9007199254740991", "9007199254740991"),
        ("-9007199254740991", "-9007199254740991"),
        ("9007199254740992", r#""9007199254740992""#),
        ("-9007199254740992", r#""-9007199254740992""#),
        ("9223372036854775807", r#""9223372036854775807""#),
        ("-9223372036854775808", r#""-9223372036854775808""#),
        ("0.1", "0.1"),
        ("-2.5e-8", "-2.5e-8"),
        ("1e308 * 10", r#""Infinity""#),
        ("-1e308 * 10", r#""-Infinity""#),
        ("'plain'", r#""plain""#),
        ("''", r#""""#),
        ("'\"\\' || char(10, 9, 1)", r#""\"\\\n\t\u0001""#),
        ("'grüße 😀'", r#""grüße 😀""#),
        ("CAST(x'61ff62' AS TEXT)", "\"a\u{fffd}b\""),
        ("x''", r#""""#),
        ("x'00ff10'", r#""AP8Q""#),
        ("'12'", r#""12""#),
    ];
    let mut plain = walcast.subscribe_to("/ws/things", "");
    for (index, (sql, expected)) in values.iter().enumerate() {
        let id = index + 1;
        walcast
            .database()
            .execute(&format!("INSERT INTO things VALUES ({id}, {sql})"));
        let frame = format!(r#"{{"type":"things_event","event":{{"id":{id},"v":{expected}}}}}"#);
        assert_eq!(plain.next_text(), frame, "{sql}");
    }
    let mut replay = walcast.subscribe_to("/ws/things", "since=0");
    replay.expect("hello");
    for (row, (sql, expected)) in replay.next_rows(values.len()).iter().zip(values) {
        assert_eq!(row["v"].to_string(), expected, "{sql}");
    }
}

#[test]
fn an_id_beyond_exact_numbers_is_a_string_and_still_a_cursor() {
    let walcast = Daemon::on_new_file()
        .with_tables("CREATE TABLE things(id INTEGER PRIMARY KEY, v)")
        .toml("[feeds.things]\n")
        .start();
    let mut plain = walcast.subscribe_to("/ws/things", "");
    walcast
        .database()
        .execute("INSERT INTO things VALUES (9007199254740993, 'a'), (9007199254740995, 'b')");
    assert_eq!(
        plain.next_row(),
        json!({"id": "9007199254740993", "v": "a"})
    );
    assert_eq!(
        plain.next_row(),
        json!({"id": "9007199254740995", "v": "b"})
    );
    let mut resumed = walcast.subscribe_to("/ws/things", "since=9007199254740993");
    let hello = resumed.expect("hello");
    assert_eq!(
        (&hello["since"], &hello["recovered"]),
        (&json!("9007199254740993"), &json!(true))
    );
    assert_eq!(resumed.next_row()["id"], "9007199254740995");
}

#[test]
fn columns_are_chosen_embedded_and_cut_as_configured() {
    let walcast = Daemon::on_new_file()
        .with_tables(
            "CREATE TABLE things(id INTEGER PRIMARY KEY, secret TEXT, doc TEXT, text TEXT)",
        )
        .toml(
            "[feeds.things]\nexclude = [\"secret\"]\njson = [\"doc\"]\ntruncate = { text = 3 }\n\
             message = { type = \"thing\", body = \"row\" }\n",
        )
        .start();
    let mut plain = walcast.subscribe_to("/ws/things", "");
    walcast.database().execute(
        r#"INSERT INTO things VALUES (1, 'x', '{"a": [1, null]}', 'äöüß'), (2, 'x', '{"a":', 'äöü'), (3, 'x', NULL, NULL)"#,
    );
    assert_eq!(
        plain.next_frame(),
        json!({"type": "thing", "row": {"id": 1, "doc": {"a": [1, null]}, "text": "äöü"}})
    );
    assert_eq!(
        plain.next_frame(),
        json!({"type": "thing", "row": {"id": 2, "doc": "{\"a\":", "text": "äöü"}})
    );
    assert_eq!(
        plain.next_frame(),
        json!({"type": "thing", "row": {"id": 3, "doc": null, "text": null}})
    );
}

#[test]
fn jsonb_is_embedded_where_it_is_valid_and_stays_a_blob_elsewhere() {
    let walcast = Daemon::on_new_file()
        .with_tables("CREATE TABLE things(id INTEGER PRIMARY KEY, doc JSONB, other BLOB)")
        .toml("[feeds.things]\njson = [\"doc\"]\n")
        .start();
    let values = [
        (
            r#"jsonb('{"a":[1,2.5,"x\n",null]}')"#,
            r#"{"a":[1,2.5,"x\n",null]}"#,
        ),
        (r#"'{"a": 1}'"#, r#"{"a": 1}"#),
        ("jsonb('7')", "7"),
        ("jsonb('{a:0x1f}')", r#"{"a":31}"#),
        ("x'00ff'", r#""AP8=""#),
        ("x'ffffffff'", r#""/////w==""#),
        ("x'cb37'", r#""yzc=""#),
        ("x''", r#""""#),
        ("NULL", "null"),
        ("5", "5"),
    ];
    let mut live = walcast.subscribe_to("/ws/things", "");
    for (index, (sql, expected)) in values.iter().enumerate() {
        let id = index + 1;
        walcast.database().execute(&format!(
            "INSERT INTO things VALUES ({id}, {sql}, jsonb('[1]'))"
        ));
        let row = format!(r#"{{"id":{id},"doc":{expected},"other":"KxMx"}}"#);
        let frame = format!(r#"{{"type":"things_event","event":{row}}}"#);
        assert_eq!(live.next_text(), frame, "{sql}");
    }
    let mut replay = walcast.subscribe_to("/ws/things", "since=0");
    replay.expect("hello");
    let items = walcast.get("/api/feeds/things/events").json()["items"].take();
    let items = items.as_array().expect("items").iter().rev();
    let rows = replay.next_rows(values.len());
    assert_eq!(rows, items.cloned().collect::<Vec<_>>());
    for (row, (sql, expected)) in rows.iter().zip(values) {
        let expected: serde_json::Value = serde_json::from_str(expected).expect("JSON");
        assert_eq!(row["doc"], expected, "{sql}");
    }
}

#[test]
fn details_are_cut_to_500_code_points() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    walcast.database().insert(&"ü😀".repeat(300));
    assert_eq!(plain.next_row()["details"], "ü😀".repeat(250));
}

#[test]
fn a_row_too_large_to_send_is_cut_and_says_so() {
    let walcast = Daemon::on_new_file()
        .with_tables(
            "CREATE TABLE things(id INTEGER PRIMARY KEY, short TEXT, long TEXT, bytes BLOB)",
        )
        .toml("[feeds.things]\n")
        .start();
    let mut plain = walcast.subscribe_to("/ws/things", "");
    walcast.database().execute(
        "INSERT INTO things VALUES (1, 'kept', hex(zeroblob(1000000)), zeroblob(1000000)), (2, 'next', 'x', NULL)",
    );
    let text = plain.next_text();
    assert!(text.len() <= (1 << 20) + 100, "{} bytes", text.len());
    let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(frame["truncated"], json!(["long", "bytes"]));
    assert_eq!(
        (&frame["event"]["id"], &frame["event"]["short"]),
        (&json!(1), &json!("kept"))
    );
    assert_eq!(
        plain.next_frame(),
        json!({"type": "things_event", "event": {"id": 2, "short": "next", "long": "x", "bytes": null}})
    );
}
