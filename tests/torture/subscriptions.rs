//! Where a subscription begins and ends when the daemon can't see, at that moment, all that there is.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::common::database::STOCK_SCHEMA;
use crate::common::subscriber::Received;
use crate::common::{Daemon, STOCK_FEED, STOCK_SSE, ids};
use crate::scale::sized;

const INSERT_MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?1)
    INSERT INTO remediation_events(ts) SELECT i FROM n";

/// The daemon reads a transaction of a million rows for seconds, and none of them is news to who comes after its commit.
#[test]
fn rows_committed_before_a_subscription_are_not_sent_to_it_however_many_there_are() {
    let rows = sized(150_000, 1_500_000);
    let walcast = Daemon::start_new();
    let connection = walcast.database().connect();
    connection
        .execute_batch("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0")
        .expect("pragmas");
    let inserted = connection.execute(INSERT_MANY, [rows]);
    inserted.expect("rows are inserted");
    let mut plain = walcast.subscribe("");
    let mut filtered = walcast.subscribe("tenant=acme");
    let mut now = walcast.subscribe("since=now");
    let mut last = walcast.subscribe("last=2");
    let mut stream = walcast.event_source(STOCK_SSE, &[]);
    let hello = now.expect("hello");
    assert_eq!(
        (&hello["since"], &hello["head"]),
        (&rows.into(), &rows.into())
    );
    assert_eq!(now.replay(), (vec![], rows));
    last.expect("hello");
    assert_eq!(last.replay(), (vec![rows - 1, rows], rows));
    let next = walcast.database().insert("after the subscriptions");
    assert_eq!(next, rows + 1);
    for subscriber in [&mut plain, &mut filtered, &mut now, &mut last] {
        assert_eq!(ids(&subscriber.next_rows(1)), [next]);
    }
    stream.expect_position();
    assert_eq!(stream.next_row(), next);
}

/// With a rollback journal a writer may keep its lock between transactions, and the daemon sees none of them.
#[test]
fn rows_committed_under_a_lock_before_a_subscription_are_not_sent_to_it() {
    let walcast = Daemon::on_new_file()
        .with_tables(STOCK_SCHEMA)
        .toml("journal_mode = \"keep\"\n[feeds.remediation]\ncreate = false\n")
        .start();
    walcast.wait_until_ready();
    let writer = walcast.database().connect();
    writer
        .query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))
        .expect("a pragma");
    let insert = |details: &str| crate::common::database::insert(&writer, "acme", details);
    assert_eq!(insert("before"), 1);
    let mut plain = walcast.subscribe("");
    let mut filtered = walcast.subscribe("tenant=acme");
    let mut stream = walcast.event_source(STOCK_SSE, &[]);
    assert_eq!(insert("after"), 2);
    drop(writer);
    for subscriber in [&mut plain, &mut filtered] {
        assert_eq!(ids(&subscriber.next_rows(1)), [2]);
    }
    stream.expect_position();
    assert_eq!(stream.next_row(), 2);
}

/// Pages in the middle of the table are damaged, those at its end are not: rows go on coming, and who asks for those in
/// the middle is told that it can't have them.
#[test]
fn a_replay_that_can_not_be_read_does_not_hang_in_silence() {
    let walcast = Daemon::start_new();
    let database = walcast.database();
    let connection = database.connect();
    connection
        .execute(INSERT_MANY, [50_000])
        .expect("rows are inserted");
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("a checkpoint");
    walcast.wait_for_head(50_000);
    // Before the first statement: closing the file would release the locks of this process alone.
    let pages = database.number("PRAGMA page_count") as u64;
    let file = File::options()
        .write(true)
        .open(database.path())
        .expect("the file can be opened");
    let middle = pages / 2;
    for page in middle..middle + 10 {
        let garbage = [0xff; 4096];
        file.write_all_at(&garbage, page * 4096)
            .expect("the file can be written");
    }
    let mut replay = walcast.subscribe_to(STOCK_FEED, "since=earliest");
    replay.expect("hello");
    loop {
        match replay.receive() {
            Received::Text(text) if text.contains("_event") => {}
            Received::Text(text) => break assert!(text.contains("waiting"), "{text}"),
            Received::Closed(code) => break assert_eq!(code, Some(1013)),
        }
    }
}
