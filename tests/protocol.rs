//! The WebSocket protocol, frame for frame.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::database::{self, STOCK_SCHEMA};
use common::http::{self, refused_upgrade};
use common::subscriber::Received;
use common::{Daemon, Database, PATIENCE, Subscriber, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::Message;

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

/// A frame as a client sends it, masked with zeros. `first` holds FIN, the reserved bits and the opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Sends bytes below the protocol. A server that refuses them may close before it has read them all.
fn send_raw(subscriber: &mut Subscriber, bytes: &[u8]) {
    let _ = subscriber.stream().write_all(bytes);
}

/// The text of a handshake.
fn handshake(address: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A subscriber that says nothing of its own, not even Pongs: the socket after the handshake.
fn silent(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("walcast accepts");
    stream
        .set_read_timeout(Some(Duration::from_secs(90)))
        .expect("a socket takes a time limit");
    stream
        .write_all(handshake(address, path).as_bytes())
        .expect("walcast reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("walcast answers");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

/// The opcode and payload of the next frame, of any kind.
fn next_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("a frame comes");
    assert!(header[1] < 126, "a longer frame than expected");
    let mut payload = vec![0; header[1].into()];
    stream
        .read_exact(&mut payload)
        .expect("the frame comes whole");
    (header[0], payload)
}

/// Closes the file's history and begins another, as an operator who moves a new file into place.
fn replace(database: &Database, build: impl FnOnce(&Database)) {
    let new = Database::at(database.path().with_extension("new"));
    new.execute(STOCK_SCHEMA);
    build(&new);
    database.delete();
    fs::rename(new.path(), database.path()).expect("the file can be moved");
}

fn epoch(walcast: &Daemon) -> String {
    let feeds = walcast.get("/api/feeds").json();
    feeds["feeds"][0]["epoch"]
        .as_str()
        .expect("the feed has an epoch")
        .to_owned()
}

fn hello(epoch: &str, head: i64, earliest: &str, since: i64, recovered: bool) -> String {
    format!(
        r#"{{"type":"hello","feed":"remediation","key":"id","epoch":"{epoch}","head":{head},"earliest":{earliest},"since":{since},"recovered":{recovered}}}"#
    )
}

/// The ids of the rows up to the `live` frame, and the id in that.
fn replay(subscriber: &mut Subscriber) -> (Vec<i64>, i64) {
    let mut ids = vec![];
    loop {
        let frame = subscriber.next_frame();
        if frame["type"] == "live" {
            return (ids, frame["id"].as_i64().expect("an id"));
        }
        ids.push(common::id(&frame["event"]));
    }
}

// --- plain subscriptions ---

#[test]
fn a_plain_subscription_gets_rows_word_for_word_and_nothing_else() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert("before the subscription");
    let mut plain = walcast.subscribe("");
    walcast.database().execute(
        "INSERT INTO remediation_events VALUES (103, '2026-01-02T03:04:05Z', 'HighCPU', 'acme', 'restart', 'success', 'say \"é\"\n');
         INSERT INTO remediation_events(ts) VALUES ('x')",
    );
    assert_eq!(
        plain.next_text(),
        r#"{"type":"remediation_event","event":{"id":103,"ts":"2026-01-02T03:04:05Z","alertname":"HighCPU","tenant":"acme","action":"restart","status":"success","details":"say \"é\"\n"}}"#
    );
    assert_eq!(
        plain.next_text(),
        r#"{"type":"remediation_event","event":{"id":104,"ts":"x","alertname":null,"tenant":null,"action":null,"status":null,"details":null}}"#
    );
    plain.expect_nothing();
}

#[test]
fn an_epoch_alone_leaves_a_subscription_plain() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut plain = walcast.subscribe("epoch=whatever");
    plain.expect_nothing();
}

#[test]
fn a_plain_subscription_with_filters_gets_what_matches() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut either = walcast.subscribe("tenant=acme&tenant=a%26b+c");
    let mut both = walcast.subscribe("tenant=acme&details=yes");
    for (tenant, details) in [
        ("other", "no"),
        ("acme", "no"),
        ("a&b c", "no"),
        ("acme", "yes"),
    ] {
        walcast.database().insert_for(tenant, details);
    }
    assert_eq!(common::ids(&either.next_rows(3)), [2, 3, 4]);
    assert_eq!(both.next_row()["id"], 4);
    either.expect_nothing();
    both.expect_nothing();
}

