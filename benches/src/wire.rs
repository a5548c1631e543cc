//! As much of HTTP and WebSocket as both ends of a benchmark need: one upgrade, and frames that are never fragmented.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The nonce of RFC 6455's example. Every subscriber sends it, so the floor needs no SHA-1.
pub const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`NONCE`], from the same example.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The request that turns a connection into a subscription to `path`.
pub fn upgrade_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {NONCE}\r\n\r\n"
    )
}

/// The length of an HTTP head with its blank line, when it is there whole.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Whether `head` accepts the upgrade that [`upgrade_request`] asks for.
pub fn accepts_upgrade(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT)
}

/// Status and body of `GET path`, on a connection of its own.
///
/// # Errors
/// When nobody listens, or no whole answer comes within 5 s.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let length = head_length(&answer).context("the answer has no head")?;
    let status = answer
        .get(9..12)
        .and_then(|code| std::str::from_utf8(code).ok())
        .context("no status line")?;
    Ok((status.parse()?, answer.split_off(length)))
}

/// One frame from a server, payload borrowed.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Close(Option<u16>),
    Pong,
}

/// The first frame of `bytes` and its whole length; `None` while it is not all there.
///
/// # Errors
/// When the bytes are no unmasked, unfragmented frame.
pub fn first_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let [first, second, ..] = *bytes else {
        return Ok(None);
    };
    let (start, length) = match second {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, usize::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).map(<[u8; 8]>::try_from) {
            Some(Ok(length)) => (10, usize::try_from(u64::from_be_bytes(length))?),
            _ => return Ok(None),
        },
        128.. => bail!("a masked frame from the server"),
        length => (2, usize::from(length)),
    };
    let Some(payload) = bytes.get(start..start + length) else {
        return Ok(None);
    };
    let frame = match first {
        0x81 => Frame::Text(payload),
        0x88 => Frame::Close(payload.first_chunk().map(|&code| u16::from_be_bytes(code))),
        0x89 => Frame::Ping(payload),
        0x8a => Frame::Pong,
        _ => bail!("an unexpected frame, its first byte 0x{first:02x}"),
    };
    Ok(Some((frame, start + length)))
}

/// Appends `payload` as one text frame from a server.
pub fn push_text_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(0x81);
    match payload.len() {
        length @ ..126 => out.push(length as u8),
        length @ ..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// A pong from a client to a ping with `payload`, masked with zero.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// Finds the id of an event's row, or the number of a change. Remembers where it was last time: in one feed it hardly ever moves.
#[derive(Default, Clone, Copy)]
pub struct IdFinder(usize);

/// What stands before it: of a row, and of a change.
const BEFORE_ID: [&[u8]; 2] = [br#""event":{"id":"#, br#""change":{"seq":"#];

impl IdFinder {
    /// The row's id in the payload of an event; `None` in any other message.
    pub fn find(&mut self, payload: &[u8]) -> Option<i64> {
        let stands_at = |start: usize| {
            let rest = payload.get(start..).unwrap_or_default();
            let mut before = BEFORE_ID.iter();
            before.find(|before| rest.starts_with(before))
        };
        let before = match stands_at(self.0) {
            Some(before) => before,
            None => {
                self.0 = (0..payload.len()).find(|&start| stands_at(start).is_some())?;
                stands_at(self.0)?
            }
        };
        let digits = payload[self.0 + before.len()..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit());
        Some(digits.fold(0, |id, digit| id * 10 + i64::from(digit - b'0')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_come_back() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut bytes = Vec::new();
            push_text_frame(&mut bytes, &payload);
            let whole = bytes.len();
            assert_eq!(
                first_frame(&bytes).unwrap(),
                Some((Frame::Text(&payload), whole))
            );
            assert_eq!(
                first_frame(&bytes[..whole - 1]).unwrap_or(None).map(|_| ()),
                None
            );
        }
    }

    #[test]
    fn the_id_is_found_in_any_feed() {
        let mut finder = IdFinder::default();
        assert_eq!(
            finder.find(br#"{"type":"a_event","event":{"id":17,"ts":"x"}}"#),
            Some(17)
        );
        assert_eq!(
            finder.find(br#"{"type":"abc_event","event":{"id":901}}"#),
            Some(901)
        );
        assert_eq!(
            finder.find(br#"{"type":"abc_change","change":{"seq":902,"op":"c","key":{"id":7}}}"#),
            Some(902)
        );
        assert_eq!(finder.find(br#"{"type":"live","id":5}"#), None);
    }
}
