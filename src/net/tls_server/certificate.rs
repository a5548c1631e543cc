//! A certificate with its key, as two PEM files hold them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::error::{TlsFile, TlsFileError};
use crate::access::{Owners, Readers, read_guarded, shown_time};

/// Larger files hold no certificate: a chain is some 10 KiB, and one with very large keys less than 100.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// A certificate that can be shown.
#[derive(Debug, Clone)]
pub struct Certificate {
    file: PathBuf,
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    begins: SystemTime,
    ends: SystemTime,
}

impl Certificate {
    /// Reads one with its key. `owners` are those whose the key's file may be.
    ///
    /// # Errors
    /// One of the files can't be read or is not what it should be, the two don't belong together, or the certificate is
    /// over.
    pub fn read(
        cert: &Path,
        key: &Path,
        (owners, now): (Owners, SystemTime),
    ) -> Result<Certificate, TlsFileError> {
        let read = |file, path, readers| {
            read_guarded(path, (readers, owners), MAX_BYTES)
                .map_err(|error| TlsFileError::File(file, error))
        };
        let chain = read(TlsFile::Certificate, cert, Readers::Anyone)?;
        let secret = read(TlsFile::Key, key, Readers::Few)?;
        let wrong = |problem| TlsFileError::content(TlsFile::Certificate, cert, problem);
        let chain = chain_in(&chain).map_err(wrong)?;
        let wrong_key = |problem| TlsFileError::content(TlsFile::Key, key, problem);
        let secret = key_in(&secret).map_err(wrong_key)?;
        let certificate =
            Certificate::of(cert, chain, secret).map_err(|(file, problem)| match file {
                TlsFile::Certificate => wrong(problem),
                TlsFile::Key | TlsFile::Authorities => wrong_key(problem),
            })?;
        match certificate.ends <= now {
            true => Err(wrong(format!(
                "the certificate ended at {}; renew it",
                shown_time(certificate.ends)
            ))),
            false => Ok(certificate),
        }
    }

    pub(super) fn of(
        file: &Path,
        chain: Vec<CertificateDer<'static>>,
        secret: PrivateKeyDer<'static>,
    ) -> Result<Certificate, (TlsFile, String)> {
        let of_certificate = |problem: String| (TlsFile::Certificate, problem);
        let Some(own) = chain.first().cloned() else {
            return Err(of_certificate("holds no certificate".to_owned()));
        };
        let unreadable = |why: &dyn fmt::Display| {
            of_certificate(format!(
                "the first certificate can't be understood: {why}; put the server's own first, in PEM"
            ))
        };
        let (_, parsed) = X509Certificate::from_der(&own).map_err(|e| unreadable(&e))?;
        let validity = parsed.validity();
        let names = names_in(&parsed).map_err(of_certificate)?;
        let (begins, ends) = (time(validity.not_before), time(validity.not_after));
        let provider = aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, secret, &provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => (
                TlsFile::Key,
                format!(
                    "is not the key of the certificate in {}; name the two that were made together",
                    file.display()
                ),
            ),
            Error::InvalidCertificate(problem) => unreadable(&problem),
            error => (TlsFile::Key, format!("the key can't be used: {error}; make one of ECDSA (P-256) or RSA (2048 bits)")),
        })?;
        Ok(Certificate {
            file: file.to_owned(),
            key: Arc::new(key),
            names,
            begins,
            ends,
        })
    }

    /// Returns whether a client believes it to be that of `name`, once it trusts the authority.
    pub fn is_for(&self, name: &ServerName<'_>) -> bool {
        let own = self.key.end_entity_cert();
        let parsed = own.and_then(ParsedCertificate::try_from);
        parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }

    /// What signs, and is shown.
    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Returns the names and addresses it is for, some with a `*`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the first name it is for, which tells it from others.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Where it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// When it begins to be good.
    pub fn begins(&self) -> SystemTime {
        self.begins
    }

    /// When it ends.
    pub fn ends(&self) -> SystemTime {
        self.ends
    }

    /// Returns the seconds until it ends; below zero when it has ended.
    pub fn seconds_left(&self, now: SystemTime) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match self.ends.duration_since(now) {
            Ok(left) => seconds(left),
            Err(over) => -seconds(over.duration()),
        }
    }
}

/// Two are the same that are shown alike.
impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        self.key.cert == other.key.cert
    }
}

/// For the log and `check`: whose, and until when.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, names) = (self.file.display(), self.names.join(", "));
        let ends = shown_time(self.ends);
        write!(f, "{file} for {names}, until {ends}")
    }
}

/// The certificates of a PEM file, in its order. What else it holds is left out.
pub(super) fn chain_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Err(error) => Err(format!(
            "is no whole PEM ({error}); it must hold the certificate and those between it and its authority"
        )),
        Ok(none) if none.is_empty() => Err(
            "holds no certificate in PEM (-----BEGIN CERTIFICATE-----); a renewal tool calls the right file fullchain.pem"
                .to_owned(),
        ),
        Ok(certificates) => Ok(certificates),
    }
}

/// The private key of a PEM file. The error repeats nothing of it.
pub(super) fn key_in(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    use rustls::pki_types::pem::Error as PemError;
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        PemError::NoItemsFound if pem.windows(9).any(|nine| nine == b"ENCRYPTED") => {
            "the key is encrypted, and there is nobody to ask for its password; decrypt it (openssl pkey)".to_owned()
        }
        PemError::NoItemsFound => {
            "holds no private key in PEM (-----BEGIN PRIVATE KEY-----); a renewal tool calls the right file privkey.pem"
                .to_owned()
        }
        _ => "is no whole PEM of a private key".to_owned(),
    })
}

/// The names and addresses that a certificate is for. What is no name of a host is left out: nobody can ask for it, and it
/// may be anything, also what a terminal obeys.
fn names_in(certificate: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let extension = certificate.subject_alternative_name();
    let extension = extension.map_err(|e| format!("its names can't be understood: {e}"))?;
    let names = extension.map_or(&[][..], |found| &found.value.general_names);
    let named = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) if is_of_hosts(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    let names: Vec<String> = named.collect();
    match names.is_empty() {
        true => Err(
            "the certificate is for no name (subjectAltName), so no client would believe it; have one made that names this host"
                .to_owned(),
        ),
        false => Ok(names),
    }
}

/// Returns whether this is the name of a host, or of all those of a domain.
fn is_of_hosts(name: &str) -> bool {
    DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(sixteen).to_string())
}

fn time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let away = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds < 0 {
        true => UNIX_EPOCH.checked_sub(away),
        false => UNIX_EPOCH.checked_add(away),
    };
    // Years of four digits fit into what a system counts.
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_of_a_host_is_none_of_its_names() {
        let pem = include_bytes!("../../../tests/fuzz/corpus/certificates/name_with_control");
        let (chain, key) = (chain_in(pem).unwrap(), key_in(pem).unwrap());
        let certificate = Certificate::of(Path::new("kept.pem"), chain, key).unwrap();
        assert_eq!(certificate.names(), ["a.example", "192.0.2.1"]);
        let said = certificate.to_string();
        assert!(!said.contains(char::is_control), "{said:?}");
    }

    #[test]
    fn names_of_hosts_are_told_from_others() {
        for name in ["a.example", "*.a.example", "_x.a.example", "localhost"] {
            assert!(is_of_hosts(name), "{name}");
        }
        for name in ["", "*.", "a b", "a\x1b[2J.example", "a.*.example"] {
            assert!(!is_of_hosts(name), "{name:?}");
        }
    }
}
