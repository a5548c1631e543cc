//! A blocking HTTP/1.1 client of one request a connection.

use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::secrets;
use super::wait::PATIENCE;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }

    /// Its headers, as they came.
    pub fn head(&self) -> String {
        let lines = self.headers.iter();
        lines
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect()
    }

    /// The code of an error, for programs.
    #[track_caller]
    pub fn error_code(&self) -> String {
        self.error("code")
    }

    /// The message of an error, for people.
    #[track_caller]
    pub fn error_message(&self) -> String {
        self.error("message")
    }

    #[track_caller]
    fn error(&self, key: &str) -> String {
        let error = self.json()["error"].take();
        let text = error[key].as_str();
        text.unwrap_or_else(|| panic!("no {key} in {error}"))
            .to_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(&self.body)))
    }
}

/// Sends a request and reads the answer.
#[track_caller]
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    if !headers.iter().any(|(name, _)| *name == "Connection") {
        all.push(("Connection", "close"));
    }
    if !body.is_empty() {
        all.push(("Content-Length", &length));
    }
    let head = head(method, path, address, &all);
    exchange(address, &[head.as_bytes(), body].concat())
}

/// The head of a request.
pub fn head(method: &str, path: &str, host: impl Display, headers: &[(&str, &str)]) -> String {
    secrets::keep_those_in(path);
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        secrets::keep_those_in(value);
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

/// Asks on a connection that stays open.
#[track_caller]
pub fn ask(stream: &mut impl Write, path: &str) {
    let head = head("GET", path, "localhost", &[]);
    stream.write_all(head.as_bytes()).expect("walcast reads");
}

/// What a client sends with rows.
pub const JSON: (&str, &str) = ("Content-Type", "application/json");

/// What a client sends that asks for an upgrade to WebSocket.
pub const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Asks for an upgrade to WebSocket, with these headers too.
#[track_caller]
pub fn upgrade(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    let all = [&UPGRADE, headers].concat();
    request(address, "GET", path, &all, b"")
}

/// A connection on which nothing was said yet; what is read from it must come in time.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("walcast accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket takes a time limit");
    stream
}

/// Sends these bytes, whatever they are, and reads one answer.
#[track_caller]
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Response {
    let mut stream = connect(address);
    // A server that refuses a request early may close before it is read to its end: the answer counts.
    let _ = stream.write_all(bytes);
    read_response(&mut stream)
}

/// Asks for a path under this name of the daemon, with these headers, and reads the answer.
#[track_caller]
pub fn get_as(address: SocketAddr, host: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    exchange(address, head("GET", path, host, headers).as_bytes())
}

/// Reads one answer; what it has for a body ends by length, by chunks or with the connection.
#[track_caller]
pub fn read_response(stream: &mut impl Read) -> Response {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end + 4;
        }
        assert!(
            read_more(stream, &mut bytes),
            "the connection ended in the head: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    };
    let body = bytes.split_off(head_end);
    let head = String::from_utf8(bytes).expect("the head is text");
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .unwrap_or_else(|| panic!("no status line: {head}"));
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut response = Response {
        status,
        headers,
        body,
    };
    read_body(stream, &mut response);
    secrets::assert_none_in_answer(&response);
    response
}

#[track_caller]
fn read_body(stream: &mut impl Read, response: &mut Response) {
    let length = response
        .header("content-length")
        .map(|n| n.parse::<usize>().expect("a length is a number"));
    let chunked = response.header("transfer-encoding") == Some("chunked");
    let has_no_body = matches!(response.status, 101 | 204 | 304);
    let body = &mut response.body;
    let whole = |body: &[u8]| match length {
        _ if has_no_body => true,
        Some(length) => body.len() >= length,
        None => chunked && body.ends_with(b"0\r\n\r\n"),
    };
    while !whole(body) {
        if !read_more(stream, body) {
            assert!(
                length.is_none() && !chunked,
                "the connection ended in the body"
            );
            break;
        }
    }
    if chunked {
        *body = joined_chunks(body);
    }
}

fn joined_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(rest, b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).expect("the size of a chunk is text");
        let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk is hex");
        if size == 0 {
            break;
        }
        let start = end + 2;
        body.extend_from_slice(&rest[start..start + size]);
        rest = &rest[start + size + 2..];
    }
    body
}

/// `false` at the end of the connection.
#[track_caller]
fn read_more(stream: &mut impl Read, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 * 1024];
    let read = stream
        .read(&mut buffer)
        .unwrap_or_else(|e| panic!("no answer: {e}"));
    bytes.extend_from_slice(&buffer[..read]);
    read > 0
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
