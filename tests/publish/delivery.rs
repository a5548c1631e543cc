//! Rows in the stream: each once, in order, whole.

use serde_json::json;

use crate::common::Daemon;
use crate::server::Server;
use crate::setup::{STREAM, counted, published, publishing, section, wait_for_state};
use crate::stored::{Client, ledger};

#[test]
fn rows_are_published_from_the_first_on_and_as_they_come() {
    let server = Server::start();
    let client = Client::of(&server);
    let settings = publishing(Daemon::on_new_file(), &server, "");
    let daemon = settings.start();
    wait_for_state(&daemon, "live");
    let last = daemon.fill(1_000);
    assert_eq!(
        ledger(&client.wait_for_row(STREAM, last)),
        (1..=1_000).collect::<Vec<i64>>()
    );
    // One row, followed by silence.
    let one = daemon.database().insert("one");
    let messages = client.wait_for_row(STREAM, one);
    assert_eq!(ledger(&messages), (1..=1_001).collect::<Vec<i64>>());
    let newest = messages.last().expect("there is one");
    assert_eq!((newest.first, newest.last), (one, one));
    assert!(messages.iter().all(|message| message.rows().len() <= 64));
    assert_eq!(counted(&daemon, "rows_total"), 1_001.0);
    assert_eq!(counted(&daemon, "lag_rows"), 0.0);
    assert_eq!(messages[0].epoch, daemon.epoch());
}

#[test]
fn a_table_that_was_there_is_published_too_unless_said() {
    for (keys, wanted) in [
        ("", (1..=301).collect::<Vec<i64>>()),
        ("backfill = false", vec![301]),
    ] {
        let server = Server::start();
        let client = Client::of(&server);
        let settings = publishing(Daemon::on_new_file(), &server, keys);
        let settings = settings.with_tables(crate::common::database::STOCK_SCHEMA);
        crate::common::Database::at(settings.database_path()).insert_many(300);
        let daemon = settings.start();
        wait_for_state(&daemon, "live");
        let last = daemon.database().insert("new");
        assert_eq!(ledger(&client.wait_for_row(STREAM, last)), wanted, "{keys}");
    }
}

#[test]
fn rows_travel_whole_with_what_they_are_of() {
    let server = Server::start();
    let client = Client::of(&server);
    let toml = format!(
        "[feeds.orders]\nexclude = [\"secret\"]\ntruncate = {{ note = 2 }}\n{}",
        section(&server, "")
    );
    let settings = Daemon::on_new_file().toml(toml).with_tables(
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, note TEXT, big INTEGER, data BLOB, secret TEXT);
         INSERT INTO orders VALUES (1, 'four', 9007199254740993, x'00ff', 's3cret')",
    );
    let _daemon = settings.start();
    let messages = client.wait_for_row("walcast_orders", 1);
    let lines = messages.last().expect("there is one").lines();
    assert_eq!(
        (&lines[0]["type"], &lines[0]["table"]),
        (&json!("table"), &json!("orders"))
    );
    assert_eq!(
        lines[1]["row"],
        json!([1, "four", {"$int": "9007199254740993"}, {"$blob": "AP8="}])
    );
    assert_eq!(lines[0]["schema"], lines[1]["schema"]);
}

#[test]
fn a_column_that_is_added_is_described_before_its_first_row() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let before = daemon.database().insert("before");
    client.wait_for_row(STREAM, before);
    daemon
        .database()
        .execute("ALTER TABLE remediation_events ADD COLUMN extra TEXT DEFAULT 'x'");
    let after = daemon.database().insert("after");
    let messages = client.wait_for_row(STREAM, after);
    assert_eq!(ledger(&messages), [before, after]);
    let lines = messages.last().expect("there is one").lines();
    let columns = lines[0]["columns"].as_array().expect("it has columns");
    assert_eq!(columns.last().expect("one at least")["name"], "extra");
    assert_eq!(
        lines[1]["row"].as_array().expect("a row").len(),
        columns.len()
    );
}

#[test]
fn a_row_that_is_larger_than_a_message_comes_in_parts() {
    // The server takes messages of 1 MB.
    const SIZE: usize = 3_000_000;
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let small = daemon.database().insert("small");
    let large = daemon.database().insert(&"x".repeat(SIZE));
    let last = daemon.database().insert("last");
    let messages = client.wait_for_row(STREAM, last);
    let parts: Vec<_> = messages
        .iter()
        .filter(|message| message.last == large)
        .collect();
    let numbers: Vec<&str> = parts.iter().map(|message| message.part.as_str()).collect();
    assert_eq!(numbers, ["1/3", "2/3", "3/3"]);
    assert!(parts.iter().all(|message| message.prev == small));
    let body: Vec<u8> = parts
        .iter()
        .flat_map(|message| message.body.clone())
        .collect();
    let row = body
        .split(|byte| *byte == b'\n')
        .nth(1)
        .expect("a description and a row");
    let row: serde_json::Value = serde_json::from_slice(row).expect("put together it is JSON");
    assert_eq!(row["row"][6].as_str().expect("a text").len(), SIZE);
    assert_eq!(
        messages.last().map(|message| (message.prev, message.last)),
        Some((large, last))
    );
}

#[test]
fn every_table_of_a_file_is_published_those_that_come_later_too() {
    let server = Server::start();
    let client = Client::of(&server);
    let keys = "stream_prefix = \"site1\"";
    let toml = format!(
        "feeds = \"*\"
{}",
        section(&server, keys)
    );
    let settings = Daemon::on_new_file().toml(toml);
    let daemon = settings
        .with_tables("CREATE TABLE a(id INTEGER PRIMARY KEY); INSERT INTO a VALUES (1)")
        .start();
    assert_eq!(ledger(&client.wait_for_row("site1_a", 1)), [1]);
    daemon
        .database()
        .execute("CREATE TABLE b(id INTEGER PRIMARY KEY); INSERT INTO b VALUES (7)");
    assert_eq!(ledger(&client.wait_for_row("site1_b", 7)), [7]);
}
