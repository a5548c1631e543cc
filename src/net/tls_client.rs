//! What a TLS client of walcast trusts: the authorities of the system, or those of one file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Why there is nobody to trust.
#[derive(Debug)]
pub enum TlsClientError {
    /// The file that was named can't be read, or is no PEM.
    Unreadable(PathBuf, String),
    /// The file that was named holds no certificate that is one.
    Empty(PathBuf),
    /// The system has no certificates, and why as far as it says.
    NoSystemRoots(String),
    /// rustls can't speak the versions of TLS that it should: never, as it is compiled here.
    Versions(rustls::Error),
}

impl std::error::Error for TlsClientError {}

impl fmt::Display for TlsClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsClientError::Unreadable(path, problem) => write!(
                f,
                "{}: the certificates can't be read: {problem}",
                path.display()
            ),
            TlsClientError::Empty(path) => write!(
                f,
                "{}: holds no certificate in PEM; name the file of the authority that signed the server's",
                path.display()
            ),
            TlsClientError::NoSystemRoots(why) => write!(
                f,
                "this system has no certificates of authorities{why}; install ca-certificates, or name a file of them"
            ),
            TlsClientError::Versions(error) => write!(f, "TLS can't be spoken: {error}"),
        }
    }
}

/// Returns how to speak TLS 1.2 and 1.3 to servers whose certificates the `authorities` of a PEM file vouch for, or those
/// of the system where no file is named. `SSL_CERT_FILE` and `SSL_CERT_DIR` stand for the system's, as with OpenSSL.
/// Blocks: it reads files.
///
/// # Errors
/// There is no certificate to trust.
pub fn client_config(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, TlsClientError> {
    let roots = match authorities {
        Some(path) => of_file(path)?,
        None => of_system()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsClientError::Versions)?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

fn of_file(path: &Path) -> Result<RootCertStore, TlsClientError> {
    let unreadable = |e: rustls::pki_types::pem::Error| {
        TlsClientError::Unreadable(path.to_owned(), e.to_string())
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let certificates = certificates
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(TlsClientError::Empty(path.to_owned())),
        _ => Ok(roots),
    }
}

fn of_system() -> Result<RootCertStore, TlsClientError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's collection may hold one that is not understood here; the others count.
    match roots.add_parsable_certificates(found.certs) {
        (0, _) => {
            let why = found.errors.first();
            let why = why.map_or_else(String::new, |error| format!(" ({error})"));
            Err(TlsClientError::NoSystemRoots(why))
        }
        _ => Ok(roots),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authority of no server: made for this test with `openssl req -x509 -newkey ec`.
    const AUTHORITY: &str = include_str!("tls_client_test.pem");

    fn in_file(text: &str) -> Result<Arc<ClientConfig>, TlsClientError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, text).unwrap();
        client_config(Some(&path))
    }

    #[test]
    fn a_file_of_authorities_is_taken_whole() {
        assert!(in_file(&format!("# ours\n{AUTHORITY}{AUTHORITY}")).is_ok());
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        for text in [
            "",
            "no PEM at all",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = in_file(text).unwrap_err().to_string();
            assert!(error.contains("ca.pem: holds no certificate"), "{error}");
        }
        let missing = client_config(Some(Path::new("/nowhere/ca.pem"))).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("/nowhere/ca.pem: the certificates can't be read")
        );
    }
}