#[test]
fn details_are_cut_after_500_code_points_and_filtered_whole() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let kept = format!("{}𝄞", "é".repeat(499));
    let stored = format!("{kept}tail");
    let filter = percent_encoding::utf8_percent_encode(&stored, percent_encoding::NON_ALPHANUMERIC);
    let mut plain = walcast.subscribe("");
    let mut filtered = walcast.subscribe(&format!("details={filter}"));
    walcast.database().insert(&stored);
    assert_eq!(plain.next_row()["details"], kept);
    assert_eq!(filtered.next_row()["details"], kept);
    let history = walcast.get("/ops/remediate/history").json();
    assert_eq!(history["items"][0]["details"], kept);
}

#[test]
fn a_plain_subscriber_who_came_before_the_table_gets_all_of_it() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .toml("[feeds.remediation]\ntable = \"remediation_events\"\nws = \"/ws/remediation\"\ncreate = false\n")
        .start();
    let mut plain = walcast.subscribe("");
    let mut filtered = walcast.subscribe("tenant=acme");
    let mut resumable = walcast.subscribe("since=now");
    let text = resumable.next_text();
    let hello: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&hello["head"], &hello["earliest"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(resumable.next_text(), r#"{"type":"live","id":0}"#);
    let mut writer = walcast.database().python();
    assert_eq!(writer.insert(3), [1, 2, 3]);
    for subscriber in [&mut plain, &mut filtered, &mut resumable] {
        assert_eq!(common::ids(&subscriber.next_rows(3)), [1, 2, 3]);
    }
}

// --- what clients say ---

#[test]
fn pings_are_answered_in_their_own_form() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut plain = walcast.subscribe("");
    for (ping, pong) in [
        ("ping", "pong"),
        (r#"{"type":"ping"}"#, r#"{"type":"pong"}"#),
        (r#" {"at": 5, "type" : "ping"} "#, r#"{"type":"pong"}"#),
    ] {
        plain.send(ping);
        assert_eq!(plain.next_text(), pong);
    }
    assert_eq!(
        walcast.metric(r#"walcast_client_messages_total{kind="ping"}"#),
        3.0
    );
}

#[test]
fn other_messages_are_counted_and_ignored() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut plain = walcast.subscribe("");
    let others = [
        "",
        "PING",
        " ping",
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
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut stream = silent(walcast.address(), "/ws/remediation");
    stream
        .write_all(&frame(PING, b"are you there"))
        .expect("walcast reads");
    assert_eq!(next_frame(&mut stream), (0x8a, b"are you there".to_vec()));
}

#[test]
fn a_client_that_closes_is_answered_with_a_close() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut stream = silent(walcast.address(), "/ws/remediation");
    stream
        .write_all(&frame(CLOSE, &1000u16.to_be_bytes()))
        .expect("walcast reads");
    assert_eq!(
        next_frame(&mut stream),
        (CLOSE, 1000u16.to_be_bytes().to_vec())
    );
    assert_eq!(
        stream.read(&mut [0]).expect("an orderly end"),
        0,
        "the server ends the connection"
    );
    wait_until("nobody is connected", || {
        walcast.metric("walcast_ws_connections_active") == 0.0
    });
}

#[test]
fn a_ping_that_comes_with_the_handshake_is_not_answered_before_the_hello() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut stream = TcpStream::connect(walcast.address()).expect("walcast accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket takes a time limit");
    let early = [
        handshake(walcast.address(), "/ws/remediation?since=now").as_bytes(),
        &frame(TEXT, b"ping"),
    ]
    .concat();
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

// --- limits ---

#[test]
fn messages_up_to_4_kib_pass_and_larger_ones_are_closed_with_1009() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut plain = walcast.subscribe("");
    send_raw(&mut plain, &frame(TEXT, &[b'x'; 4096]));
    plain.expect_nothing();
    send_raw(&mut plain, &frame(TEXT, &[b'x'; 4097]));
    plain.expect_close(1009);

    let mut huge = walcast.subscribe("");
    send_raw(&mut huge, &frame(TEXT, &vec![b'x'; 1 << 20]));
    huge.expect_close(1009);

    let mut announced = walcast.subscribe("");
    let header = &frame(TEXT, &vec![0; 1 << 20])[..14];
    send_raw(&mut announced, header);
    announced.expect_close(1009);
    assert_eq!(
        walcast.metric(r#"walcast_connection_errors_total{reason="too_big"}"#),
        3.0
    );
}

#[test]
fn a_message_in_fragments_counts_as_a_whole() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut small = walcast.subscribe("");
    let fragments = [
        frame(0x01, b"pi"),
        frame(PING, b""),
        frame(0x00, b""),
        frame(0x80, b"ng"),
    ];
    send_raw(&mut small, &fragments.concat());
    assert_eq!(small.next_text(), "pong");

    let mut large = walcast.subscribe("");
    let fragments = [
        frame(0x01, &[b'x'; 2000]),
        frame(0x00, &[b'x'; 2000]),
        frame(0x00, &[b'x'; 97]),
    ];
    send_raw(&mut large, &fragments.concat());
    large.expect_close(1009);
}

#[test]
fn more_messages_than_the_bucket_holds_are_closed_with_1008() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut plain = walcast.subscribe("");
    send_raw(&mut plain, &frame(TEXT, b"ping").repeat(1000));
    let mut pongs = 0;
    let closed = loop {
        match plain.receive() {
            Received::Text(text) => {
                assert_eq!(text, "pong");
                pongs += 1;
            }
            Received::Closed(code) => break code,
        }
    };
    assert_eq!(closed, Some(1008));
    assert!((60..1000).contains(&pongs), "{pongs} were answered");
}

