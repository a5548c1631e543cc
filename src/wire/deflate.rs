//! Messages compressed one by one (permessage-deflate, RFC 7692). No message refers to another, so that a compressed
//! frame is the same for every client that takes such frames, and is made once.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::{opcode, push_compressed_frame};

/// How far back a compressed message refers, as a power of two: 4 KiB. Rows seldom repeat themselves over more (a row of
/// 32 KiB gains a tenth by a window of 32 KiB, one of 8 KiB gains nothing), and a smaller window is one that more clients
/// agree to.
pub const WINDOW_BITS: u8 = 12;
/// The smallest window that a client may ask for (RFC 7692, section 7.1.2.1).
pub const MIN_WINDOW_BITS: u8 = 8;
/// The largest window, which holds where nothing is said.
pub const MAX_WINDOW_BITS: u8 = 15;

/// Rows come out as small as with the highest level, but for those of many KiB, in a fraction of its time.
const LEVEL: u32 = 3;
/// What every flushed message ends with, and which is left out on the wire (RFC 7692, section 7.2.1).
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];
/// A compressed message is sent where it saves at least one of so many parts; else inflating it is not worth its while.
const SAVED_PART: usize = 8;
/// The memory that is kept for the next message.
const KEPT: usize = 64 * 1024;
/// Deflate streams that one message may consist of. Clients make one; each begins with some work for who inflates it.
const STREAMS: usize = 16;
/// Bytes that are compressed before others have their turn: one or two milliseconds of work.
const AT_ONCE: usize = 64 * 1024;

/// Which messages are compressed for a client that agreed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deflate {
    /// Shorter messages are sent as they are, in bytes.
    pub shortest: u32,
    /// Longer messages are sent as they are, in bytes: they could refer back further than the client keeps.
    pub longest: u32,
}

impl Deflate {
    /// Of messages of `shortest` bytes and more, those that a client which keeps a window of `window_bits` understands.
    pub fn new(shortest: usize, window_bits: u8) -> Deflate {
        let longest = match window_bits >= WINDOW_BITS {
            true => u32::MAX,
            false => 1 << window_bits,
        };
        Deflate {
            shortest: u32::try_from(shortest).unwrap_or(u32::MAX),
            longest,
        }
    }

    /// Returns whether a message of `len` bytes is to be compressed.
    pub fn takes(self, len: usize) -> bool {
        (self.shortest as usize..=self.longest as usize).contains(&len)
    }
}

/// How rows are put into frames for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Coding {
    /// As they are.
    #[default]
    Plain,
    /// Compressed where it helps.
    Deflate(Deflate),
}

/// Compresses messages. Its state takes 220 KB, whatever it is given.
pub struct Deflater {
    stream: Compress,
    scratch: Vec<u8>,
    /// Bytes it may take until it is rested.
    left: usize,
    taken: u64,
    made: u64,
}

impl Deflater {
    /// Returns one with its whole allowance.
    pub fn new() -> Deflater {
        Deflater {
            stream: Compress::new_with_window_bits(Compression::new(LEVEL), false, WINDOW_BITS),
            scratch: Vec::new(),
            left: AT_ONCE,
            taken: 0,
            made: 0,
        }
    }

    /// Gives it a new allowance.
    pub fn rest(&mut self) {
        self.left = AT_ONCE;
    }

    /// Returns whether it has taken as much as it may at once.
    pub fn is_tired(&self) -> bool {
        self.left == 0
    }

    /// Returns the bytes it took and the bytes that came of them since the last call.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.taken),
            std::mem::take(&mut self.made),
        )
    }

    /// Returns the whole frame of a text message; `None` where it would not be much smaller than the plain one.
    pub fn frame(&mut self, message: &[u8]) -> Option<Box<[u8]>> {
        self.left = self.left.saturating_sub(message.len());
        self.taken += message.len() as u64;
        let saved = (message.len() / SAVED_PART).max(1);
        let most = message.len().saturating_sub(saved);
        let payload = self.deflate(message, most);
        let frame = payload.map(|payload| {
            let mut frame = Vec::with_capacity(payload.len() + 10);
            push_compressed_frame(&mut frame, opcode::TEXT, payload);
            frame.into_boxed_slice()
        });
        self.made += frame.as_ref().map_or(message.len(), |frame| frame.len()) as u64;
        self.scratch.shrink_to(KEPT);
        frame
    }

    /// The compressed payload; `None` where it would be longer than `most` bytes.
    fn deflate(&mut self, message: &[u8], most: usize) -> Option<&[u8]> {
        self.stream.reset();
        self.scratch.clear();
        // One byte of room tells that everything was flushed.
        let room = most + FLUSHED.len() + 1;
        self.scratch.reserve(room);
        // Memory that was kept may have more room than is wanted, which does no harm.
        let status = self
            .stream
            .compress_vec(message, &mut self.scratch, FlushCompress::Sync);
        let is_whole = matches!(status, Ok(Status::Ok))
            && self.stream.total_in() == message.len() as u64
            && self.scratch.len() < self.scratch.capacity();
        let payload = self.scratch.strip_suffix(&FLUSHED)?;
        (is_whole && payload.len() <= most).then_some(payload)
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a compressed message could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// It holds more bytes than it may.
    TooBig,
    /// It is not deflated data.
    Corrupt,
}

