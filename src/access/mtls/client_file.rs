//! The file that says who is who among clients with certificates, and what each may do.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;

use super::certificate::{ATTRIBUTES, ClientCertificate};
use crate::access::files::{self, AccessFileError, Owners, Readers};
use crate::access::times::parse_time;
use crate::access::token_file::{OneOrMore, check_name};
use crate::model::filter::{MAX_SCOPE_VALUES, Scope};

/// Larger files are none.
const MAX_BYTES: u64 = 8 << 20;

/// By what a certificate is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::access) enum Mark {
    /// One of the names, addresses or URIs it is for.
    Alternative(String),
    /// These attributes of its subject, each of which it has once.
    Subject(BTreeMap<String, String>),
}

impl Mark {
    pub(super) fn is_of(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Mark::Alternative(name) => {
                let mut names = certificate.alternatives.iter();
                names.any(|own| own.eq_ignore_ascii_case(name))
            }
            Mark::Subject(attributes) => attributes.iter().all(|(name, value)| {
                let own = certificate.subject.iter();
                let mut own = own.filter(|(own, _)| own == name).map(|(_, value)| value);
                // Of two it is not certain which one the authority has looked at.
                own.next() == Some(value) && own.next().is_none()
            }),
        }
    }
}

/// A client, and what it may do.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::access) struct ClientEntry {
    pub mark: Mark,
    pub name: String,
    pub feeds: Vec<String>,
    pub scope: Scope,
    pub ingest: bool,
    pub metrics: bool,
    pub expires: Option<SystemTime>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientToml {
    #[serde(default)]
    client: Vec<WrittenClient>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenClient {
    name: String,
    san: Option<String>,
    subject: Option<BTreeMap<String, String>>,
    #[serde(default)]
    feeds: Vec<String>,
    #[serde(default)]
    ingest: bool,
    #[serde(default)]
    metrics: bool,
    expires: Option<toml::value::Datetime>,
    #[serde(default, rename = "where")]
    columns: BTreeMap<String, OneOrMore>,
}

/// Reads the file.
///
/// # Errors
/// It can't be read, others than root and the service may write to it, or something in it is wrong.
pub(super) fn read(path: &Path, owners: Owners) -> Result<Vec<ClientEntry>, AccessFileError> {
    let bytes = files::read(path, (Readers::Anyone, owners), MAX_BYTES)?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| AccessFileError::of(path, "is not UTF-8"))?;
    parse(&text).map_err(|problem| AccessFileError::of(path, problem))
}

/// Reads the text of a file. The error says what is wrong and where.
pub(in crate::access) fn parse(text: &str) -> Result<Vec<ClientEntry>, String> {
    let written: ClientToml = files::parse_toml(text)?;
    let mut clients: Vec<ClientEntry> = Vec::with_capacity(written.client.len());
    for (index, client) in written.client.into_iter().enumerate() {
        let number = index + 1;
        let client = entry(client).map_err(|problem| format!("client {number} {problem}"))?;
        if let Some(other) = clients.iter().find(|other| other.mark == client.mark) {
            return Err(format!(
                "client {number} ({:?}): is known by the same as {:?}; remove one",
                client.name, other.name
            ));
        }
        clients.push(client);
    }
    Ok(clients)
}

fn entry(client: WrittenClient) -> Result<ClientEntry, String> {
    let name = check_name(&client.name)?.to_owned();
    let named = |problem: String| format!("({name:?}): {problem}");
    let mark = mark(client.san, client.subject).map_err(named)?;
    let expires = client.expires.map(|date| {
        parse_time(&date.to_string()).ok_or_else(|| {
            named(format!(
                "expires = {date}: is not a time with its offset; write e.g. 2027-01-31T00:00:00Z"
            ))
        })
    });
    let mut scope = Scope::default();
    let mut count = 0;
    for (column, values) in client.columns {
        let values = values.texts();
        count += values.len();
        scope.demand_text(&column, values.iter().map(String::as_str));
    }
    if count > MAX_SCOPE_VALUES {
        return Err(named(format!(
            "where has more than {MAX_SCOPE_VALUES} values"
        )));
    }
    Ok(ClientEntry {
        mark,
        expires: expires.transpose()?,
        name,
        feeds: client.feeds,
        scope,
        ingest: client.ingest,
        metrics: client.metrics,
    })
}

