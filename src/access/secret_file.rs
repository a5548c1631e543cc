//! A file that holds a secret of walcast's own: read only where nobody else can have read or written it, and again when it
//! changes.

use std::path::Path;

use super::files::{self, AccessFileError, Owners, Readers, ReloadedFile};

/// Larger files hold no secret.
const MAX_BYTES: u64 = 16 * 1024;

/// What a secret's text means, or what is wrong with it. The error does not repeat the text.
pub type SecretMeaning<T> = fn(&str) -> Result<T, String>;

/// A file with a secret.
#[derive(Debug)]
pub struct SecretFile<T> {
    file: ReloadedFile,
    meaning: SecretMeaning<T>,
    owners: Owners,
}

impl<T> SecretFile<T> {
    /// Reads the file that `key` of the configuration names, and returns it with what it says; blocks. `holds` is what the
    /// log calls that.
    ///
    /// # Errors
    /// It can't be read, is not of one of `owners`, others may write to it or read it, or `meaning` refuses what it says.
    pub fn open(
        key: &str,
        path: &Path,
        holds: &'static str,
        (meaning, owners): (SecretMeaning<T>, Owners),
    ) -> Result<(SecretFile<T>, T), AccessFileError> {
        let read = |path: &Path| read(path, meaning, owners);
        let (file, secret) = ReloadedFile::open(key, path, holds, read)?;
        let file = SecretFile {
            file,
            meaning,
            owners,
        };
        Ok((file, secret))
    }

    /// Returns what the file says now, where it has changed since; blocks. Where something is wrong with it, that is logged
    /// once, and what was read before stays.
    pub fn changed(&self) -> Option<T> {
        self.file
            .changed(|path| read(path, self.meaning, self.owners))
    }
}

fn read<T>(path: &Path, meaning: SecretMeaning<T>, owners: Owners) -> Result<T, AccessFileError> {
    let bytes = files::read(path, (Readers::Few, owners), MAX_BYTES)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| AccessFileError::of(path, "is not text; it must hold a secret as text"))?;
    meaning(text).map_err(|problem| AccessFileError::of(path, problem))
}