#[test]
fn a_close_is_no_message_that_counts_against_the_bucket() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut plain = walcast.subscribe("");
    let messages = [
        frame(TEXT, b"ping").repeat(60),
        frame(CLOSE, &1000u16.to_be_bytes()),
    ];
    send_raw(&mut plain, &messages.concat());
    for _ in 0..60 {
        assert_eq!(plain.next_text(), "pong");
    }
    plain.expect_close(1000);
}

#[test]
fn violations_of_the_protocol_are_closed_with_their_code() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let unmasked = vec![TEXT, 1, b'x'];
    let violations = [
        ("an unmasked frame", 1002, unmasked),
        ("a reserved bit", 1002, frame(0xc1, b"x")),
        ("an unknown opcode", 1002, frame(0x83, b"x")),
        ("an unknown control opcode", 1002, frame(0x8b, b"")),
        ("a continuation of nothing", 1002, frame(0x80, b"x")),
        (
            "a message within a message",
            1002,
            [frame(0x01, b"x"), frame(TEXT, b"x")].concat(),
        ),
        ("a Ping in fragments", 1002, frame(0x09, b"x")),
        ("a Ping of 126 bytes", 1002, frame(PING, &[0; 126])),
        ("text that is not UTF-8", 1007, frame(TEXT, b"\xff")),
        (
            "text that ends within a character",
            1007,
            [frame(0x01, b"\xc3"), frame(0x80, b"")].concat(),
        ),
    ];
    let count = violations.len();
    for (what, code, bytes) in violations {
        let mut plain = walcast.subscribe("");
        send_raw(&mut plain, &bytes);
        assert_eq!(plain.receive(), Received::Closed(Some(code)), "{what}");
    }
    assert_eq!(
        walcast.metric(r#"walcast_connection_errors_total{reason="protocol"}"#),
        count as f64
    );
}

#[test]
fn a_client_that_reads_nothing_is_closed_with_4008_and_delays_nobody() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .option("--write-timeout", "1s")
        .start();
    let last = walcast.database().insert_many(30_000);
    let mut stuck = Subscriber::connect_with_small_buffer(
        walcast.address(),
        "/ws/remediation",
        "since=earliest",
    );
    let mut other = walcast.subscribe("since=earliest");
    other.expect("hello");
    assert_eq!(replay(&mut other).0.len(), 30_000);
    let next = walcast.database().insert("while the other is stuck");
    assert_eq!(other.next_row()["id"], next);
    wait_until("the write timeout has struck", || {
        walcast.metric(r#"walcast_connection_errors_total{reason="write_timeout"}"#) == 1.0
    });
    stuck.expect("hello");
    let mut rows = 0;
    let closed = loop {
        match stuck.receive() {
            Received::Text(_) => rows += 1,
            Received::Closed(code) => break code,
        }
    };
    assert_eq!(closed, Some(4008));
    assert!(rows < last, "all {rows} rows came");
}

