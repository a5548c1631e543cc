//! Rows that an edge has no more, had from its upstream for who asks for them.

use std::time::Duration;

use serde_json::json;

use super::pair::{edge_of, epoch, guarded_pair, replayed};
use crate::common::event_source::EventSource;
use crate::common::subscriber::Received;
use crate::common::{Daemon, Subscriber, assert_ledger, wait_until};

const KEEP: &str = "[edge]\nkeep = { bytes = \"256KiB\" }\n";

/// An origin with rows up to the id that is given with it, and an edge that keeps the newest of them.
pub(super) fn pruned_pair() -> (Daemon, Daemon, i64) {
    let origin = Daemon::start_new();
    let edge = edge_of(&origin).toml(KEEP).start();
    edge.wait_until_ready();
    let head = origin.fill(20_000);
    edge.wait_for_head(head);
    wait_until_pruned(&edge, head / 2);
    (origin, edge, head)
}

fn wait_until_pruned(edge: &Daemon, upto: i64) {
    wait_until("old rows are gone", || {
        edge.feed()["earliest"].as_i64() > Some(upto)
    });
}

#[test]
fn rows_older_than_the_spool_come_from_upstream() {
    let (origin, edge, head) = pruned_pair();
    let query = format!("since=5&epoch={}", epoch(&origin));
    let (mut subscriber, hello) = edge.resume(&query);
    assert_eq!(
        (&hello["recovered"], &hello["since"]),
        (&json!(true), &json!(5))
    );
    let (ids, _) = subscriber.replay();
    assert_eq!(ids, (6..=head).collect::<Vec<_>>());
    // And it is live.
    let id = origin.database().insert("after");
    assert_eq!(subscriber.next_row()["id"], id);
    assert_ledger(subscriber.ledger(), &origin.database().rows()[5..]);
    // Several at once, in different places, and over server-sent events.
    std::thread::scope(|scope| {
        for since in [5, 700, 701, 4000, 9000] {
            let edge = &edge;
            scope.spawn(move || {
                let (mut subscriber, hello) = edge.resume(&format!("since={since}"));
                assert_eq!(hello["recovered"], true);
                let (ids, _) = subscriber.replay();
                assert_eq!(ids, (since + 1..=id).collect::<Vec<_>>());
            });
        }
    });
    let last = format!("{}:40", epoch(&origin));
    let headers = [("Last-Event-ID", last.as_str())];
    let mut events = EventSource::open(edge.address(), crate::common::clients::STOCK_SSE, &headers);
    assert_eq!(events.expect("hello")["recovered"], true);
    for id in 41..3000 {
        assert_eq!(events.next_row(), id);
    }
}

#[test]
fn filters_and_scopes_hold_for_rows_from_upstream() {
    let table = "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, item TEXT, note TEXT)";
    let pair = guarded_pair(table, KEEP);
    let (origin, edge) = (&pair.origin, &pair.edge);
    origin.database().execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
         INSERT INTO orders SELECT i, iif(i % 3 = 0, 'acme', 'globex'), iif(i % 2 = 0, 'even', 'odd'), hex(zeroblob(50)) FROM n",
    );
    let spool = edge.database();
    wait_until("old rows are gone", || {
        spool.number("SELECT ifnull(min(id), 0) FROM orders") > 6000
    });
    let bearer = format!("Bearer {}", pair.acme);
    let headers = [("Authorization", bearer.as_str())];
    for (query, step) in [("since=2", 3), ("since=2&item=even", 6)] {
        let mut subscriber =
            Subscriber::connect_with(edge.address(), "/ws/orders", query, &headers);
        assert_eq!(subscriber.expect("hello")["recovered"], true, "{query}");
        let (ids, _) = subscriber.replay();
        let wanted: Vec<i64> = (1..=12_000 / step).map(|i| i * step).collect();
        assert_eq!(ids, wanted, "{query}");
        let shown = subscriber.ledger()[0]
            .as_object()
            .expect("a row is an object");
        assert!(!shown.contains_key("customer"), "{shown:?}");
    }
}

