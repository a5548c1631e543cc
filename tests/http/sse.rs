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
        let first = idle.next();
        assert!(first.is_some_and(|event| event.comment));
    });
}
