//! permessage-deflate (RFC 7692): what is agreed on, what is compressed, and what clients may send.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::deflated::{OFFER, deflate, inflate};
use crate::common::{Daemon, STOCK_FEED, Subscriber, assert_ledger, http, wait_until};
use crate::raw::{PING, TEXT, frame, next_frame, send_raw};

/// The first byte of a compressed text frame.
const COMPRESSED: u8 = 0xc1;

const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn everything_compressed() -> Daemon {
    Daemon::on_new_file().option("--compression", "on").start()
}

fn subscribe(walcast: &Daemon, query: &str) -> Subscriber {
    Subscriber::connect_with(walcast.address(), STOCK_FEED, query, &[OFFER])
}

/// The socket after a handshake with this offer.
fn offering(walcast: &Daemon, query: &str, offer: &str) -> TcpStream {
    let mut stream = http::connect(walcast.address());
    let headers = [&http::UPGRADE[..], &[("Sec-WebSocket-Extensions", offer)]].concat();
    let path = format!("{STOCK_FEED}?{query}");
    let head = http::head("GET", &path, walcast.address(), &headers);
    stream.write_all(head.as_bytes()).expect("walcast reads");
    assert_eq!(http::read_response(&mut Bytewise(&mut stream)).status, 101);
    stream
}

/// Reads no further than it is asked for.
struct Bytewise<'a>(&'a mut TcpStream);

impl Read for Bytewise<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = buffer.len().min(1);
        self.0.read(&mut buffer[..end])
    }
}

/// A row's text of about so many bytes, which gets smaller.
fn text(length: usize) -> String {
    let words = ["restarted", "pod", "after", "3", "failures", "of", "node-7"];
    let mut text = String::new();
    for n in 0.. {
        if text.len() >= length {
            break;
        }
        text.push_str(words[(n * n + n / 3) % words.len()]);
        text.push(' ');
    }
    text
}

#[test]
fn an_offer_is_accepted_where_it_is_understood_and_declined_where_not() {
    let walcast = Daemon::start_new();
    for (offer, accepted) in [
        ("permessage-deflate", Some(AGREED.to_owned())),
        (
            "permessage-deflate; client_max_window_bits",
            Some(AGREED.to_owned()),
        ),
        (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            Some(format!("{AGREED}; server_max_window_bits=12")),
        ),
        (
            "permessage-deflate; server_max_window_bits=9",
            Some(format!("{AGREED}; server_max_window_bits=9")),
        ),
        (
            "permessage-deflate; nonsense, permessage-deflate; server_max_window_bits=15",
            Some(format!("{AGREED}; server_max_window_bits=12")),
        ),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-bzip2", None),
    ] {
        let response = walcast.upgrade(STOCK_FEED, &[("Sec-WebSocket-Extensions", offer)]);
        assert_eq!(response.status, 101, "{offer}");
        let answer = response.header("Sec-WebSocket-Extensions");
        assert_eq!(answer, accepted.as_deref(), "{offer}");
    }
    let malformed = "permessage-deflate; server_max_window_bits=";
    let refused = walcast.upgrade(STOCK_FEED, &[("Sec-WebSocket-Extensions", malformed)]);
    assert_eq!(
        (refused.status, &*refused.error_code()),
        (400, "bad_handshake")
    );
    assert!(refused.error_message().contains("Sec-WebSocket-Extensions"));
}

#[test]
fn who_offers_nothing_or_is_to_have_nothing_gets_no_compressed_frame() {
    let walcast = everything_compressed();
    let plain = walcast.upgrade(STOCK_FEED, &[]);
    assert_eq!(plain.header("Sec-WebSocket-Extensions"), None);
    for settings in [
        Daemon::on_new_file().option("--compression", "off"),
        Daemon::on_new_file().stock_feed("compression = \"off\""),
    ] {
        let walcast = settings.start();
        let response = walcast.upgrade(STOCK_FEED, &[OFFER]);
        assert_eq!(response.status, 101);
        assert_eq!(response.header("Sec-WebSocket-Extensions"), None);
    }
    let only_this = Daemon::on_new_file()
        .option("--compression", "off")
        .stock_feed("compression = \"on\"")
        .start();
    let response = only_this.upgrade(STOCK_FEED, &[OFFER]);
    assert_eq!(response.header("Sec-WebSocket-Extensions"), Some(AGREED));
}

