//! What the kernel knows of a socket's other side.

use std::os::fd::RawFd;

/// Bytes that were written to the socket and not taken by its peer yet; 0 where the system does not tell.
pub(crate) fn unsent(socket: RawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ on sockets) writes one int through the pointer, which outlives the call; a descriptor
    // that is none only makes it fail.
    let asked = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &mut bytes) };
    match asked {
        0 => usize::try_from(bytes).unwrap_or(0),
        _ => 0,
    }
}

/// Returns whether the peer has closed its side, even if what it sent before was not read yet.
pub(crate) fn peer_has_closed(socket: RawFd) -> bool {
    #[cfg(target_os = "linux")]
    const CLOSED: libc::c_short = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
    #[cfg(not(target_os = "linux"))]
    const CLOSED: libc::c_short = libc::POLLHUP | libc::POLLERR;
    let mut asked = libc::pollfd {
        fd: socket,
        events: CLOSED,
        revents: 0,
    };
    // SAFETY: the pointer is to one pollfd, which outlives the call, and that does not wait; a descriptor that is none
    // is told as POLLNVAL.
    let told = unsafe { libc::poll(&mut asked, 1, 0) };
    told == 1 && asked.revents & CLOSED != 0
}
