//! What is compressed over HTTP: histories, streams of events, and the dashboard's own files.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use flate2::read::GzDecoder;

use crate::common::http::Response;
use crate::common::{Daemon, STOCK_EVENTS, STOCK_HISTORY, STOCK_SSE, http};

const GZIP: (&str, &str) = ("Accept-Encoding", "br;q=1.0, gzip;q=0.8, *;q=0.1");

/// The same answer as it is, and compressed.
#[track_caller]
fn both_forms(walcast: &Daemon, path: &str) -> (Response, Response) {
    let plain = walcast.get(path);
    let compressed = walcast.request("GET", path, &[GZIP], b"");
    assert_eq!(plain.header("Content-Encoding"), None, "{path}");
    assert_eq!(
        compressed.header("Content-Encoding"),
        Some("gzip"),
        "{path}"
    );
    for answer in [&plain, &compressed] {
        assert!(varies(answer), "{path}: {}", answer.head());
    }
    let mut text = Vec::new();
    GzDecoder::new(&compressed.body[..])
        .read_to_end(&mut text)
        .expect("it is gzip");
    assert_eq!(text, plain.body, "{path}");
    assert!(compressed.body.len() < plain.body.len());
    (plain, compressed)
}

fn varies(answer: &Response) -> bool {
    let head = answer.head().to_ascii_lowercase();
    let mut vary = head.lines().filter(|line| line.starts_with("vary: "));
    vary.any(|line| line.contains("accept-encoding"))
}

#[test]
fn a_history_is_compressed_for_who_takes_it_so_where_it_is_large() {
    let walcast = Daemon::start_new();
    walcast.fill(300);
    let rows = format!("{STOCK_EVENTS}?limit=300");
    both_forms(&walcast, &rows);
    both_forms(&walcast, STOCK_HISTORY);
    let saved = walcast.metric("walcast_compression_saved_bytes_total{to=\"http\"}");
    assert!(saved > 10_000.0, "{saved}");
    let small = walcast.request("GET", &format!("{STOCK_EVENTS}?limit=1"), &[GZIP], b"");
    assert_eq!(small.header("Content-Encoding"), None);
    assert!(varies(&small));
    for weights in ["gzip;q=0", "identity, gzip;q=0.5", "br", "*;q=0"] {
        let headers = [("Accept-Encoding", weights)];
        let answer = walcast.request("GET", &rows, &headers, b"");
        assert_eq!(answer.header("Content-Encoding"), None, "{weights}");
    }
    let refused = walcast.request("GET", &format!("{STOCK_EVENTS}?nope=1"), &[GZIP], b"");
    assert_eq!(
        (refused.status, refused.header("Content-Encoding")),
        (400, None)
    );
}

#[test]
fn nothing_is_compressed_where_compression_is_off() {
    let walcast = Daemon::on_new_file().option("--compression", "off").start();
    walcast.fill(300);
    for path in [&format!("{STOCK_EVENTS}?limit=300"), "/", "/walcast.js"] {
        let answer = walcast.request("GET", path, &[GZIP], b"");
        assert_eq!(answer.header("Content-Encoding"), None, "{path}");
    }
    let events = Events::open(&walcast, "", &[GZIP]);
    assert!(!events.head.contains("content-encoding"), "{}", events.head);
}

#[test]
fn files_of_the_dashboard_are_compressed_and_each_form_has_its_tag() {
    let walcast = Daemon::start_new();
    for path in [
        "/",
        "/dashboard/app.js",
        "/dashboard/style.css",
        "/walcast.js",
    ] {
        let (plain, compressed) = both_forms(&walcast, path);
        let tags = [&plain, &compressed].map(|answer| answer.header("ETag").expect("a tag"));
        assert_ne!(tags[0], tags[1]);
        for (tag, encoding) in [(tags[0], None), (tags[1], Some(GZIP))] {
            let known = [Some(("If-None-Match", tag)), encoding];
            let headers: Vec<_> = known.into_iter().flatten().collect();
            let again = walcast.request("GET", path, &headers, b"");
            assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
            assert_eq!(again.header("ETag"), Some(tag));
            assert!(varies(&again));
        }
        let other = walcast.request("GET", path, &[GZIP, ("If-None-Match", tags[0])], b"");
        assert_eq!(other.status, 200, "{path}: of another form");
    }
}

/// A stream of events, in gzip where the daemon sends it so.
struct Events {
    head: String,
    lines: BufReader<Box<dyn std::io::Read>>,
}

impl Events {
    fn open(walcast: &Daemon, query: &str, headers: &[(&str, &str)]) -> Events {
        let mut stream = http::connect(walcast.address());
        let path = format!("{STOCK_SSE}?{query}");
        // HTTP/1.0 has no chunks.
        let head = http::head("GET", &path, walcast.address(), headers);
        let head = head.replacen("HTTP/1.1", "HTTP/1.0", 1);
        stream.write_all(head.as_bytes()).expect("walcast reads");
        let mut bytes = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = bytes.read_line(&mut head).expect("an answer comes");
            assert!(read > 0, "{head}");
        }
        let head = head.to_ascii_lowercase();
        let text: Box<dyn std::io::Read> = match head.contains("content-encoding: gzip") {
            true => Box::new(GzDecoder::new(BufReader::<BufReader<TcpStream>>::new(
                bytes,
            ))),
            false => Box::new(bytes),
        };
        Events {
            head,
            lines: BufReader::new(text),
        }
    }

    /// The next line with data.
    fn data(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("a line comes");
            assert!(read > 0, "the stream ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return data.trim_end().to_owned();
            }
        }
    }
}

#[test]
fn events_come_compressed_and_each_at_once() {
    let walcast = Daemon::start_new();
    let last = walcast.fill(2_000);
    let query = "since=earliest";
    let mut compressed = Events::open(&walcast, query, &[GZIP]);
    let mut plain = Events::open(&walcast, query, &[]);
    assert!(compressed.head.contains("content-encoding: gzip"));
    assert!(compressed.head.contains("accept-encoding"), "it varies");
    assert!(compressed.head.contains("no-transform"));
    assert!(!plain.head.contains("content-encoding"));
    // Hello, the rows, live.
    for _ in 0..last + 2 {
        assert_eq!(compressed.data(), plain.data());
    }
    for details in ["small", &"large ".repeat(80)] {
        walcast.database().insert(details);
        let row = compressed.data();
        assert!(row.contains(details));
        assert_eq!(row, plain.data());
    }
    let counted = |series: &str| walcast.metric(series);
    let taken = counted("walcast_compression_bytes_total{of=\"events\",side=\"in\"}");
    let made = counted("walcast_compression_bytes_total{of=\"events\",side=\"out\"}");
    assert!(made * 3.0 < taken, "{made} of {taken}");
    walcast.stop();
    let mut rest = String::new();
    compressed
        .lines
        .read_to_string(&mut rest)
        .expect("the stream ends as a gzip file does");
    assert!(rest.contains("goodbye"), "{rest}");
}
