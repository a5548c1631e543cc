//! Whether anybody else has a file open, as the kernel knows it.

use std::path::Path;

/// Whether no other descriptor of the file is open, in any process. `None` where the kernel does not tell: a file system
/// without leases, or somebody else's file.
///
/// Not for a file that this process has open as a database: closing a descriptor drops its locks.
#[cfg(target_os = "linux")]
pub fn is_open_nowhere_else(path: &Path) -> Option<bool> {
    use std::os::fd::AsRawFd as _;
    /// `asm-generic/fcntl.h`.
    const F_SETSIG: libc::c_int = 10;
    let file = std::fs::File::open(path).ok()?;
    let descriptor = file.as_raw_fd();
    // SAFETY: calls with numbers alone, on a descriptor that is open until the end of this function.
    let (granted, error) = unsafe {
        // Who opens the file while it is leased makes the kernel signal this process; SIGURG does nothing, the default
        // would end it.
        if libc::fcntl(descriptor, F_SETSIG, libc::SIGURG) != 0 {
            return None;
        }
        let granted = libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_WRLCK) == 0;
        let error = std::io::Error::last_os_error();
        if granted {
            libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_UNLCK);
        }
        (granted, error.raw_os_error())
    };
    match (granted, error) {
        (true, _) => Some(true),
        (false, Some(libc::EAGAIN)) => Some(false),
        (false, _) => None,
    }
}

/// No leases here.
#[cfg(not(target_os = "linux"))]
pub fn is_open_nowhere_else(_: &Path) -> Option<bool> {
    None
}
