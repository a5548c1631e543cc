//! Why a certificate can't be shown.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::access::AccessFileError;

/// Which of the files something is wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    Certificate,
    Key,
    /// That of the authorities of clients.
    Authorities,
}

/// Why a certificate can't be shown.
#[derive(Debug)]
pub enum TlsFileError {
    /// The file can't be read, or others could.
    File(TlsFile, AccessFileError),
    /// What it holds is of no use; what is wrong with it, and what helps.
    Content(TlsFile, PathBuf, String),
    /// rustls can't speak the versions of TLS that it should, or has no random numbers.
    Library(rustls::Error),
}

impl TlsFileError {
    /// Of what a file holds, what is wrong with it.
    pub(super) fn content(file: TlsFile, path: &Path, problem: impl Into<String>) -> TlsFileError {
        TlsFileError::Content(file, path.to_owned(), problem.into())
    }
}

impl std::error::Error for TlsFileError {}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsFile::Certificate => "tls.cert",
            TlsFile::Key => "tls.key",
            TlsFile::Authorities => "auth.mtls.ca",
        })
    }
}

impl fmt::Display for TlsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsFileError::File(file, error) => write!(f, "{file}: {error}"),
            TlsFileError::Content(file, path, problem) => {
                write!(f, "{file}: {}: {problem}", path.display())
            }
            TlsFileError::Library(error) => write!(f, "TLS can't be spoken: {error}"),
        }
    }
}
