//! Connections: their limit, their patience, and where they come in.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tungstenite::Message;

use crate::common::http;
use crate::common::{
    Daemon, PATIENCE, STOCK_FEED, STOCK_HISTORY, STOCK_SSE, directory, wait_until,
};

#[test]
fn above_the_connection_limit_only_health_and_metrics_are_answered() {
    let walcast = Daemon::on_new_file()
        .option("--max-connections", "2")
        .start();
    let first = walcast.subscribe("");
    let _second = walcast.subscribe("");
    for path in ["/api/feeds", STOCK_HISTORY, STOCK_SSE, "/"] {
        let response = walcast.get(path);
        assert_eq!(response.status, 503, "{path}");
        let seconds = response.header("Retry-After").expect("Retry-After");
        assert!(seconds.parse::<u32>().is_ok(), "{seconds}");
        assert_eq!(response.error_code(), "at_capacity");
    }
    let upgrade = walcast.refused_upgrade(STOCK_FEED);
    assert_eq!(upgrade.status, 503);
    assert!(upgrade.header("Retry-After").is_some());
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(walcast.get(path).status, 200, "{path}");
    }
    assert_eq!(walcast.connection_errors("capacity"), 5.0);
    drop(first);
    wait_until("the place is free again", || {
        walcast.get("/api/feeds").status == 200
    });
}

#[test]
fn health_is_answered_however_many_idle_connections_are_above_the_limit() {
    let walcast = Daemon::on_new_file()
        .option("--max-connections", "2")
        .start();
    let idle: Vec<_> = (0..60).map(|_| walcast.connect()).collect();
    assert_eq!(walcast.get("/healthz").status, 200);
    drop(idle);
}

/// Takes ten seconds: the time a request head may take.
#[test]
fn a_request_head_that_dribbles_in_is_cut_off() {
    let walcast = Daemon::start_new();
    let mut silent = walcast.connect();
    let mut dribbling = walcast.connect();
    for stream in [&silent, &dribbling] {
        stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a socket takes a time limit");
    }
    let deadline = Instant::now() + Duration::from_secs(10) + PATIENCE;
    dribbling
        .write_all(b"GET /api/feeds HTTP/1.1\r\nX-Slow: ")
        .expect("walcast reads");
    let mut buffer = [0; 512];
    loop {
        assert!(Instant::now() < deadline, "the connection is still open");
        // Once it is cut off, a write may fail before a read has told.
        let cut = dribbling.write_all(b"x").is_err();
        match dribbling.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => panic!("an answer: {}", String::from_utf8_lossy(&buffer[..n])),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock) && !cut => {}
            Err(_) => break,
        }
    }
    silent
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket takes a time limit");
    assert_eq!(silent.read(&mut buffer).expect("an orderly end"), 0);
    assert_eq!(walcast.get("/healthz").status, 200);
}

#[test]
fn a_connection_is_kept_alive_for_further_requests() {
    let walcast = Daemon::start_new();
    let mut stream = walcast.connect();
    for path in ["/healthz", "/api/feeds", "/nope", STOCK_HISTORY] {
        http::ask(&mut stream, path);
        let response = http::read_response(&mut stream);
        assert_eq!(response.status, if path == "/nope" { 404 } else { 200 });
    }
}

#[test]
fn a_unix_socket_serves_the_same() {
    let dir = directory();
    let socket = dir.path().join("walcast.sock");
    let walcast = Daemon::on(dir.path())
        .option("--listen", format!("unix:{}", socket.display()))
        .start();
    let mut stream = UnixStream::connect(&socket).expect("walcast accepts");
    http::ask(&mut stream, "/api/feeds");
    assert_eq!(http::read_response(&mut stream).status, 200);
    let stream = UnixStream::connect(&socket).expect("walcast accepts");
    let (mut subscriber, _) = tungstenite::client("ws://localhost/ws/remediation", stream)
        .expect("the upgrade is granted");
    walcast.database().insert("over a Unix socket");
    let message = subscriber.read().expect("a frame comes");
    assert!(matches!(&message, Message::Text(text) if text.contains("over a Unix socket")));
    drop(subscriber);
    walcast.stop();
    assert!(!socket.exists(), "the socket file is left behind");
}
