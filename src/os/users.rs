//! Users, groups, and what the mode of a file lets them do.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{getegid, geteuid, getgroups};

/// Owner and mode of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Owned {
    /// What the file system says of a file.
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

    /// Returns whether the set-group-ID bit is set: of a directory, that its files get its group.
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

    /// Returns the user as the system's databases know it; `None` for an id without an entry.
    pub fn of(uid: u32) -> Option<User> {
        let entry = uzers::get_user_by_uid(uid)?;
        let gid = entry.primary_group_id();
        // Groups that have no name are left out, the user's first one among them.
        let named = entry.groups().unwrap_or_default();
        let mut groups: Vec<u32> = named.iter().map(uzers::Group::gid).collect();
        if !groups.contains(&gid) {
            groups.push(gid);
        }
        Some(User {
            uid,
            gid,
            groups,
            name: entry.name().to_string_lossy().into_owned(),
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
    uzers::get_user_by_uid(uid).map_or_else(
        || uid.to_string(),
        |user| user.name().to_string_lossy().into_owned(),
    )
}

/// Returns the group's name, or its id where it has none.
pub fn group_name(gid: u32) -> String {
    uzers::get_group_by_gid(gid).map_or_else(
        || gid.to_string(),
        |group| group.name().to_string_lossy().into_owned(),
    )
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
