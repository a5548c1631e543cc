//! How far a peer is behind with what was written to its socket.

use std::os::fd::RawFd;

/// Bytes that were written to the socket and not taken by its peer yet; 0 where the system does not tell.
pub fn unsent(socket: RawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ on sockets) writes one int through the pointer, which outlives the call; a descriptor
    // that is none only makes it fail.
    let asked = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &mut bytes) };
    match asked {
        0 => usize::try_from(bytes).unwrap_or(0),
        _ => 0,
    }
}
