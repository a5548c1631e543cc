//! What clients send: WebSocket frames put together into messages, within limits. Buffers exist only while a frame or
//! a message is incomplete.

use std::io::Cursor;
use std::time::Instant;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::protocol::{CloseCode, INBOUND_BURST, INBOUND_PER_SECOND, MAX_INBOUND_BYTES};

/// Largest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL_BYTES: u64 = 125;

/// A message or control frame that came in whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Inbound {
    Text(String),
    Binary,
    Ping(Vec<u8>),
    Pong,
    Close,
    /// Part of a message whose end has not come; it says nothing, but it costs.
    Fragment,
}

/// The unfinished part of what a client sends.
#[derive(Debug, Default)]
pub struct Assembler {
    /// Bytes of a frame that is not whole yet.
    partial: Vec<u8>,
    /// A fragmented message, and whether it is text. Boxed: hardly anyone sends one.
    fragments: Option<Box<(bool, Vec<u8>)>>,
}

impl Assembler {
    /// Takes in bytes and calls `each` for every message they complete.
    pub fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Inbound) -> Result<(), CloseCode>,
    ) -> Result<(), CloseCode> {
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            &joined
        };
        while let Some((header, payload, length)) = next_frame(rest)? {
            rest = &rest[length..];
            if let Some(message) = self.frame(&header, payload)? {
                each(message)?;
            }
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    fn frame(
        &mut self,
        header: &FrameHeader,
        payload: Vec<u8>,
    ) -> Result<Option<Inbound>, CloseCode> {
        match header.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Inbound::Ping(payload))),
            OpCode::Control(Control::Pong) => Ok(Some(Inbound::Pong)),
            OpCode::Control(Control::Close) => Ok(Some(Inbound::Close)),
            OpCode::Data(Data::Continue) => {
                let mut message = self.fragments.take().ok_or(CloseCode::ProtocolError)?;
                message.1.extend_from_slice(&payload);
                self.data(header.is_final, message)
            }
            OpCode::Data(Data::Text | Data::Binary) if self.fragments.is_none() => {
                let text = header.opcode == OpCode::Data(Data::Text);
                self.data(header.is_final, Box::new((text, payload)))
            }
            _ => Err(CloseCode::ProtocolError),
        }
    }

    fn data(
        &mut self,
        is_final: bool,
        message: Box<(bool, Vec<u8>)>,
    ) -> Result<Option<Inbound>, CloseCode> {
        if message.1.len() > MAX_INBOUND_BYTES {
            return Err(CloseCode::TooBig);
        }
        if !is_final {
            self.fragments = Some(message);
            return Ok(Some(Inbound::Fragment));
        }
        match *message {
            (true, bytes) => String::from_utf8(bytes)
                .map(|text| Some(Inbound::Text(text)))
                .map_err(|_| CloseCode::InvalidPayload),
            (false, _) => Ok(Some(Inbound::Binary)),
        }
    }
}

/// The first frame of `bytes`, unmasked, and its length on the wire; `None` where it is not whole.
fn next_frame(bytes: &[u8]) -> Result<Option<(FrameHeader, Vec<u8>, usize)>, CloseCode> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| CloseCode::ProtocolError)?;
    let Some((header, length)) = parsed else {
        return Ok(None);
    };
    let control = matches!(header.opcode, OpCode::Control(_));
    // Clients must mask; no extension was agreed on that could use the reserved bits.
    let Some(mask) = header.mask else {
        return Err(CloseCode::ProtocolError);
    };
    if header.rsv1
        || header.rsv2
        || header.rsv3
        || (control && (!header.is_final || length > MAX_CONTROL_BYTES))
    {
        return Err(CloseCode::ProtocolError);
    }
    if length > MAX_INBOUND_BYTES as u64 {
        return Err(CloseCode::TooBig);
    }
    let (start, length) = (cursor.position() as usize, length as usize);
    let Some(masked) = bytes.get(start..start + length) else {
        return Ok(None);
    };
    let payload = masked
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, key)| byte ^ key)
        .collect();
    Ok(Some((header, payload, start + length)))
}

