//! The JWTs that are good no more before they expire.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;

use super::super::files::{self, AccessFileError, Owners, Readers};
use super::super::times::parse_time;
use super::JwtIdentity;

/// Larger files are none: some 100,000 ids.
const MAX_BYTES: u64 = 8 << 20;

/// The file as TOML has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedToml {
    #[serde(default)]
    jti: Vec<String>,
    #[serde(default)]
    sub: Vec<RevokedSubject>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokedSubject {
    sub: String,
    issued_before: toml::value::Datetime,
}

/// Which are good no more.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Revoked {
    ids: HashSet<String>,
    /// Of these, all that were issued before then.
    subjects: HashMap<String, SystemTime>,
}

impl Revoked {
    /// Reads the file.
    ///
    /// # Errors
    /// It can't be read, others may write it, or something in it is wrong.
    pub(super) fn read(path: &Path, owners: Owners) -> Result<Revoked, AccessFileError> {
        let bytes = files::read(path, (Readers::Anyone, owners), MAX_BYTES)?;
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| AccessFileError::of(path, "is not UTF-8"))?;
        Revoked::parse(text).map_err(|problem| AccessFileError::of(path, problem))
    }

    /// Reads the text of a file; the error says what is wrong and where.
    pub(super) fn parse(text: &str) -> Result<Revoked, String> {
        let written: RevokedToml = files::parse_toml(text)?;
        let mut subjects = HashMap::new();
        for RevokedSubject { sub, issued_before } in written.sub {
            let time = parse_time(&issued_before.to_string()).ok_or_else(|| {
                format!(
                    "issued_before = {issued_before}: is not a time with its offset; write e.g. 2027-01-31T00:00:00Z"
                )
            })?;
            let latest = subjects.entry(sub).or_insert(time);
            *latest = time.max(*latest);
        }
        Ok(Revoked {
            ids: written.jti.into_iter().collect(),
            subjects,
        })
    }

    /// Returns whether a token is good no more. One that does not say when it was issued counts as the oldest.
    pub(super) fn covers(&self, token: &JwtIdentity) -> bool {
        let by_id = token.id.as_ref().is_some_and(|id| self.ids.contains(id));
        let until = token
            .subject
            .as_ref()
            .and_then(|sub| self.subjects.get(sub));
        by_id || until.is_some_and(|until| token.issued.is_none_or(|issued| issued < *until))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_and_what_was_issued_before_are_covered() {
        let revoked = Revoked::parse(
            "jti = [\"a\"]\n[[sub]]\nsub = \"eve\"\nissued_before = 1970-01-01T00:01:40Z\n\
             [[sub]]\nsub = \"eve\"\nissued_before = 1970-01-01T00:00:40Z\n",
        )
        .unwrap();
        let token = |id: &str, subject: &str, issued: Option<u64>| JwtIdentity {
            id: Some(id.to_owned()),
            subject: Some(subject.to_owned()),
            issued: issued.map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at)),
        };
        for (token, covered) in [
            (token("a", "x", Some(500)), true),
            (token("b", "x", None), false),
            (token("b", "eve", Some(99)), true),
            (token("b", "eve", Some(100)), false),
            (token("b", "eve", None), true),
        ] {
            assert_eq!(revoked.covers(&token), covered, "{token:?}");
        }
        assert_eq!(Revoked::parse(""), Ok(Revoked::default()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, names) in [
            ("jti = \"a\"", "line 1"),
            ("jtis = []", "jtis"),
            ("[[sub]]\nsub = \"x\"", "issued_before"),
            (
                "[[sub]]\nsub = \"x\"\nissued_before = 2027-01-31",
                "2027-01-31",
            ),
        ] {
            let problem = Revoked::parse(text).unwrap_err();
            assert!(problem.contains(names), "{text}: {problem}");
        }
    }
}
