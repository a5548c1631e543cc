//! What comes before the changes: the table as it is.

use serde_json::json;
use walcast::config::CaptureMode::Keys;

use crate::common::EventSource;
use crate::common::event_source::Event;
use crate::scenes::{Held, follow, follow_live, orders};

/// The next event, which must come.
#[track_caller]
fn next(events: &mut EventSource) -> Event {
    events.next().expect("the stream goes on")
}

const FILL: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000)
    INSERT INTO orders SELECT i, iif(i % 10, 'acme', 'globex'), i, hex(zeroblob(50)) FROM n";

#[test]
fn from_the_earliest_on_the_table_as_it_is_comes_first() {
    let walcast = orders(Keys, &["tenant"]);
    let database = walcast.database();
    database.execute(FILL);
    database.execute(
        "DELETE FROM orders WHERE id % 3 = 0; UPDATE orders SET total = -1 WHERE id % 7 = 0",
    );
    for (query, condition) in [("", "1"), ("&tenant=globex", "tenant = 'globex'")] {
        for since in ["since=earliest", "since=0", "since=3&epoch=other"] {
            let (mut subscriber, hello) = follow(&walcast, &format!("{since}{query}"));
            assert_eq!(hello["snapshot"], true);
            assert_eq!(
                (&hello["since"], hello["recovered"] == true),
                (&json!(0), since != "since=3&epoch=other")
            );
            let mut held = Held::default();
            let live = held.take_until_live(&mut subscriber);
            assert_eq!(live["id"], hello["head"]);
            let rows = subscriber.ledger();
            assert!(
                rows.iter()
                    .all(|row| row["op"] == "r" && row.get("seq").is_none())
            );
            let sql = format!("SELECT * FROM orders WHERE {condition}");
            assert_eq!(held, Held::of(&database, &sql, &["id"]));
        }
    }
}

#[test]
fn who_resumes_gets_changes_and_no_table() {
    let walcast = orders(Keys, &[]);
    let database = walcast.database();
    database.execute(FILL);
    let (_, hello) = follow(&walcast, "since=now");
    let (epoch, head) = (hello["epoch"].as_str().unwrap(), &hello["head"]);
    database.execute("DELETE FROM orders WHERE id = 5");
    let (mut subscriber, hello) = follow(&walcast, &format!("since={head}&epoch={epoch}"));
    assert_eq!(
        (&hello["recovered"], hello.get("snapshot")),
        (&json!(true), None)
    );
    assert_eq!(subscriber.next_row()["key"], json!({"id": 5}));
    subscriber.expect("live");
    // The newest of the log.
    let (mut subscriber, hello) = follow(&walcast, "last=2");
    assert_eq!(hello.get("snapshot"), None);
    assert_eq!(subscriber.next_rows(2)[1]["op"], "d");
    subscriber.expect("live");
}

#[test]
fn who_is_behind_what_was_pruned_begins_with_the_table() {
    let walcast = orders(Keys, &[]);
    let database = walcast.database();
    database.execute(FILL);
    let (mut live, hello) = follow(&walcast, "since=now");
    let epoch = hello["epoch"].as_str().unwrap();
    live.expect("live");
    database.execute("DELETE FROM orders WHERE id < 10");
    // What is pruned before it was seen is told as another history.
    live.next_rows(9);
    database.execute("DELETE FROM _walcast_orders WHERE seq < 5005");
    let (mut subscriber, hello) = follow(&walcast, &format!("since=4000&epoch={epoch}"));
    assert_eq!(
        (&hello["recovered"], &hello["snapshot"]),
        (&json!(false), &json!(true))
    );
    let mut held = Held::default();
    held.take_until_live(&mut subscriber);
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
    let (_, hello) = follow(&walcast, &format!("since=5004&epoch={epoch}"));
    assert_eq!(
        (&hello["recovered"], hello.get("snapshot")),
        (&json!(true), None)
    );
}

#[test]
fn a_stream_of_events_cut_off_in_the_table_begins_again() {
    let walcast = orders(Keys, &[]);
    let database = walcast.database();
    database.execute(FILL);
    let mut events = walcast.event_source("/sse/orders?since=earliest", &[]);
    let hello = next(&mut events);
    assert_eq!(hello.json()["snapshot"], true);
    let epoch = hello.json()["epoch"].as_str().unwrap().to_owned();
    assert_eq!(events.last_id(), format!("{epoch}:0"));
    assert_eq!(next(&mut events).json()["change"]["op"], "r");
    assert_eq!(events.last_id(), format!("{epoch}:0"));
    let last_id = events.last_id().to_owned();
    let mut again = walcast.event_source("/sse/orders", &[("Last-Event-ID", &last_id)]);
    assert_eq!(next(&mut again).json()["snapshot"], true);
    let mut held = Held::default();
    let live = loop {
        let event = next(&mut again);
        if event.name.as_deref() == Some("live") {
            break event;
        }
        held.apply(&event.json()["change"]);
    };
    assert_eq!(live.id, Some(format!("{epoch}:5000")));
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
}

#[test]
fn writes_while_the_table_is_sent_are_neither_lost_nor_undone() {
    let walcast = orders(Keys, &[]);
    let database = walcast.database();
    database.execute(FILL);
    let mut slow = walcast.subscribe_slow("/ws/orders", "since=earliest");
    slow.expect("hello");
    let mut held = Held::default();
    for round in 0..40 {
        database.execute(&format!(
            "DELETE FROM orders WHERE id % 97 = {round}; UPDATE orders SET total = {round} WHERE id % 89 = {round};
             INSERT INTO orders(tenant) VALUES ('new'); UPDATE orders SET id = id + 100000 WHERE id = {round} * 100 + 1"
        ));
        (0..40).for_each(|_| drop(held.take(&mut slow)));
    }
    slow.enlarge_buffer();
    held.take_until_live(&mut slow);
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
    let (_, fresh) = follow_live(&walcast, "since=earliest");
    assert_eq!(held, fresh);
}
