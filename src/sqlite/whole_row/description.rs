//! What a table's rows are, and how its feed shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DescribedChanges;
use crate::config::{ClaimSource, FeedConfig, FeedScope};
use crate::sqlite::fingerprint::fingerprint;
use crate::sqlite::table::{Column, Schema};

/// What whoever serves a feed on has to know of it. Fields that a version does not know are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableDescription {
    /// The feed's name.
    pub feed: String,
    /// The table's.
    pub table: String,
    /// The cursor column; of changes it is one of their log.
    pub key: String,
    /// Whether the table is STRICT: there `ANY` keeps what it is given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// What a row has, in its order.
    pub columns: Vec<DescribedColumn>,
    /// WebSocket paths.
    pub ws: Vec<String>,
    /// Alias paths of the history.
    #[serde(default)]
    pub history: Vec<String>,
    /// What stands around a row that clients get.
    pub message: MessageShape,
    /// Columns that are embedded as JSON.
    #[serde(default)]
    pub json: Vec<String>,
    /// Columns that are cut, and to how many code points.
    #[serde(default)]
    pub truncate: BTreeMap<String, usize>,
    /// How it is told whose rows are whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<DescribedScope>,
    /// What the log of the table's changes holds, which the feed sends; `None` where it sends the table's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<DescribedChanges>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DescribedColumn {
    pub name: String,
    /// Declared type, upper case; empty where none was given.
    #[serde(rename = "type", default)]
    pub declared: String,
    /// Not shown: it is here for scopes to compare.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// The keys of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageShape {
    /// The value of `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name of the key that holds the row.
    pub body: String,
}

/// A scope, as a configuration has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DescribedScope {
    /// `"none"`: whoever may come in reads all of it.
    Said(String),
    /// Each of these columns must hold what is said there.
    Columns(BTreeMap<String, String>),
}

impl TableDescription {
    /// Describes the feed's table as `schema` has it; of a feed of changes the captured one.
    pub fn of(feed: &FeedConfig, schema: &Schema) -> TableDescription {
        let (table, columns) = schema.shown();
        let declared = |name: &str| declared_in(columns, name);
        let column = |name: &str, hidden: bool| DescribedColumn {
            name: name.to_owned(),
            declared: declared(name),
            hidden,
        };
        let shown = schema.exposed.iter().map(|e| column(&e.name, false));
        let hidden = hidden(feed, schema);
        let hidden = hidden.iter().map(|name| column(name, true));
        let changes = schema.changes.as_ref();
        let embedded = schema.exposed.iter().filter(|e| e.json);
        let cut = schema.exposed.iter();
        TableDescription {
            feed: feed.name.clone(),
            table: table.to_owned(),
            key: schema.table.key_name().to_owned(),
            strict: changes.map_or(schema.table.strict, |log| log.strict),
            columns: shown.chain(hidden).collect(),
            ws: feed.ws.clone(),
            history: feed.history.clone(),
            message: MessageShape {
                kind: feed.message_type.clone(),
                body: feed.message_body.clone(),
            },
            json: embedded.map(|e| e.name.clone()).collect(),
            truncate: cut
                .filter_map(|e| Some((e.name.clone(), e.truncate?)))
                .collect(),
            scope: DescribedScope::of(&feed.scope),
            changes: changes.map(|log| DescribedChanges::of(feed, log)),
        }
    }

