//! Mounts that a test has for itself, where the system lets it.

use std::ffi::CString;
use std::path::Path;

/// Gives this thread, and what it starts, mounts of its own. `false`, said aloud, where that is not allowed.
#[must_use]
pub fn own_mounts() -> bool {
    // SAFETY: system calls that take plain numbers and strings that live throughout.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                std::ptr::null(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
    };
    if !done {
        eprintln!(
            "skipped: no mounts of its own ({})",
            std::io::Error::last_os_error()
        );
    }
    done
}

/// Mounts a file system of so many KiB, in memory, at this directory.
pub fn mount_small(place: &Path, kib: u32) {
    mount_tmpfs(place, kib, 0);
}

/// Gives that file system another size.
pub fn resize(place: &Path, kib: u32) {
    mount_tmpfs(place, kib, libc::MS_REMOUNT);
}

fn mount_tmpfs(place: &Path, kib: u32, flags: libc::c_ulong) {
    let place = CString::new(place.to_str().expect("the path is text")).expect("it has no zero");
    let size = CString::new(format!("size={kib}k")).expect("it has no zero");
    // SAFETY: the strings live until after the call; tmpfs reads its options as a string.
    let mounted = unsafe {
        libc::mount(
            c"tmpfs".as_ptr(),
            place.as_ptr(),
            c"tmpfs".as_ptr(),
            flags,
            size.as_ptr().cast(),
        )
    };
    assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
}
