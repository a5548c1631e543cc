//! Clients of HTTP that are slow, stalled, gone or far too many, and what they may cost the daemon.

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::http::{self, Response};
use common::{Daemon, PATIENCE, STOCK_EVENTS, STOCK_SSE, directory, wait_until};
use serde_json::json;

const MIB: usize = 1024 * 1024;

/// Commits this many rows whose `action`, which is never truncated, has this many bytes.
fn insert_large(walcast: &Daemon, rows: usize, bytes: usize) {
    walcast.database().execute(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO remediation_events(ts, action) SELECT 't', hex(zeroblob({})) FROM n",
        bytes / 2
    ));
}

/// A connection whose client waits this long for an answer, and takes little unless it reads.
fn connect(address: SocketAddr, patience: Duration) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("a socket can be made");
    socket
        .set_recv_buffer_size(16 * 1024)
        .expect("a socket takes a buffer size");
    socket.connect(&address.into()).expect("walcast accepts");
    socket
        .set_read_timeout(Some(patience))
        .expect("a socket takes a time limit");
    socket.into()
}

/// A connection on which this was asked for, and on which little is taken unless it is read.
fn ask(walcast: &Daemon, path: &str) -> TcpStream {
    let mut stream = connect(walcast.address(), PATIENCE);
    http::ask(&mut stream, path);
    stream
}

/// Reads until the connection ends, orderly or not; gives what came.
fn drain(stream: &mut TcpStream) -> usize {
    let mut buffer = [0; 64 * 1024];
    let mut taken = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return taken,
            Ok(n) => taken += n,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return taken,
            Err(e) => panic!("the connection is still open: {e}"),
        }
    }
}

// --- streams ---

/// Each of them stopped at another moment; none may keep the rows of its moment alive.
#[test]
fn stalled_streams_do_not_keep_old_rows_in_memory() {
    // None is cut off meanwhile, however long the rows take on a busy machine.
    let walcast = Daemon::on_new_file()
        .option("--write-timeout", "10m")
        .start();
    walcast.wait_until_ready();
    let mut stalled = vec![];
    let mut head = 0;
    let mut before = 0;
    for round in 0..13 {
        stalled.push(ask(&walcast, STOCK_SSE));
        let streams = stalled.len() as f64;
        wait_until("the stream is open", || {
            walcast.metric("walcast_sse_connections_active") == streams
        });
        // One ring full of rows, so that each stream is stalled in another one.
        insert_large(&walcast, 90, 100_000);
        head += 90;
        walcast.wait_for_head(head);
        // What the allocator keeps for later grows with the first rounds whatever the streams do.
        if round == 2 {
            before = walcast.memory("VmRSS");
        }
    }
    let grown = walcast.memory("VmRSS").saturating_sub(before);
    assert!(grown < 40 * MIB, "{} MiB more", grown / MIB);
}

#[test]
fn a_stream_that_takes_nothing_is_cut_off() {
    let walcast = Daemon::on_new_file()
        .option("--write-timeout", "1s")
        .start();
    walcast.wait_until_ready();
    let mut stalled = ask(&walcast, STOCK_SSE);
    wait_until("the stream is open", || {
        walcast.metric("walcast_sse_connections_active") == 1.0
    });
    insert_large(&walcast, 100, 100_000);
    wait_until("it is cut off", || {
        walcast.connection_errors("write_timeout") == 1.0
    });
    wait_until("it is not counted any more", || {
        walcast.metric("walcast_sse_connections_active") == 0.0
    });
    assert!(drain(&mut stalled) < 10_000_000);
}

/// More than fits one look at the log, one chunk or one page, from the log and from the table.
#[test]
fn a_stream_loses_nothing_where_it_goes_on_in_the_middle() {
    let walcast = Daemon::on_new_file().option("--ring-rows", "200").start();
    walcast.wait_until_ready();
    let mut live = ask(&walcast, STOCK_SSE);
    let mut even = ask(&walcast, "/sse/remediation?tenant=even");
    wait_until("the streams are open", || {
        walcast.metric("walcast_sse_connections_active") == 2.0
    });
    let database = walcast.database();
    for _ in 0..100 {
        database.insert("one by one");
    }
    insert_large(&walcast, 300, 3_000);
    database.execute(
        "INSERT INTO remediation_events(ts, tenant, action)
         SELECT 't', 'even', action FROM remediation_events WHERE id % 2 = 0",
    );
    let mut replayed = ask(&walcast, "/sse/remediation?since=0");
    assert_eq!(stream_ids(&mut live, 600), (1..=600).collect::<Vec<i64>>());
    assert_eq!(
        stream_ids(&mut replayed, 600),
        (1..=600).collect::<Vec<i64>>()
    );
    assert_eq!(
        stream_ids(&mut even, 200),
        (401..=600).collect::<Vec<i64>>()
    );
}

/// The ids of the first rows of a stream.
fn stream_ids(stream: &mut TcpStream, count: usize) -> Vec<i64> {
    let mut text = Vec::new();
    let mut buffer = [0; 64 * 1024];
    loop {
        // Of the rows alone; other events have ids, too. The lines of chunk sizes between them stand alone.
        let row = r#"data: {"type":"remediation_event","event":{"id":"#;
        let ids: Vec<i64> = String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| line.strip_prefix(row)?.split_once(',')?.0.parse().ok())
            .collect();
        if ids.len() >= count {
            return ids;
        }
        let read = stream.read(&mut buffer).expect("the stream goes on");
        assert!(read > 0, "the stream ended after {} rows", ids.len());
        text.extend_from_slice(&buffer[..read]);
    }
}

