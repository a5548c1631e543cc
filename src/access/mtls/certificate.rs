//! A certificate that a client has proven to be its own.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a client's certificate says of it. Whose authority has signed it, and that the client holds its key, TLS has found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Names of attributes of the subject, as `CN`, and their values.
    pub(super) subject: Vec<(&'static str, String)>,
    /// Names, addresses and URIs it is for (subjectAltName).
    pub(super) alternatives: Vec<String>,
    pub(super) ends: SystemTime,
}

/// Attributes of a subject, by their names (RFC 4519) and object identifiers.
pub(super) const ATTRIBUTES: [(&str, &str); 9] = [
    ("C", "2.5.4.6"),
    ("CN", "2.5.4.3"),
    ("L", "2.5.4.7"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("ST", "2.5.4.8"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("serialNumber", "2.5.4.5"),
];

impl ClientCertificate {
    /// Reads one in DER; `None` where it can't be understood.
    pub fn read(der: &[u8]) -> Option<ClientCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let attributes = certificate.subject().iter_attributes();
        let subject = attributes.filter_map(|attribute| {
            let id = attribute.attr_type().to_id_string();
            let (name, _) = ATTRIBUTES.iter().find(|(_, known)| *known == id)?;
            Some((*name, attribute.as_str().ok()?.to_owned()))
        });
        let subject = subject.collect();
        let names = certificate.subject_alternative_name().ok()?;
        let names = names.map_or(&[][..], |found| &found.value.general_names);
        let alternatives = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                Some((*name).to_owned())
            }
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        });
        let ends = certificate.validity().not_after.timestamp();
        Some(ClientCertificate {
            subject,
            alternatives: alternatives.collect(),
            // One that ended before 1970 has ended.
            ends: UNIX_EPOCH + Duration::from_secs(u64::try_from(ends).unwrap_or(0)),
        })
    }

    /// As the log calls whoever is not known: without what a terminal would obey.
    pub(super) fn shown(&self) -> String {
        let common = self.subject.iter().find(|(name, _)| *name == "CN");
        let first = self.alternatives.first();
        let shown = common.map(|(_, value)| value).or(first);
        let plain = |c: char| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        };
        let shown = shown.map_or("?", String::as_str).chars().take(64);
        shown.map(plain).collect()
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_logged_without_what_a_terminal_obeys() {
        let client = ClientCertificate {
            subject: vec![("CN", "müller\x1b[2J\n".to_owned())],
            alternatives: Vec::new(),
            ends: UNIX_EPOCH,
        };
        assert_eq!(client.shown(), "müller\u{fffd}[2J\u{fffd}");
    }
}
