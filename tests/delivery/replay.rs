//! From replay to live without a gap, and subscribers that are slow.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::common::database::{insert, insert_many};
use crate::common::{Daemon, StopAtEnd, Subscriber, assert_ledger, id, ids};

/// Takes rows and `live`, which must come exactly once, until it has come and `enough` rows with it.
fn read_until(subscriber: &mut Subscriber, enough: impl Fn(&[Value]) -> bool) {
    let mut live = false;
    while !live || !enough(subscriber.ledger()) {
        if let Some(frame) = subscriber.next_row_or_frame() {
            assert_eq!(frame["type"], "live", "unexpected: {frame}");
            assert!(!live, "live came twice");
            live = true;
        }
    }
}

#[test]
fn a_replay_beside_concurrent_writers_has_no_gap_no_double_and_no_disorder() {
    // Who is live already reads nothing until the others are.
    let walcast = Daemon::on_new_file()
        .option("--write-timeout", "10m")
        .start();
    let database = walcast.database();
    database.insert_many(12_000);
    let stop = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        // They go on until every reader has gone from replay to live; but one that never waits would be ahead for ever of readers that a
        // busy machine keeps from reading.
        let _stop_at_end = StopAtEnd(&stop);
        scope.spawn(|| {
            let mut writer = database.connect();
            for _ in 0..3_000 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                insert(&writer, "acme", "single");
                insert_many(&mut writer, 5);
            }
        });
        scope.spawn(|| {
            let mut python = database.python();
            while !stop.load(Ordering::Relaxed) {
                python.insert(1);
            }
        });
        let queries = ["since=earliest", "since=10000", "last=10000", "since=0"];
        let readers = queries.map(|query| {
            let mut subscriber = walcast.subscribe(query);
            scope.spawn(move || {
                let hello = subscriber.expect("hello");
                assert_eq!(hello["recovered"], true);
                let head = id_of(&hello["head"]);
                read_until(&mut subscriber, |rows| {
                    rows.last().is_some_and(|row| id(row) > head + 100)
                });
                (subscriber, id_of(&hello["since"]))
            })
        });
        readers.map(|reader| reader.join().unwrap())
    });
    let rows = database.rows();
    for (mut subscriber, since) in read {
        subscriber.rows_to(rows.len() as i64);
        assert_ledger(subscriber.ledger(), &rows[since as usize..]);
    }
}

fn id_of(value: &Value) -> i64 {
    value.as_i64().expect("an id is a number")
}

#[test]
fn last_gives_the_newest_rows_oldest_first_then_live() {
    let walcast = Daemon::start_new();
    let database = walcast.database();
    walcast.fill(50);
    let mut subscriber = walcast.subscribe("last=3");
    assert_eq!(subscriber.expect("hello")["since"], 47);
    assert_eq!(ids(&subscriber.next_rows(3)), [48, 49, 50]);
    assert_eq!(subscriber.expect("live")["id"], 50);
    database.insert("one more");
    assert_eq!(subscriber.next_row()["id"], 51);
    let (mut all, _) = walcast.resume("last=10000");
    all.rows_to(51);
    assert_ledger(all.ledger(), &database.rows());
}

const BIG_ROWS: usize = 2_500;

/// A daemon with a feed of large rows, of which there are none yet.
fn start_with_big_table() -> Daemon {
    // Who reads nothing meanwhile stays, however long others take on a busy machine.
    let walcast = Daemon::on_new_file()
        .toml("[feeds.big]\n")
        .option("--write-timeout", "10m")
        .start();
    walcast
        .database()
        .execute("CREATE TABLE big(id INTEGER PRIMARY KEY AUTOINCREMENT, payload TEXT)");
    walcast.wait_until_ready();
    walcast
}

/// 25 MB in transactions of a hundred rows, which stay large where they are compressed.
fn write_big_rows(walcast: &Daemon) {
    let mut writer = walcast.database().connect();
    writer.pragma_update(None, "synchronous", "OFF").unwrap();
    for _ in 0..BIG_ROWS / 100 {
        let transaction = writer.transaction().unwrap();
        for _ in 0..100 {
            transaction
                .execute(
                    "INSERT INTO big(payload) VALUES (hex(randomblob(5000)))",
                    [],
                )
                .unwrap();
        }
        transaction.commit().unwrap();
    }
}

/// Takes all big rows, in order. Only the beginning of a frame is looked at: to parse 50 MB would take longer than to
/// send them.
#[track_caller]
fn take_big_rows(subscriber: &mut Subscriber) {
    for id in 1..=BIG_ROWS {
        let text = subscriber.next_text();
        let expected = format!(r#"{{"type":"big_event","event":{{"id":{id},"payload":""#);
        assert!(text.starts_with(&expected), "not row {id}: {text:.100}");
        assert!(text.len() > 10_000, "row {id} is cut");
    }
}

#[test]
fn a_slow_subscriber_delays_nobody_and_gets_everything() {
    let walcast = start_with_big_table();
    let slow = |query| walcast.subscribe_slow("/ws/big", query);
    let (mut slow_plain, mut slow_resumable) = (slow(""), slow("since=earliest"));
    slow_resumable.expect("hello");
    slow_resumable.expect("live");
    let mut fast = walcast.subscribe_to("/ws/big", "");
    std::thread::scope(|scope| {
        scope.spawn(|| write_big_rows(&walcast));
        // The slow ones have not read a row until this is done.
        take_big_rows(&mut fast);
    });
    for slow in [&mut slow_plain, &mut slow_resumable] {
        slow.enlarge_buffer();
        take_big_rows(slow);
    }
    assert!(
        walcast.metric(r#"walcast_catchup_reads_total{feed="big"}"#) > 0.0,
        "nobody was behind"
    );
    walcast
        .database()
        .execute("INSERT INTO big(payload) VALUES ('the end')");
    for subscriber in [&mut fast, &mut slow_plain, &mut slow_resumable] {
        assert_eq!(subscriber.next_row()["payload"], "the end");
    }
}

#[test]
fn a_checkpoint_is_not_starved_by_a_slow_replay() {
    let walcast = start_with_big_table();
    write_big_rows(&walcast);
    let _slow = walcast.subscribe_slow("/ws/big", "since=earliest");
    let connection = walcast.database().connect();
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(busy, 0, "somebody holds a read transaction");
}

#[test]
fn who_is_pruned_away_from_is_told() {
    let walcast = Daemon::start_new();
    let database = walcast.database();
    walcast.fill(20);
    database.execute("DELETE FROM remediation_events WHERE id <= 10");
    let told = [
        ("since=5", false, 10),
        ("since=9", false, 10),
        ("since=10", true, 10),
        ("since=15", true, 15),
        ("since=20", true, 20),
        ("since=21", false, 10),
        ("since=0", true, 10),
        ("since=earliest", true, 10),
    ];
    for (query, recovered, since) in told {
        let (mut subscriber, hello) = walcast.resume(query);
        assert_eq!(
            (&hello["recovered"], &hello["since"]),
            (&recovered.into(), &since.into()),
            "{query}"
        );
        let expected: Vec<i64> = (since + 1..=20).collect();
        assert_eq!(ids(&subscriber.next_rows(expected.len())), expected);
        assert_eq!(subscriber.expect("live")["id"], 20);
    }
}
