//! `scope`: how a feed tells whose rows are whose.

use std::fmt;

use super::auth::{Anonymous, AuthRules};
use super::declaration::Declaration;
use super::feeds::FeedConfig;
use super::jwt;
use super::layers::Layers;
use super::parse::text;
use super::written::{Node, WrittenValue};
use crate::model::filter::Scope;

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

impl Anonymous {
    /// Returns the columns of a feed that scopes compare: its own, and those of the part that is everybody's.
    pub fn compared_columns(&self, feed: &FeedConfig) -> Vec<String> {
        let mut compared: Vec<String> = match &feed.scope {
            FeedScope::Columns(columns) => columns.iter().map(|(name, _)| name.clone()).collect(),
            FeedScope::Unsaid | FeedScope::Everything => Vec::new(),
        };
        let part = self.part();
        let part = part.filter(|part| part.feeds.contains(&feed.name));
        for column in part.iter().flat_map(|part| part.scope.columns()) {
            let is_column = |known: &String| known.eq_ignore_ascii_case(column);
            if !compared.iter().any(is_column) {
                compared.push(column.to_owned());
            }
        }
        compared
    }
}

impl ClaimSource {
    /// Reads what is written of a source, `claim:NAME` or `header:NAME`; `None` where it is neither.
    pub fn parse(text: &str) -> Option<ClaimSource> {
        match text.split_once(':') {
            Some(("claim", name)) if !name.is_empty() => Some(ClaimSource::Claim(name.to_owned())),
            Some(("header", name)) => jwt::header(name).ok().map(ClaimSource::Header),
            _ => None,
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

    /// Returns whether the feed itself tells by this column whose rows are whose.
    pub fn compares(&self, column: &str) -> bool {
        matches!(self, FeedScope::Columns(columns) if columns.iter().any(|(name, _)| name == column))
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

impl FeedScope {
    /// As it is written in the configuration; `None` where nothing was said.
    fn written(&self) -> Option<WrittenValue> {
        match self {
            FeedScope::Unsaid => None,
            FeedScope::Everything => Some(WrittenValue::Text("none".to_owned())),
            FeedScope::Columns(columns) => {
                let columns = columns.iter().map(|(column, source)| {
                    (column.as_str(), WrittenValue::Text(source.to_string()))
                });
                Some(WrittenValue::columns(columns))
            }
        }
    }
}

/// How a feed tells whose rows are whose.
pub(super) fn scope() -> Declaration<FeedScope> {
    Declaration::perhaps("SCOPE", feed_scope, FeedScope::written)
        .otherwise("only tokens that name the feed read it")
}

fn feed_scope(value: &WrittenValue) -> Result<FeedScope, String> {
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
            // The error of a header says what is wrong with it.
            Some(("header", name)) => ClaimSource::Header(jwt::header(name).map_err(said)?),
            _ => ClaimSource::parse(&written)
                .ok_or_else(|| said(format!("names no claim; {EXAMPLE}")))?,
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
    let part = auth.anonymous.part();
    for feed in feeds.iter_mut() {
        feed.scope_columns = auth.anonymous.compared_columns(feed);
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
