//! WebSocket frames (RFC 6455) as they leave walcast.

/// WebSocket opcodes (RFC 6455, section 5.2).
pub mod opcode {
    /// A message of text, whole.
    pub const TEXT: u8 = 1;
    /// The end, with a code and perhaps a reason.
    pub const CLOSE: u8 = 8;
    /// To be answered with a Pong of the same content.
    pub const PING: u8 = 9;
    /// The answer.
    pub const PONG: u8 = 10;
}

/// The bit of a frame that ends its message.
const FIN: u8 = 0x80;
/// The bit of a compressed message.
const RSV1: u8 = 0x40;

/// Appends one unmasked, final frame. Its bytes are the same for every client.
pub fn push_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_frame_header(out, FIN | opcode, payload.len());
    out.extend_from_slice(payload);
}

/// The same of a payload that was compressed as RFC 7692 has it.
pub fn push_compressed_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_frame_header(out, FIN | RSV1 | opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends the beginning of a final frame of text whose payload, of this length, follows.
pub fn push_text_header(out: &mut Vec<u8>, length: usize) {
    push_frame_header(out, FIN | opcode::TEXT, length);
}

fn push_frame_header(out: &mut Vec<u8>, first: u8, length: usize) {
    out.push(first);
    match length {
        0..126 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// The payload of a frame made here.
pub fn payload(frame: &[u8]) -> &[u8] {
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    &frame[header..]
}

/// Appends a close frame.
pub fn push_close(out: &mut Vec<u8>, code: Option<u16>) {
    let code = code.map(u16::to_be_bytes);
    push_frame(out, opcode::CLOSE, code.as_ref().map_or(&[], |code| code));
}

/// Returns whether a close frame may hold this code: those that RFC 6455 and the registry it began have given a meaning
/// on the wire, and those for libraries and applications.
pub fn may_be_sent_in_close(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_their_length_in_the_shortest_form() {
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)] {
            let mut out = vec![];
            push_frame(&mut out, opcode::TEXT, &vec![b'x'; length]);
            assert_eq!(out.len(), header + length);
            assert_eq!(payload(&out).len(), length);
        }
    }
}