#[test]
fn large_rows_come_compressed_small_ones_and_what_is_no_row_as_they_are() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe_live();
    let mut stream = offering(&walcast, "since=now", "permessage-deflate");
    let (first, hello) = next_frame(&mut stream);
    assert_eq!(first, TEXT, "hello");
    assert!(String::from_utf8_lossy(&hello).contains("\"hello\""));
    assert_eq!(next_frame(&mut stream).0, TEXT, "live");
    // A small row, a large one, and one that does not get smaller.
    let noise: String = (0..500u32)
        .map(|n| char::from(33 + (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 25) as u8 % 90))
        .filter(|c| !"\"\\".contains(*c))
        .collect();
    for details in ["small", &text(450), &noise] {
        walcast.database().insert(details);
    }
    let firsts: Vec<u8> = (0..3)
        .map(|_| {
            let (first, payload) = next_frame(&mut stream);
            let message = match first {
                COMPRESSED => inflate(&payload),
                _ => payload,
            };
            assert_eq!(String::from_utf8(message).unwrap(), plain.next_text());
            first
        })
        .collect();
    assert_eq!(firsts[..2], [TEXT, COMPRESSED]);
    let saved = walcast.metric("walcast_compression_saved_bytes_total{to=\"ws\"}");
    assert!(saved > 150.0, "{saved}");
    assert_eq!(walcast.metric("walcast_ws_deflate_connections_active"), 1.0);
    drop(stream);
    wait_until("the connection is not counted any more", || {
        walcast.metric("walcast_ws_deflate_connections_active") == 0.0
    });
}

#[test]
fn a_row_is_compressed_once_for_all_who_get_it() {
    let walcast = everything_compressed();
    let mut all: Vec<Subscriber> = (0..20).map(|_| subscribe(&walcast, "")).collect();
    let mut filtered = subscribe(&walcast, "tenant=acme");
    wait_until("all are there", || {
        walcast.metric("walcast_ws_deflate_connections_active") == 21.0
    });
    for _ in 0..5 {
        walcast.database().insert_for("acme", &text(300));
    }
    for subscriber in all.iter_mut().chain([&mut filtered]) {
        subscriber.next_rows(5);
    }
    let mut late = subscribe(&walcast, "last=5");
    late.expect("hello");
    late.next_rows(5);
    let taken = walcast.metric("walcast_compression_bytes_total{of=\"rows\",side=\"in\"}");
    // The five live, and the five read from the table.
    assert!((5.0 * 400.0..10.0 * 500.0).contains(&taken), "{taken}");
}

#[test]
fn ledgers_are_the_same_with_and_without_compression() {
    let walcast = everything_compressed();
    let last = walcast.fill(3_000);
    for _ in 0..20 {
        walcast.database().insert_for("acme", &text(400));
    }
    let last = last + 20;
    let queries = [
        "since=earliest",
        "since=1500",
        "since=earliest&tenant=acme",
        "last=100",
    ];
    let mut pairs = queries.map(|query| {
        let (mut plain, _) = walcast.resume(query);
        let mut compressed = subscribe(&walcast, query);
        compressed.expect("hello");
        assert_eq!(plain.replay().1, last);
        assert_eq!(compressed.replay().1, last, "{query}");
        (plain, compressed)
    });
    // A burst, larger than what is compressed at once.
    walcast.database().execute(&many_rows(1_000, &text(450)));
    for (plain, compressed) in &mut pairs {
        plain.rows_to(last + 1_000);
        compressed.rows_to(last + 1_000);
        assert_ledger(compressed.ledger(), plain.ledger());
    }
}

/// SQL that inserts so many rows in one transaction, each with these details and a number.
fn many_rows(count: usize, details: &str) -> String {
    format!(
        "INSERT INTO remediation_events(ts, tenant, details)
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
         SELECT hex(randomblob(100)), 'acme', n || '{details}' FROM n"
    )
}

