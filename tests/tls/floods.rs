//! Clients of HTTP/2 that keep the server busy, or take nothing: the shapes of public attacks, frame by frame.

use std::io::{Read, Write};
use std::sync::Arc;

use super::client::{Connection, connect};
use crate::common::{Daemon, STOCK_SSE, wait_until};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Bytes of a frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block that asks for this path (RFC 7541: two entries of the static table, two literals with names of it).
fn asking(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    for (name, value) in [(4, path), (1, "localhost")] {
        block.extend([name, value.len() as u8]);
        block.extend(value.as_bytes());
    }
    block
}

/// A connection on which HTTP/2 was agreed on and begun, with these settings.
#[track_caller]
fn begin(daemon: &Daemon, settings: &[u8]) -> Connection {
    let mut client = daemon.settings().authority().client();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let mut connection = connect(daemon, "localhost", &Arc::new(client));
    connection
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .and_then(|()| connection.write_all(&frame(SETTINGS, 0, 0, settings)))
        .expect("walcast reads");
    connection
}

/// Sends what `next` makes until the daemon has closed the connection; more than any honest client sends must not be
/// needed.
#[track_caller]
fn flood(connection: &mut Connection, what: &str, mut next: impl FnMut(u32) -> Vec<u8>) {
    connection
        .sock
        .set_nonblocking(true)
        .expect("a socket need not wait");
    let mut answers = [0; 4096];
    wait_until(&format!("a flood of {what} is cut off"), || {
        for n in 0..200 {
            match connection.write_all(&next(n)) {
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return true,
                // What it answers has to be taken first.
                Err(_) => break,
                Ok(()) => {}
            }
        }
        loop {
            match connection.read(&mut answers) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    });
}

#[test]
fn floods_are_cut_off_and_others_do_not_notice() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let mut other = daemon.subscribe_live();
    let mut cut = |what: &str, next: &mut dyn FnMut(u32) -> Vec<u8>| {
        let mut connection = begin(&daemon, &[]);
        flood(&mut connection, what, next);
        let id = daemon.database().insert_many(1);
        assert_eq!(other.next_row()["id"], id, "after a flood of {what}");
    };
    cut("SETTINGS", &mut |_| {
        frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])
    });
    cut("PING", &mut |_| frame(PING, 0, 0, b"12345678"));
    let mut asked = false;
    cut(
        "empty DATA",
        &mut |_| match std::mem::replace(&mut asked, true) {
            false => frame(HEADERS, END_HEADERS, 1, &asking(STOCK_SSE)),
            true => frame(DATA, 0, 1, &[]),
        },
    );
    // CVE-2023-44487: streams are opened and reset at once.
    let mut reset = 1;
    cut("resets", &mut |_| {
        reset += 2;
        let open = END_HEADERS | END_STREAM;
        let asked = frame(HEADERS, open, reset, &asking("/api/feeds"));
        [asked, frame(RST_STREAM, 0, reset, &[0, 0, 0, 8])].concat()
    });
    // CVE-2024-27316: the headers of a request never end.
    let mut begun = false;
    cut(
        "CONTINUATION",
        &mut |_| match std::mem::replace(&mut begun, true) {
            false => frame(HEADERS, END_STREAM, 1, &asking("/api/feeds")),
            true => frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']),
        },
    );
    wait_until("floods are counted", || {
        daemon.connection_errors("policy") >= 3.0
    });
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn a_stream_whose_client_takes_nothing_is_reset_and_the_others_go_on() {
    let daemon = Daemon::on_new_file()
        .option("--write-timeout", "500ms")
        .over_tls()
        .start();
    // SETTINGS_INITIAL_WINDOW_SIZE (4) is nothing: no byte may come on any stream.
    let mut connection = begin(&daemon, &[0, 4, 0, 0, 0, 0]);
    let open = END_HEADERS | END_STREAM;
    connection
        .write_all(&frame(HEADERS, open, 1, &asking(STOCK_SSE)))
        .expect("walcast reads");
    let mut reset = None;
    while reset.is_none() {
        let mut header = [0; 9];
        connection.read_exact(&mut header).expect("a frame");
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        connection.read_exact(&mut payload).expect("its payload");
        assert_ne!(header[3], DATA, "nothing may come");
        if header[3] == RST_STREAM {
            reset = Some((header[8], payload));
        }
    }
    assert_eq!(reset.map(|(stream, _)| stream), Some(1));
    // Counted a moment after the client is told.
    wait_until("the stream is counted", || {
        daemon.connection_errors("write_timeout") == 1.0
    });
    // The connection is as good as before.
    connection
        .write_all(&frame(HEADERS, open, 3, &asking("/healthz")))
        .expect("walcast reads");
    let mut header = [0; 9];
    connection.read_exact(&mut header).expect("a frame");
    assert_eq!((header[3], header[8]), (HEADERS, 3));
}
