//! Frames below the client library: whatever a test wants on the wire.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::common::Subscriber;
use crate::common::http;

pub const TEXT: u8 = 0x81;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
pub const CLOSE: u8 = 0x88;

/// A frame as a client sends it, masked with zeros. `first` holds FIN, the reserved bits and the opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Sends bytes below the protocol. A server that refuses them may close before it has read them all.
pub fn send_raw(subscriber: &mut Subscriber, bytes: &[u8]) {
    let _ = subscriber.stream().write_all(bytes);
}

/// A subscriber that says nothing of its own, not even Pongs: the socket after the handshake.
pub fn silent(address: SocketAddr, path: &str) -> TcpStream {
    silent_with(address, path, &[])
}

/// The same, with these headers too.
pub fn silent_with(address: SocketAddr, path: &str, more: &[(&str, &str)]) -> TcpStream {
    let mut stream = http::connect(address);
    stream
        .set_read_timeout(Some(Duration::from_secs(90)))
        .expect("a socket takes a time limit");
    let head = http::head("GET", path, address, &[&http::UPGRADE, more].concat());
    stream.write_all(head.as_bytes()).expect("walcast reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("walcast answers");
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    stream
}

/// The first byte and payload of the next frame, of any kind and up to 64 KiB.
pub fn next_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("a frame comes");
    let length = match header[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length comes");
            u16::from_be_bytes(length).into()
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream
        .read_exact(&mut payload)
        .expect("the frame comes whole");
    (header[0], payload)
}
