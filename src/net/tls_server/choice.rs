//! Which certificate a client is shown.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// The certificates that are shown at the moment, in the order of the configuration.
pub(super) struct Shown(Mutex<Arc<Vec<Certificate>>>);

impl Shown {
    pub(super) fn new(certificates: Vec<Certificate>) -> Shown {
        Shown(Mutex::new(Arc::new(certificates)))
    }

    pub(super) fn certificates(&self) -> Arc<Vec<Certificate>> {
        Arc::clone(&self.0.lock())
    }

    /// Shows these from the next handshake on; connections stay as they are.
    pub(super) fn replace(&self, certificates: Vec<Certificate>) {
        *self.0.lock() = Arc::new(certificates);
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.certificates().iter()).finish()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates();
        choose(
            &certificates,
            hello.server_name(),
            hello.signature_schemes(),
        )
        .cloned()
    }
}

/// Chooses among those for the name that a client asks for; where there are none, or it asks for no name, among those for
/// the first name of the first. Of several for one name, the first whose signature the client understands.
pub(super) fn choose<'c>(
    certificates: &'c [Certificate],
    name: Option<&str>,
    schemes: &[SignatureScheme],
) -> Option<&'c Arc<CertifiedKey>> {
    let understood =
        |certificate: &&Certificate| certificate.key().key.choose_scheme(schemes).is_some();
    let of = |name: &str| {
        let name = ServerName::try_from(name).ok()?;
        let mut those = certificates.iter().filter(|one| one.is_for(&name));
        those.find(understood)
    };
    let first = || certificates.first().and_then(|first| of(first.name()));
    let any = || certificates.iter().find(understood);
    let chosen = name.and_then(of).or_else(first).or_else(any);
    chosen.map(Certificate::key)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::access::Owners;

    fn certificate(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let made = rcgen::CertificateParams::new(names).unwrap();
        let made = made.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let [cert, secret] = ["cert", "key"].map(|name| directory.path().join(name));
        std::fs::write(&cert, made.pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        let owner_alone = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, owner_alone).unwrap();
        let now = SystemTime::now();
        Certificate::read(&cert, &secret, (Owners::RootAndSelf, now)).unwrap()
    }

    #[test]
    fn the_name_goes_first_then_what_the_client_understands() {
        let all = [
            certificate(
                &["a.example", "*.wild.example"],
                &rcgen::PKCS_ECDSA_P256_SHA256,
            ),
            certificate(&["a.example"], &rcgen::PKCS_RSA_SHA256),
            certificate(&["b.example"], &rcgen::PKCS_ED25519),
        ];
        let ecdsa = SignatureScheme::ECDSA_NISTP256_SHA256;
        let (rsa, ed25519) = (SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ED25519);
        let everything = [rsa, ecdsa, ed25519];
        for (name, schemes, expected) in [
            (Some("a.example"), &everything[..], Some(0)),
            (Some("A.Example"), &[ecdsa], Some(0)),
            (Some("a.example"), &[rsa], Some(1)),
            (Some("x.wild.example"), &everything, Some(0)),
            (Some("x.y.wild.example"), &everything, Some(0)),
            (Some("b.example"), &everything, Some(2)),
            (Some("b.example"), &[rsa], Some(1)),
            (Some("other.example"), &everything, Some(0)),
            (None, &everything, Some(0)),
            (None, &[rsa], Some(1)),
            (None, &[ed25519], Some(2)),
            (None, &[SignatureScheme::ED448], None),
            (Some("not a name"), &everything, Some(0)),
        ] {
            let chosen = choose(&all, name, schemes);
            let expected = expected.map(|index: usize| all[index].key());
            assert!(
                match (chosen, expected) {
                    (Some(chosen), Some(expected)) => Arc::ptr_eq(chosen, expected),
                    (None, None) => true,
                    _ => false,
                },
                "{name:?} {schemes:?}"
            );
        }
    }
}
