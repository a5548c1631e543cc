//! The files that decide who may come in: read only where nobody else can have written them, and again when they change.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::process::geteuid;

/// Bits of a mode that let others in than the owner, and the group to read: 0600 and 0640 have none of them.
const TOO_OPEN: u32 = 0o137;
/// Bits of a mode that let others than the owner write.
const WRITABLE: u32 = 0o022;

/// Why such a file can't be read or written.
#[derive(Debug)]
pub struct AccessFileError(pub(super) String);

impl std::error::Error for AccessFileError {}

impl fmt::Display for AccessFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AccessFileError {
    /// Of a file, what is wrong with it.
    pub(super) fn of(path: &Path, problem: impl fmt::Display) -> AccessFileError {
        AccessFileError(format!("{}: {problem}", path.display()))
    }

    /// Which key of the configuration names the file.
    fn under(self, key: &str) -> AccessFileError {
        AccessFileError(format!("{key}: {}", self.0))
    }
}

/// Who may read a file that nobody but its owner may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner and its group.
    Few,
    Anyone,
}

/// Reads a file of no more than so many bytes.
///
/// # Errors
/// It can't be read, is larger, belongs to neither root nor the service, or its mode lets others in.
pub(super) fn read(path: &Path, readers: Readers, most: u64) -> Result<Vec<u8>, AccessFileError> {
    let failed = |problem: String| AccessFileError::of(path, problem);
    let unreadable = |e: std::io::Error| failed(format!("can't be read: {e}"));
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    check_rights(&meta, readers).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    match bytes.len() as u64 > most {
        true => Err(failed(format!("is larger than {most} bytes"))),
        false => Ok(bytes),
    }
}

/// Whether the file is root's or the service's, and nobody else has rights that he must not have.
fn check_rights(meta: &Metadata, readers: Readers) -> Result<(), String> {
    let mode = meta.mode() & 0o7777;
    let (refused, remedy) = match readers {
        Readers::Few => (TOO_OPEN, "0600 or 0640 (chmod 0640)"),
        Readers::Anyone => (WRITABLE, "0644 or less (chmod 0644)"),
    };
    if mode & refused != 0 {
        return Err(format!(
            "its mode is {mode:04o}, which lets others in; make it {remedy}"
        ));
    }
    let own = geteuid().as_raw();
    match meta.uid() == 0 || meta.uid() == own {
        true => Ok(()),
        false => Err(format!(
            "it belongs to user {}, who is neither root nor walcast itself (user {own}); give it to one of them (chown)",
            meta.uid()
        )),
    }
}

/// What tells a file from the one that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    rights: (u32, u32),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            rights: (meta.mode(), meta.uid()),
        })
    }
}

/// A file that is read again when it has changed.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    /// What is in it, as the log calls that.
    holds: &'static str,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Of the file whose content is in force; `None`: it is to be read again.
    stamp: Option<Stamp>,
    /// What was last said to be wrong with it.
    trouble: Option<String>,
}

impl WatchedFile {
    /// Reads the file that `key` of the configuration names, and returns it with what it says.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn open<T>(
        key: &str,
        path: &Path,
        holds: &'static str,
        read: impl FnOnce(&Path) -> Result<T, AccessFileError>,
    ) -> Result<(WatchedFile, T), AccessFileError> {
        let stamp = Stamp::of(path);
        let content = read(path).map_err(|error| error.under(key))?;
        let file = WatchedFile {
            path: path.to_owned(),
            holds,
            seen: Mutex::new(Seen {
                stamp,
                trouble: None,
            }),
        };
        Ok((file, content))
    }

    /// Returns what the file says now, where it has changed since; blocks. Where it can't be read, or something is wrong
    /// with it, that is logged once, and what was read before stays.
    pub(super) fn changed<T>(
        &self,
        read: impl FnOnce(&Path) -> Result<T, AccessFileError>,
    ) -> Option<T> {
        let mut seen = self.seen.lock();
        let stamp = Stamp::of(&self.path);
        if stamp.is_some() && stamp == seen.stamp {
            return None;
        }
        match read(&self.path) {
            Ok(content) => {
                *seen = Seen {
                    stamp,
                    trouble: None,
                };
                Some(content)
            }
            Err(error) => {
                let trouble = error.to_string();
                if seen.trouble.as_ref() != Some(&trouble) {
                    tracing::error!("the {} stay as they were: {trouble}", self.holds);
                }
                *seen = Seen {
                    // Looked at again until it can be read.
                    stamp: seen.stamp.filter(|_| stamp.is_none()),
                    trouble: Some(trouble),
                };
                None
            }
        }
    }

    /// Has it read again, changed or not.
    pub(super) fn forget(&self) {
        self.seen.lock().stamp = None;
    }
}
