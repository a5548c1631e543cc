//! What a connection reads from and writes to: a bare socket, or one that speaks TLS.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::tls_socket::TlsSocket;
use crate::os::send_queue::unsent;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
    /// Boxed: the others need not have room for it.
    Tls(Box<TlsSocket>),
}

/// What came of a write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Bytes that need not be given again.
    pub bytes: usize,
    /// Whether the kernel took any.
    pub moved: bool,
    /// Whether the kernel has no room for the rest, or for what TLS holds of it.
    pub is_full: bool,
}

/// What came of a read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    /// Bytes in the buffer. None where only TLS had something to say.
    pub bytes: usize,
    /// Bytes that came in for them. None at the end.
    pub on_the_wire: usize,
}

impl Socket {
    /// Has the registry tell when the socket can be read from or written to.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Socket::Tcp(stream) => stream.register(registry, token, interest),
            Socket::Unix(stream) => stream.register(registry, token, interest),
            Socket::Tls(tls) => tls.stream().register(registry, token, interest),
        }
    }

    /// Bytes in the kernel's send buffer that the peer has not taken.
    pub(super) fn unsent(&self) -> usize {
        unsent(match self {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
            Socket::Tls(tls) => tls.as_raw_fd(),
        })
    }

    /// Returns whether there may be bytes to read of which no event tells any more.
    pub(super) fn may_hold_bytes(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// Returns whether bytes that were taken wait for room in the kernel.
    pub(super) fn holds_back(&self) -> bool {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => false,
            Socket::Tls(tls) => tls.holds_back(),
        }
    }

    /// Says that nothing more is written; the peer may still send.
    pub fn shutdown(&mut self) {
        // A peer that is gone already can't be told anything.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
            Socket::Tls(tls) => {
                tls.say_end();
                tls.stream().shutdown(Shutdown::Write)
            }
        };
    }

    /// Tells a peer of TLS, who could not know otherwise, that nothing was cut off.
    pub(super) fn say_end(&mut self) {
        if let Socket::Tls(tls) = self {
            tls.say_end();
        }
    }

    /// Reads what has come. An error of kind `Interrupted` asks for another call.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Heard> {
        let bytes = match self {
            Socket::Tcp(stream) => stream.read(buffer)?,
            Socket::Unix(stream) => stream.read(buffer)?,
            Socket::Tls(tls) => return tls.read(buffer),
        };
        Ok(Heard {
            bytes,
            on_the_wire: bytes,
        })
    }

    /// Writes as much of `slices`, `total` bytes in all, as there is room for.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], total: usize) -> io::Result<Taken> {
        loop {
            let result = match (&mut *self, slices) {
                (Socket::Tls(tls), slices) => return tls.write(slices, total),
                (Socket::Tcp(stream), [one]) => stream.write(one),
                (Socket::Tcp(stream), many) => stream.write_vectored(many),
                (Socket::Unix(stream), [one]) => stream.write(one),
                (Socket::Unix(stream), many) => stream.write_vectored(many),
            };
            let bytes = match result {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                Err(e) => return Err(e),
            };
            return Ok(Taken {
                bytes,
                moved: bytes > 0,
                is_full: bytes < total,
            });
        }
    }
}