/// Returns what the payload of a compressed message holds, which is at most `most` bytes.
///
/// # Errors
/// It holds more, or is not deflated data.
pub fn inflate(mut payload: Vec<u8>, most: usize) -> Result<Vec<u8>, InflateError> {
    payload.extend_from_slice(&FLUSHED);
    // One byte more tells that there would be more.
    let mut message = Vec::with_capacity(most + 1);
    let mut rest = &payload[..];
    for _ in 0..STREAMS {
        let mut stream = Decompress::new_with_window_bits(false, MAX_WINDOW_BITS);
        let status = stream
            .decompress_vec(rest, &mut message, FlushDecompress::Sync)
            .map_err(|_| InflateError::Corrupt)?;
        if message.len() > most {
            return Err(InflateError::TooBig);
        }
        rest = &rest[stream.total_in() as usize..];
        match status {
            // A block that calls itself the last may end the message, or have others behind it (RFC 7692, section 7.2.3.4).
            Status::StreamEnd if !rest.is_empty() && rest != FLUSHED => {}
            Status::Ok | Status::BufError if !rest.is_empty() => break,
            _ => return Ok(message),
        }
    }
    Err(InflateError::Corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::payload;

    fn inflated(frame: &[u8]) -> Vec<u8> {
        assert_eq!(frame[0], 0xc1, "final, RSV1, text");
        inflate(payload(frame).to_vec(), 1 << 21).expect("what was deflated can be inflated")
    }

    fn row(words: usize) -> String {
        (0..words).map(|n| format!("word {}, ", n % 17)).collect()
    }

    #[test]
    fn every_message_stands_for_itself_and_comes_out_as_it_went_in() {
        let mut deflater = Deflater::new();
        for words in [20, 1, 7, 400, 20, 90_000, 3, 20] {
            let message = row(words);
            if let Some(frame) = deflater.frame(message.as_bytes()) {
                assert_eq!(inflated(&frame), message.as_bytes());
                assert!(frame.len() < message.len());
            } else {
                assert!(words < 7);
            }
        }
        let first = deflater.frame(row(50).as_bytes());
        assert_eq!(first, deflater.frame(row(50).as_bytes()), "no context");
    }

    #[test]
    fn what_does_not_get_smaller_is_left_as_it_is() {
        let mut deflater = Deflater::new();
        let mut random = 7_u64;
        let noise: Vec<u8> = (0..100_000)
            .map(|_| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        assert!(deflater.frame(&noise).is_none());
        assert!(deflater.frame(b"").is_none());
        assert!(deflater.frame(b"x").is_none());
        assert!(deflater.frame(row(50).as_bytes()).is_some(), "and goes on");
        assert!(deflater.scratch.capacity() <= KEPT);
    }

    #[test]
    fn after_much_work_others_have_their_turn() {
        let mut deflater = Deflater::new();
        assert!(!deflater.is_tired());
        deflater.frame(&[b'x'; AT_ONCE]);
        assert!(deflater.is_tired());
        deflater.rest();
        assert!(!deflater.is_tired());
        let (taken, made) = deflater.take_counts();
        assert_eq!(taken, AT_ONCE as u64);
        assert!((1..1000).contains(&made));
        assert_eq!(deflater.take_counts(), (0, 0));
    }

    #[test]
    fn a_message_is_never_compressed_for_a_window_that_it_could_leave() {
        for (bits, longest) in [
            (8, 256),
            (9, 512),
            (11, 2048),
            (12, u32::MAX),
            (15, u32::MAX),
        ] {
            let deflate = Deflate::new(100, bits);
            assert_eq!(deflate.longest, longest);
            assert!(!deflate.takes(99) && deflate.takes(100) && deflate.takes(256));
            assert_eq!(deflate.takes(100_000), longest == u32::MAX, "{bits}");
        }
    }

    #[test]
    fn a_bomb_is_not_inflated() {
        let mut deflater = Deflater::new();
        let frame = deflater.frame(&vec![b' '; 10 << 20]).expect("it shrinks");
        let bomb = payload(&frame).to_vec();
        assert!(bomb.len() < 50_000);
        assert_eq!(inflate(bomb.clone(), 4096), Err(InflateError::TooBig));
        let frame = deflater.frame(&[b' '; 4096]).expect("it shrinks");
        let just = payload(&frame).to_vec();
        assert_eq!(inflate(just.clone(), 4096), Ok(vec![b' '; 4096]));
        assert_eq!(inflate(just, 4095), Err(InflateError::TooBig));
    }

    #[test]
    fn the_examples_of_the_rfc_are_understood_and_garbage_is_refused() {
        // RFC 7692, sections 7.2.3.1 to 7.2.3.6.
        for (payload, message) in [
            (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], "Hello"),
            (
                &[
                    0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
                ],
                "Hello",
            ),
            (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
            (
                &[
                    0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
                ],
                "Hello",
            ),
            (&[0x00], ""),
            (&[], ""),
            (&[0x02, 0x00], ""),
        ] {
            assert_eq!(
                inflate(payload.to_vec(), 100),
                Ok(message.as_bytes().to_vec())
            );
        }
        // A block of the type that there is not; a reference to before the beginning; last blocks without end.
        for payload in [
            vec![0xff; 10],
            vec![0x02, 0x13, 0x00, 0x00],
            [0x03, 0x00].repeat(100),
        ] {
            assert_eq!(inflate(payload, 100), Err(InflateError::Corrupt));
        }
    }
}
