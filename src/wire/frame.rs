//! WebSocket frames (RFC 6455) as they leave walcast.

/// WebSocket opcodes (RFC 6455, section 5.2).
pub mod opcode {
    pub const TEXT: u8 = 1;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

/// Appends one unmasked, final frame. Its bytes are the same for every client.
pub fn push_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    push_frame_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

fn push_frame_header(out: &mut Vec<u8>, opcode: u8, length: usize) {
    out.push(0x80 | opcode);
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

/// The payload of a frame made by [`push_frame`].
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
