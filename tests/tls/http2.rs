//! HTTP/2: what comes over many streams of one connection, and what a stream may cost.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::common::{Daemon, STOCK_EVENTS, STOCK_FEED, STOCK_HISTORY, STOCK_SSE, wait_until};

/// A client of HTTP/2 on one connection.
struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    port: u16,
}

/// An answer whose body is read as it comes.
struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Incoming,
    read: Vec<u8>,
}

impl Client {
    #[track_caller]
    fn connect(daemon: &Daemon) -> Client {
        let runtime = Runtime::new().expect("threads can be started");
        let mut config = daemon.settings().authority().client();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let address = daemon.own_address();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("walcast accepts");
            let name = ServerName::try_from("localhost").expect("a name");
            let connector = TlsConnector::from(Arc::new(config));
            let stream = connector.connect(name, stream).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let executor = TokioExecutor::new();
            let shaken = handshake(executor, TokioIo::new(stream)).await;
            let (sender, connection) = shaken.expect("HTTP/2 is spoken");
            tokio::spawn(connection);
            sender
        });
        Client {
            runtime,
            sender,
            port: address.port(),
        }
    }

    #[track_caller]
    fn send(&mut self, method: &str, host: &str, path: &str, body: &str) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://{host}:{}{path}", self.port))
            .header("content-type", "application/json")
            .body(Full::from(body.to_owned()))
            .expect("a request");
        let sender = &mut self.sender;
        let answer = self.runtime.block_on(async {
            sender.ready().await.expect("the connection is open");
            sender.send_request(request).await
        });
        let (head, body) = answer.expect("an answer").into_parts();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            read: Vec::new(),
        }
    }

    #[track_caller]
    fn get(&mut self, path: &str) -> Answer {
        self.send("GET", "localhost", path, "")
    }

    #[track_caller]
    fn json(&mut self, path: &str) -> Value {
        let answer = self.get(path);
        let body = self.runtime.block_on(answer.body.collect());
        let body = body.expect("a whole body").to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Reads until the text has come.
    #[track_caller]
    fn read_until(&self, answer: &mut Answer, text: &str) {
        let reading = async {
            while !String::from_utf8_lossy(&answer.read).contains(text) {
                let frame = answer.body.frame().await.expect("the stream goes on");
                let frame = frame.expect("no error").into_data();
                answer.read.extend(frame.expect("data"));
            }
        };
        let limit = crate::common::PATIENCE;
        let in_time = self
            .runtime
            .block_on(async { tokio::time::timeout(limit, reading).await });
        assert!(in_time.is_ok(), "{text} did not come");
    }

    /// Reads to the end.
    #[track_caller]
    fn rest(&self, answer: Answer) -> Result<String, hyper::Error> {
        let body = self.runtime.block_on(answer.body.collect())?.to_bytes();
        Ok(String::from_utf8([answer.read, body.to_vec()].concat()).expect("UTF-8"))
    }
}

#[test]
fn pages_histories_and_many_streams_share_a_connection() {
    let daemon = Daemon::on_new_file()
        .stock_feed("ingest = true")
        .over_tls()
        .start();
    let mut client = Client::connect(&daemon);
    // A browser opens six connections at most over HTTP/1.1.
    let mut streams: Vec<Answer> = (0..40).map(|_| client.get(STOCK_SSE)).collect();
    for stream in &streams {
        assert_eq!(stream.status, 200);
        assert_eq!(stream.headers["content-type"], "text/event-stream");
    }
    let posted = client.send(
        "POST",
        "localhost",
        STOCK_EVENTS,
        r#"{"ts": "t", "details": "first"}"#,
    );
    assert_eq!(posted.status, 201);
    for stream in &mut streams {
        client.read_until(stream, "first");
    }
    assert_eq!(client.json(STOCK_HISTORY)["total"], json!(1));
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get("/nowhere").status, 404);
    assert_eq!(
        client
            .send("GET", "evil.example.com", "/api/feeds", "")
            .status,
        421
    );
    // A WebSocket is another connection's.
    assert_eq!(client.get(STOCK_FEED).status, 426);
    drop(streams);
    wait_until("nobody is connected", || {
        daemon.metric("walcast_sse_connections_active") == 0.0
    });
}

#[test]
fn a_large_history_comes_whole_over_one_stream() {
    let daemon = Daemon::on_new_file()
        .stock_feed("truncate = {}")
        .over_tls()
        .start();
    let details = "0123456789".repeat(1_000);
    let writer = daemon.database().connect();
    for _ in 0..300 {
        let row = "INSERT INTO remediation_events (ts, details) VALUES ('t', ?1)";
        writer.execute(row, [&details]).expect("the row is written");
    }
    daemon.wait_for_head(300);
    let mut client = Client::connect(&daemon);
    let items = client.json(&format!("{STOCK_HISTORY}?limit=300"))["items"].take();
    let items = items.as_array().expect("items");
    assert_eq!(items.len(), 300);
    assert!(items.iter().all(|item| item["details"] == details));
    wait_until("nothing is held any more", || {
        daemon.metric("walcast_answers_held_bytes") == 0.0
    });
}

#[test]
fn a_stream_counts_as_a_connection() {
    let daemon = Daemon::on_new_file()
        .option("--max-connections", "4")
        .over_tls()
        .start();
    let mut client = Client::connect(&daemon);
    let kept: Vec<Answer> = (0..3).map(|_| client.get(STOCK_SSE)).collect();
    assert!(kept.iter().all(|answer| answer.status == 200));
    let refused = client.get("/api/feeds");
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(client.get("/healthz").status, 200);
    drop(kept);
    wait_until("there is room again", || {
        client.get("/api/feeds").status == 200
    });
}

#[test]
fn a_stop_says_goodbye_on_every_stream() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let mut client = Client::connect(&daemon);
    let mut streams: Vec<Answer> = (0..3)
        .map(|_| client.get(&format!("{STOCK_SSE}?since=now")))
        .collect();
    for stream in &mut streams {
        client.read_until(stream, "event: live");
    }
    let _settings = daemon.stop_while(|| {
        for stream in streams {
            let said = client.rest(stream).expect("an end in order");
            assert!(said.contains("event: goodbye"), "{said}");
        }
    });
}
