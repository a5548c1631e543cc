//! What clients say, and what they are answered.

use std::io::{Read, Write};

use tungstenite::Message;

use crate::common::http;
use crate::common::{Daemon, STOCK_FEED};
use crate::raw::{PING, PONG, TEXT, frame, next_frame, silent};

#[test]
fn pings_are_answered_in_their_own_form() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    for (ping, pong) in [
        ("ping", "pong"),
        ("ping\n", "pong"),
        ("ping\r\n", "pong"),
        (r#"{"type":"ping"}"#, r#"{"type":"pong"}"#),
        (r#" {"at": 5, "type" : "ping"} "#, r#"{"type":"pong"}"#),
        ("{\"type\":\"\\u0070ing\"}\n", r#"{"type":"pong"}"#),
    ] {
        plain.send(ping);
        assert_eq!(plain.next_text(), pong);
    }
    assert_eq!(
        walcast.metric(r#"walcast_client_messages_total{kind="ping"}"#),
        6.0
    );
}

#[test]
fn other_messages_are_counted_and_ignored() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    let others = [
        "",
        "PING",
        " ping",
        "ping\n.",
        "\n",
        "pong",
        "\"ping\"",
        "[\"ping\"]",
        "{\"type\":",
        r#"{"type":"pong"}"#,
        r#"{"kind":"ping"}"#,
    ];
    for text in others {
        plain.send(text);
    }
    let binary = Message::binary(b"ping".to_vec());
    plain.try_send(binary).expect("the connection is open");
    plain.expect_nothing();
    assert_eq!(
        walcast.metric(r#"walcast_client_messages_total{kind="other"}"#),
        others.len() as f64 + 1.0
    );
}

#[test]
fn a_protocol_ping_is_answered_with_its_payload() {
    let walcast = Daemon::start_new();
    let mut stream = silent(walcast.address(), STOCK_FEED);
    stream
        .write_all(&frame(PING, b"are you there"))
        .expect("walcast reads");
    assert_eq!(next_frame(&mut stream), (0x8a, b"are you there".to_vec()));
}

#[test]
fn pings_and_pongs_of_the_protocol_are_no_messages_that_count() {
    const PINGS: u32 = 1_000;
    let walcast = Daemon::start_new();
    let mut stream = silent(walcast.address(), STOCK_FEED);
    let both = |n: u32| [frame(PONG, b""), frame(PING, &n.to_be_bytes())].concat();
    let bytes: Vec<u8> = (0..PINGS).flat_map(both).collect();
    stream.write_all(&bytes).expect("walcast reads");
    stream
        .write_all(&frame(TEXT, b"ping"))
        .expect("the connection is open");
    let mut pongs = vec![];
    loop {
        match next_frame(&mut stream) {
            (PONG, payload) => pongs.push(payload),
            (TEXT, text) => break assert_eq!(text, b"pong"),
            other => panic!("{other:?}"),
        }
    }
    assert!(pongs.is_sorted(), "out of order");
    assert_eq!(pongs.last(), Some(&(PINGS - 1).to_be_bytes().to_vec()));
    assert_eq!(walcast.connection_errors("policy"), 0.0);
}

#[test]
fn a_ping_that_comes_with_the_handshake_is_not_answered_before_the_hello() {
    let walcast = Daemon::start_new();
    let mut stream = walcast.connect();
    let path = "/ws/remediation?since=now";
    let head = http::head("GET", path, walcast.address(), &http::UPGRADE);
    let early = [head.as_bytes(), &frame(TEXT, b"ping")].concat();
    stream.write_all(&early).expect("walcast reads");
    let mut received = String::new();
    while !(received.contains("hello") && received.contains("pong")) {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).expect("walcast answers");
        assert!(read > 0, "the connection ended: {received}");
        received.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(
        received.find("hello") < received.find("pong"),
        "the first text frame must be the hello: {received}"
    );
}
