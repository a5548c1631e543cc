//! The layers a setting can come from: flag, `WALCAST_*` variable, file, default, the first that says something wins.
//! Collects what is wrong in all of them instead of stopping at the first, and remembers where each value came from.

use std::collections::BTreeMap;
use std::fmt;

use super::arguments::ServeArgs;
use super::written::{Node, WrittenValue};

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

/// All layers above the defaults.
pub(super) struct Layers<'a> {
    args: &'a ServeArgs,
    file: String,
    pub root: &'a Node,
    /// Where the value of each key came from.
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

    /// Returns whether anything was said of the setting `key`.
    pub(super) fn is_said(&self, key: &str) -> bool {
        self.node(key).is_some() || self.args.said(key).is_some()
    }

    /// What was said of the setting `key` and where: by its flag or variable, else by the file. What is wrong is noted in
    /// each layer, also in one that is overruled.
    pub(super) fn said<T>(
        &mut self,
        key: &str,
        read: impl Fn(&WrittenValue) -> Result<T, String>,
    ) -> Option<(ValueSource, T)> {
        let in_file = self.node(key).and_then(|node| {
            let place = ValueSource::File(node.line);
            self.judge(key, place, &node.value, &read)
        });
        let argued = self
            .argued(key)
            .and_then(|(place, value)| self.judge(key, place, &value, &read));
        argued.or(in_file)
    }

    fn argued(&self, key: &str) -> Option<(ValueSource, WrittenValue)> {
        let said = self.args.said(key)?;
        let mut texts = said.texts.iter().cloned().map(WrittenValue::Argument);
        let value = match texts.len() {
            0 | 1 => texts.next()?,
            _ => WrittenValue::List(texts.collect()),
        };
        Some((said.place.clone(), value))
    }

    fn judge<T>(
        &mut self,
        key: &str,
        place: ValueSource,
        value: &WrittenValue,
        read: impl Fn(&WrittenValue) -> Result<T, String>,
    ) -> Option<(ValueSource, T)> {
        match read(value) {
            Ok(meant) => Some((place, meant)),
            Err(problem) => {
                self.refuse(key, &place, &value.to_string(), &problem);
                None
            }
        }
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
}
