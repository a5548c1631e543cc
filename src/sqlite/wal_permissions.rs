//! Never being what locks a writer out: SQLite gives `-wal` and `-shm` to whoever opens the database first, with the mode
//! of the database. Where the owner of the database could not write those of this process, they are not created.

use std::ffi::c_int;
use std::path::Path;

use rusqlite::{Connection, ffi};
use rustix::fs::Access;

use crate::os::users::{Owned, User, may};
use crate::sqlite::error::{BrokenKind, Unavailable};
use crate::sqlite::file::companion;
use crate::sqlite::uri::open_by_uri;

/// The file format's read version: 1 rollback journal, 2 WAL.
const READ_VERSION_AT: i64 = 19;
const WAL: u8 = 2;

/// Refuses where opening the database would create files that its owner can't write.
pub fn check_opening(path: &Path) -> Result<(), Unavailable> {
    match would_lock_out(path) {
        Some(reason) if is_wal(path) => Err(reason),
        _ => Ok(()),
    }
}

/// Refuses where switching the database to WAL would create such files.
pub fn check_switching(path: &Path) -> Result<(), Unavailable> {
    would_lock_out(path).map_or(Ok(()), Err)
}

/// Why the sidecars that this process would create are closed to the owner of the database; `None` where they are
/// not, or where it would not create any.
fn would_lock_out(path: &Path) -> Option<Unavailable> {
    let real = std::fs::canonicalize(path).ok()?;
    let directory = real.parent()?;
    let file = Owned::of(&std::fs::metadata(&real).ok()?);
    let me = User::current();
    let there = ["-wal", "-shm"]
        .iter()
        .all(|suffix| companion(&real, suffix).exists());
    if there || me.uid == 0 || file.uid == 0 || file.uid == me.uid {
        return None;
    }
    if !may(directory, Access::WRITE_OK | Access::EXEC_OK) {
        return None;
    }
    let directory = Owned::of(&std::fs::metadata(directory).ok()?);
    let sidecar = Owned {
        uid: me.uid,
        gid: if directory.is_setgid() {
            directory.gid
        } else {
            me.gid
        },
        mode: file.mode & 0o777,
    };
    let nobody = || User {
        uid: file.uid,
        gid: file.gid,
        groups: Vec::new(),
        name: file.uid.to_string(),
    };
    let owner = User::of(file.uid).unwrap_or_else(nobody);
    (!sidecar.lets(&owner, 6)).then(|| Unavailable::Broken {
        kind: BrokenKind::Permission,
        reason: format!(
            "{} is not opened: -wal and -shm would be {}, and {}, who owns the database, could not write any more; \
             `walcast check` prints the commands that mend it",
            path.display(),
            sidecar.shown(),
            owner.name
        ),
    })
}

/// Returns whether the header says WAL. Read through SQLite, because closing a descriptor of our own would drop its
/// locks, and as an immutable file, because then nothing is created.
pub fn is_wal(path: &Path) -> bool {
    let opened = open_by_uri(path, "immutable=1");
    opened.is_ok_and(|connection| read_version(&connection) == Some(WAL))
}

fn read_version(connection: &Connection) -> Option<u8> {
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    let mut version = 0_u8;
    // SAFETY: SQLite gives out the file of a connection that is open and not used meanwhile; it lives as long as the
    // connection. Its methods are set while it is open, and the read writes one byte.
    let read: c_int = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast(),
        );
        let methods = file.as_ref()?.pMethods.as_ref()?;
        (methods.xRead?)(file, (&raw mut version).cast(), 1, READ_VERSION_AT)
    };
    (read == ffi::SQLITE_OK).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_wal_and_nothing_is_created() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a ?#%.db");
        std::fs::write(&path, b"").unwrap();
        assert!(!is_wal(&path), "an empty file is a database without a mode");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t(id)").unwrap();
        assert!(!is_wal(&path));
        connection
            .pragma_update(None, "journal_mode", "wal")
            .unwrap();
        drop(connection);
        assert!(is_wal(&path));
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1, "-wal or -shm were created");
    }
}
