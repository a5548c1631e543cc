//! The file of tokens: read whole, checked whole, replaced at once under a lock. It holds hashes, no secrets.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::fs::{self, File};
use std::path::Path;
use std::str::FromStr as _;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::files::{self, AccessFileError, Owners, Readers};
use super::replacement::replace;
use super::times::{parse_time, shown_time};
use super::token::{SecretHash, TokenId};
use crate::model::filter::{MAX_SCOPE_VALUES, Scope};

/// Larger files are none: some 30,000 tokens.
const MAX_BYTES: u64 = 8 << 20;
/// What stands above the tokens.
const HEADING: &str = "# Tokens of walcast, by `walcast token`. They are kept as SHA-256; nobody can read one from here.\n";

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEntry {
    pub id: TokenId,
    pub name: String,
    pub hash: SecretHash,
    pub feeds: Vec<String>,
    /// Column and the values a row may have there, as they were given.
    pub columns: BTreeMap<String, Vec<String>>,
    pub ingest: bool,
    pub metrics: bool,
    /// It is an edge's: it reads all rows of its feeds, and whole.
    pub edge: bool,
    pub expires: Option<SystemTime>,
}

impl TokenEntry {
    /// Returns the rows it allows, in each of its feeds.
    pub fn scope(&self) -> Scope {
        let mut scope = Scope::default();
        for (column, values) in &self.columns {
            scope.demand_text(column, values.iter().map(String::as_str));
        }
        scope
    }
}

/// All tokens there are, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenFile {
    pub tokens: Vec<TokenEntry>,
}

/// The file as TOML has it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenToml {
    #[serde(default)]
    token: Vec<WrittenToken>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    id: String,
    name: String,
    sha256: String,
    #[serde(default)]
    feeds: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ingest: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    metrics: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    edge: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<toml::value::Datetime>,
    #[serde(default, rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    columns: BTreeMap<String, OneOrMore>,
}

/// A value of a column, or several.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(ClaimToml),
    More(Vec<ClaimToml>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum ClaimToml {
    Integer(i64),
    Text(String),
}

impl OneOrMore {
    /// Returns the values as texts.
    pub(super) fn texts(self) -> Vec<String> {
        match self {
            OneOrMore::One(value) => vec![value.text()],
            OneOrMore::More(values) => values.into_iter().map(ClaimToml::text).collect(),
        }
    }
}

impl ClaimToml {
    fn text(self) -> String {
        match self {
            ClaimToml::Integer(integer) => integer.to_string(),
            ClaimToml::Text(text) => text,
        }
    }
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It can't be read, others than root and the service may write to it or read it, or something in it is wrong.
    pub fn read(path: &Path, owners: Owners) -> Result<TokenFile, AccessFileError> {
        let bytes =
            files::read(path, (Readers::Few, owners), MAX_BYTES).map_err(|error| {
                match path.try_exists() {
                    Ok(false) => {
                        AccessFileError(format!("{error}; `walcast token add` makes the file"))
                    }
                    Ok(true) | Err(_) => error,
                }
            })?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| AccessFileError::of(path, "is not UTF-8"))?;
        TokenFile::parse(&text).map_err(|problem| AccessFileError::of(path, problem))
    }

    /// Reads the text of a file. The error says what is wrong and where; it repeats nothing that might be a secret.
    pub fn parse(text: &str) -> Result<TokenFile, String> {
        let written: TokenToml = files::parse_toml(text)?;
        let (mut ids, mut names) = (HashSet::new(), HashSet::new());
        let mut tokens = Vec::with_capacity(written.token.len());
        for (index, token) in written.token.into_iter().enumerate() {
            let at = |problem: String| format!("token {} {problem}", index + 1);
            let token = entry(token).map_err(at)?;
            if !ids.insert(token.id.clone()) {
                return Err(at(format!(
                    "has the id {} of another; remove one",
                    token.id
                )));
            }
            if !names.insert(token.name.clone()) {
                let problem = format!("has the name {:?} of another; rename one", token.name);
                return Err(at(problem));
            }
            tokens.push(token);
        }
        Ok(TokenFile { tokens })
    }

    /// Returns the token of that name.
    pub fn named(&self, name: &str) -> Option<&TokenEntry> {
        self.tokens.iter().find(|token| token.name == name)
    }

    /// Changes the file: reads it, or begins a new one, and puts the changed one in its place at once. Nobody else changes
    /// it meanwhile.
    ///
    /// # Errors
    /// As [`read`](Self::read); the directory can't be written; or `change` says so.
    pub fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut TokenFile) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(_) => path.to_owned(),
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let held = File::open(directory).map_err(|e| AccessFileError::of(directory, e))?;
        // Let go of with the directory, whatever happens.
        flock(&held, FlockOperation::LockExclusive)?;
        let mut tokens = match path.try_exists() {
            Ok(false) => TokenFile::default(),
            Ok(true) | Err(_) => TokenFile::read(&path, Owners::Administered)?,
        };
        let result = change(&mut tokens)?;
        let unwritten =
            |e: &dyn Display| AccessFileError::of(&path, format_args!("can't be written: {e}"));
        let text = tokens.text().map_err(|problem| unwritten(&problem))?;
        replace(&path, directory, text.as_bytes()).map_err(|e| unwritten(&e))?;
        held.sync_all()?;
        Ok(result)
    }

    /// The text of the file. What can't be written whole is not written: without its end a token would last for ever.
    pub(super) fn text(&self) -> Result<String, String> {
        let token: Result<Vec<_>, String> = self.tokens.iter().map(written).collect();
        let body = toml::to_string(&TokenToml { token: token? }).map_err(|e| e.to_string())?;
        Ok(format!("{HEADING}\n{body}"))
    }
}

