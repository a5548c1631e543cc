//! What is posted, and in which order.

use serde_json::json;

use crate::common::database::STOCK_SCHEMA;
use crate::common::{Daemon, Database, directory, wait_until};
use crate::receiver::{Answer, Receiver};
use crate::setup::{counted, failures, state, wait_for_state, with_sink};

#[test]
fn rows_are_posted_as_a_websocket_has_them() {
    let receiver = Receiver::start();
    let settings = with_sink(Daemon::on_new_file(), &receiver.url(), "");
    let daemon = settings.start();
    wait_for_state(&daemon, "live");
    let mut subscriber = daemon.subscribe("");
    let long = "é".repeat(600);
    let mut last = 0;
    for _ in 0..3 {
        last = daemon.database().insert(&long);
    }
    assert_eq!(receiver.ids_up_to(last), [1, 2, 3]);
    let epoch = daemon.epoch();
    let posts = receiver.posts();
    for post in &posts {
        let body = post.json();
        assert_eq!(
            (&body["feed"], &body["epoch"]),
            (&json!("remediation"), &json!(epoch))
        );
        assert_eq!(post.header("content-type"), "application/json");
        let last = post.ids().pop().expect("a body has rows");
        assert_eq!(post.header("webhook-id"), format!("{epoch}:{last}"));
    }
    let messages: Vec<_> = posts.iter().flat_map(|post| post.messages()).collect();
    let frames: Vec<_> = (0..3).map(|_| subscriber.next_frame()).collect();
    assert_eq!(messages, frames, "cut as it is for a WebSocket");
    wait_until("all is counted", || counted(&daemon, "rows_total") == 3.0);
    assert_eq!(counted(&daemon, "lag_rows"), 0.0);
    assert_eq!(counted(&daemon, "lag_seconds"), 0.0);
}

#[test]
fn the_first_start_begins_where_it_is_told_to() {
    for (keys, first) in [("", 6), ("since = \"earliest\"", 1), ("since = 3", 4)] {
        let receiver = Receiver::start();
        let settings = with_sink(Daemon::on_new_file(), &receiver.url(), keys);
        Database::at(settings.database_path()).execute(STOCK_SCHEMA);
        Database::at(settings.database_path()).insert_many(5);
        let daemon = settings.start();
        wait_for_state(&daemon, "live");
        let last = daemon.database().insert("new");
        assert_eq!(
            receiver.ids_up_to(last),
            (first..=6).collect::<Vec<i64>>(),
            "{keys}"
        );
    }
}

#[test]
fn a_body_holds_a_hundred_rows_at_most() {
    let receiver = Receiver::start();
    let settings = with_sink(
        Daemon::on_new_file(),
        &receiver.url(),
        "since = \"earliest\"",
    );
    let daemon = settings.start();
    daemon.fill(1_050);
    assert_eq!(receiver.ids_up_to(1_050), (1..=1_050).collect::<Vec<i64>>());
    let sizes: Vec<usize> = receiver
        .posts()
        .iter()
        .map(|post| post.ids().len())
        .collect();
    assert!(
        sizes.iter().all(|size| (1..=100).contains(size)),
        "{sizes:?}"
    );
    assert!(
        sizes.contains(&100),
        "rows go together where there are many: {sizes:?}"
    );
}

#[test]
fn a_receiver_that_takes_less_at_once_is_sent_less() {
    let receiver = Receiver::start();
    receiver.take_at_most(8_000);
    let settings = with_sink(
        Daemon::on_new_file(),
        &receiver.url(),
        "since = \"earliest\"",
    );
    let daemon = settings.start();
    daemon.fill(300);
    receiver.wait_until("all rows were taken", |posts| {
        let taken = posts.iter().filter(|post| post.body.len() <= 8_000);
        taken.flat_map(|post| post.ids()).last() == Some(300)
    });
    let posts = receiver.posts();
    let taken = posts.iter().filter(|post| post.body.len() <= 8_000);
    let ids: Vec<i64> = taken.flat_map(|post| post.ids()).collect();
    assert_eq!(ids, (1..=300).collect::<Vec<i64>>());
    assert!(failures(&daemon, "client_error") >= 1.0);
}

#[test]
fn only_rows_that_match_are_posted() {
    let receiver = Receiver::start();
    let keys = "where = { tenant = [\"globex\", \"initech\"], status = \"success\" }";
    let daemon = with_sink(Daemon::on_new_file(), &receiver.url(), keys).start();
    wait_for_state(&daemon, "live");
    for tenant in ["acme", "globex", "acme", "initech", "acme"] {
        daemon.database().insert_for(tenant, "x");
    }
    assert_eq!(receiver.ids_up_to(4), [2, 4]);
    // The row behind it is none of this sink's, and so nothing that waits.
    wait_until("nothing waits", || counted(&daemon, "lag_rows") == 0.0);
}

#[test]
fn a_filter_on_a_column_that_is_not_there_waits_for_it() {
    let receiver = Receiver::start();
    let keys = "where = { region = \"eu\" }\nsince = \"earliest\"";
    let daemon = with_sink(Daemon::on_new_file(), &receiver.url(), keys).start();
    daemon.wait_for_log("compares the column region, which feed remediation does not show");
    assert_eq!(state(&daemon)["state"], "waiting");
    daemon
        .database()
        .execute("ALTER TABLE remediation_events ADD COLUMN region TEXT");
    daemon
        .database()
        .execute("INSERT INTO remediation_events(ts, region) VALUES ('t', 'us'), ('t', 'eu')");
    assert_eq!(receiver.ids_up_to(2), [2]);
}

#[test]
fn a_table_that_nobody_has_made_yet_is_posted_whole() {
    let receiver = Receiver::start();
    let directory = directory();
    let settings = with_sink(Daemon::on(directory.path()), &receiver.url(), "");
    let text = settings.toml_text();
    let text = text.replace("[feeds.remediation]", "[feeds.remediation]\ncreate = false");
    let settings = settings.toml(text);
    let daemon = settings.start();
    wait_for_state(&daemon, "waiting");
    // Written while the daemon is down: the sink has been there before it.
    let settings = daemon.stop();
    Database::with_stock_table(directory.path()).insert_many(3);
    let _daemon = settings.start();
    assert_eq!(receiver.ids_up_to(3), [1, 2, 3]);
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = Receiver::start();
    let receiver = Receiver::start();
    receiver.answer_next(&[Answer(307, "Location: https://127.0.0.1:1/\r\n")]);
    let daemon = with_sink(
        Daemon::on_new_file(),
        &receiver.url(),
        "since = \"earliest\"",
    )
    .start();
    let id = daemon.database().insert("x");
    receiver.wait_until("it is posted again", |posts| posts.len() == 2);
    assert_eq!(receiver.ids_up_to(id), [1]);
    assert_eq!(failures(&daemon, "redirect"), 1.0);
    assert!(elsewhere.posts().is_empty());
}
