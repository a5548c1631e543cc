//! `[auth]`: who may come in with what, and `scope`: how a feed tells whose rows are whose.

use std::fmt;
use std::path::PathBuf;

use super::FeedConfig;
use super::jwt::{self, JwtRules, ProxyRules};
use super::layers::{Layers, Node, WrittenValue};
use super::parse::{self, path, text, texts};
use crate::cli::ServeArgs;
use crate::model::filter::Scope;

/// Who may come in with what.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthRules {
    /// Serve anyone who presents nothing, wherever the daemon listens.
    pub anonymous: bool,
    /// What they are served where it is not everything.
    pub anonymous_part: Option<AnonymousPart>,
    /// The file of tokens.
    pub tokens: Option<PathBuf>,
    /// Whether credentials may stand in the address.
    pub query_token: bool,
    /// The cookie that may carry one.
    pub cookie: Option<String>,
    /// Whose JWTs are good; `None`: nobody's.
    pub jwt: Option<JwtRules>,
    /// What proxies say of whom they ask for; `None`: they are not heard.
    pub proxy: Option<ProxyRules>,
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
            || self.anonymous_part.is_some()
    }

    /// Returns whether the daemon may listen where others can reach it.
    pub fn may_be_reached(&self) -> bool {
        self.anonymous || self.asks()
    }
}

/// How a feed tells whose rows are whose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FeedScope {
    /// Nothing was said: only tokens that name the feed read it.
    #[default]
    Unsaid,
    /// Whoever may come in reads all of it.
    Everything,
    /// Each of these columns must hold what is said there. What a token says of the column stands for it.
    Columns(Vec<(String, ClaimSource)>),
}

/// Where it is said what a column must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimSource {
    /// In this claim of a JWT.
    Claim(String),
    /// In this header of a proxy that authenticates.
    Header(String),
}

/// As it is written in the configuration.
impl fmt::Display for ClaimSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimSource::Claim(name) => write!(f, "claim:{name}"),
            ClaimSource::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl FeedScope {
    /// Returns a column that is compared here, and of which `scope` says nothing.
    pub fn missing_in(&self, scope: &Scope) -> Option<&str> {
        let FeedScope::Columns(columns) = self else {
            return None;
        };
        let said = |name: &str| scope.columns().any(|said| said.eq_ignore_ascii_case(name));
        let mut columns = columns.iter().map(|(name, _)| name.as_str());
        columns.find(|name| !said(name))
    }

    /// Returns the headers in which proxies say what columns must hold.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let columns = match self {
            FeedScope::Columns(columns) => columns.as_slice(),
            FeedScope::Unsaid | FeedScope::Everything => &[],
        };
        columns.iter().filter_map(|(_, source)| match source {
            ClaimSource::Header(name) => Some(name.as_str()),
            ClaimSource::Claim(_) => None,
        })
    }
}

enum Anonymous {
    Said(bool),
    Part(AnonymousPart),
}

pub(super) fn resolve(layers: &mut Layers<'_>, args: &ServeArgs) -> AuthRules {
    let said = Anonymous::Said(false);
    let anonymous = layers.setting("auth.anonymous", &args.anonymous, anonymous, said);
    let (anonymous, anonymous_part) = match anonymous {
        Anonymous::Said(said) => (said, None),
        Anonymous::Part(part) => (false, Some(part)),
    };
    let optional = |value: &_| path(value).map(Some);
    AuthRules {
        anonymous,
        anonymous_part,
        tokens: layers.file_setting("auth.tokens", optional, None),
        query_token: layers.file_setting("auth.query_token", parse::boolean, false),
        cookie: layers.file_setting("auth.cookie", |value| cookie(value).map(Some), None),
        jwt: jwt::jwt(layers),
        proxy: jwt::proxy(layers),
    }
}

fn anonymous(value: &WrittenValue) -> Result<Anonymous, String> {
    const PART: &str = "write true, false, or { feeds = [\"status\"], where = { public = 1 } }";
    let WrittenValue::Table(entries) = value else {
        return parse::boolean(value).map(Anonymous::Said);
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

/// The `scope` of a feed.
pub(super) fn feed_scope(value: &WrittenValue) -> Result<FeedScope, String> {
    const EXAMPLE: &str = "write { column = \"claim:NAME\" } or { column = \"header:NAME\" }, or \"none\" where every \
                           holder may read all";
    let entries = match value {
        WrittenValue::Text(text) if text == "none" => return Ok(FeedScope::Everything),
        WrittenValue::Table(entries) if !entries.is_empty() => entries,
        _ => return Err(format!("is no scope; {EXAMPLE}")),
    };
    let column = |(column, node): &(String, Node)| {
        let said = |problem: String| format!("{column} = {}: {problem}", node.value);
        let written = text(&node.value).map_err(said)?;
        let source = match written.split_once(':') {
            Some(("claim", name)) if !name.is_empty() => ClaimSource::Claim(name.to_owned()),
            Some(("header", name)) => ClaimSource::Header(jwt::header(name).map_err(said)?),
            _ => return Err(said(format!("names no claim; {EXAMPLE}"))),
        };
        Ok((column.clone(), source))
    };
    let columns: Result<Vec<_>, String> = entries.iter().map(column).collect();
    columns.map(FeedScope::Columns)
}

/// Has each feed read the columns that scopes compare, and refuses what names no feed.
pub(super) fn apply(
    layers: &mut Layers<'_>,
    auth: &AuthRules,
    feeds: &mut [FeedConfig],
    all_tables: bool,
) {
    let part = auth.anonymous_part.as_ref();
    for feed in feeds.iter_mut() {
        let scoped = match &feed.scope {
            FeedScope::Columns(columns) => columns.iter().map(|(name, _)| name.clone()).collect(),
            FeedScope::Unsaid | FeedScope::Everything => Vec::new(),
        };
        let part = part.filter(|part| part.feeds.contains(&feed.name));
        let public = part.iter().flat_map(|part| part.scope.columns());
        feed.scope_columns = scoped;
        for column in public {
            if !feed
                .scope_columns
                .iter()
                .any(|known| known.eq_ignore_ascii_case(column))
            {
                feed.scope_columns.push(column.to_owned());
            }
        }
    }
    for feed in feeds.iter().filter(|_| auth.proxy.is_none()) {
        if let Some(header) = feed.scope.headers().next() {
            let key = format!("feeds.{}.scope", feed.name);
            let place = layers.place(&key);
            let problem = format!(
                "{key}: names the header {header}, and nothing says which proxies are heard; add [auth.proxy] with \
                 user = \"X-Auth-User\", or take the value from a claim"
            );
            layers.problem(&place, &problem);
        }
    }
    let names: Vec<&str> = feeds.iter().map(|feed| feed.name.as_str()).collect();
    let named = part.iter().flat_map(|part| &part.feeds);
    for unknown in named.filter(|name| !all_tables && !names.contains(&name.as_str())) {
        let place = layers.place("auth.anonymous");
        let there = names.join(", ");
        let problem = format!("auth.anonymous: there is no feed {unknown:?}; there are {there}");
        layers.problem(&place, &problem);
    }
}