fn mark(san: Option<String>, subject: Option<BTreeMap<String, String>>) -> Result<Mark, String> {
    const HOW: &str = "write san = \"edge-1.example.com\", or subject = { CN = \"edge-1\" }";
    match (san, subject) {
        (Some(san), None) if !san.is_empty() => Ok(Mark::Alternative(san)),
        (None, Some(subject)) if !subject.is_empty() => {
            let unknown = subject
                .keys()
                .find(|name| ATTRIBUTES.iter().all(|(known, _)| known != name));
            match unknown {
                None => Ok(Mark::Subject(subject)),
                Some(name) => {
                    let known: Vec<&str> = ATTRIBUTES.iter().map(|(name, _)| *name).collect();
                    Err(format!(
                        "subject: {name} is no attribute that is compared; there are {}",
                        known.join(", ")
                    ))
                }
            }
        }
        (Some(_), Some(_)) => {
            Err("is known by san and by subject; leave one of them out".to_owned())
        }
        _ => Err(format!(
            "nothing says by what its certificate is known; {HOW}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(subject: &[(&'static str, &str)], names: &[&str]) -> ClientCertificate {
        let subject = subject
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        ClientCertificate {
            subject: subject.collect(),
            alternatives: names.iter().map(|name| (*name).to_owned()).collect(),
            ends: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_certificate_is_known_by_one_of_its_names_or_by_its_subject() {
        let clients = parse(
            "[[client]]\nname = \"a\"\nsan = \"Edge-1.example.com\"\n\
             [[client]]\nname = \"b\"\nsubject = { CN = \"b\", O = \"ours\" }\nfeeds = [\"orders\"]\nwhere = { customer = [\"x\", 5] }\n",
        )
        .unwrap();
        let [a, b] = &clients[..] else {
            panic!("{clients:?}")
        };
        assert!(
            a.mark
                .is_of(&certificate(&[], &["other", "edge-1.EXAMPLE.com"]))
        );
        assert!(
            !a.mark
                .is_of(&certificate(&[("CN", "edge-1.example.com")], &[]))
        );
        assert!(b.mark.is_of(&certificate(
            &[("O", "ours"), ("OU", "x"), ("CN", "b")],
            &[]
        )));
        for others in [
            &[("CN", "b")][..],
            &[("O", "ours")],
            &[("CN", "B"), ("O", "ours")],
            // What looks like two attributes is the text of one.
            &[("CN", "b, O=ours")],
            &[("CN", "b"), ("CN", "c"), ("O", "ours")],
        ] {
            assert!(!b.mark.is_of(&certificate(others, &[])), "{others:?}");
        }
        assert_eq!(b.scope.columns().collect::<Vec<_>>(), ["customer"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            (
                "[[client]]\nname = \"a\"",
                "client 1 (\"a\"): nothing says by what",
            ),
            ("[[client]]\nname = \"a b\"\nsan = \"x\"", "is not a name"),
            (
                "[[client]]\nname = \"a\"\nsan = \"x\"\nsubject = { CN = \"y\" }",
                "leave one of them out",
            ),
            (
                "[[client]]\nname = \"a\"\nsubject = { cn = \"y\" }",
                "subject: cn is no attribute",
            ),
            ("[[client]]\nname = \"a\"\nsan = \"x\"\nfeed = 1", "line 4"),
            (
                "[[client]]\nname = \"a\"\nsan = \"x\"\n[[client]]\nname = \"b\"\nsan = \"x\"",
                "client 2 (\"b\"): is known by the same as \"a\"",
            ),
            (
                "[[client]]\nname = \"a\"\nsan = \"x\"\nexpires = 2027-01-01",
                "is not a time with its offset",
            ),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(says), "{text}: {problem}");
        }
    }
}