    /// Returns what tells this description from others: 16 hexadecimal digits, which each row carries.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", fingerprint(self.json().as_bytes()))
    }

    /// The description as it is kept.
    pub fn json(&self) -> String {
        // Strings, numbers and lists of them: nothing in it can fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The message that comes before the rows: `{"type":"table","schema":"…",…}`.
    pub fn message(&self) -> String {
        let (json, schema) = (self.json(), self.fingerprint());
        format!(
            "{{\"type\":\"table\",\"schema\":\"{schema}\",{}",
            &json[1..]
        )
    }

    /// Returns the columns that stand here behind those of `before`; `None` where the table differs otherwise, so that rows
    /// as they were described before are not what they would be now.
    pub fn columns_added_to(&self, before: &TableDescription) -> Option<&[DescribedColumn]> {
        let same =
            self.table == before.table && self.key == before.key && self.strict == before.strict;
        let same = same
            && match (&self.changes, &before.changes) {
                // Rows of the table as it is have something in a column that comes, whatever it is.
                (Some(changes), Some(others)) => {
                    changes.is_like(others) && self.columns == before.columns
                }
                (changes, others) => changes.is_none() && others.is_none(),
            };
        // Hidden columns come last. Where the table's rows have one that came, it stands before them; the spool has them all.
        let (shown, hidden): (Vec<_>, Vec<_>) = self.columns.iter().partition(|c| !c.hidden);
        let (had, hid): (Vec<_>, Vec<_>) = before.columns.iter().partition(|c| !c.hidden);
        let same = same && hidden == hid && shown.starts_with(&had);
        same.then(|| &self.columns[had.len()..shown.len()])
    }

    /// Returns whether `other` is shown to clients in the same way, as far as that does not follow from its columns.
    pub fn is_served_as(&self, other: &TableDescription) -> bool {
        let hidden = |table: &TableDescription| -> Vec<String> {
            let hidden = table.columns.iter().filter(|column| column.hidden);
            hidden.map(|column| column.name.clone()).collect()
        };
        self.table == other.table
            && self.key == other.key
            && match (&self.changes, &other.changes) {
                (Some(changes), Some(others)) => changes.is_like(others),
                (changes, others) => changes.is_none() && others.is_none(),
            }
            && self.ws == other.ws
            && self.history == other.history
            && self.message == other.message
            && self.json == other.json
            && self.truncate == other.truncate
            && self.scope == other.scope
            && hidden(self) == hidden(other)
    }

    /// Returns the feed as whoever serves it on has it: as the origin does, but for what is written to it. Which columns scopes
    /// compare is left to be said.
    ///
    /// # Errors
    /// Its scope, or how it is captured, is worded as this version can't understand: the words.
    pub fn feed_config(&self) -> Result<FeedConfig, String> {
        let hidden = self.columns.iter().filter(|column| column.hidden);
        let scope = match &self.scope {
            None => FeedScope::Unsaid,
            Some(DescribedScope::Said(word)) if word == "none" => FeedScope::Everything,
            Some(DescribedScope::Said(word)) => return Err(word.clone()),
            Some(DescribedScope::Columns(columns)) => {
                let source = |(column, words): (&String, &String)| {
                    let source = ClaimSource::parse(words).ok_or_else(|| words.clone())?;
                    Ok((column.clone(), source))
                };
                FeedScope::Columns(columns.iter().map(source).collect::<Result<_, String>>()?)
            }
        };
        let truncate = self.truncate.iter();
        let changes = self.changes.as_ref().zip(self.log_table());
        let capture = changes.map(|(changes, log)| changes.rules(log));
        let key = Some(self.key.clone()).filter(|_| capture.is_none());
        Ok(FeedConfig {
            name: self.feed.clone(),
            table: self.table.clone(),
            key,
            capture: capture.transpose()?,
            ws: self.ws.clone(),
            history: self.history.clone(),
            message_type: self.message.kind.clone(),
            message_body: self.message.body.clone(),
            exclude: hidden.map(|column| column.name.clone()).collect(),
            json: self.json.clone(),
            truncate: truncate.map(|(name, cut)| (name.clone(), *cut)).collect(),
            scope,
            ..FeedConfig::of_table(&self.feed, &self.table)
        })
    }

    /// The names of the columns, in the order of a row.
    pub fn column_names(&self) -> Vec<String> {
        self.columns
            .iter()
            .map(|column| column.name.clone())
            .collect()
    }
}

impl DescribedScope {
    fn of(scope: &FeedScope) -> Option<DescribedScope> {
        match scope {
            FeedScope::Unsaid => None,
            FeedScope::Everything => Some(DescribedScope::Said("none".to_owned())),
            FeedScope::Columns(columns) => {
                let columns = columns.iter();
                let written =
                    |(name, source): &(String, ClaimSource)| (name.clone(), source.to_string());
                Some(DescribedScope::Columns(columns.map(written).collect()))
            }
        }
    }
}

/// The columns that are not shown and by which it is decided whose a row is, or a change.
fn hidden(feed: &FeedConfig, schema: &Schema) -> Vec<String> {
    let Some(log) = &schema.changes else {
        return schema.hidden.clone();
    };
    let compared = log.filters().iter().chain(&feed.scope_columns);
    let is_one = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
    let is_hidden = |name: &str| {
        let is_compared = compared.clone().any(|other| is_one(name, other));
        is_compared && !schema.exposed.iter().any(|shown| is_one(name, &shown.name))
    };
    let columns = log.columns.iter().map(|column| &column.name);
    columns.filter(|name| is_hidden(name)).cloned().collect()
}

/// The declared type of a column; names are told apart without case, as SQLite does.
fn declared_in(columns: &[Column], name: &str) -> String {
    let mut columns = columns.iter();
    let found = columns.find(|column| column.name.eq_ignore_ascii_case(name));
    found.map_or_else(String::new, |column| column.declared.clone())
}
