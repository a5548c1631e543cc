//! The goodbye of a daemon that stops.

use crate::common::{Daemon, STOCK_FEED, directory};

#[test]
fn a_drain_says_goodbye_to_resumable_subscribers_and_closes_all_with_1012() {
    let mut walcast = Daemon::start_new();
    walcast.database().insert("one");
    let mut plain = walcast.subscribe("");
    let (mut resumable, _) = walcast.resume("since=0");
    resumable.replay();
    walcast.signal(libc::SIGTERM);
    plain.expect_close(1012);
    let text = resumable.next_text();
    let milliseconds = text
        .strip_prefix(r#"{"type":"goodbye","reconnect_after_ms":"#)
        .and_then(|rest| rest.strip_suffix('}'))
        .and_then(|number| number.parse::<u64>().ok());
    assert!(milliseconds.is_some(), "{text}");
    resumable.expect_close(1012);
    drop((plain, resumable));
    assert!(walcast.wait_for_exit().success());
}

#[test]
fn who_is_behind_gets_goodbye_at_once_and_resumes_after() {
    const ROWS: i64 = 60_000;
    let dir = directory();
    let mut walcast = Daemon::start(dir.path());
    walcast.database().insert_many(ROWS as usize);
    let epoch = walcast.epoch();
    let mut behind = walcast.subscribe_slow(STOCK_FEED, "since=earliest");
    behind.expect("hello");
    walcast.signal(libc::SIGTERM);
    walcast.wait_for_log("stopping");
    let (mut ids, _) = behind.rows_until("goodbye");
    behind.expect_close(1012);
    assert!(ids.len() < ROWS as usize, "it was not behind");
    drop(behind);
    assert!(walcast.wait_for_exit().success());

    let walcast = Daemon::start(dir.path());
    let last = ids.last().copied().unwrap_or(0);
    let (mut resumed, hello) = walcast.resume(&format!("since={last}&epoch={epoch}"));
    assert_eq!(hello["recovered"], true);
    ids.extend(resumed.replay().0);
    assert!(ids.into_iter().eq(1..=ROWS), "rows are missing or doubled");
}
