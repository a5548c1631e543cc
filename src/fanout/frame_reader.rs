//! What clients send: WebSocket frames put together into messages, within limits. A payload is looked at as it comes in,
//! so what can't become right any more is refused before its end, and buffers hold one message and one control frame at
//! most.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::wire::control::{CloseCode, MAX_INBOUND_BYTES};
use crate::wire::deflate::{InflateError, inflate};
use crate::wire::frame::may_be_sent_in_close;

/// Largest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL_BYTES: u64 = 125;
/// Largest header of a frame: two bytes, a length of eight and a mask of four (RFC 6455, section 5.2).
const MAX_HEADER_BYTES: usize = 14;

/// What a message may be longer by where it was compressed and did not get smaller: a few bytes for each of its blocks.
pub(crate) const DEFLATE_OVERHEAD: usize = 64;

/// A message or control frame that came in whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inbound<'a> {
    Text(&'a str),
    Binary,
    Ping(&'a [u8]),
    Pong,
    /// The peer's last word, with the code it gave.
    Close(Option<u16>),
}

/// Puts frames together. After a Close or an error it skips whatever comes.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    ended: bool,
    /// Messages may come compressed.
    inflates: bool,
    /// Boxed: between messages, which is nearly always, there is nothing.
    unfinished: Option<Box<Unfinished>>,
}

impl Assembler {
    /// Returns one that takes compressed messages too where it `inflates`: where that was agreed on.
    pub(crate) fn new(inflates: bool) -> Assembler {
        Assembler {
            inflates,
            ..Assembler::default()
        }
    }

