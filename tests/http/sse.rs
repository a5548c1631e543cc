//! Server-sent events.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::common::database;
use crate::common::wait::pause;
use crate::common::{Daemon, STOCK_SSE, StopAtEnd};

#[test]
fn a_plain_stream_has_rows_with_ids_and_no_control_events() {
    let walcast = Daemon::start_new();
    walcast.database().insert("before");
    let mut stream = walcast.event_source("/sse/remediation?tenant=acme", &[]);
    assert_eq!(stream.expect_position(), format!("{}:1", walcast.epoch()));
    assert_eq!(
        stream.header("cache-control"),
        Some("no-cache, no-transform"),
        "else compressing proxies hold events back"
    );
    let mut socket = walcast.subscribe("");
    walcast.database().insert_for("other", "filtered out");
    walcast.database().insert("line one\nline two");
    socket.next_row();
    let same = socket.next_text();
    let event = stream.next().expect("a row");
    assert_eq!(event.data, Some(same));
    assert_eq!(event.id, Some(format!("{}:3", walcast.epoch())));
    assert_eq!(event.name, None);
    walcast.signal(libc::SIGTERM);
    assert_eq!(stream.next(), None, "it ends without a goodbye");
}

#[test]
fn a_stream_resumes_from_the_last_event_id() {
    let walcast = Daemon::start_new();
    walcast.database().insert_many(4);
    let epoch = walcast.epoch();
    for (id, since, recovered) in [
        (format!("{epoch}:2"), 2, true),
        (format!("{epoch}:4"), 4, true),
        (format!("{epoch}:5"), 0, false),
        ("another:2".to_owned(), 0, false),
        ("nonsense".to_owned(), 0, false),
    ] {
        // What EventSource remembers goes before what the page asked for at first.
        for query in ["", "?last=1", "?since=now"] {
            let path = format!("/sse/remediation{query}");
            let mut stream = walcast.event_source(&path, &[("Last-Event-ID", &id)]);
            let hello = stream.expect("hello");
            assert_eq!(hello["since"], since, "{id}");
            assert_eq!(hello["recovered"], recovered, "{id}");
            for row in since + 1..=4 {
                assert_eq!(stream.next_row(), row, "{id}");
            }
            assert_eq!(stream.expect("live")["id"], 4);
        }
    }
    let mut empty = walcast.event_source(STOCK_SSE, &[("Last-Event-ID", "")]);
    walcast.database().insert("next");
    assert_eq!(empty.next_row(), 5);
}

#[test]
fn a_resumable_stream_gets_control_events_to_the_end() {
    let mut walcast = Daemon::start_new();
    walcast.database().insert_many(3);
    let mut stream = walcast.event_source("/sse/remediation?last=2", &[]);
    assert_eq!(stream.expect("hello")["since"], 1);
    assert_eq!([stream.next_row(), stream.next_row()], [2, 3]);
    assert_eq!(stream.expect("live"), json!({"type": "live", "id": 3}));
    walcast.database().insert("live");
    assert_eq!(stream.next_row(), 4);
    walcast.signal(libc::SIGTERM);
    assert!(stream.expect("goodbye")["reconnect_after_ms"].is_u64());
    assert_eq!(stream.next(), None);
    assert!(walcast.wait_for_exit().success());
}

#[test]
fn a_stream_that_breaks_before_its_first_row_misses_none() {
    let walcast = Daemon::start_new();
    walcast.database().insert_many(3);
    let epoch = walcast.epoch();
    for path in [
        STOCK_SSE,
        "/sse/remediation?tenant=acme&_=17",
        "/sse/remediation?since=now",
        "/sse/remediation?since=earliest",
        "/sse/remediation?last=5",
        "/sse/remediation?tenant=nobody&last=5",
    ] {
        let head = walcast.database().rows().len() as i64;
        let mut stream = walcast.event_source(path, &[]);
        match path.contains("since") || path.contains("last") {
            true => drop(stream.expect("hello")),
            false => drop(stream.expect_position()),
        }
        let last_id = stream.last_id().to_owned();
        let (history, position) = last_id.rsplit_once(':').expect("an epoch and an id");
        assert_eq!(history, epoch, "{path}");
        let position = position.parse::<i64>().expect("an id");
        drop(stream);
        walcast.database().insert("while nobody was connected");
        // By a header as browsers do, and by a parameter as polyfills do.
        let path = path.replace("nobody", "acme");
        let separator = if path.contains('?') { '&' } else { '?' };
        let parameter = format!(
            "{path}{separator}lastEventId={}",
            last_id.replace(':', "%3A")
        );
        for (path, headers) in [
            (&path, &[("Last-Event-ID", &*last_id)][..]),
            (&parameter, &[]),
        ] {
            let mut back = walcast.event_source(path, headers);
            assert_eq!(back.expect("hello")["recovered"], true, "{path}");
            for row in position + 1..=head + 1 {
                assert_eq!(back.next_row(), row, "{path}");
            }
            let live = back.expect("live");
            assert_eq!(back.last_id(), format!("{epoch}:{}", live["id"]));
        }
    }
}

