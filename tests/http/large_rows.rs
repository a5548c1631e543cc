//! Rows that are larger than a message may be.

use serde_json::json;

use crate::common::{Daemon, STOCK_EVENTS};

#[test]
fn a_row_too_large_is_cut_and_says_so() {
    let walcast = Daemon::on_new_file()
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
    let history = walcast.get(STOCK_EVENTS).json();
    assert_eq!(history["truncated"], json!({"2": ["alertname"]}));
    let cut = history["items"][0]["alertname"].as_str().expect("text");
    assert!(cut.len() < 1024 && cut.chars().all(|c| c == '0'), "{cut}");
    assert_eq!(history["items"][1]["details"], "short");
}

/// Clients bound what they take: a Python client takes 1 MiB, the default here, and not a byte more.
#[test]
fn a_cut_message_is_no_larger_than_max_row_bytes() {
    let walcast = Daemon::on_new_file()
        .option("--max-row-bytes", "1024")
        .start();
    let mut subscriber = walcast.subscribe("");
    walcast
        .database()
        .execute("INSERT INTO remediation_events(ts, alertname) VALUES ('t', hex(zeroblob(4000)))");
    let text = subscriber.next_text();
    assert!(text.len() <= 1024, "{} bytes", text.len());
}
