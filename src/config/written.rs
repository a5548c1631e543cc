//! Values as somebody wrote them: TOML, or the text of a flag or variable.

use std::fmt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value as it was written, before anybody judged it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum WrittenValue {
    /// The text of a flag or variable, where a number or truth value is text too.
    Argument(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<WrittenValue>),
    /// In the order of the file.
    Table(Vec<(String, Node)>),
    /// A date, or a number beyond 64 bits: nothing a setting can be.
    Other(String),
}

/// A value in the file and the line its key stands in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub line: usize,
    pub value: WrittenValue,
}

impl Node {
    /// What a configuration without a file is.
    pub(super) fn empty() -> Self {
        Self {
            line: 1,
            value: WrittenValue::Table(Vec::new()),
        }
    }

    /// Parses TOML. The error is the line and what is wrong there.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        match DeTable::parse(text) {
            Ok(root) => Ok(Self {
                line: 1,
                value: table(root.get_ref(), &line),
            }),
            Err(error) => Err((
                line(error.span().map_or(0, |span| span.start)),
                error.message().replace('\n', ", "),
            )),
        }
    }

    pub(super) fn entries(&self) -> &[(String, Node)] {
        match &self.value {
            WrittenValue::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The node under a dotted key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        key.split('.').try_fold(self, |node, part| {
            node.entries()
                .iter()
                .find(|(name, _)| name == part)
                .map(|(_, child)| child)
        })
    }
}

fn table(table: &DeTable<'_>, line: &dyn Fn(usize) -> usize) -> WrittenValue {
    let mut entries: Vec<_> = table.iter().collect();
    // The parser sorts by name; the order of feeds is that of the file.
    entries.sort_by_key(|(key, _)| key.span().start);
    let node = |(key, child): (&Spanned<_>, &Spanned<DeValue<'_>>)| Node {
        line: line(key.span().start),
        value: value(child.get_ref(), line),
    };
    WrittenValue::Table(
        entries
            .into_iter()
            .map(|(key, child)| (key.get_ref().to_string(), node((key, child))))
            .collect(),
    )
}

fn value(written: &DeValue<'_>, line: &dyn Fn(usize) -> usize) -> WrittenValue {
    match written {
        DeValue::String(text) => WrittenValue::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(
                |_| WrittenValue::Other(number.to_string()),
                WrittenValue::Integer,
            ),
        DeValue::Float(number) => number.as_str().parse().map_or_else(
            |_| WrittenValue::Other(number.to_string()),
            WrittenValue::Float,
        ),
        DeValue::Boolean(truth) => WrittenValue::Boolean(*truth),
        DeValue::Datetime(date) => WrittenValue::Other(date.to_string()),
        DeValue::Array(items) => WrittenValue::List(
            items
                .iter()
                .map(|item| value(item.get_ref(), line))
                .collect(),
        ),
        DeValue::Table(entries) => table(entries, line),
    }
}

impl WrittenValue {
    /// A table to be written with these keys, which need no quotes.
    pub(super) fn table<'k>(entries: impl IntoIterator<Item = (&'k str, WrittenValue)>) -> Self {
        let node = |(key, value): (&str, _)| (key.to_owned(), Node { line: 0, value });
        Self::Table(entries.into_iter().map(node).collect())
    }

    /// A table to be written that says something of columns, whose names may be any.
    pub(super) fn columns<'k>(entries: impl IntoIterator<Item = (&'k str, WrittenValue)>) -> Self {
        let node = |(name, value)| (quoted_key(name), Node { line: 0, value });
        Self::Table(entries.into_iter().map(node).collect())
    }

    /// A path of the file system.
    pub(super) fn path(path: &Path) -> Self {
        Self::Text(path.to_string_lossy().into_owned())
    }

    /// A number of things.
    pub(super) fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// A list of these texts.
    pub(super) fn texts(texts: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        let text = |text: &dyn fmt::Display| Self::Text(text.to_string());
        Self::List(texts.into_iter().map(|item| text(&item)).collect())
    }

    /// As TOML, on one line.
    pub(super) fn toml(&self) -> String {
        let Self::Table(entries) = self else {
            return self.to_string();
        };
        let entry = |(key, node): &(String, Node)| format!("{key} = {}", node.value.toml());
        match entries.as_slice() {
            [] => "{}".to_owned(),
            some => {
                let entries: Vec<_> = some.iter().map(entry).collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }

    /// For people: texts without quotes, the items of a list alone.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(items) if items.is_empty() => "none".to_owned(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::plain).collect();
                items.join(", ")
            }
            other => other.to_string(),
        }
    }
}

/// Any name as a key of TOML, which escapes as JSON does, and one character more.
fn quoted_key(name: &str) -> String {
    let json = serde_json::Value::from(name).to_string();
    json.replace('\u{7f}', "\\u007f")
}

impl fmt::Display for WrittenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(text) | Self::Other(text) => f.write_str(text),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Boolean(truth) => truth.fmt(f),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(WrittenValue::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Table(_) => f.write_str("{…}"),
        }
    }
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
