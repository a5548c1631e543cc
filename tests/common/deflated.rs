//! What a client library that knows no compression reads of a daemon that compresses: frames, inflated as they come.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use flate2::{Decompress, FlushDecompress};

/// The offer that every client here makes that takes compressed messages.
pub const OFFER: (&str, &str) = ("Sec-WebSocket-Extensions", "permessage-deflate");

/// A connection whose compressed messages are read as if they had come plain. What is written goes out as it is.
#[derive(Debug)]
pub struct Inflated {
    pub tcp: TcpStream,
    /// The handshake is over, and what follows are frames.
    speaks_frames: bool,
    inflates: bool,
    /// What came and is not whole yet.
    came: Vec<u8>,
    /// What can be read.
    ready: Vec<u8>,
}

impl Inflated {
    pub fn new(tcp: TcpStream, inflates: bool) -> Inflated {
        Inflated {
            tcp,
            speaks_frames: false,
            inflates,
            came: vec![],
            ready: vec![],
        }
    }

    fn take_whole(&mut self) {
        if !self.speaks_frames {
            let Some(end) = self.came.windows(4).position(|end| end == b"\r\n\r\n") else {
                return;
            };
            self.ready.extend(self.came.drain(..end + 4));
            self.speaks_frames = true;
        }
        while let Some((header, length)) = frame_at(&self.came) {
            let frame: Vec<u8> = self.came.drain(..header + length).collect();
            if frame[0] & RSV1 == 0 {
                self.ready.extend(frame);
                continue;
            }
            let message = inflate(&frame[header..]);
            self.ready.extend([frame[0] & !RSV1, 127]);
            self.ready.extend((message.len() as u64).to_be_bytes());
            self.ready.extend(message);
        }
    }
}

const RSV1: u8 = 0x40;

/// Returns the length of the header and of the payload of the frame that `bytes` begin with; `None` where it is not whole.
pub fn frame_at(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, length) = match *bytes.get(1)? {
        126 => (
            4,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into(),
        ),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            (10, usize::try_from(length).ok()?)
        }
        short => (2, short.into()),
    };
    (bytes.len() >= header + length).then_some((header, length))
}

/// What the payload of a compressed message holds. It must refer to nothing before it, and back no further than 4 KiB: what
/// is further back is forgotten here, for each step makes little and keeps no more.
#[track_caller]
pub fn inflate(payload: &[u8]) -> Vec<u8> {
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut stream = Decompress::new_with_window_bits(false, 12);
    let (mut message, mut step) = (vec![], [0; 64]);
    loop {
        let (taken, made) = (stream.total_in() as usize, stream.total_out() as usize);
        stream
            .decompress(&input[taken..], &mut step, FlushDecompress::Sync)
            .expect("a compressed message can be inflated");
        let made = stream.total_out() as usize - made;
        message.extend(&step[..made]);
        if made < step.len() && stream.total_in() as usize == input.len() {
            return message;
        }
    }
}

/// The payload of a compressed message.
pub fn deflate(message: &[u8]) -> Vec<u8> {
    let mut stream = flate2::Compress::new(flate2::Compression::default(), false);
    let mut payload = Vec::with_capacity(message.len() + 64);
    stream
        .compress_vec(message, &mut payload, flate2::FlushCompress::Sync)
        .expect("a message can be deflated");
    assert!(payload.ends_with(&[0, 0, 0xff, 0xff]));
    payload.truncate(payload.len() - 4);
    payload
}

impl Read for Inflated {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !self.inflates {
            return self.tcp.read(buffer);
        }
        while self.ready.is_empty() {
            let mut chunk = [0; 16 * 1024];
            match self.tcp.read(&mut chunk) {
                Ok(0) => return Ok(0),
                Ok(count) => self.came.extend(&chunk[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            self.take_whole();
        }
        let count = buffer.len().min(self.ready.len());
        buffer[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        Ok(count)
    }
}

impl Write for Inflated {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.tcp.flush()
    }
}