#[test]
fn control_events_carry_the_position_they_are_sent_at() {
    let walcast = Daemon::start_new();
    walcast.database().insert_many(4);
    let epoch = walcast.epoch();
    let mut stream = walcast.event_source("/sse/remediation?last=2&tenant=nobody", &[]);
    stream.expect("hello");
    stream.expect("live");
    assert_eq!(
        stream.last_id(),
        format!("{epoch}:4"),
        "past what the filter leaves out"
    );
    walcast.database().replace_with(|new| {
        new.insert_many(2);
    });
    let reset = stream.expect("reset");
    let new = reset["epoch"].as_str().expect("an epoch").to_owned();
    assert!(stream.last_id().starts_with(&new), "{}", stream.last_id());
    stream.expect("live");
    assert_eq!(stream.last_id(), format!("{new}:2"));
}

#[test]
fn a_stream_that_waits_for_its_table_misses_none_of_it_either() {
    let walcast = Daemon::on_new_file().stock_feed("create = false").start();
    let mut stream = walcast.event_source(STOCK_SSE, &[]);
    let last_id = stream.expect_position();
    drop(stream);
    walcast.database().execute(database::STOCK_SCHEMA);
    walcast.database().insert("the first");
    walcast.wait_for_head(1);
    let mut back = walcast.event_source(STOCK_SSE, &[("Last-Event-ID", &last_id)]);
    back.expect("hello");
    assert_eq!(back.next_row(), 1);
}

#[test]
fn a_drain_tells_streams_to_come_back_at_different_times() {
    const CLIENTS: usize = 12;
    let walcast = Daemon::start_new();
    let open = |path: &str| walcast.event_source(path, &[]);
    let mut plain: Vec<_> = (0..CLIENTS).map(|_| open(STOCK_SSE)).collect();
    let resumable = || open("/sse/remediation?since=now");
    let mut resumable: Vec<_> = (0..CLIENTS).map(|_| resumable()).collect();
    for stream in &mut plain {
        stream.expect_position();
    }
    for stream in &mut resumable {
        stream.expect("hello");
        stream.expect("live");
    }
    walcast.signal(libc::SIGTERM);
    let retry = |line: Option<String>| {
        let line = line.expect("a line");
        line.strip_prefix("retry: ").expect("a time").parse::<u64>()
    };
    let mut times = vec![];
    for stream in &mut plain {
        times.push(retry(stream.line()).expect("milliseconds"));
        assert_eq!(stream.line(), None);
    }
    for stream in &mut resumable {
        let event = stream.next().expect("a goodbye");
        assert_eq!(event.name.as_deref(), Some("goodbye"));
        let after = event.json()["reconnect_after_ms"].clone();
        assert_eq!(event.retry, Some(after.to_string()));
        times.push(after.as_u64().expect("milliseconds"));
    }
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > CLIENTS, "{times:?}");
    assert!(times[0] >= 250, "{times:?}");
}

#[test]
fn a_replaced_history_ends_plain_streams_and_resets_resumable_ones() {
    let walcast = Daemon::start_new();
    walcast.database().insert_many(5);
    let old = walcast.epoch();
    let mut plain = walcast.event_source(STOCK_SSE, &[]);
    let mut resumable = walcast.event_source("/sse/remediation?since=4", &[]);
    resumable.expect("hello");
    assert_eq!(resumable.next_row(), 5);
    resumable.expect("live");
    walcast.database().replace_with(|new| {
        new.insert_many(2);
    });
    assert_eq!(plain.next(), None);
    let reset = resumable.expect("reset");
    assert_ne!(reset["epoch"], json!(old));
    assert_eq!(reset["reason"], "database_replaced");
    assert_eq!([resumable.next_row(), resumable.next_row()], [1, 2]);
    assert_eq!(resumable.expect("live")["id"], 2);
    let id = format!("{old}:5");
    let mut back = walcast.event_source(STOCK_SSE, &[("Last-Event-ID", &id)]);
    assert_eq!(back.expect("hello")["recovered"], false);
    assert_eq!(back.next_row(), 1);
}

/// Takes 25 seconds: the time between comments.
#[test]
fn a_stream_gets_comments_while_its_filter_takes_nothing_of_a_busy_feed() {
    let walcast = Daemon::start_new();
    let mut idle = walcast.event_source("/sse/remediation?id=0", &[]);
    idle.expect_position();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let connection = walcast.database().connect();
            while !stop.load(Ordering::Relaxed) {
                database::insert(&connection, "acme", "for others");
                pause();
            }
        });
        let _stop_at_end = StopAtEnd(&stop);
        assert_eq!(idle.line().as_deref(), Some(":"));
    });
}
