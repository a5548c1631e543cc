//! TLS between a daemon that is measured and its clients.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// The name in the certificate.
pub const NAME: &str = "localhost";

/// Writes a certificate that has signed itself and its key (ECDSA, P-256) into `directory`; returns where they are.
///
/// # Errors
/// When they can't be written.
pub fn write_key_pair(directory: &Path) -> Result<(PathBuf, PathBuf)> {
    let secret = KeyPair::generate()?;
    let certificate = CertificateParams::new([NAME.to_owned()])?.self_signed(&secret)?;
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    fs::write(&cert, certificate.pem())?;
    fs::write(&key, secret.serialize_pem())?;
    // The daemon takes no key that others may read.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    Ok((cert, key))
}

/// Makes clients that ask for a WebSocket as browsers do.
pub struct Clients(ClientConfig);

impl Clients {
    /// # Errors
    /// When the library knows no version of TLS.
    pub fn new() -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let believer = Arc::new(Believer(Arc::clone(&provider)));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(believer)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(config))
    }

    /// One more, that resumes its own sessions and nobody else's.
    pub fn one_more(&self) -> Arc<ClientConfig> {
        let mut config = self.0.clone();
        config.resumption = Resumption::in_memory_sessions(1);
        Arc::new(config)
    }
}

/// Believes anyone: what clients do to believe a server is done on other machines, and would take this one's time.
#[derive(Debug)]
struct Believer(Arc<CryptoProvider>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