/// Takes a minute: a Ping comes after 25 s of silence, the end after 60.
#[test]
fn silence_brings_pings_heartbeats_and_4009() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert("the head");
    let address = walcast.address();
    let plain = std::thread::spawn(move || {
        let mut stream = silent(address, "/ws/remediation");
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
            match next_frame_of_any_length(&mut stream) {
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
    plain.join().expect("the plain subscriber was served");
    filtered.join().expect("the filtered subscriber was served");
    assert_eq!(
        walcast.metric(r#"walcast_connection_errors_total{reason="no_pong"}"#),
        1.0
    );
}

/// The hello is longer than the short form of a length.
fn next_frame_of_any_length(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("a frame comes");
    let length = match header[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length comes");
            u16::from_be_bytes(length).into()
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream
        .read_exact(&mut payload)
        .expect("the frame comes whole");
    (header[0], payload)
}

// --- resumable subscriptions ---

#[test]
fn hello_replay_and_live_come_word_for_word() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert_many(5);
    let epoch = epoch(&walcast);
    for (query, since, ids) in [
        ("since=3", 3, vec![4, 5]),
        (&format!("since=3&epoch={epoch}"), 3, vec![4, 5]),
        ("since=5", 5, vec![]),
        ("since=0", 0, vec![1, 2, 3, 4, 5]),
        ("since=0&epoch=other", 0, vec![1, 2, 3, 4, 5]),
        ("since=earliest&epoch=other", 0, vec![1, 2, 3, 4, 5]),
        ("since=now&epoch=other", 5, vec![]),
        ("last=2&epoch=other", 3, vec![4, 5]),
        ("last=10000", 0, vec![1, 2, 3, 4, 5]),
    ] {
        let mut subscriber = walcast.subscribe(query);
        assert_eq!(
            subscriber.next_text(),
            hello(&epoch, 5, "1", since, true),
            "{query}"
        );
        assert_eq!(
            common::ids(&subscriber.next_rows(ids.len())),
            ids,
            "{query}"
        );
        assert_eq!(subscriber.next_text(), r#"{"type":"live","id":5}"#);
        subscriber.expect_nothing();
    }
}

#[test]
fn a_cursor_that_cannot_be_honoured_is_not_recovered_and_goes_on_from_earliest() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert_many(5);
    let epoch = epoch(&walcast);
    let check = |earliest: &str, cases: &[(&str, i64, bool, &[i64])]| {
        for (query, since, recovered, ids) in cases {
            let mut subscriber = walcast.subscribe(query);
            assert_eq!(
                subscriber.next_text(),
                hello(&epoch, 5, earliest, *since, *recovered),
                "{query}"
            );
            assert_eq!(
                replay(&mut subscriber),
                (ids.to_vec(), 5),
                "{query} with earliest {earliest}"
            );
        }
    };
    check(
        "1",
        &[
            ("since=3&epoch=another", 0, false, &[1, 2, 3, 4, 5]),
            ("since=6", 0, false, &[1, 2, 3, 4, 5]),
            ("since=9223372036854775807", 0, false, &[1, 2, 3, 4, 5]),
        ],
    );
    walcast
        .database()
        .execute("DELETE FROM remediation_events WHERE id <= 2");
    check(
        "3",
        &[
            ("since=1", 2, false, &[3, 4, 5]),
            ("since=2", 2, true, &[3, 4, 5]),
            ("since=0", 2, true, &[3, 4, 5]),
            ("since=earliest", 2, true, &[3, 4, 5]),
        ],
    );
    walcast.database().execute("DELETE FROM remediation_events");
    check(
        "null",
        &[
            ("since=4", 5, false, &[]),
            ("since=5", 5, true, &[]),
            ("since=0", 5, true, &[]),
            ("since=earliest", 5, true, &[]),
            ("since=now", 5, true, &[]),
            ("last=3", 5, true, &[]),
        ],
    );
    let mut goes_on = walcast.subscribe("since=1");
    goes_on.expect("hello");
    goes_on.expect("live");
    assert_eq!(walcast.database().insert("next"), 6);
    assert_eq!(goes_on.next_row()["id"], 6);
}

#[test]
fn a_row_deleted_before_a_subscription_is_not_replayed_from_memory() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert_many(5);
    walcast.wait_for_head(5);
    walcast.database().execute(
        "DELETE FROM remediation_events WHERE id = 4; UPDATE remediation_events SET status = 'edited' WHERE id = 5",
    );
    let mut since = walcast.subscribe("since=3");
    assert_eq!(since.expect("hello")["recovered"], true);
    let row = since.next_row();
    assert_eq!((&row["id"], &row["status"]), (&json!(5), &json!("edited")));
    since.expect("live");
    let mut last = walcast.subscribe("last=2");
    assert_eq!(last.expect("hello")["since"], 2);
    assert_eq!(replay(&mut last), (vec![3, 5], 5));
}

#[test]
fn the_last_rows_are_the_newest_that_match() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    for tenant in ["a", "b", "a", "b", "a", "b", "b"] {
        walcast.database().insert_for(tenant, "");
    }
    let mut last = walcast.subscribe("last=2&tenant=a");
    assert_eq!(last.expect("hello")["since"], 2);
    assert_eq!(
        replay(&mut last),
        (vec![3, 5], 7),
        "live is the head, whatever the filter"
    );
    let mut none = walcast.subscribe("last=2&tenant=nobody");
    assert_eq!(none.expect("hello")["since"], 7);
    assert_eq!(replay(&mut none), (vec![], 7));
    let mut since = walcast.subscribe("since=1&tenant=a");
    since.expect("hello");
    assert_eq!(replay(&mut since), (vec![3, 5], 7));
    walcast.database().insert_for("b", "");
    walcast.database().insert_for("a", "");
    assert_eq!(since.next_row()["id"], 9);
    assert_eq!(last.next_row()["id"], 9);
}

#[test]
fn between_replay_and_live_no_row_is_missing_doubled_or_out_of_order() {
    const ROWS: i64 = 2000;
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let database = walcast.database();
    let writer = std::thread::spawn(move || {
        let connection = database.connect();
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .expect("a pragma");
        for number in 0..ROWS {
            let tenant = if number % 2 == 0 { "even" } else { "odd" };
            database::insert(&connection, tenant, "");
        }
    });
    for queries in [
        ["since=earliest", "since=earliest&tenant=odd"],
        ["since=0", "last=10000&tenant=odd"],
    ] {
        for quarter in 1..=4 {
            walcast.wait_for_head(ROWS / 8 * quarter);
            let [all, odd] = queries.map(|query| walcast.subscribe(query));
            for (mut subscriber, step) in [(all, 1), (odd, 2)] {
                subscriber.expect("hello");
                let (mut ids, live) = replay(&mut subscriber);
                assert!(ids.last().is_none_or(|last| *last <= live), "live {live}");
                assert!(
                    ids.last().is_none_or(|last| *last > live - step),
                    "live {live}"
                );
                while ids.last() != Some(&ROWS) {
                    ids.push(common::id(&subscriber.next_row()));
                }
                let wanted: Vec<i64> = (step..=ROWS).step_by(step as usize).collect();
                assert_eq!(ids, wanted);
            }
        }
    }
    writer.join().expect("the writer wrote");
}

#[test]
fn ids_beyond_what_a_number_holds_are_strings_everywhere() {
    const ID: &str = "9007199254740993";
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let mut plain = walcast.subscribe("");
    walcast.database().execute(&format!(
        "INSERT INTO remediation_events(id, ts) VALUES ({ID}, 'x')"
    ));
    assert_eq!(plain.next_row()["id"], ID);
    let mut resumable = walcast.subscribe("since=9007199254740992");
    let hello = resumable.expect("hello");
    assert_eq!(
        (&hello["head"], &hello["earliest"], &hello["since"]),
        (&json!(ID), &json!(ID), &json!("9007199254740992"))
    );
    assert_eq!(hello["recovered"], true);
    assert_eq!(resumable.next_row()["id"], ID);
    assert_eq!(
        resumable.next_text(),
        format!(r#"{{"type":"live","id":"{ID}"}}"#)
    );
}

#[test]
fn feeds_of_their_own_have_their_names_in_the_frames() {
    let dir = directory();
    let database = Database::within(dir.path());
    database.execute(
        "CREATE TABLE jobs(number INTEGER PRIMARY KEY AUTOINCREMENT, last TEXT, \"limit\" INTEGER)",
    );
    let walcast = Daemon::on(dir.path())
        .toml("[feeds.jobs]\ntable = \"jobs\"\n[feeds.more]\ntable = \"jobs\"\nws = [\"/a\", \"/b/c\"]\nmessage = { type = \"t\", body = \"row\" }\n")
        .start();
    let mut own = walcast.subscribe_to("/ws/jobs", "since=now");
    let hello = own.expect("hello");
    assert_eq!(
        (&hello["feed"], &hello["key"]),
        (&json!("jobs"), &json!("number"))
    );
    own.expect("live");
    let mut more = ["/a", "/b/c"].map(|path| walcast.subscribe_to(path, ""));
    database.execute("INSERT INTO jobs(last, \"limit\") VALUES ('x', 2)");
    assert_eq!(
        own.next_text(),
        r#"{"type":"jobs_event","event":{"number":1,"last":"x","limit":2}}"#
    );
    for subscriber in &mut more {
        assert_eq!(
            subscriber.next_text(),
            r#"{"type":"t","row":{"number":1,"last":"x","limit":2}}"#
        );
    }

    // Reserved words win over columns of the same name.
    database.execute("INSERT INTO jobs(last) VALUES ('1'), ('y')");
    let mut last = walcast.subscribe_to("/ws/jobs", "last=1");
    assert_eq!(last.expect("hello")["since"], 2);
    let refused = refused_upgrade(walcast.address(), "/ws/jobs?last=x", &[]);
    assert_eq!(refused.status, 400);
    let refused = refused_upgrade(walcast.address(), "/ws/jobs?limit=2", &[]);
    assert_eq!(refused.status, 400);
}

// --- history that changes ---

#[test]
fn a_replaced_history_closes_plain_subscribers_and_resets_resumable_ones() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    walcast.database().insert_many(9);
    let old = epoch(&walcast);
    let mut plain = walcast.subscribe("");
    let mut filtered = walcast.subscribe("tenant=acme");
    let queries = [
        ("since=8", vec![1, 2, 3]),
        ("since=earliest", vec![1, 2, 3]),
        ("since=now", vec![]),
        ("last=2", vec![2, 3]),
        ("last=2&tenant=globex", vec![1, 3]),
        ("since=8&tenant=nobody", vec![]),
    ];
    let mut resumable = queries.map(|(query, rows)| {
        let mut subscriber = walcast.subscribe(query);
        subscriber.expect("hello");
        replay(&mut subscriber);
        (query, subscriber, rows)
    });
    replace(&walcast.database(), |new| {
        for tenant in ["globex", "acme", "globex"] {
            new.insert_for(tenant, "of another history");
        }
    });
    plain.expect_close(1012);
    filtered.expect_close(1012);
    for (query, subscriber, rows) in &mut resumable {
        let text = subscriber.next_text();
        let new = epoch(&walcast);
        assert_ne!(new, old);
        assert_eq!(
            text,
            format!(
                r#"{{"type":"reset","epoch":"{new}","reason":"database_replaced","head":3,"earliest":1}}"#
            ),
            "{query}"
        );
        assert_eq!(replay(subscriber), (rows.clone(), 3), "{query}");
    }
    let mut returning = walcast.subscribe(&format!("since=2&epoch={old}"));
    let hello = returning.expect("hello");
    assert_eq!(
        (&hello["recovered"], &hello["since"]),
        (&json!(false), &json!(0))
    );
    assert_eq!(replay(&mut returning), (vec![1, 2, 3], 3));
    let next = walcast.database().insert("next");
    assert_eq!(next, 4);
    assert_eq!(returning.next_row()["id"], 4);
    assert_eq!(
        walcast.metric(r#"walcast_epoch_changes_total{feed="remediation"}"#),
        1.0
    );
}

#[test]
fn a_dropped_column_closes_those_who_filter_on_it_and_nobody_else() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let before = epoch(&walcast);
    let mut filtered = walcast.subscribe("tenant=acme");
    let mut resumable = walcast.subscribe("since=now&tenant=acme");
    resumable.expect("hello");
    resumable.expect("live");
    let mut other = walcast.subscribe("status=success");
    let mut plain = walcast.subscribe("");
    walcast
        .database()
        .execute("ALTER TABLE remediation_events DROP COLUMN tenant");
    filtered.expect_close(1012);
    resumable.expect_close(1012);
    walcast
        .database()
        .execute("INSERT INTO remediation_events(ts, status) VALUES ('x', 'success')");
    let row = json!({"id": 1, "ts": "x", "alertname": null, "action": null, "status": "success", "details": null});
    assert_eq!(plain.next_row(), row);
    assert_eq!(other.next_row(), row);
    assert_eq!(epoch(&walcast), before);
    let again = refused_upgrade(walcast.address(), "/ws/remediation?tenant=acme", &[]);
    assert_eq!(again.status, 400);
}

#[test]
fn a_filter_accepted_before_the_table_is_closed_when_the_table_lacks_its_column() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .toml("[feeds.jobs]\ntable = \"jobs\"\n")
        .start();
    let mut wrong = walcast.subscribe_to("/ws/jobs", "nope=1");
    let mut right = walcast.subscribe_to("/ws/jobs", "name=a");
    walcast.database().execute(
        "CREATE TABLE jobs(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO jobs(name) VALUES ('b'), ('a')",
    );
    assert_eq!(right.next_row()["id"], 2);
    wrong.expect_close(1012);
}