#[test]
fn who_reads_slowly_misses_nothing_wherever_a_compressed_frame_is_cut() {
    let walcast = everything_compressed();
    let mut slow =
        Subscriber::connect_with_small_buffer(walcast.address(), STOCK_FEED, "", &[OFFER]);
    let mut fast = walcast.subscribe("");
    wait_until("it is there", || {
        walcast.metric("walcast_ws_deflate_connections_active") == 1.0
    });
    for _ in 0..40 {
        walcast.database().execute(&many_rows(500, &text(200)));
    }
    let last = 40 * 500;
    fast.rows_to(last);
    slow.enlarge_buffer();
    slow.rows_to(last);
    assert_ledger(slow.ledger(), fast.ledger());
}

#[test]
fn large_rows_refer_back_no_further_than_every_client_can() {
    let walcast = Daemon::on_new_file()
        .with_tables("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)")
        .toml("[feeds.notes]\n")
        .start();
    let connect = |headers: &[(&'static str, &str)]| {
        Subscriber::connect_with(walcast.address(), "/ws/notes", "", headers)
    };
    let (mut compressed, mut plain) = (connect(&[OFFER]), connect(&[]));
    for length in [5_000, 40_000, 900_000] {
        walcast.database().execute(&format!(
            "INSERT INTO notes(body) VALUES ('{}')",
            text(length)
        ));
        assert_eq!(compressed.next_row(), plain.next_row());
    }
    let made = walcast.metric("walcast_compression_bytes_total{of=\"rows\",side=\"out\"}");
    assert!((1_000.0..300_000.0).contains(&made), "{made}");
}

#[test]
fn a_client_with_a_small_window_gets_longer_messages_as_they_are() {
    let walcast = everything_compressed();
    let offer = "permessage-deflate; server_max_window_bits=9";
    let mut stream = offering(&walcast, "", offer);
    wait_until("it is there", || {
        walcast.metric("walcast_ws_deflate_connections_active") == 1.0
    });
    for (length, first) in [(200, COMPRESSED), (490, TEXT)] {
        walcast.database().insert(&text(length));
        assert_eq!(next_frame(&mut stream).0, first, "{length}");
    }
}

#[test]
fn clients_may_send_compressed_messages_of_the_size_that_others_may_have() {
    let walcast = Daemon::start_new();
    let mut subscriber = subscribe(&walcast, "");
    send_raw(&mut subscriber, &frame(COMPRESSED, &deflate(b"ping")));
    assert_eq!(subscriber.next_text(), "pong");
    let ping = format!("{{\"type\":\"ping\",\"filler\":\"{}\"}}", " ".repeat(4000));
    send_raw(
        &mut subscriber,
        &frame(COMPRESSED, &deflate(ping.as_bytes())),
    );
    assert_eq!(subscriber.next_text(), r#"{"type":"pong"}"#);
    let halves = deflate(b"ping");
    let (one, other) = halves.split_at(2);
    let parts = [frame(0x41, one), frame(PING, b""), frame(0x80, other)].concat();
    send_raw(&mut subscriber, &parts);
    assert_eq!(subscriber.next_text(), "pong");
    for (bytes, code) in [
        (frame(COMPRESSED, &deflate(&[b' '; 4097])), 1009),
        (frame(COMPRESSED, &deflate(&vec![b' '; 3 << 20])), 1009),
        (frame(COMPRESSED, &[0xff; 20]), 1007),
        (frame(COMPRESSED, &deflate(&[0xff; 20])), 1007),
        (frame(0xc9, b""), 1002),
        ([frame(0x41, one), frame(0xc0, other)].concat(), 1002),
        (frame(0xa1, b""), 1002),
    ] {
        let mut subscriber = subscribe(&walcast, "");
        send_raw(&mut subscriber, &bytes);
        subscriber.expect_close(code);
    }
    let mut plain = walcast.subscribe("");
    send_raw(&mut plain, &frame(COMPRESSED, &deflate(b"ping")));
    plain.expect_close(1002);
}
