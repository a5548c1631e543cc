//! The closing handshake, and connections that end without one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::common::http;
use crate::common::{Daemon, STOCK_FEED, wait_until};
use crate::raw::{CLOSE, PING, PONG, TEXT, frame, next_frame, silent};

/// Sends `bytes` and gives the payload of the Close that answers; nothing comes before it, and nothing after.
#[track_caller]
fn close_after(walcast: &Daemon, bytes: &[u8]) -> Vec<u8> {
    let mut stream = silent(walcast.address(), STOCK_FEED);
    stream.write_all(bytes).expect("walcast reads");
    let (first, payload) = next_frame(&mut stream);
    assert_eq!(first, CLOSE, "not a Close: {payload:?}");
    expect_end(&mut stream);
    payload
}

#[track_caller]
fn expect_end(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0);
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

#[test]
fn a_close_is_answered_with_its_own_code() {
    let walcast = Daemon::start_new();
    let codes = [
        1000, 1001, 1002, 1003, 1007, 1008, 1011, 1014, 3000, 3999, 4000, 4999,
    ];
    for code in codes {
        assert_eq!(
            close_after(&walcast, &close(code, b"bye")),
            code.to_be_bytes()
        );
    }
    assert_eq!(close_after(&walcast, &frame(CLOSE, b"")), b"");
    assert_eq!(walcast.connection_errors("protocol"), 0.0);
    wait_until("nobody is connected", || {
        walcast.metric("walcast_ws_connections_active") == 0.0
    });
}

#[test]
fn a_malformed_close_is_answered_with_1002_or_1007() {
    let walcast = Daemon::start_new();
    let mut malformed = vec![
        (frame(CLOSE, &[3]), 1002),
        (frame(CLOSE, &[3; 126]), 1002),
        (frame(0x08, &1000u16.to_be_bytes()), 1002),
        (
            close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80"),
            1007,
        ),
        (close(1000, b"cut \xc3"), 1007),
    ];
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        malformed.push((close(code, b""), 1002));
    }
    for (bytes, code) in &malformed {
        let answer = close_after(&walcast, bytes);
        assert_eq!(answer, u16::to_be_bytes(*code), "{bytes:?}");
    }
    assert_eq!(
        walcast.connection_errors("protocol"),
        malformed.len() as f64
    );
}

#[test]
fn nothing_after_a_close_is_processed() {
    let walcast = Daemon::start_new();
    let after = [
        frame(PING, b"x"),
        frame(TEXT, b"ping"),
        close(4000, b""),
        vec![0xff; 64],
    ];
    let bytes = [close(1000, b""), after.concat()].concat();
    assert_eq!(close_after(&walcast, &bytes), 1000u16.to_be_bytes());
    let violation = [
        vec![0x83, 0x80, 0, 0, 0, 0],
        frame(PING, b"x"),
        close(4000, b""),
    ]
    .concat();
    assert_eq!(close_after(&walcast, &violation), 1002u16.to_be_bytes());
    let pings = walcast.metric(r#"walcast_client_messages_total{kind="ping"}"#);
    assert_eq!(pings, 0.0);
}

#[test]
fn what_came_before_a_close_is_answered() {
    let walcast = Daemon::start_new();
    let mut stream = silent(walcast.address(), STOCK_FEED);
    let bytes = [frame(PING, b"x"), frame(TEXT, b"ping"), close(1001, b"")].concat();
    stream.write_all(&bytes).expect("walcast reads");
    assert_eq!(next_frame(&mut stream), (PONG, b"x".to_vec()));
    assert_eq!(next_frame(&mut stream), (TEXT, b"pong".to_vec()));
    assert_eq!(
        next_frame(&mut stream),
        (CLOSE, 1001u16.to_be_bytes().to_vec())
    );
    expect_end(&mut stream);
}

#[test]
fn a_close_that_comes_with_the_handshake_is_answered() {
    let walcast = Daemon::start_new();
    let mut stream = walcast.connect();
    let path = "/ws/remediation?since=now";
    let head = http::head("GET", path, walcast.address(), &http::UPGRADE);
    let early = [head.as_bytes(), &close(1001, b"")].concat();
    stream.write_all(&early).expect("walcast reads");
    let mut received = vec![];
    stream.read_to_end(&mut received).expect("an orderly end");
    let answer = [CLOSE, 2, 3, 0xe9];
    assert!(
        received.ends_with(&answer),
        "{:?}",
        String::from_utf8_lossy(&received)
    );
}

#[test]
fn who_closes_while_it_is_behind_is_answered_when_it_has_read_what_was_under_way() {
    let walcast = Daemon::start_new();
    walcast.fill(30_000);
    let mut behind = walcast.subscribe_slow(STOCK_FEED, "since=earliest");
    behind.expect("hello");
    behind
        .stream()
        .write_all(&close(4321, b""))
        .expect("walcast reads");
    let code = loop {
        if let crate::common::subscriber::Received::Closed(code) = behind.receive() {
            break code;
        }
    };
    assert_eq!(code, Some(4321));
}

#[test]
fn a_client_that_ends_its_side_gets_what_it_asked_for_and_is_let_go() {
    let walcast = Daemon::start_new();
    let mut stream = silent(walcast.address(), STOCK_FEED);
    stream
        .write_all(&frame(TEXT, b"ping"))
        .expect("walcast reads");
    stream
        .shutdown(Shutdown::Write)
        .expect("a socket has two sides");
    assert_eq!(next_frame(&mut stream), (TEXT, b"pong".to_vec()));
    expect_end(&mut stream);
    wait_until("nobody is connected", || {
        walcast.metric("walcast_ws_connections_active") == 0.0
    });
}

#[test]
fn who_sends_a_large_message_to_its_end_is_told_that_it_is_too_large() {
    let walcast = Daemon::start_new();
    let mut stream = silent(walcast.address(), STOCK_FEED);
    stream
        .write_all(&frame(TEXT, &vec![b'x'; 3 << 20]))
        .expect("walcast reads on until the client can have seen the Close");
    assert_eq!(
        next_frame(&mut stream),
        (CLOSE, 1009u16.to_be_bytes().to_vec())
    );
    expect_end(&mut stream);
}