/// How much a client may say: a bucket that refills.
#[derive(Debug)]
pub struct RateLimit {
    left: f32,
    at: Instant,
}

impl RateLimit {
    pub fn new(now: Instant) -> RateLimit {
        RateLimit {
            left: INBOUND_BURST,
            at: now,
        }
    }

    /// Takes one message; an error when there were too many.
    pub fn take(&mut self, now: Instant) -> Result<(), CloseCode> {
        let refill = now.duration_since(self.at).as_secs_f32() * INBOUND_PER_SECOND;
        self.left = (self.left + refill).min(INBOUND_BURST);
        self.at = now;
        if self.left < 1.0 {
            return Err(CloseCode::Policy);
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        if payload.len() < 126 {
            out.push(0x80 | payload.len() as u8);
        } else {
            out.push(0x80 | 126);
            out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        let mask = [1, 2, 3, 4];
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        out
    }

    fn all(wire: &[u8], step: usize) -> Result<Vec<Inbound>, CloseCode> {
        let (mut assembler, mut got) = (Assembler::default(), vec![]);
        for chunk in wire.chunks(step) {
            assembler.take(chunk, |message| {
                got.push(message);
                Ok(())
            })?;
        }
        assert!(assembler.partial.is_empty() && assembler.fragments.is_none());
        Ok(got)
    }

    #[test]
    fn messages_come_whole_however_the_bytes_arrive() {
        let wire = [
            frame(0x81, b"ping"),
            frame(0x01, "é".as_bytes().split_at(1).0),
            frame(0x89, b"in between"),
            frame(0x80, "é".as_bytes().split_at(1).1),
            frame(0x82, &[255; 4096]),
            frame(0x8a, b""),
            frame(0x88, &1000u16.to_be_bytes()),
        ]
        .concat();
        for step in [1, 2, 7, wire.len()] {
            assert_eq!(
                all(&wire, step).unwrap(),
                [
                    Inbound::Text("ping".into()),
                    Inbound::Fragment,
                    Inbound::Ping(b"in between".into()),
                    Inbound::Text("é".into()),
                    Inbound::Binary,
                    Inbound::Pong,
                    Inbound::Close
                ]
            );
        }
    }

    #[test]
    fn what_breaks_the_rules_is_answered_with_its_code() {
        let too_long = frame(0x81, &[b'x'; 4097]);
        let fragments = [frame(0x01, &[b'x'; 4000]), frame(0x80, &[b'x'; 97])].concat();
        for (wire, code) in [
            (too_long[..8].to_vec(), CloseCode::TooBig),
            (fragments, CloseCode::TooBig),
            (frame(0x81, &[0xff]), CloseCode::InvalidPayload),
            (vec![0x81, 0x01, b'x'], CloseCode::ProtocolError),
            (frame(0xc1, b"x"), CloseCode::ProtocolError),
            (frame(0x80, b"x"), CloseCode::ProtocolError),
            (
                [frame(0x01, b"x"), frame(0x81, b"x")].concat(),
                CloseCode::ProtocolError,
            ),
            (frame(0x89, &[0; 126]), CloseCode::ProtocolError),
            (frame(0x09, b""), CloseCode::ProtocolError),
            (frame(0x83, b""), CloseCode::ProtocolError),
        ] {
            assert_eq!(
                all(&wire, wire.len()),
                Err(code),
                "{:?}",
                &wire[..wire.len().min(8)]
            );
        }
    }

    #[test]
    fn a_bucket_of_sixty_refills_with_twenty_a_second() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        assert!((0..60).all(|_| limit.take(start).is_ok()));
        assert_eq!(limit.take(start), Err(CloseCode::Policy));
        let later = start + std::time::Duration::from_secs(1);
        assert!((0..20).all(|_| limit.take(later).is_ok()));
        assert_eq!(limit.take(later), Err(CloseCode::Policy));
    }
}