#[test]
fn what_is_not_to_be_had_upstream_either_is_told() {
    let (origin, edge, head) = pruned_pair();
    let gone = "DELETE FROM remediation_events WHERE id <= 100";
    origin.database().execute(gone);
    for (query, recovered) in [
        ("since=50".to_owned(), false),
        ("since=100".to_owned(), true),
        ("since=200&epoch=foreign".to_owned(), false),
        (format!("since=200&epoch={}", epoch(&origin)), true),
    ] {
        let (mut subscriber, hello) = edge.resume(&query);
        assert_eq!(hello["recovered"], recovered, "{query}");
        let (ids, _) = subscriber.replay();
        let first = hello["since"].as_i64().expect("an id") + 1;
        assert_eq!(ids, (first..=head).collect::<Vec<_>>(), "{query}");
    }
    let settings = origin.kill();
    let (mut subscriber, hello) = edge.resume("since=5000");
    assert_eq!(hello["recovered"], false);
    let (ids, _) = subscriber.replay();
    let earliest = edge.feed()["earliest"].as_i64().expect("it has rows");
    assert_eq!(ids, (earliest..=head).collect::<Vec<_>>());
    let _origin = settings.start();
    wait_until("the origin is asked again", || {
        edge.resume("since=5000").1["recovered"] == true
    });
}

#[test]
fn an_upstream_that_is_silent_is_not_taken_for_one_that_has_no_rows() {
    let (origin, edge, head) = pruned_pair();
    origin.freeze();
    let mut subscriber = edge.subscribe_to("/ws/remediation", "since=5000");
    match subscriber.receive_within(Duration::from_secs(60)) {
        Some(Received::Closed(code)) => assert_eq!(code, Some(1013)),
        other => panic!("not closed: {other:?}"),
    }
    // What the edge has itself is served meanwhile.
    let (_, hello) = edge.resume(&format!("since={}", head - 1));
    assert_eq!(hello["recovered"], true);
    assert_eq!(edge.metric("walcast_edge_older_reads_waiting"), 0.0);
    origin.signal(libc::SIGCONT);
    let (mut subscriber, hello) = edge.resume("since=5000");
    assert_eq!(hello["recovered"], true);
    assert_eq!(subscriber.replay().0, (5001..=head).collect::<Vec<_>>());
}

#[test]
fn who_reads_older_rows_when_upstream_goes_is_told() {
    // More than sockets hold on the way.
    const ROWS: i64 = 3600;
    let origin = Daemon::start_new();
    let edge = edge_of(&origin).toml(KEEP).start();
    edge.wait_until_ready();
    for part in 1..=6 {
        origin.database().execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS} / 6)
             INSERT INTO remediation_events(ts, alertname, tenant, action, status, details)
               SELECT '2026-01-01T00:00:00Z', 'Large', 'acme', 'restart', 'success', hex(zeroblob(2000)) FROM n"
        ));
        edge.wait_for_head(part * ROWS / 6);
    }
    wait_until_pruned(&edge, ROWS / 2);
    let mut slow = edge.subscribe_slow("/ws/remediation", "since=5");
    assert_eq!(slow.expect("hello")["recovered"], true);
    let first = slow.next_row();
    assert_eq!(first["id"], 6);
    let _settings = origin.kill();
    slow.enlarge_buffer();
    let mut reached = 6;
    // What came is in order; then it is told to come back, or has all it wanted.
    loop {
        match slow.receive_within(Duration::from_secs(60)) {
            Some(Received::Text(text)) => {
                let frame = serde_json::from_str(&text).expect("a frame is JSON");
                if let Some(row) = crate::common::subscriber::row_of(&frame) {
                    assert_eq!(row["id"], reached + 1);
                    reached += 1;
                }
            }
            Some(Received::Closed(code)) => {
                assert_eq!(code, Some(1012));
                break;
            }
            other => panic!("neither rows nor a close: {other:?}"),
        }
    }
    assert!(reached < ROWS);
    let (_subscriber, hello) = edge.resume(&format!("since={reached}"));
    assert_eq!(hello["recovered"], false);
}

#[test]
fn an_edge_of_an_edge_that_keeps_little_goes_on_where_it_was() {
    let origin = Daemon::start_new();
    let first = edge_of(&origin).toml(KEEP).start();
    first.wait_until_ready();
    let second = edge_of(&first).start();
    second.wait_until_ready();
    let before = origin.fill(100);
    second.wait_for_head(before);
    let settings = second.stop();
    let head = origin.fill(20_000);
    first.wait_for_head(head);
    wait_until_pruned(&first, head / 2);
    let second = settings.start();
    second.wait_for_head(head);
    let (subscriber, ids) = replayed(&second, "since=earliest");
    assert_eq!(ids, (1..=head).collect::<Vec<_>>());
    assert_ledger(subscriber.ledger(), &origin.database().rows());
    assert!(!second.log().contains("had from the first on"));
}
