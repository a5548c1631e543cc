//! The files that decide who may come in: read only where nobody else can have written them, and again when they change.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::process::geteuid;
use serde::de::DeserializeOwned;

use crate::os::file_id::FileId;

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

/// Whose a file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Root's, or that of the user whom this process runs as: so for the daemon.
    RootAndSelf,
    /// For root anybody's besides: it looks after the files of a service that runs as another user.
    Administered,
}

/// Who may read a file that nobody but its owner may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner and its group.
    Few,
    Anyone,
}

/// Reads the text of a file in TOML. The error says what is wrong and in which line; it repeats nothing of the text, which
/// might be a secret.
pub(in crate::access) fn parse_toml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|b| *b == b'\n').count() + 1;
        format!("line {line}: {}", error.message().replace('\n', ", "))
    })
}

/// Reads a file of no more than so many bytes.
///
/// # Errors
/// It can't be read, is larger, belongs to neither root nor the service, or its mode lets others in.
pub fn read(
    path: &Path,
    (readers, owners): (Readers, Owners),
    most: u64,
) -> Result<Vec<u8>, AccessFileError> {
    let failed = |problem: String| AccessFileError::of(path, problem);
    let unreadable = |e: std::io::Error| failed(format!("can't be read: {e}"));
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    check_rights(&meta, readers, owners).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    match bytes.len() as u64 > most {
        true => Err(failed(format!("is larger than {most} bytes"))),
        false => Ok(bytes),
    }
}

/// Whether the file is of one of these owners, and nobody else has rights that he must not have.
fn check_rights(meta: &Metadata, readers: Readers, owners: Owners) -> Result<(), String> {
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
    let administered = owners == Owners::Administered && own == 0;
    match administered || meta.uid() == 0 || meta.uid() == own {
        true => Ok(()),
        false => Err(format!(
            "it belongs to user {}, who is neither root nor walcast itself (user {own}); give it to one of them (chown)",
            meta.uid()
        )),
    }
}

/// A file as it is at one moment, its content and rights included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    file: FileId,
    /// In bytes.
    size: u64,
    /// When content or rights changed last, in seconds and nanoseconds since 1970.
    changed: (i64, i64),
    /// Mode and owner.
    rights: (u32, u32),
}

impl FileVersion {
    /// The file behind `path`, through symbolic links; `None` where there is none.
    pub fn of(path: &Path) -> Option<FileVersion> {
        let meta = std::fs::metadata(path).ok()?;
        Some(FileVersion {
            file: FileId::from(&meta),
            size: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            rights: (meta.mode(), meta.uid()),
        })
    }
}

/// A file that is read again when it has changed.
#[derive(Debug)]
pub(super) struct ReloadedFile {
    path: PathBuf,
    /// What is in it, as the log calls that.
    holds: &'static str,
    in_force: Mutex<InForce>,
}

#[derive(Debug, Default)]
struct InForce {
    /// Of the file whose content is in force; `None`: it is to be read again.
    version: Option<FileVersion>,
    /// What was last said to be wrong with it.
    trouble: Option<String>,
}

impl ReloadedFile {
    /// Reads the file that `key` of the configuration names, and returns it with what it says.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn open<T>(
        key: &str,
        path: &Path,
        holds: &'static str,
        read: impl FnOnce(&Path) -> Result<T, AccessFileError>,
    ) -> Result<(ReloadedFile, T), AccessFileError> {
        let version = FileVersion::of(path);
        let content = read(path).map_err(|error| error.under(key))?;
        let file = ReloadedFile {
            path: path.to_owned(),
            holds,
            in_force: Mutex::new(InForce {
                version,
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
        let mut in_force = self.in_force.lock();
        let version = FileVersion::of(&self.path);
        if version.is_some() && version == in_force.version {
            return None;
        }
        match read(&self.path) {
            Ok(content) => {
                *in_force = InForce {
                    version,
                    trouble: None,
                };
                Some(content)
            }
            Err(error) => {
                let trouble = error.to_string();
                if in_force.trouble.as_ref() != Some(&trouble) {
                    tracing::error!("the {} stay as they were: {trouble}", self.holds);
                }
                *in_force = InForce {
                    // Looked at again until it can be read.
                    version: in_force.version.filter(|_| version.is_none()),
                    trouble: Some(trouble),
                };
                None
            }
        }
    }

    /// Has it read again, changed or not.
    pub(super) fn forget(&self) {
        self.in_force.lock().version = None;
    }
}