// --- goodbye ---

#[test]
fn a_drain_says_goodbye_to_resumable_subscribers_and_closes_all_with_1012() {
    let dir = directory();
    let mut walcast = Daemon::start(dir.path());
    walcast.database().insert("one");
    let mut plain = walcast.subscribe("");
    let mut resumable = walcast.subscribe("since=0");
    resumable.expect("hello");
    replay(&mut resumable);
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
    let epoch = epoch(&walcast);
    let mut behind = Subscriber::connect_with_small_buffer(
        walcast.address(),
        "/ws/remediation",
        "since=earliest",
    );
    behind.expect("hello");
    walcast.signal(libc::SIGTERM);
    walcast.wait_for_log("stopping");
    let mut ids = vec![];
    loop {
        let frame = behind.next_frame();
        if frame["type"] == "goodbye" {
            break;
        }
        ids.push(common::id(&frame["event"]));
    }
    behind.expect_close(1012);
    assert!(ids.len() < ROWS as usize, "it was not behind");
    drop(behind);
    assert!(walcast.wait_for_exit().success());

    let walcast = Daemon::start(dir.path());
    let last = ids.last().copied().unwrap_or(0);
    let mut resumed = walcast.subscribe(&format!("since={last}&epoch={epoch}"));
    let hello = resumed.expect("hello");
    assert_eq!(hello["recovered"], true);
    ids.extend(replay(&mut resumed).0);
    assert!(ids.into_iter().eq(1..=ROWS), "rows are missing or doubled");
}

