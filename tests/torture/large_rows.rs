//! Large rows, and clients that are slow about them.

use std::io::Read;
use std::net::TcpStream;

use crate::common::{Daemon, STOCK_FEED, STOCK_SSE, Subscriber, http, wait_until};
use crate::scale::sized;

/// Bytes of a row that is sent whole, and that no socket's buffers hold.
const ROW: usize = 900_000;
/// Bytes that the daemon reads for one page at most, but for the row that it ends with.
const MOST_READ: usize = 1 << 20;

fn start() -> Daemon {
    Daemon::on_new_file()
        .toml("[feeds.remediation]\ntable = \"remediation_events\"\ntruncate = {}\n")
        .start()
}

/// Commits a large row and a small one behind it, and gives the bytes by which `clients` that are slow about the first
/// make the daemon grow.
fn growth(walcast: &Daemon, clients: usize) -> usize {
    let sent = || walcast.metric("walcast_messages_sent_total") as usize;
    let (sent_before, before) = (sent(), walcast.memory("RssAnon"));
    walcast.database().insert(&"z".repeat(ROW));
    wait_until("all were given what they take of it", || {
        sent() >= sent_before + clients
    });
    let grown = walcast.memory("RssAnon").saturating_sub(before);
    walcast.database().insert("small");
    grown
}

/// The log and the way there hold the row a few times, however many clients there are.
#[track_caller]
fn assert_shared(grown: usize, clients: usize) {
    assert!(
        grown < clients * ROW / 4,
        "{clients} clients that are slow about a row of {ROW} bytes cost {grown}"
    );
}

#[test]
fn subscribers_that_are_slow_about_a_large_row_share_it() {
    let clients = sized(60, 400);
    let walcast = start();
    let mut slow: Vec<Subscriber> = (0..clients)
        .map(|_| walcast.subscribe_slow(STOCK_FEED, ""))
        .collect();
    assert_shared(growth(&walcast, clients), clients);
    for subscriber in &mut slow {
        subscriber.send("ping");
        subscriber.enlarge_buffer();
        let row = subscriber.next_row();
        assert_eq!(row["details"].as_str().map(str::len), Some(ROW));
        // The answer to the ping comes when there is room for it, before the next row or after it.
        let next = loop {
            let text = subscriber.next_text();
            if text != "pong" {
                break text;
            }
        };
        assert!(next.contains("\"details\":\"small\""), "{next}");
    }
}

/// A stream of which the client takes nothing for now.
fn slow_stream(walcast: &Daemon) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("a socket can be made");
    socket
        .set_recv_buffer_size(4096)
        .expect("a buffer can be small");
    socket
        .connect(&walcast.address().into())
        .expect("walcast accepts");
    let mut stream = TcpStream::from(socket);
    http::ask(&mut stream, STOCK_SSE);
    stream
}

#[test]
fn streams_that_are_slow_about_a_large_row_share_it() {
    let clients = sized(60, 400);
    let walcast = start();
    let slow: Vec<TcpStream> = (0..clients).map(|_| slow_stream(&walcast)).collect();
    wait_until("all streams have begun", || {
        walcast.metric("walcast_sse_connections_active") as usize == clients
    });
    assert_shared(growth(&walcast, clients), clients);
    for mut stream in slow {
        let (mut read, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        while !read.ends_with(b"\"small\"}}\n\n\r\n") {
            let count = stream.read(&mut buffer).expect("the stream goes on");
            assert_ne!(count, 0, "the stream ended");
            read.extend_from_slice(&buffer[..count]);
        }
        let row = [b"\"details\":\"", "z".repeat(ROW).as_bytes(), b"\"}}\r\n"].concat();
        assert!(read.windows(row.len()).any(|part| part == row));
    }
}

/// Once a row that takes a page to read was sent, there is nothing more to do for it. A daemon that goes on reading it
/// never comes to keep how far it was.
#[test]
fn a_large_row_is_read_and_then_left_alone() {
    let walcast = start();
    let mut plain = walcast.subscribe("");
    let large = walcast.database().insert(&"z".repeat(2 * MOST_READ));
    assert_eq!(plain.next_row()["id"], large);
    walcast.wait_for_kept_head(large);
    // Nor does it hold up what comes after it, or who comes.
    let small = walcast.database().insert("small");
    assert_eq!(plain.next_row()["id"], small);
}
