//! The authorities whose signature makes a client's certificate good.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::certificate::{MAX_BYTES, chain_in};
use super::error::{TlsFile, TlsFileError};
use crate::access::{Owners, Readers, read_guarded};

/// Reads the certificates of authorities from a PEM file.
///
/// # Errors
/// It can't be read, others may write to it, or it holds none.
pub fn read(path: &Path, owners: Owners) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let pem = read_guarded(path, (Readers::Anyone, owners), MAX_BYTES)
        .map_err(|error| TlsFileError::File(TlsFile::Authorities, error))?;
    let wrong = |problem| TlsFileError::content(TlsFile::Authorities, path, problem);
    let authorities = chain_in(&pem).map_err(wrong)?;
    verifier(&authorities).map_err(wrong)?;
    Ok(authorities)
}

/// Asks clients for a certificate that one of the authorities has signed. Who shows none is served as ever; who shows another is
/// refused.
pub(super) fn verifier(
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    let (_, not_understood) = roots.add_parsable_certificates(authorities.iter().cloned());
    if not_understood > 0 {
        return Err(format!(
            "{not_understood} of its certificates can't be understood"
        ));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())
}
