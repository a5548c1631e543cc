//! Asks a running daemon for the list of its feeds, and whether it is ready.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;

use crate::config::Listen;

/// How long a daemon may take to accept, and to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than a list of as many feeds as there can be.
const LONGEST_ANSWER: u64 = 16 << 20;

/// Returns what the daemon at `url` says of each of its feeds, `token` being presented where there is one.
///
/// # Errors
/// Nobody answers there, the daemon refuses, or it is no walcast.
pub(super) fn feeds_of(url: &str, token: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let door = Door::of_url(url)?;
    let Answer { status, line, body } = door.get("/api/feeds", token)?;
    if status != 200 {
        let said = body["error"]["message"].as_str().unwrap_or("nothing more");
        bail!("{door} answers {line}: {said}");
    }
    match body {
        Value::Object(mut list) => match list.remove("feeds") {
            Some(Value::Array(feeds)) => Ok(feeds),
            _ => bail!("what answers at {door} is not walcast"),
        },
        _ => bail!("what answers at {door} is not walcast"),
    }
}

/// Returns why the daemon there can't serve rows right now; `None` where it can. No token is needed.
///
/// # Errors
/// Nobody answers there, or it is no walcast.
pub(super) fn not_ready(door: &Door) -> anyhow::Result<Option<String>> {
    let Answer { status, line, body } = door.get("/readyz", None)?;
    match (status, body["reason"].as_str()) {
        (200, _) => Ok(None),
        (503, Some(reason)) => Ok(Some(reason.to_owned())),
        _ => bail!("what answers at {door} is not walcast: {line}"),
    }
}

/// Where a daemon can be asked.
pub(super) enum Door {
    /// `host:port`, or `host` for port 80.
    Authority(String),
    Socket(PathBuf),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Authority(authority) => f.write_str(authority),
            Door::Socket(path) => path.display().fmt(f),
        }
    }
}

impl Door {
    /// Takes the authority of a URL.
    ///
    /// # Errors
    /// It is not one of `http` or `ws`.
    pub(super) fn of_url(url: &str) -> anyhow::Result<Door> {
        match url.split_once("://") {
            Some(("http" | "ws", rest)) => {
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                Ok(Door::Authority(authority.to_owned()))
            }
            _ => bail!("{url}: give the daemon's own address, e.g. http://127.0.0.1:8010"),
        }
    }

    /// Where a daemon that listens there is reached from this machine.
    pub(super) fn of_listener(listen: &Listen) -> Door {
        match listen {
            Listen::Unix(path) => Door::Socket(path.clone()),
            Listen::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    ip => ip,
                };
                Door::Authority(SocketAddr::new(ip, address.port()).to_string())
            }
        }
    }

    fn get(&self, path: &str, token: Option<&str>) -> anyhow::Result<Answer> {
        let answer = self
            .ask(path, token)
            .map_err(|e| anyhow!("no daemon answers at {self}: {e}; is walcast running there?"))?;
        Answer::parse(&answer).ok_or_else(|| {
            let first = answer.split(|byte| *byte == b'\r').next();
            let first = String::from_utf8_lossy(first.unwrap_or_default());
            anyhow!("{self} answers {first:?}, which is not HTTP")
        })
    }

    fn ask(&self, path: &str, token: Option<&str>) -> io::Result<Vec<u8>> {
        match self {
            Door::Authority(authority) => {
                let after_host = authority.rsplit(']').next().unwrap_or_default();
                let stream = match after_host.contains(':') {
                    true => connect(authority),
                    false => connect(&format!("{authority}:80")),
                };
                converse(stream?, authority, path, token)
            }
            Door::Socket(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                converse(stream, "localhost", path, token)
            }
        }
    }
}

fn converse(
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
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// An answer of HTTP.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    /// The status with its reason, as they were sent.
    line: String,
    /// `null` where it is no JSON.
    body: Value,
}

impl Answer {
    /// Takes it apart; `None` where it is none. A proxy may send the body in chunks.
    fn parse(answer: &[u8]) -> Option<Answer> {
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
