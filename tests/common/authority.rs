//! An authority of the tests' own, and what it signs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Signs certificates that nobody else believes.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A certificate and its key in PEM.
#[derive(Debug, Clone)]
pub struct Pem {
    pub cert: String,
    pub key: String,
}

impl Pem {
    /// Writes both into this directory, the key for its owner alone.
    pub fn write(&self, directory: &Path, name: &str) -> Pair {
        let pair = Pair {
            cert: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        };
        self.replace(&pair);
        pair
    }

    /// Puts both in the place of others, each at once, as renewal tools do.
    pub fn replace(&self, pair: &Pair) {
        for (path, text, mode) in [
            (&pair.cert, &self.cert, 0o644),
            (&pair.key, &self.key, 0o600),
        ] {
            let new = path.with_extension("new");
            fs::write(&new, text).expect("the directory can be written");
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(&new, mode).expect("an own file has a mode");
            fs::rename(&new, path).expect("a file can be replaced");
        }
    }
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Authority(CertifiedIssuer::self_signed(params, key).expect("it can be signed"))
    }

    /// Its own certificate in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes its own certificate into this directory, for `--ca`.
    pub fn publish(&self, directory: &Path, name: &str) -> PathBuf {
        let file = directory.join(name);
        fs::write(&file, self.pem()).unwrap();
        file
    }

    /// A certificate for these names, as `params` are changed by `change`.
    pub fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pem {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names that can be");
        change(&mut params);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.0).expect("it can be signed");
        Pem {
            cert: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for these names that is good for long.
    pub fn sign(&self, names: &[&str]) -> Pem {
        self.sign_with(names, |_| ())
    }

    /// One that was good once.
    pub fn sign_expired(&self, names: &[&str]) -> Pem {
        self.sign_with(names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// How a server under these names proves to be it.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let Pem { cert, key } = self.sign(names);
        let cert = rustls::pki_types::CertificateDer::from_pem_slice(cert.as_bytes());
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).expect("a key in PEM");
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions that there are")
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.expect("a certificate in PEM")],
                PrivateKeyDer::from(key),
            );
        Arc::new(server.expect("a certificate and its key"))
    }

    /// How a client speaks that believes this authority alone.
    pub fn client(&self) -> ClientConfig {
        self.client_of(rustls::ALL_VERSIONS)
    }

    /// It alone, as clients believe it.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.0.der().clone())
            .expect("its certificate is one");
        roots
    }

    /// As [`client`](Self::client), with these versions of TLS.
    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions that there are")
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
