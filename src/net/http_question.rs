//! One question over HTTP, and its answer in JSON: all that is asked of another daemon beside its feeds.

use std::io::{self, Read, Write};

use serde_json::Value;

/// More than a list of as many feeds as there can be.
const LONGEST_ANSWER: u64 = 16 << 20;

/// Asks for a path of `host`, `token` being presented where there is one. Returns what came before the connection ended,
/// which is to be.
///
/// # Errors
/// The connection fails.
pub fn converse(
    mut stream: impl Read + Write,
    host: &str,
    path: &str,
    token: Option<&str>,
) -> io::Result<Vec<u8>> {
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\n{}Connection: close\r\n\r\n",
        bearer.unwrap_or_default()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    match stream.take(LONGEST_ANSWER).read_to_end(&mut answer) {
        // The end of a TLS connection that was not announced. Whether the answer is whole, its JSON tells.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(answer),
        read => read.map(|_| answer),
    }
}

/// An answer of HTTP.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// The status with its reason, as they were sent.
    pub line: String,
    /// `null` where it is no JSON.
    pub body: Value,
}

impl Answer {
    /// Takes it apart; `None` where it is none. A proxy may send the body in chunks.
    pub fn parse(answer: &[u8]) -> Option<Answer> {
        let split = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = (&answer[..split], &answer[split + 4..]);
        let head = std::str::from_utf8(head).ok()?;
        let line = head.lines().next()?.strip_prefix("HTTP/1.")?;
        let line = line.split_once(' ')?.1.trim().to_owned();
        let status = line.split(' ').next()?.parse().ok()?;
        let chunked = head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked");
        let body = match chunked {
            true => serde_json::from_slice(&joined(body)?),
            false => serde_json::from_slice(body),
        };
        let body = body.unwrap_or_default();
        Some(Answer { status, line, body })
    }
}

fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&chunks[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let from = end + 2;
        body.extend_from_slice(chunks.get(from..from.checked_add(size)?)?);
        chunks = chunks.get(from + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_in_chunks() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"feeds\":[]}";
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"fee\r\n7\r\nds\":[]}\r\n0\r\n\r\n";
        for answer in [&whole[..], chunked] {
            let answer = Answer::parse(answer).unwrap();
            assert_eq!((answer.status, answer.body), (200, json!({"feeds": []})));
        }
        let refused = Answer::parse(b"HTTP/1.1 404 Not Found\r\n\r\n<p>").unwrap();
        assert_eq!((refused.status, &*refused.line), (404, "404 Not Found"));
        assert_eq!(refused.body, Value::Null);
        for other in [&b""[..], b"SSH-2.0\r\n\r\n\r\n", b"HTTP/1.1\r\n\r\n{}"] {
            assert_eq!(Answer::parse(other), None);
        }
    }
}