// --- history ---

#[test]
fn a_page_of_large_rows_is_cut_to_a_bounded_answer() {
    let walcast = Daemon::start_new();
    walcast.wait_until_ready();
    insert_large(&walcast, 500, 100_000);
    let answer = walcast.get(&format!("{STOCK_EVENTS}?limit=500"));
    assert!(answer.body.len() < 9 * MIB, "{} bytes", answer.body.len());
    let page = answer.json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(500));
    assert_eq!(
        page["truncated"].as_object().map(|ids| ids.len()),
        Some(500)
    );
    assert_eq!(page["truncated"]["7"], json!(["action"]));
    let few = walcast.get(&format!("{STOCK_EVENTS}?limit=5")).json();
    assert_eq!(few.get("truncated"), None);
    assert_eq!(
        few["items"][4]["action"].as_str().map(str::len),
        Some(100_000)
    );
}

#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let walcast = Daemon::on_new_file()
        .option("--write-timeout", "1s")
        .start();
    walcast.wait_until_ready();
    insert_large(&walcast, 500, 16_000);
    let mut stalled = ask(&walcast, &format!("{STOCK_EVENTS}?limit=500"));
    wait_until("it is given up", || {
        walcast.connection_errors("write_timeout") == 1.0
    });
    assert!(drain(&mut stalled) < 8_000_000);
}

#[test]
fn clients_that_do_not_wait_for_their_history_do_not_keep_it_from_others() {
    let walcast = Daemon::on_new_file()
        .toml("[history]\ntime = \"1m\"\nwait = \"1m\"\n")
        .start();
    walcast.wait_until_ready();
    insert_large(&walcast, 500, 16_000);
    let before = walcast.sockets();
    for _ in 0..10 {
        let impatient: Vec<TcpStream> = (0..10)
            .map(|_| ask(&walcast, &format!("{STOCK_EVENTS}?limit=500")))
            .collect();
        drop(impatient);
    }
    // Those it has not heard of yet count nowhere.
    wait_until("what they asked for is dropped", || {
        walcast.metric("walcast_histories_waiting") == 0.0 && walcast.sockets() <= before
    });
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let answer = walcast.get(STOCK_EVENTS);
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
        }
    });
}

// --- ingest ---

/// Takes ten seconds: the time a body has.
#[test]
fn a_body_that_does_not_come_is_refused() {
    let walcast = Daemon::on_new_file().stock_feed("ingest = true").start();
    let mut stream = connect(walcast.address(), 3 * PATIENCE);
    let head = http::head(
        "POST",
        STOCK_EVENTS,
        "localhost",
        &[http::JSON, ("Content-Length", "100")],
    );
    write!(stream, "{head}{{").expect("walcast reads");
    let answer = http::read_response(&mut stream);
    assert_eq!(answer.status, 408);
    assert_eq!(answer.error_code(), "request_timeout");
    assert_eq!(drain(&mut stream), 0);
}

/// One after the other, each with five seconds of its own, they would take forty.
#[test]
fn requests_wait_for_a_locked_database_together() {
    let walcast = Daemon::on_new_file().stock_feed("ingest = true").start();
    walcast.wait_until_ready();
    let locker = walcast.database().connect();
    locker
        .execute_batch("BEGIN IMMEDIATE")
        .expect("the database can be locked");
    let mut waiting: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = connect(walcast.address(), 2 * PATIENCE);
            let row = json!({"ts": "t"}).to_string();
            let headers = [http::JSON, ("Content-Length", &*row.len().to_string())];
            let head = http::head("POST", STOCK_EVENTS, "localhost", &headers);
            write!(stream, "{head}{row}").expect("walcast reads");
            stream
        })
        .collect();
    std::thread::scope(|scope| {
        for stream in &mut waiting {
            scope.spawn(|| assert_eq!(http::read_response(stream).status, 503));
        }
    });
    locker
        .execute_batch("ROLLBACK")
        .expect("it can be unlocked");
    let created = walcast.post(STOCK_EVENTS, &json!({"ts": "t"}));
    assert_eq!(
        created.json(),
        json!({"ids": [1]}),
        "nothing was written before"
    );
}

// --- connections ---

/// Takes a minute: the time a connection may be idle.
#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let walcast = Daemon::start_new();
    let mut stream = connect(walcast.address(), Duration::from_secs(60) + PATIENCE);
    http::ask(&mut stream, "/healthz");
    assert_eq!(http::read_response(&mut stream).status, 200);
    assert_eq!(drain(&mut stream), 0);
}

#[test]
fn what_is_wrong_with_a_request_is_said_in_words() {
    let walcast = Daemon::start_new();
    let head = b"GET /sse/remediation HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: \xff\r\n\r\n";
    let answer: Response = http::exchange(walcast.address(), head);
    assert_eq!(answer.status, 400);
    let message = answer.error_message();
    assert!(message.contains("last-event-id"), "{message}");
    assert!(!message.contains("Rejection"), "{message}");
}

#[test]
fn a_file_at_the_place_of_the_socket_is_left_alone() {
    let dir = directory();
    let place = dir.path().join("precious");
    fs::write(&place, "data").expect("a file can be written");
    let failed = Daemon::on(dir.path())
        .option("--listen", format!("unix:{}", place.display()))
        .try_start()
        .err()
        .expect("it does not start");
    assert!(failed.stderr.contains("no socket"), "{}", failed.stderr);
    assert_eq!(fs::read(&place).expect("the file is there"), b"data");
}
