//! The layers a setting can come from: flag, `WALCAST_*` variable, file, default, the first that says something wins.
//! Collects what is wrong in all of them instead of stopping at the first, and remembers where each value came from.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::ServeArgs;
use crate::text::nearest::nearest;

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

    pub(super) fn names(&self) -> Vec<&str> {
        self.entries()
            .iter()
            .map(|(name, _)| name.as_str())
            .collect()
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
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ValueSource {
    Default,
    /// The line in the file.
    File(usize),
    /// The variable.
    Environment(String),
    /// The flag, with its dashes.
    Flag(String),
}

impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(line) => write!(f, "file, line {line}"),
            Self::Environment(variable) => write!(f, "environment, {variable}"),
            Self::Flag(flag) => write!(f, "flag, {flag}"),
        }
    }
}

/// What a value means, or what is wrong with it and how to mend it.
pub(super) type Meaning<T> = fn(&WrittenValue) -> Result<T, String>;

/// All layers above the defaults.
pub(super) struct Layers<'a> {
    args: &'a ServeArgs,
    file: String,
    root: &'a Node,
    pub places: BTreeMap<String, ValueSource>,
    pub problems: Vec<String>,
}

impl<'a> Layers<'a> {
    /// `file` is the name that errors give the file.
    pub(super) fn new(args: &'a ServeArgs, file: &str, root: &'a Node) -> Self {
        Self {
            args,
            file: file.to_owned(),
            root,
            places: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        self.root.get(key)
    }

    /// The setting `key` of the file, overruled by what its flag or variable was given. What is wrong is noted in each
    /// layer, also in one that is overruled, and the default stands in for it.
    pub(super) fn setting<T>(
        &mut self,
        key: &str,
        given: &Option<String>,
        meaning: Meaning<T>,
        default: T,
    ) -> T {
        self.list_setting(key, given.as_slice(), meaning, default)
    }

    /// As [`Self::setting`], for a flag that may be repeated.
    pub(super) fn list_setting<T>(
        &mut self,
        key: &str,
        given: &[String],
        meaning: Meaning<T>,
        default: T,
    ) -> T {
        let in_file = self.in_file(key, meaning);
        let argued = self.argued(key, given).and_then(|(place, value)| {
            let meant = self.judge(key, &place, &value, meaning)?;
            Some((place, meant))
        });
        let (place, value) = argued
            .or(in_file)
            .unwrap_or((ValueSource::Default, default));
        self.places.insert(key.to_owned(), place);
        value
    }

    /// As [`Self::setting`], for what has no flag.
    pub(super) fn file_setting<T>(&mut self, key: &str, meaning: Meaning<T>, default: T) -> T {
        self.list_setting(key, &[], meaning, default)
    }

    fn in_file<T>(&mut self, key: &str, meaning: Meaning<T>) -> Option<(ValueSource, T)> {
        let node = self.node(key)?;
        let place = ValueSource::File(node.line);
        let meant = self.judge(key, &place, &node.value, meaning)?;
        Some((place, meant))
    }

    /// The value of the flag for `key` or of its variable. An empty variable counts as unset: that is how shells and unit
    /// files clear one.
    fn argued(&self, key: &str, given: &[String]) -> Option<(ValueSource, WrittenValue)> {
        let field = argument(key);
        let from_environment = self.args.from_environment.contains(&field);
        let place = match from_environment {
            true => ValueSource::Environment(format!("WALCAST_{}", field.to_uppercase())),
            false if field == "db" && self.args.file.is_some() => {
                ValueSource::Flag("FILE".to_owned())
            }
            false => ValueSource::Flag(format!("--{}", field.replace('_', "-"))),
        };
        match given {
            [] => None,
            [only] if only.is_empty() && from_environment => None,
            [only] => Some((place, WrittenValue::Argument(only.clone()))),
            several => Some((
                place,
                WrittenValue::List(
                    several
                        .iter()
                        .cloned()
                        .map(WrittenValue::Argument)
                        .collect(),
                ),
            )),
        }
    }

    fn judge<T>(
        &mut self,
        key: &str,
        place: &ValueSource,
        value: &WrittenValue,
        meaning: Meaning<T>,
    ) -> Option<T> {
        meaning(value)
            .map_err(|problem| self.refuse(key, place, &value.to_string(), &problem))
            .ok()
    }

    /// Notes why the value that was written for `key` at `place` is refused.
    pub(super) fn refuse(&mut self, key: &str, place: &ValueSource, value: &str, problem: &str) {
        let problem = match place {
            ValueSource::Flag(flag) => format!("{flag} {value}: {problem}"),
            ValueSource::Environment(variable) => format!("{variable}={value}: {problem}"),
            ValueSource::File(_) | ValueSource::Default => format!("{key} = {value}: {problem}"),
        };
        self.problem(place, &problem);
    }

    /// Notes a problem at `place`.
    pub(super) fn problem(&mut self, place: &ValueSource, problem: &str) {
        self.problems.push(match place {
            ValueSource::File(line) => format!("{}:{line}: {problem}", self.file),
            _ => problem.to_owned(),
        });
    }

    /// Where `key` was set, or else where the nearest table around it stands.
    pub(super) fn place(&self, key: &str) -> ValueSource {
        match self.places.get(key) {
            Some(place) if *place != ValueSource::Default => return place.clone(),
            _ => {}
        }
        let mut around = key;
        while let Some((outer, _)) = around.rsplit_once('.') {
            if let Some(node) = self.node(outer) {
                return ValueSource::File(node.line);
            }
            around = outer;
        }
        ValueSource::Default
    }

    /// Notes every key of the table at `key` that is not in `known`, or that it is no table. `key` is empty for the whole file.
    pub(super) fn known(&mut self, key: &str, known: &[&str], elsewhere: &[(&str, &[&str])]) {
        let Some(node) = (if key.is_empty() {
            Some(self.root)
        } else {
            self.node(key)
        }) else {
            return;
        };
        if !matches!(node.value, WrittenValue::Table(_)) {
            let problem = format!(
                "{key} = {}: is not a table; write [{key}] with one key a line",
                node.value
            );
            return self.problem(&ValueSource::File(node.line), &problem);
        }
        for (name, child) in node
            .entries()
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()))
        {
            let full = if key.is_empty() {
                name.clone()
            } else {
                format!("{key}.{name}")
            };
            let hint = hint(name, known, elsewhere);
            self.problem(
                &ValueSource::File(child.line),
                &format!("unknown key {full:?}; {hint}"),
            );
        }
    }
}

