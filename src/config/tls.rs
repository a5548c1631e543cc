//! `[tls]`: certificates, with which the daemon itself speaks TLS.

use std::path::PathBuf;
use std::time::Duration;

use super::kinds;
use super::layers::Layers;
use super::listen::Listen;
use super::setting::settings;

/// The heading of help that the flags stand under.
const TLS: &str = "TLS";

settings! {
    /// With what TLS is spoken, if it is.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TlsRules {
        /// PEM file of a certificate and those between it and its authority: TCP listeners speak TLS (https, wss); may be
        /// repeated.
        ///
        /// Of several, each client is shown the one for the name it asks for, else the first. Changed files are read again.
        "tls.cert" cert: Vec<PathBuf> = Vec::new(),
            kinds::paths().unless_empty("TCP listeners speak no TLS").flag("--tls-cert").under(TLS);

        /// PEM file of the private key of a certificate; as many as there are certificates, in their order.
        "tls.key" key: Vec<PathBuf> = Vec::new(),
            kinds::paths().unless_empty("TCP listeners speak no TLS").flag("--tls-key").under(TLS);

        /// Addresses without TLS where clients are only told the address with it.
        "tls.redirect" redirect: Vec<Listen> = Vec::new(),
            kinds::listen().unless_empty("nobody is sent from http to https");

        /// For how long browsers are to know that this host speaks TLS.
        "tls.hsts" hsts: Option<Duration> = None,
            kinds::age().optional("browsers are told nothing");
    }
}

impl Default for TlsRules {
    fn default() -> Self {
        Self::unset()
    }
}

impl TlsRules {
    /// Returns whether TCP listeners speak TLS.
    pub fn is_on(&self) -> bool {
        !self.cert.is_empty()
    }
}

/// Refuses certificates without keys, keys without certificates, and what needs them where there are none.
pub(super) fn check(layers: &mut Layers<'_>, rules: &TlsRules) {
    for key in ["tls.redirect", "tls.hsts", "auth.mtls"] {
        if layers.is_said(key) && rules.cert.is_empty() && rules.key.is_empty() {
            let place = layers.place(key);
            let problem = format!(
                "{key}: needs TLS, and no certificate is named; name its file and that of its key: \
                 tls = {{ cert = \"…\", key = \"…\" }}"
            );
            layers.problem(&place, &problem);
        }
    }
    let (certificates, keys) = (rules.cert.len(), rules.key.len());
    if certificates == keys {
        return;
    }
    let (key, problem) = match (certificates, keys) {
        (_, 0) => (
            "tls.cert",
            "tls.cert: has no key; name its file in tls.key (--tls-key)".to_owned(),
        ),
        (0, _) => (
            "tls.key",
            "tls.key: has no certificate; name its file in tls.cert (--tls-cert)".to_owned(),
        ),
        _ => (
            "tls.key",
            format!(
                "tls.key: there are {keys} of {certificates} certificates (tls.cert); name one for each, in their order"
            ),
        ),
    };
    let place = layers.place(key);
    layers.problem(&place, &problem);
}