fn entry(token: WrittenToken) -> Result<TokenEntry, String> {
    let name = check_name(&token.name)?;
    let named = |problem: String| format!("({name:?}): {problem}");
    let id = TokenId::parse(&token.id)
        .ok_or_else(|| named("its id is none; make the token with `walcast token add`".into()))?;
    // The value is not shown: it may be a secret that was put there by mistake.
    let hash = SecretHash::parse(&token.sha256)
        .ok_or_else(|| named("sha256 is not 64 hexadecimal digits".into()))?;
    let expires = token.expires.map(|date| {
        parse_time(&date.to_string()).ok_or_else(|| {
            named(format!(
                "expires = {date}: is not a time with its offset; write e.g. 2027-01-31T00:00:00Z"
            ))
        })
    });
    let columns: BTreeMap<String, Vec<String>> = token
        .columns
        .into_iter()
        .map(|(column, values)| (column, values.texts()))
        .collect();
    if columns.values().map(Vec::len).sum::<usize>() > MAX_SCOPE_VALUES {
        let problem = format!("where has more than {MAX_SCOPE_VALUES} values");
        return Err(named(problem));
    }
    Ok(TokenEntry {
        id,
        name: token.name,
        hash,
        feeds: token.feeds,
        columns,
        ingest: token.ingest,
        metrics: token.metrics,
        edge: token.edge,
        expires: expires.transpose()?,
    })
}

/// Returns the name where it can be one: it is shown in logs and lists.
pub fn check_name(name: &str) -> Result<&str, String> {
    const LONGEST: usize = 64;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@:+".contains(c);
    match !name.is_empty() && name.len() <= LONGEST && name.chars().all(plain) {
        true => Ok(name),
        false => Err(format!(
            "name = {name:?}: is not a name for a token; use letters, digits and -_.@:+, at most {LONGEST} of them"
        )),
    }
}

fn written(token: &TokenEntry) -> Result<WrittenToken, String> {
    let expires = token.expires.map(|time| {
        let shown = shown_time(time);
        toml::value::Datetime::from_str(&shown).map_err(|_| {
            format!(
                "the end of {}, {shown:?}, can't be written; give an earlier one",
                token.name
            )
        })
    });
    let columns = token.columns.iter().map(|(column, values)| {
        let plain = |value: &String| ClaimToml::Text(value.clone());
        let values = match values.as_slice() {
            [one] => OneOrMore::One(plain(one)),
            more => OneOrMore::More(more.iter().map(plain).collect()),
        };
        (column.clone(), values)
    });
    Ok(WrittenToken {
        id: token.id.to_string(),
        name: token.name.clone(),
        sha256: token.hash.hex(),
        feeds: token.feeds.clone(),
        ingest: token.ingest,
        metrics: token.metrics,
        edge: token.edge,
        expires: expires.transpose()?,
        columns: columns.collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::super::token::NewToken;
    use super::*;

    fn token(name: &str) -> TokenEntry {
        let made = NewToken::make().unwrap();
        TokenEntry {
            id: made.id,
            name: name.to_owned(),
            hash: made.hash,
            feeds: vec!["orders".into()],
            columns: [(
                "customer".to_owned(),
                vec!["acme".to_owned(), "5".to_owned()],
            )]
            .into(),
            ingest: true,
            metrics: false,
            edge: true,
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        let added = token("billing");
        let plain = TokenEntry {
            columns: BTreeMap::new(),
            expires: None,
            ..token("status")
        };
        for token in [&added, &plain] {
            TokenFile::change(&path, |file| {
                file.tokens.push(token.clone());
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(
            TokenFile::read(&path, Owners::RootAndSelf).unwrap().tokens,
            [added, plain]
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        TokenFile::change(&path, |file| Ok(file.tokens.pop())).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "the mode is kept");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_lets_others_in_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        fs::write(&path, "").unwrap();
        for (mode, good) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = TokenFile::read(&path, Owners::RootAndSelf);
            assert_eq!(read.is_ok(), good, "{mode:o}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_repeated() {
        let good = format!(
            "[[token]]\nid = \"aaaaaaaa\"\nname = \"n\"\nsha256 = \"{}\"\n",
            "0".repeat(64)
        );
        assert!(TokenFile::parse(&good).is_ok());
        let secret = NewToken::make().unwrap();
        let leaked = secret.text();
        for (text, names) in [
            (format!("{good}feed = [\"a\"]"), "feed"),
            (good.replace("aaaaaaaa", "a"), "id"),
            (good.replace(&"0".repeat(64), leaked), "sha256"),
            (good.replace("\"n\"", "\"a\\u001bb\""), "name"),
            (format!("{good}expires = 2027-01-31"), "2027-01-31"),
            (format!("{good}{good}"), "aaaaaaaa"),
            (format!("{good}where = {{ a = 1.5 }}"), "line"),
        ] {
            let problem = TokenFile::parse(&text).unwrap_err();
            assert!(problem.contains(names), "{text}: {problem}");
            assert!(
                !problem.contains(leaked) && !problem.contains('\u{1b}'),
                "{problem}"
            );
        }
    }
}
