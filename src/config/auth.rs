//! `[auth]`: who may come in with what.

use std::path::PathBuf;

use super::access::ACCESS;
use super::declaration::{Declaration, Takes};
use super::jwt::{JwtRules, MtlsRules, ProxyRules};
use super::kinds;
use super::parse::{self, text, texts};
use super::setting::settings;
use super::written::{Node, WrittenValue};
use crate::model::filter::{Scope, ScopeValue};

settings! {
    /// Who may come in with what.
    #[derive(Debug, Clone, PartialEq)]
    pub struct AuthRules {
        /// Serve anyone who can connect, also beyond loopback.
        "auth.anonymous" anonymous: Anonymous = Anonymous::Nothing,
            Declaration::new("true|false", anonymous, Anonymous::written)
                .takes(Takes::Truth)
                .flag("--anonymous")
                .under(ACCESS);

        /// The file of tokens.
        "auth.tokens" tokens: Option<PathBuf> = None,
            kinds::path().optional("no tokens are asked for");

        /// Whether credentials may stand in the address.
        "auth.query_token" query_token: bool = false,
            kinds::boolean();

        /// The cookie that may carry one.
        "auth.cookie" cookie: Option<String> = None,
            Declaration::new("NAME", cookie, |name: &String| WrittenValue::Text(name.clone()))
                .optional("no cookie carries a token");
    }
    optional {
        /// Whose JWTs are good; `None`: nobody's.
        "auth.jwt" jwt: JwtRules,
        /// What proxies say of whom they ask for; `None`: they are not heard.
        "auth.proxy" proxy: ProxyRules,
        /// Whose certificates are good; `None`: nobody is asked for one.
        "auth.mtls" mtls: MtlsRules,
    }
}

impl Default for AuthRules {
    fn default() -> Self {
        Self::unset()
    }
}

/// What those are served who present nothing, wherever the daemon listens.
#[derive(Debug, Clone, PartialEq)]
pub enum Anonymous {
    Nothing,
    Everything,
    Part(AnonymousPart),
}

/// Feeds for everyone.
#[derive(Debug, Clone, PartialEq)]
pub struct AnonymousPart {
    pub feeds: Vec<String>,
    /// Which of their rows.
    pub scope: Scope,
}

impl AuthRules {
    /// Returns whether anybody is asked who he is.
    pub fn asks(&self) -> bool {
        self.tokens.is_some()
            || self.jwt.is_some()
            || self.proxy.is_some()
            || self.mtls.is_some()
            || self.anonymous.part().is_some()
    }

    /// Returns whether the daemon may listen where others can reach it.
    pub fn may_be_reached(&self) -> bool {
        self.anonymous == Anonymous::Everything || self.asks()
    }
}

impl Anonymous {
    /// The feeds for everyone, where they are not all.
    pub fn part(&self) -> Option<&AnonymousPart> {
        match self {
            Self::Part(part) => Some(part),
            Self::Nothing | Self::Everything => None,
        }
    }

    fn written(&self) -> WrittenValue {
        match self {
            Self::Nothing => WrittenValue::Boolean(false),
            Self::Everything => WrittenValue::Boolean(true),
            Self::Part(part) => part.written(),
        }
    }
}

impl AnonymousPart {
    fn written(&self) -> WrittenValue {
        let columns = self.scope.terms().map(|(column, values)| {
            // An integer stands beside the text that it is written as.
            let texts = values.iter().filter_map(|value| match value {
                ScopeValue::Text(text) => Some(text),
                ScopeValue::Integer(_) => None,
            });
            (column, WrittenValue::texts(texts))
        });
        let mut entries = vec![("feeds", WrittenValue::texts(&self.feeds))];
        if self.scope.columns().next().is_some() {
            entries.push(("where", WrittenValue::columns(columns)));
        }
        WrittenValue::table(entries)
    }
}

fn anonymous(value: &WrittenValue) -> Result<Anonymous, String> {
    const PART: &str = "write true, false, or { feeds = [\"status\"], where = { public = 1 } }";
    let WrittenValue::Table(entries) = value else {
        return parse::boolean(value).map(|all| match all {
            true => Anonymous::Everything,
            false => Anonymous::Nothing,
        });
    };
    let (mut feeds, mut scope) = (Vec::new(), Scope::default());
    for (name, node) in entries {
        match name.as_str() {
            "feeds" => feeds = texts(&node.value)?,
            "where" => scope = columns(&node.value)?,
            other => return Err(format!("has an unknown key {other:?}; {PART}")),
        }
    }
    match feeds.is_empty() {
        true => Err(format!("names no feed; {PART}")),
        false => Ok(Anonymous::Part(AnonymousPart { feeds, scope })),
    }
}

/// Columns and what they must hold.
fn columns(value: &WrittenValue) -> Result<Scope, String> {
    let wrong = || "where is not a table of columns; write { column = \"value\" }".to_owned();
    let WrittenValue::Table(entries) = value else {
        return Err(wrong());
    };
    let mut scope = Scope::default();
    for (column, Node { value, .. }) in entries {
        let items = match value {
            WrittenValue::List(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let written = items.iter().map(|item| match item {
            WrittenValue::Integer(integer) => Ok(integer.to_string()),
            item => text(item).map_err(|problem| format!("where: {column} = {item} {problem}")),
        });
        let written: Vec<String> = written.collect::<Result<_, _>>()?;
        scope.demand_text(column, written.iter().map(String::as_str));
    }
    Ok(scope)
}

fn cookie(value: &WrittenValue) -> Result<String, String> {
    let name = text(value)?;
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match name.chars().all(letter) {
        true => Ok(name),
        false => Err("is not a name for a cookie; use letters, digits and -_.".to_owned()),
    }
}
