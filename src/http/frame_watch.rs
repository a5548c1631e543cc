//! Frames of HTTP/2 that cost the server more than their sender: counted as they come in, and refused when there are too many.
//! The library answers each SETTINGS and PING, and forgets each stream that is reset; a client that sends little else only
//! keeps it busy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes that a client begins with (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// Bytes of a frame's header (RFC 9113, 4.1).
const HEADER: usize = 9;
/// Such frames that may come at once: a browser sends a handful with its first request, and resets as many streams as a page has
/// open when it is left.
const BURST: f64 = 300.0;
/// Such frames a second for as long as the connection lasts.
const PER_SECOND: f64 = 30.0;

/// What is counted of a frame (RFC 9113, 6).
fn counts(kind: u8, flags: u8, length: u32) -> bool {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const WINDOW_UPDATE: u8 = 8;
    const END_STREAM: u8 = 1;
    match kind {
        // Without a byte it is of use only as an end.
        DATA => length == 0 && flags & END_STREAM == 0,
        // What it asks for is counted elsewhere.
        HEADERS => false,
        // As many as the client takes in.
        WINDOW_UPDATE => false,
        _ => true,
    }
}

/// Follows the frames of one connection.
#[derive(Debug)]
struct Frames {
    /// Bytes that belong to no header: of the preface, or of a frame.
    skip: usize,
    header: [u8; HEADER],
    /// Bytes of it that have come.
    have: usize,
    allowance: f64,
    at: Instant,
}

impl Frames {
    fn new(now: Instant) -> Frames {
        Frames {
            skip: PREFACE,
            header: [0; HEADER],
            have: 0,
            allowance: BURST,
            at: now,
        }
    }

    /// Takes what came in; `false` once too much came that costs more than it says.
    fn take(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        let mut counted = 0.0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER {
                let [a, b, c, kind, flags, ..] = self.header;
                let length = u32::from_be_bytes([0, a, b, c]);
                counted += f64::from(u8::from(counts(kind, flags, length)));
                (self.skip, self.have) = (length as usize, 0);
            }
        }
        if counted == 0.0 {
            return true;
        }
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.allowance = (self.allowance + seconds * PER_SECOND).min(BURST) - counted;
        self.allowance >= 0.0
    }
}

/// A connection whose frames are counted.
#[derive(Debug)]
pub(super) struct FrameWatch<S> {
    stream: S,
    frames: Frames,
}

impl<S> FrameWatch<S> {
    pub(super) fn new(stream: S) -> FrameWatch<S> {
        FrameWatch {
            stream,
            frames: Frames::new(Instant::now()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameWatch<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let new = &buffer.filled()[before..];
        if !new.is_empty() && !self.frames.take(new, Instant::now()) {
            let flood = "too many frames of HTTP/2 that ask for nothing";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::QuotaExceeded, flood)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameWatch<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(vec![0xff; length]);
        frame
    }

    /// Frames after the preface, in pieces of so many bytes; how many were taken before it was too much.
    fn taken(frames: impl Iterator<Item = Vec<u8>>, piece: usize) -> usize {
        let now = Instant::now();
        let mut watch = Frames::new(now);
        assert!(watch.take(&[b'x'; PREFACE], now));
        let mut count = 0;
        for frame in frames {
            if !frame.chunks(piece).all(|piece| watch.take(piece, now)) {
                return count;
            }
            count += 1;
        }
        count
    }

    #[test]
    fn frames_that_ask_for_nothing_are_counted_however_they_are_cut() {
        for piece in [1, 2, 9, 10, 4096] {
            for (kind, flags, length) in [
                (4, 0, 6),
                (6, 0, 8),
                (3, 0, 4),
                (9, 0, 100),
                (0, 0, 0),
                (200, 0, 0),
            ] {
                let flood = (0..1000).map(|_| frame(kind, flags, length));
                assert_eq!(taken(flood, piece), BURST as usize, "{kind} in {piece}");
            }
            for (kind, flags, length) in [(0, 0, 5), (0, 1, 0), (1, 5, 30), (8, 0, 4)] {
                let useful = (0..1000).map(|_| frame(kind, flags, length));
                assert_eq!(taken(useful, piece), 1000, "{kind} in {piece}");
            }
        }
    }

    #[test]
    fn the_allowance_comes_back() {
        let start = Instant::now();
        let mut watch = Frames::new(start);
        assert!(watch.take(&[0; PREFACE], start));
        let pings = frame(6, 0, 8).repeat(BURST as usize);
        assert!(watch.take(&pings, start));
        assert!(!watch.take(&frame(6, 0, 8), start));
        let later = start + Duration::from_secs(2);
        assert!(watch.take(&frame(6, 0, 8).repeat(59), later));
    }
}
