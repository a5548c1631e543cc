//! Databases that go by two names: one file mounted on its own, or hard links.
//!
//! SQLite names `-wal` and `-shm` after the database. Under another name they are other files: what is committed under
//! one name is not seen under the other, and who checkpoints last overwrites the other's pages. Locks and the database
//! itself are shared, so with a rollback journal reading is safe.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::sqlite::error::{BrokenKind, Unavailable};
use crate::sqlite::file::real_path;
use crate::sqlite::file::{FileId, companion};

/// Why others may know the database by another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SharedFile {
    /// The file itself, not its directory, is mounted here.
    MountPoint,
    /// It is mounted there, too.
    MountedAt(PathBuf),
    /// So many hard links.
    Links(u64),
    /// This companion is mounted on its own.
    Companion(&'static str),
}

impl SharedFile {
    /// Of the file behind `path`, through symbolic links; `None` where it has but one name, as far as can be seen from
    /// here: not what other mount namespaces, containers among them, call it.
    pub fn of(path: &Path) -> Option<SharedFile> {
        SharedFile::of_file(path).or_else(|| {
            let real = real_path(path);
            let mut companions = ["-wal", "-shm"].into_iter();
            companions
                .find(|suffix| is_mount_point(&companion(&real, suffix)))
                .map(SharedFile::Companion)
                .or_else(|| mounted_at(&real).map(SharedFile::MountedAt))
        })
    }

    /// The same, as far as one system call tells.
    pub fn of_file(path: &Path) -> Option<SharedFile> {
        let names = LinkCount::of(path)?;
        match names.links {
            _ if names.mount_point => Some(SharedFile::MountPoint),
            links if links > 1 => Some(SharedFile::Links(links)),
            _ => None,
        }
    }

    /// Returns whether [`of_file`](Self::of_file) tells of it.
    pub fn is_of_file(&self) -> bool {
        matches!(self, SharedFile::MountPoint | SharedFile::Links(_))
    }

    fn kind(&self) -> BrokenKind {
        match self {
            SharedFile::MountPoint | SharedFile::MountedAt(_) | SharedFile::Companion(_) => {
                BrokenKind::MountPoint
            }
            SharedFile::Links(_) => BrokenKind::HardLinks,
        }
    }

    /// Why it isn't served: it is in WAL mode.
    pub fn unreadable(&self, path: &Path) -> Unavailable {
        Unavailable::Broken {
            kind: self.kind(),
            reason: format!(
                "{} is in WAL mode, and it {self}: under each name it has another -wal and -shm, so commits are not seen, and each \
                 side overwrites what the other wrote; {}",
                path.display(),
                self.remedy(path)
            ),
        }
    }

    /// Returns why nothing is written to such a file.
    pub fn unwritable(&self, path: &Path) -> Unavailable {
        Unavailable::Broken {
            kind: self.kind(),
            reason: format!(
                "{} is not written to, for it {self}; {}",
                path.display(),
                self.remedy(path)
            ),
        }
    }

    /// Returns what an operator has to do so that the file has one name.
    pub fn remedy(&self, path: &Path) -> String {
        match self {
            SharedFile::MountPoint | SharedFile::MountedAt(_) | SharedFile::Companion(_) => {
                let directory = real_path(path);
                let directory = directory.parent().unwrap_or(Path::new("/"));
                format!(
                    "mount the directory instead of the file (docker run -v DIRECTORY:{}), on both sides",
                    directory.display()
                )
            }
            SharedFile::Links(_) => format!(
                "remove the other names (find / -xdev -samefile {}), or keep a copy in their place",
                path.display()
            ),
        }
    }
}

impl fmt::Display for SharedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SharedFile::MountPoint => f.write_str("is a mount point of its own"),
            SharedFile::MountedAt(place) => write!(f, "is mounted at {}, too", place.display()),
            SharedFile::Links(links) => write!(f, "has {links} names (hard links)"),
            SharedFile::Companion(suffix) => {
                write!(f, "has a {suffix} that is a mount point of its own")
            }
        }
    }
}

/// Tells when something is mounted or unmounted in this mount namespace.
pub struct Mounts(Option<std::fs::File>);

impl Mounts {
    /// From now on. Where the system doesn't tell, nothing ever changes.
    pub fn watch() -> Mounts {
        Mounts(std::fs::File::open("/proc/self/mountinfo").ok())
    }

    /// Returns whether anything was since this was asked last. One system call.
    pub fn changed(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let Some(mounts) = &self.0 else {
            return false;
        };
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut asked = [PollFd::new(mounts, PollFlags::PRI)];
        poll(&mut asked, Some(&now)).is_ok_and(|_| asked[0].revents().contains(PollFlags::PRI))
    }
}

struct LinkCount {
    mount_point: bool,
    links: u64,
}

impl LinkCount {
    /// `None` where there is no file.
    #[cfg(target_os = "linux")]
    fn of(path: &Path) -> Option<LinkCount> {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        let told = statx(CWD, path, AtFlags::empty(), StatxFlags::NLINK).ok()?;
        Some(LinkCount {
            // Never set by a kernel that does not know it (before 5.8).
            mount_point: told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
            links: told.stx_nlink.into(),
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn of(path: &Path) -> Option<LinkCount> {
        use std::os::unix::fs::MetadataExt as _;
        let links = std::fs::metadata(path).ok()?.nlink();
        Some(LinkCount {
            mount_point: false,
            links,
        })
    }
}

fn is_mount_point(path: &Path) -> bool {
    LinkCount::of(path).is_some_and(|names| names.mount_point)
}

/// Where else in this mount namespace the file is mounted on its own.
fn mounted_at(real: &Path) -> Option<PathBuf> {
    let file = FileId::of(real)?;
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let name = real.file_name()?.as_encoded_bytes();
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        // ID, parent, device, path within the file system, mount point, and more.
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let within = unescaped(fields.next()?);
        let place = unescaped(fields.next()?);
        let same_name = Path::new(&within).file_name()?.as_encoded_bytes() == name;
        let place = PathBuf::from(place);
        (same_name && place != real && FileId::of(&place) == Some(file)).then_some(place)
    })
}

/// Undoes the octal escapes of mountinfo.
fn unescaped(field: &[u8]) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        let (byte, used) = match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => (byte, 4),
            None => (first, 1),
        };
        bytes.push(byte);
        rest = &rest[used..];
    }
    std::ffi::OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_one_name_has_no_other_and_a_link_gives_it_one() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, link) = (
            dir.path().join("a"),
            dir.path().join("b"),
            dir.path().join("l"),
        );
        std::fs::write(&a, "").unwrap();
        std::os::unix::fs::symlink(&a, &link).unwrap();
        assert_eq!(SharedFile::of(&link), None);
        std::fs::hard_link(&a, &b).unwrap();
        assert_eq!(SharedFile::of(&link), Some(SharedFile::Links(2)));
        std::fs::remove_file(&b).unwrap();
        assert_eq!(SharedFile::of(&a), None);
        assert_eq!(SharedFile::of(&b), None, "no file at all");
    }

    #[test]
    fn names_in_mountinfo_are_unescaped() {
        let of = |text: &str| unescaped(text.as_bytes());
        assert_eq!(of(r"/a\040b\134"), r"/a b\");
        assert_eq!(of(r"/a\04"), r"/a\04");
    }
}
