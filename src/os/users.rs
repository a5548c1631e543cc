//! Users, groups, and what the mode of a file lets them do.

use std::ffi::CStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{getegid, geteuid, getgroups};

/// Room for a passwd or group entry; NSS modules may return long ones.
const ENTRY_BYTES: usize = 64 * 1024;

/// Owner and mode of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Owned {
    pub fn of(meta: &Metadata) -> Owned {
        Owned {
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o7777,
        }
    }

    /// Returns whether the mode alone gives `user` all of `wanted` (bits of `rwx`: 4, 2, 1).
    pub fn lets(self, user: &User, wanted: u32) -> bool {
        let granted = match () {
            _ if user.uid == 0 => 7,
            _ if user.uid == self.uid => self.mode >> 6,
            _ if user.groups.contains(&self.gid) => self.mode >> 3,
            _ => self.mode,
        };
        granted & wanted == wanted
    }

    pub fn is_setgid(self) -> bool {
        self.mode & 0o2000 != 0
    }

    /// `owner:group 0640`
    pub fn shown(self) -> String {
        format!(
            "{}:{} {:04o}",
            user_name(self.uid),
            group_name(self.gid),
            self.mode
        )
    }
}

/// A user and all groups it is in.
#[derive(Debug, Clone)]
pub struct User {
    pub uid: u32,
    /// The group that files it creates get.
    pub gid: u32,
    pub groups: Vec<u32>,
    pub name: String,
}

impl User {
    /// Returns the user and groups that this process runs as.
    pub fn current() -> User {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        // Fails only where the buffer is too small, which the call sees to.
        let groups = getgroups().unwrap_or_default();
        let mut groups: Vec<u32> = groups.into_iter().map(|group| group.as_raw()).collect();
        groups.push(gid);
        User {
            uid,
            gid,
            groups,
            name: user_name(uid),
        }
    }

    /// A user as the system's databases know it; `None` for an id without an entry.
    pub fn of(uid: u32) -> Option<User> {
        with_passwd(uid, |entry| {
            // SAFETY: getpwuid_r succeeded, so pw_name is a C string in the caller's live buffer.
            let name = unsafe { CStr::from_ptr(entry.pw_name) };
            User {
                uid,
                gid: entry.pw_gid,
                groups: groups_of(name, entry.pw_gid),
                name: name.to_string_lossy().into_owned(),
            }
        })
    }
}

/// Returns whether this process may do all of `wanted`, with everything the system takes into account. Nothing is
/// opened.
pub fn may(path: &Path, wanted: Access) -> bool {
    accessat(CWD, path, wanted, AtFlags::EACCESS).is_ok()
}

/// Returns the user's name, or its id where it has none.
pub fn user_name(uid: u32) -> String {
    let name = with_passwd(uid, |entry| {
        // SAFETY: as in `User::of`.
        unsafe { CStr::from_ptr(entry.pw_name) }
            .to_string_lossy()
            .into_owned()
    });
    name.unwrap_or_else(|| uid.to_string())
}

/// Returns the group's name, or its id where it has none.
pub fn group_name(gid: u32) -> String {
    let mut buffer = vec![0; ENTRY_BYTES];
    let mut found = std::ptr::null_mut();
    // SAFETY: entry and buffer live through the block, and the name is copied out of the buffer before it ends.
    unsafe {
        let mut entry: libc::group = std::mem::zeroed();
        let failed = libc::getgrgid_r(
            gid,
            &mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &mut found,
        );
        match failed == 0 && !found.is_null() {
            true => CStr::from_ptr(entry.gr_name).to_string_lossy().into_owned(),
            false => gid.to_string(),
        }
    }
}

fn with_passwd<T>(uid: u32, read: impl FnOnce(&libc::passwd) -> T) -> Option<T> {
    let mut buffer = vec![0; ENTRY_BYTES];
    let mut found = std::ptr::null_mut();
    // SAFETY: entry and buffer live until `read` has returned, and getpwuid_r knows the buffer's length.
    unsafe {
        let mut entry: libc::passwd = std::mem::zeroed();
        let failed = libc::getpwuid_r(
            uid,
            &mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &mut found,
        );
        (failed == 0 && !found.is_null()).then(|| read(&entry))
    }
}

fn groups_of(name: &CStr, primary: u32) -> Vec<u32> {
    let mut count = 64;
    loop {
        let mut groups = vec![primary; count as usize];
        // SAFETY: `count` is the vector's length; where that is too short, the call says how many there are.
        let fitted =
            unsafe { libc::getgrouplist(name.as_ptr(), primary, groups.as_mut_ptr(), &mut count) };
        if fitted >= 0 {
            groups.truncate(count.max(0) as usize);
            return groups;
        }
        if count as usize <= groups.len() {
            return groups;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_fits_decides() {
        let user = |uid, groups: &[u32]| User {
            uid,
            gid: groups[0],
            groups: groups.to_vec(),
            name: uid.to_string(),
        };
        let file = Owned {
            uid: 10,
            gid: 20,
            mode: 0o046,
        };
        assert!(
            !file.lets(&user(10, &[20]), 4),
            "the owner, though its group could"
        );
        assert!(file.lets(&user(11, &[5, 20]), 4) && !file.lets(&user(11, &[5, 20]), 2));
        assert!(file.lets(&user(11, &[5]), 6) && !file.lets(&user(11, &[5]), 1));
        assert!(file.lets(&user(0, &[0]), 7));
    }

    #[test]
    fn root_is_known_by_name() {
        let root = User::of(0).unwrap();
        assert_eq!((&*root.name, root.gid), ("root", 0));
        assert!(root.groups.contains(&0));
        assert_eq!(user_name(4_294_000_000), "4294000000");
        assert_eq!(group_name(0), "root");
    }
}
