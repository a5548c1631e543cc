//! A socket that speaks TLS: what is written is encrypted a record at a time, and no more of it than the kernel has room for
//! beyond one record.

use std::fmt;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsRawFd, RawFd};

use mio::net::TcpStream;
use rustls::ServerConnection;

use super::socket::{Heard, Taken};

/// Bytes that are encrypted before the kernel is asked for room: the most that one record holds (RFC 8446, 5.1). So much
/// is held for a client that takes nothing.
const RECORD: usize = 16 * 1024;
/// Pieces that are looked at for one record; sixty-four of 256 bytes fill it.
const PIECES: usize = 64;

/// A TCP connection on which the handshake of TLS was made.
pub struct TlsSocket {
    stream: TcpStream,
    tls: ServerConnection,
}

impl fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsSocket").field(&self.stream).finish()
    }
}

impl AsRawFd for TlsSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl TlsSocket {
    /// Goes on with `tls`, whose handshake is done, on `stream`.
    pub fn new(stream: TcpStream, mut tls: ServerConnection) -> TlsSocket {
        tls.set_buffer_limit(Some(RECORD));
        TlsSocket { stream, tls }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn holds_back(&self) -> bool {
        self.tls.wants_write()
    }

    /// Says that no more comes, as far as there is room for it.
    pub(super) fn say_end(&mut self) {
        self.tls.send_close_notify();
        // A peer that is gone need not hear it.
        let _ = self.flush();
    }

    /// As [`super::socket::Socket::read`].
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Heard> {
        let mut on_the_wire = 0;
        if !self.holds_text() {
            on_the_wire = self.tls.read_tls(&mut self.stream)?;
            if on_the_wire == 0 {
                return Ok(Heard {
                    bytes: 0,
                    on_the_wire,
                });
            }
        }
        if let Err(error) = self.tls.process_new_packets() {
            // Tells the peer what was wrong, where there is room for it.
            let _ = self.flush();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        match self.tls.reader().read(buffer) {
            // The peer has said that no more comes.
            Ok(0) => Ok(Heard {
                bytes: 0,
                on_the_wire: 0,
            }),
            Ok(bytes) => Ok(Heard {
                bytes,
                on_the_wire: on_the_wire.max(bytes),
            }),
            // A part of a record, or one that is TLS's own.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Heard {
                bytes: 0,
                on_the_wire,
            }),
            Err(e) => Err(e),
        }
    }

    /// Returns whether something was decrypted that was not read yet.
    fn holds_text(&mut self) -> bool {
        // rustls reads no more from the socket while it holds some; nor does it after the end.
        !self.tls.wants_read()
    }

    /// As [`super::socket::Socket::write`].
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], total: usize) -> io::Result<Taken> {
        let mut taken = Taken {
            bytes: 0,
            moved: false,
            is_full: true,
        };
        let mut rest = Rest::of(slices);
        loop {
            let (moved, is_out) = self.flush()?;
            taken.moved |= moved;
            if !is_out {
                return Ok(taken);
            }
            if taken.bytes == total {
                taken.is_full = false;
                return Ok(taken);
            }
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = rest.fill(&mut pieces);
            let bytes = self.tls.writer().write_vectored(&pieces[..count])?;
            if bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest.advance(bytes);
            taken.bytes += bytes;
        }
    }

    /// Writes what was encrypted. Returns whether the kernel took any of it, and whether it took all.
    fn flush(&mut self) -> io::Result<(bool, bool)> {
        let mut moved = false;
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => moved = true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok((moved, false)),
                Err(e) => return Err(e),
            }
        }
        Ok((moved, true))
    }
}

/// What is left of some slices.
struct Rest<'s> {
    slices: &'s [IoSlice<'s>],
    /// Bytes of the first that are not left.
    gone: usize,
}

impl<'s> Rest<'s> {
    fn of(slices: &'s [IoSlice<'s>]) -> Rest<'s> {
        Rest { slices, gone: 0 }
    }

    /// Puts what fits into one record into `pieces`; returns how many pieces that are.
    fn fill(&self, pieces: &mut [IoSlice<'s>; PIECES]) -> usize {
        let (mut count, mut bytes, mut gone) = (0, 0, self.gone);
        for slice in self.slices.iter().take(PIECES) {
            let left = &slice[gone..];
            gone = 0;
            let piece = &left[..left.len().min(RECORD - bytes)];
            pieces[count] = IoSlice::new(piece);
            (count, bytes) = (count + 1, bytes + piece.len());
            if bytes == RECORD {
                break;
            }
        }
        count
    }

    fn advance(&mut self, bytes: usize) {
        let mut at = self.gone + bytes;
        while let Some(first) = self.slices.first()
            && at >= first.len()
        {
            at -= first.len();
            self.slices = &self.slices[1..];
        }
        self.gone = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_taken_a_record_at_a_time_to_the_last_byte() {
        let texts: Vec<Vec<u8>> = [0, 1, 300, RECORD, 5, 3 * RECORD + 7, 0, 2]
            .iter()
            .enumerate()
            .map(|(n, length)| vec![n as u8; *length])
            .chain((0..200).map(|n| vec![n; 3]))
            .collect();
        let slices: Vec<IoSlice<'_>> = texts.iter().map(|text| IoSlice::new(text)).collect();
        let mut rest = Rest::of(&slices);
        let mut out = Vec::new();
        loop {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let count = rest.fill(&mut pieces);
            let record: Vec<u8> = pieces[..count]
                .iter()
                .flat_map(|piece| piece.to_vec())
                .collect();
            assert!(record.len() <= RECORD);
            // The socket may take less than it is given.
            let taken = record.len().div_ceil(2);
            if taken == 0 {
                break;
            }
            out.extend_from_slice(&record[..taken]);
            rest.advance(taken);
        }
        assert_eq!(out, texts.concat());
    }
}