// --- the handshake ---

#[test]
fn bad_parameters_are_refused_before_the_upgrade_and_named() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    for (query, name) in [
        ("since", "since"),
        ("since=", "since"),
        ("since=abc", "since"),
        ("since=1.5", "since"),
        ("since=%2B1", "since"),
        ("since=0x10", "since"),
        ("since=9223372036854775808", "since"),
        ("since=1&since=2", "since"),
        ("since=1&last=2", "last"),
        ("last=0", "last"),
        ("last=10001", "last"),
        ("last=-1", "last"),
        ("last=all", "last"),
        ("last=1&last=1", "last"),
        ("limit=5", "limit"),
        ("before=5", "before"),
        ("after=5", "after"),
        ("tenant", "tenant"),
        ("tenant=%ff", "%ff"),
        ("nope=1", "nope"),
        ("Tenant=acme", "Tenant"),
    ] {
        let path = format!("/ws/remediation?{query}");
        let refused = refused_upgrade(walcast.address(), &path, &[]);
        assert_eq!(refused.status, 400, "{query}");
        let message = refused.json()["error"]["message"].to_string();
        assert!(message.contains(name), "{query}: {message}");
        let sse = walcast.get(&format!("/sse/remediation?{query}"));
        assert_eq!(sse.status, 400, "SSE: {query}");
    }
    let unknown = refused_upgrade(walcast.address(), "/ws/remediation?nope=1", &[]).json();
    assert_eq!(unknown["error"]["code"], "unknown_column");
    let message = unknown["error"]["message"].as_str().expect("a message");
    for column in [
        "id",
        "ts",
        "alertname",
        "tenant",
        "action",
        "status",
        "details",
    ] {
        assert!(message.contains(column), "{message} lacks {column}");
    }
}

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn upgrade(walcast: &Daemon, headers: &[(&str, &str)]) -> http::Response {
    let all = [&UPGRADE, headers].concat();
    http::request(walcast.address(), "GET", "/ws/remediation", &all, b"")
}

