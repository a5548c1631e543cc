//! Clients that do not read or do not answer.

use std::io::Write;

use crate::common::multi::MULTI;
use crate::common::subscriber::Received;
use crate::common::{Daemon, STOCK_FEED, Subscriber, wait_until};
use crate::raw::{CLOSE, PING, TEXT, frame, next_frame, silent, silent_with};

/// How many clients may begin to read too late to be told why they were closed.
pub const ATTEMPTS: usize = 10;

#[test]
fn a_client_that_reads_nothing_is_closed_with_4008_and_delays_nobody() {
    let walcast = Daemon::on_new_file()
        .option("--write-timeout", "1s")
        .option("--log-level", "debug")
        .start();
    let last = walcast.database().insert_many(30_000);
    let is_told = (0..ATTEMPTS).any(|_| {
        let stuck = walcast.subscribe_slow(STOCK_FEED, "since=earliest");
        let code = end_of_who_reads_nothing(&walcast, stuck, last);
        walcast.has_told(4008, code)
    });
    assert!(is_told, "nobody is told why");
}

/// The code that a client is told which does not read before it is to be closed.
fn end_of_who_reads_nothing(walcast: &Daemon, mut stuck: Subscriber, last: i64) -> Option<u16> {
    let closed = || walcast.connection_errors("write_timeout");
    let before = closed();
    let (mut other, _) = walcast.resume("since=earliest");
    assert!(other.replay().0.len() >= 30_000);
    let next = walcast.database().insert("while the other is stuck");
    assert_eq!(other.next_row()["id"], next);
    wait_until("the write timeout has struck", || closed() > before);
    stuck.enlarge_buffer();
    stuck.expect("hello");
    let mut rows = 0;
    loop {
        match stuck.receive() {
            Received::Text(_) => rows += 1,
            Received::Closed(code) => {
                assert!(rows < last, "all {rows} rows came");
                return code;
            }
        }
    }
}

/// Takes a minute: a Ping comes after 25 s of silence, the end after 60.
#[test]
fn silence_brings_pings_heartbeats_and_4009() {
    let walcast = Daemon::start_new();
    walcast.database().insert("the head");
    let address = walcast.address();
    let plain = std::thread::spawn(move || {
        let mut stream = silent(address, STOCK_FEED);
        for _ in 0..2 {
            assert_eq!(next_frame(&mut stream), (PING, vec![]));
        }
        assert_eq!(
            next_frame(&mut stream),
            (CLOSE, 4009u16.to_be_bytes().to_vec())
        );
    });
    let filtered = std::thread::spawn(move || {
        let mut stream = silent(address, "/ws/remediation?last=1&tenant=nobody");
        let mut texts = vec![];
        for _ in 0..8 {
            match next_frame(&mut stream) {
                (TEXT, text) => texts.push(String::from_utf8(text).expect("text")),
                (PING, _) => stream
                    .write_all(&frame(0x8a, b""))
                    .expect("walcast is there"),
                other => panic!("{other:?}"),
            }
            if texts.len() == 4 {
                break;
            }
        }
        assert_eq!(texts[1], r#"{"type":"live","id":1}"#);
        assert_eq!(texts[2..], [r#"{"type":"heartbeat","head":1}"#; 2]);
    });
    let several = std::thread::spawn(move || {
        let mut stream = silent_with(address, "/ws", &[MULTI]);
        let mut pings = 0;
        // Its subscriptions are served all that time, and that says nothing of the client.
        let subscribe = br#"{"type":"subscribe","id":"a","feed":"remediation","since":"now"}"#;
        stream
            .write_all(&frame(TEXT, subscribe))
            .expect("walcast is there");
        let code = loop {
            match next_frame(&mut stream) {
                (TEXT, _) => {}
                (PING, _) => pings += 1,
                (CLOSE, code) => break code,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((pings, code), (2, 4009u16.to_be_bytes().to_vec()));
    });
    plain.join().expect("the plain subscriber was served");
    filtered.join().expect("the filtered subscriber was served");
    several
        .join()
        .expect("the socket of subscriptions was served");
    assert_eq!(walcast.connection_errors("no_pong"), 2.0);
}