/// The field of [`ServeArgs`] for a key of the file.
fn argument(key: &str) -> String {
    match key {
        "database" => "db".to_owned(),
        "origins" => "origin".to_owned(),
        "hosts" => "allow_host".to_owned(),
        "trusted_proxies" => "trusted_proxy".to_owned(),
        "auth.anonymous" => "anonymous".to_owned(),
        key => key.replace('.', "_"),
    }
}

/// What an unknown key was probably meant to be.
fn hint(name: &str, known: &[&str], elsewhere: &[(&str, &[&str])]) -> String {
    // What other programs call it, or where it would stand with them.
    match name {
        "db" | "file" | "path" if known.contains(&"database") => {
            return "did you mean \"database\"?".to_owned();
        }
        "tables" | "feed" if known.contains(&"feeds") => {
            return "tables are named by feeds: write [feeds.NAME] with table = \"…\" for each, or feeds = \"*\" for every \
                    table that can be one"
                .to_owned();
        }
        "auth" if known.contains(&"ingest") => {
            return "[auth] stands at the top level and holds for every feed".to_owned();
        }
        _ => {}
    }
    if let Some(key) = nearest(name, known.iter().copied()) {
        return format!("did you mean {key:?}?");
    }
    if let Some((section, _)) = elsewhere.iter().find(|(_, keys)| keys.contains(&name)) {
        return match *section {
            "" => format!("{name:?} belongs at the top of the file, before the first [section]"),
            section => format!("did you mean \"{section}.{name}\"?"),
        };
    }
    format!("known here: {}", known.join(", "))
}
