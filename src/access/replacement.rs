//! Puts a file of secrets in the place of another at once; whoever could read that one can read it, and nobody else.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::os::users::{Owned, group_name, user_name};

/// What nobody but its owner may use.
const OWN: u32 = 0o600;
/// What its group may read too.
const OF_GROUP: u32 = 0o640;

/// Writes `text` and puts it in the place of `path`, which is in `directory`. Owner, group, mode and access list are
/// those of the file that is there. A new one is of whoever makes it, and his alone; made by root it is of the
/// directory's owner and group, so that a service to which the directory belongs can read it.
///
/// # Errors
/// It can't be written, or would not belong to whom the old one belongs to; then the old one stays.
pub(super) fn replace(path: &Path, directory: &Path, text: &[u8]) -> io::Result<()> {
    let old = match fs::metadata(path) {
        Ok(meta) => Some(Owned::of(&meta)),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let wanted = match old {
        Some(old) => old,
        None => of_new(&fs::metadata(directory)?),
    };
    let temporary = beside(path, directory);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWN)
        .open(&temporary)?;
    let written = (|| {
        give(&file, wanted)?;
        if old.is_some() {
            access_list::keep(path, &file)?;
        }
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // What could not be finished is of no use; that it could not be removed would say nothing new.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn beside(path: &Path, directory: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    directory.join(name)
}

/// The rights of a file that was not there.
fn of_new(directory: &Metadata) -> Owned {
    let directory = Owned::of(directory);
    if !geteuid().is_root() {
        // The group is the system's choice.
        let (uid, gid) = (geteuid().as_raw(), u32::MAX);
        return Owned {
            uid,
            gid,
            mode: OWN,
        };
    }
    // A group that was let into the directory, which root's own was not.
    let has_readers = directory.gid != 0 && directory.mode & 0o050 == 0o050;
    Owned {
        mode: if has_readers { OF_GROUP } else { OWN },
        ..directory
    }
}

/// Gives the file to whom it should belong.
fn give(file: &File, wanted: Owned) -> io::Result<()> {
    let own = file.metadata()?;
    let uid = (own.uid() != wanted.uid).then_some(wanted.uid);
    let gid = (wanted.gid != u32::MAX && own.gid() != wanted.gid).then_some(wanted.gid);
    fchown(file, uid, gid).map_err(|e| {
        let (owner, group) = (user_name(wanted.uid), group_name(wanted.gid));
        let who = match uid {
            Some(_) => format!("it belongs to {owner}: do it as root, or as {owner}"),
            None => format!("its group is {group}: do it as root, or as a member of {group}"),
        };
        io::Error::new(e.kind(), who)
    })?;
    // Not as it is created: the umask would take something away.
    file.set_permissions(fs::Permissions::from_mode(wanted.mode))
}

/// Rights of further users and groups (`setfacl`), which the mode does not tell of.
#[cfg(target_os = "linux")]
mod access_list {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use rustix::fs::{XattrFlags, fsetxattr, getxattr};
    use rustix::io::Errno;

    /// Under what the kernel keeps them.
    const NAME: &str = "system.posix_acl_access";
    /// The kernel gives no longer value.
    const LONGEST: usize = 64 * 1024;

    /// Gives `file` those of the file at `path`.
    pub(super) fn keep(path: &Path, file: &File) -> io::Result<()> {
        let mut list = vec![0; LONGEST];
        match getxattr(path, NAME, list.as_mut_slice()) {
            Ok(length) => Ok(fsetxattr(file, NAME, &list[..length], XattrFlags::empty())?),
            // There are none, or the file system keeps none.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod access_list {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    /// They are kept in other ways elsewhere, and rarely used.
    pub(super) fn keep(_: &Path, _: &File) -> io::Result<()> {
        Ok(())
    }
}
