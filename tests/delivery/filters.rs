//! Filters: the same rows by replay and live, whatever the values.

use crate::common::database::insert;
use crate::common::{Daemon, assert_ledger, ids, wait_until};

const THINGS: &str = "CREATE TABLE things(
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, tenant TEXT, n INTEGER, r REAL, any, long TEXT)";
const THINGS_FEED: &str = "[feeds.things]\ntruncate = { long = 5 }\n";

const ROWS: &str = "INSERT INTO things(name, tenant, n, r, any, long) VALUES
    ('a', 'acme', 1, 0.5, 5, 'abcdefgh'),
    ('b', 'acme', 2, 1.0, '5', 'abcdexyz'),
    ('a', 'globex', NULL, NULL, NULL, NULL),
    ('', 'globex', -7, -1e300, x'00ff', ''),
    ('ä b&c=d', 'initech', 9007199254740993, 3.25, 5.0, 'abcde'),
    (NULL, NULL, 1, 1, 'A', 'ABCDEFGH')";

/// Query and the ids of ROWS it takes.
const CASES: [(&str, &[i64]); 20] = [
    ("name=a", &[1, 3]),
    ("name=a&name=b", &[1, 2, 3]),
    ("name=a&tenant=acme", &[1]),
    ("name=a&name=b&tenant=acme&tenant=globex", &[1, 2, 3]),
    ("name=", &[4]),
    ("name=%C3%A4%20b%26c%3Dd", &[5]),
    ("name=%C3%A4+b%26c%3Dd", &[5]),
    ("name=A", &[]),
    ("name=null", &[]),
    ("n=1", &[1, 6]),
    ("n=-7", &[4]),
    ("n=9007199254740993", &[5]),
    ("n=9007199254740992", &[]),
    ("r=0.5", &[1]),
    ("r=1", &[2, 6]),
    ("any=A", &[6]),
    ("any=5", &[1, 2, 5]),
    ("any=AP8%3D", &[4]),
    // The whole stored value counts, not what is sent of it.
    ("long=abcdefgh", &[1]),
    ("long=abcde", &[5]),
];

#[test]
fn a_filter_takes_the_same_rows_by_replay_and_live() {
    let walcast = Daemon::on_new_file()
        .with_tables(THINGS)
        .toml(THINGS_FEED)
        .start();
    let mut live: Vec<_> = CASES
        .iter()
        .map(|(query, _)| walcast.subscribe_to("/ws/things", query))
        .collect();
    walcast.database().execute(ROWS);
    // The end marker matches every filter there can be only if each gets its own; the head tells instead.
    wait_until("the rows were read", || {
        walcast.metric(r#"walcast_feed_head{feed="things"}"#) == 6.0
    });
    for ((query, expected), live) in CASES.iter().zip(&mut live) {
        let rows = live.next_rows(expected.len());
        assert_eq!(ids(&rows), *expected, "live, {query}");
        live.expect_nothing();
        let mut replay = walcast.subscribe_to("/ws/things", &format!("since=0&{query}"));
        replay.expect("hello");
        let replayed = replay.next_rows(expected.len());
        assert_eq!(ids(&replayed), *expected, "replay, {query}");
        assert_eq!(replay.expect("live")["id"], 6, "{query}");
        assert_eq!(rows, replayed, "{query}");
        let history = walcast.get(&format!("/api/feeds/things/events?{query}"));
        let mut items = history.json()["items"].as_array().unwrap().clone();
        items.reverse();
        assert_eq!(items, replayed, "history, {query}");
    }
}

#[test]
fn last_counts_the_rows_that_match() {
    let walcast = Daemon::start_new();
    let writer = walcast.database().connect();
    for n in 0..40 {
        insert(&writer, ["acme", "globex"][n % 2], "");
    }
    walcast.wait_for_head(40);
    let (mut subscriber, _) = walcast.resume("last=3&tenant=acme");
    assert_eq!(ids(&subscriber.next_rows(3)), [35, 37, 39]);
    assert_eq!(subscriber.expect("live")["id"], 40);
}

#[test]
fn each_of_many_tenants_gets_its_own_rows() {
    let walcast = Daemon::start_new();
    let database = walcast.database();
    let tenants: Vec<String> = (0..60).map(|n| format!("tenant-{n}")).collect();
    let mut plain: Vec<_> = tenants
        .iter()
        .map(|tenant| walcast.subscribe(&format!("tenant={tenant}")))
        .collect();
    let writer = database.connect();
    for n in 0..1200 {
        insert(&writer, &tenants[n % 60], &n.to_string());
    }
    let rows = database.rows();
    for (tenant, subscriber) in tenants.iter().zip(&mut plain) {
        let own: Vec<_> = rows
            .iter()
            .filter(|row| row["tenant"] == **tenant)
            .cloned()
            .collect();
        subscriber.next_rows(20);
        assert_ledger(subscriber.ledger(), &own);
        subscriber.expect_nothing();
    }
}