#[test]
fn the_subprotocol_is_echoed_where_it_is_offered() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    for (offered, chosen) in [
        (None, None),
        (Some("walcast.v1"), Some("walcast.v1")),
        (Some("chat, walcast.v1"), Some("walcast.v1")),
        (Some("walcast.v2"), None),
    ] {
        let header = offered.map(|value| ("Sec-WebSocket-Protocol", value));
        let response = upgrade(&walcast, header.as_slice());
        assert_eq!(response.status, 101);
        assert_eq!(response.header("Sec-WebSocket-Protocol"), chosen);
        assert_eq!(
            response.header("Sec-WebSocket-Accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "the example of RFC 6455"
        );
    }
}

#[test]
fn what_is_no_websocket_handshake_is_told_to_upgrade() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let response = walcast.get("/ws/remediation");
    assert_eq!(response.status, 426);
    assert_eq!(response.header("Upgrade"), Some("websocket"));
    assert_eq!(response.json()["error"]["code"], "upgrade_required");
    let version = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let response = http::request(walcast.address(), "GET", "/ws/remediation", &version, b"");
    assert_eq!(response.status, 426);
    assert_eq!(response.header("Sec-WebSocket-Version"), Some("13"));
    assert_eq!(walcast.get("/ws/nope").status, 404);
    assert_eq!(walcast.get("/ws/remediation/").status, 404);
}

