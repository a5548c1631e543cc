//! What fuzzers ask of certificates, and of the choice among them. Each function panics where something does not hold.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;

use super::certificate::{Certificate, chain_in, key_in};
use super::choice::{Shown, choose};
use super::{PROTOCOLS, authorities, server_config};
use crate::access::ClientCertificate;

/// Certificates that are shown to fuzzed clients: the inputs that were kept hold them, with their keys.
const SHOWN: [&[u8]; 2] = [
    include_bytes!("../../../tests/fuzz/corpus/certificates/ecdsa"),
    include_bytes!("../../../tests/fuzz/corpus/certificates/rsa"),
];

/// A PEM file of a certificate, and perhaps of its key: they can be shown, or are refused in words that repeat nothing.
pub fn certificates(bytes: &[u8]) {
    let (chain, key) = (chain_in(bytes), key_in(bytes));
    for problem in [chain.as_ref().err(), key.as_ref().err()] {
        assert!(problem.is_none_or(|problem| is_fit_to_be_said(problem)));
    }
    let Ok(chain) = chain else { return };
    // Of authorities, and of clients, certificates alone are read.
    if let Err(problem) = authorities::verifier(&chain) {
        assert!(is_fit_to_be_said(&problem));
    }
    for one in &chain {
        let _ = ClientCertificate::read(one);
    }
    let Ok(key) = key else { return };
    match Certificate::of(Path::new("fuzzed.pem"), chain, key) {
        Ok(certificate) => {
            assert!(!certificate.names().is_empty());
            assert!(is_fit_to_be_said(&certificate.to_string()));
            for name in certificate.names() {
                if let Ok(name) = ServerName::try_from(name.as_str()) {
                    let _ = certificate.is_for(&name);
                }
            }
        }
        Err((_, problem)) => assert!(is_fit_to_be_said(&problem)),
    }
}

/// The first bytes of a client: whoever asks for one of the names is shown a certificate for it, and nothing is agreed on that
/// is not spoken.
pub fn hello(bytes: &[u8]) {
    let (certificates, config) = shown();
    let (mut acceptor, mut rest) = (Acceptor::default(), bytes);
    let accepted = loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Err(_) => return,
            Ok(None) => {}
        }
        match acceptor.read_tls(&mut rest) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let hello = accepted.client_hello();
    let (name, schemes) = (hello.server_name(), hello.signature_schemes());
    let chosen = choose(certificates, name, schemes);
    let for_name = name.and_then(|name| ServerName::try_from(name).ok());
    let fit = certificates.iter().filter(|one| {
        let is_understood = one.key().key.choose_scheme(schemes).is_some();
        is_understood && for_name.as_ref().is_some_and(|name| one.is_for(name))
    });
    let fit: Vec<_> = fit.collect();
    if !fit.is_empty() {
        let chosen = chosen.map(|chosen| &chosen.cert);
        assert!(fit.iter().any(|one| Some(&one.key().cert) == chosen));
    }
    if let Ok(connection) = accepted.into_connection(Arc::clone(config)) {
        assert!(chosen.is_some(), "a handshake goes on with a certificate");
        let agreed = connection.alpn_protocol();
        assert!(agreed.is_none_or(|agreed| PROTOCOLS.contains(&agreed)));
    }
}

fn is_fit_to_be_said(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

#[expect(
    clippy::expect_used,
    reason = "a fuzzer that can't begin ends; it serves nobody"
)]
fn shown() -> &'static (Vec<Certificate>, Arc<ServerConfig>) {
    static SHOWN_NOW: OnceLock<(Vec<Certificate>, Arc<ServerConfig>)> = OnceLock::new();
    SHOWN_NOW.get_or_init(|| {
        let certificates = SHOWN.map(|pem| {
            let (chain, key) = (chain_in(pem), key_in(pem));
            let (chain, key) = (chain.expect("it is kept"), key.expect("it is kept"));
            Certificate::of(Path::new("kept.pem"), chain, key).expect("they belong together")
        });
        let shown = Arc::new(Shown::new(certificates.to_vec()));
        let config = server_config(&shown, None).expect("TLS can be spoken");
        (certificates.to_vec(), Arc::new(config))
    })
}