    /// Takes in bytes and calls `each` for every message they complete. An error, its own or one of `each`, is the code
    /// to close with.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Inbound<'_>) -> Result<(), CloseCode>,
    ) -> Result<(), CloseCode> {
        if self.ended {
            return Ok(());
        }
        let mut unfinished = match self.unfinished.take() {
            Some(unfinished) => *unfinished,
            None => Unfinished::default(),
        };
        match unfinished.take(bytes, self.inflates, &mut each) {
            Ok(Flow::More) => {
                if !unfinished.is_empty() {
                    self.unfinished = Some(Box::new(unfinished));
                }
                Ok(())
            }
            Ok(Flow::Ended) => {
                self.ended = true;
                Ok(())
            }
            Err(code) => {
                self.ended = true;
                Err(code)
            }
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Assembler {
    /// Bytes kept of what has not come whole.
    pub(crate) fn held(&self) -> usize {
        let Some(unfinished) = &self.unfinished else {
            return 0;
        };
        let message = unfinished.message.as_ref();
        unfinished.header.len()
            + unfinished.control.len()
            + message.map_or(0, |message| message.bytes.len())
    }
}

/// Whether anything may follow what was taken: nothing does after a Close.
enum Flow {
    More,
    Ended,
}

/// What has come in of a frame and of a message that are not whole yet.
#[derive(Debug, Default)]
struct Unfinished {
    /// A header that was cut in two.
    header: Vec<u8>,
    frame: Option<Frame>,
    /// The payload of a control frame.
    control: Vec<u8>,
    message: Option<PartialMessage>,
}

/// A frame whose header is known, and whose payload is coming in.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    /// Bytes of the payload that came.
    came: usize,
    length: usize,
}

/// A message whose end has not come.
#[derive(Debug)]
struct PartialMessage {
    is_text: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
    /// So many bytes are whole characters.
    checked: usize,
}

impl Unfinished {
    fn is_empty(&self) -> bool {
        self.header.is_empty() && self.frame.is_none() && self.message.is_none()
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        inflates: bool,
        each: &mut impl FnMut(Inbound<'_>) -> Result<(), CloseCode>,
    ) -> Result<Flow, CloseCode> {
        loop {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.begin_frame(&mut bytes, inflates)? {
                    Some(frame) => frame,
                    None => return Ok(Flow::More),
                },
            };
            let frame = self.fill(frame, &mut bytes)?;
            if frame.came < frame.length {
                self.frame = Some(frame);
                return Ok(Flow::More);
            }
            if let Flow::Ended = self.end_frame(frame, each)? {
                return Ok(Flow::Ended);
            }
        }
    }

    /// Takes a header off `bytes`; `None` where it is not whole.
    fn begin_frame(
        &mut self,
        bytes: &mut &[u8],
        inflates: bool,
    ) -> Result<Option<Frame>, CloseCode> {
        let (here, before) = match self.header.len() {
            0 => (*bytes, 0),
            before => {
                let rest = bytes.len().min(MAX_HEADER_BYTES - before);
                self.header.extend_from_slice(&bytes[..rest]);
                (&self.header[..], before)
            }
        };
        let mut cursor = Cursor::new(here);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| CloseCode::ProtocolError)?;
        let Some((header, length)) = parsed else {
            if before == 0 {
                self.header.extend_from_slice(bytes);
            }
            *bytes = &[];
            return Ok(None);
        };
        let end = cursor.position() as usize;
        if end != header.len(length) {
            // The shortest form of a length is the only one (RFC 6455, section 5.2).
            return Err(CloseCode::ProtocolError);
        }
        self.header = Vec::new();
        *bytes = &bytes[end - before..];
        self.allowed(&header, length, inflates).map(Some)
    }

    /// The frame, where its header may stand here.
    fn allowed(
        &mut self,
        header: &FrameHeader,
        length: u64,
        inflates: bool,
    ) -> Result<Frame, CloseCode> {
        // Clients must mask; of the reserved bits the first may say, in the first frame of a message, that it is compressed
        // (RFC 7692, section 6); a length is of 63 bits.
        let Some(mask) = header.mask else {
            return Err(CloseCode::ProtocolError);
        };
        let begins = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        if header.rsv1 && !(inflates && begins) || header.rsv2 || header.rsv3 || length >> 63 != 0 {
            return Err(CloseCode::ProtocolError);
        }
        let frame = Frame {
            opcode: header.opcode,
            is_final: header.is_final,
            mask,
            came: 0,
            length: usize::try_from(length).unwrap_or(usize::MAX),
        };
        let so_far = match (header.opcode, &self.message) {
            (OpCode::Control(_), _) if !header.is_final || length > MAX_CONTROL_BYTES => {
                return Err(CloseCode::ProtocolError);
            }
            (OpCode::Control(_), _) => return Ok(frame),
            (OpCode::Data(Data::Text | Data::Binary), None) => {
                self.message = Some(PartialMessage {
                    is_text: header.opcode == OpCode::Data(Data::Text),
                    is_compressed: header.rsv1,
                    bytes: Vec::new(),
                    checked: 0,
                });
                0
            }
            (OpCode::Data(Data::Continue), Some(message)) => message.bytes.len(),
            // A message within a message, the continuation of none, an opcode that means nothing.
            (OpCode::Data(_), _) => return Err(CloseCode::ProtocolError),
        };
        let most = self.message.as_ref().map_or(0, PartialMessage::most);
        if frame.length > most - so_far {
            return Err(CloseCode::TooBig);
        }
        Ok(frame)
    }

    /// Takes what there is of a frame's payload off `bytes`.
    fn fill(&mut self, mut frame: Frame, bytes: &mut &[u8]) -> Result<Frame, CloseCode> {
        let (here, rest) = bytes.split_at(bytes.len().min(frame.length - frame.came));
        *bytes = rest;
        let keys = frame.mask.iter().cycle().skip(frame.came % 4);
        let payload = here.iter().zip(keys).map(|(byte, key)| byte ^ key);
        frame.came += here.len();
        match &mut self.message {
            Some(message) if matches!(frame.opcode, OpCode::Data(_)) => {
                message.bytes.extend(payload);
                message.check()?;
            }
            _ => self.control.extend(payload),
        }
        Ok(frame)
    }

    /// Says what a frame that is whole completes.
    fn end_frame(
        &mut self,
        frame: Frame,
        each: &mut impl FnMut(Inbound<'_>) -> Result<(), CloseCode>,
    ) -> Result<Flow, CloseCode> {
        match frame.opcode {
            OpCode::Control(Control::Close) => {
                each(Inbound::Close(close_code(&self.control)?))?;
                return Ok(Flow::Ended);
            }
            OpCode::Control(Control::Ping) => each(Inbound::Ping(&self.control))?,
            OpCode::Control(_) => each(Inbound::Pong)?,
            OpCode::Data(_) if frame.is_final => {
                if let Some(message) = self.message.take() {
                    each(message.inflated()?.whole()?)?;
                }
            }
            OpCode::Data(_) => {}
        }
        // Kept for the next control frame of the same bytes; a flood of them allocates once.
        self.control.clear();
        Ok(Flow::More)
    }
}

impl PartialMessage {
    /// Returns how many bytes of it may come.
    fn most(&self) -> usize {
        match self.is_compressed {
            true => MAX_INBOUND_BYTES + DEFLATE_OVERHEAD,
            false => MAX_INBOUND_BYTES,
        }
    }

    /// Returns it as it was before it was compressed, which is held to the same limit.
    fn inflated(mut self) -> Result<Self, CloseCode> {
        if self.is_compressed {
            self.bytes = inflate(self.bytes, MAX_INBOUND_BYTES).map_err(|e| match e {
                InflateError::TooBig => CloseCode::TooBig,
                InflateError::Corrupt => CloseCode::InvalidPayload,
            })?;
        }
        Ok(self)
    }

    /// Refuses text that can't become UTF-8 any more, whatever follows.
    fn check(&mut self) -> Result<(), CloseCode> {
        if !self.is_text || self.is_compressed {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            // A character that was begun may still be finished.
            Err(e) if e.error_len().is_none() => self.checked += e.valid_up_to(),
            Err(_) => return Err(CloseCode::InvalidPayload),
        }
        Ok(())
    }

    fn whole(&self) -> Result<Inbound<'_>, CloseCode> {
        if !self.is_text {
            return Ok(Inbound::Binary);
        }
        std::str::from_utf8(&self.bytes)
            .map(Inbound::Text)
            .map_err(|_| CloseCode::InvalidPayload)
    }
}

/// The code in the payload of a Close: none, or two bytes and a reason in UTF-8 (RFC 6455, section 5.5.1).
fn close_code(payload: &[u8]) -> Result<Option<u16>, CloseCode> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(CloseCode::ProtocolError),
    };
    if !may_be_sent_in_close(code) {
        return Err(CloseCode::ProtocolError);
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(CloseCode::InvalidPayload),
    }
}

#[cfg(test)]
mod tests;