#[test]
fn browsers_come_in_from_the_same_origin_from_loopback_and_from_listed_origins() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .option("--origin", "https://console.example.com")
        .start();
    let same = format!("http://{}", walcast.address());
    let allowed = [
        &*same,
        "http://localhost:5173",
        "https://127.0.0.1",
        "http://[::1]:3000",
        "https://console.example.com",
    ];
    for origin in allowed {
        assert_eq!(
            upgrade(&walcast, &[("Origin", origin)]).status,
            101,
            "{origin}"
        );
    }
    let refused = [
        "null",
        "https://evil.example",
        "http://console.example.com",
        "https://console.example.com:8443",
        "https://console.example.com.evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "file://",
    ];
    for origin in refused {
        let response = upgrade(&walcast, &[("Origin", origin)]);
        assert_eq!(response.status, 403, "{origin}");
        assert_eq!(response.json()["error"]["code"], "origin_not_allowed");
    }
    assert_eq!(
        walcast.metric(r#"walcast_connection_errors_total{reason="origin"}"#),
        refused.len() as f64
    );
}

#[test]
fn a_site_behind_a_proxy_is_of_the_same_origin_as_its_host() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let ask = |host: &str, origin: &str| {
        let lines: String = UPGRADE
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let head = format!(
            "GET /ws/remediation HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{lines}\r\n"
        );
        http::exchange(walcast.address(), head.as_bytes()).status
    };
    assert_eq!(
        ask("walcast.example.com", "https://walcast.example.com"),
        101
    );
    assert_eq!(
        ask("walcast.example.com:443", "https://walcast.example.com"),
        101
    );
    assert_eq!(
        ask("walcast.example.com:8443", "https://walcast.example.com"),
        403
    );
    assert_eq!(ask("walcast.example.com", "https://evil.example"), 403);
}
