//! Keys of the file that nothing knows, and what was probably meant.

use super::layers::{Layers, ValueSource};
use super::written::{Node, WrittenValue};
use super::{Config, FeedConfig, SinkConfig};
use crate::text::nearest::nearest;

/// Tables whose keys are names.
const NAMED: [&str; 2] = ["feeds", "sinks"];
/// Stands for the name of a feed or a sink.
const ANY_NAME: &str = "NAME";

/// The known keys of each table of the file, in the order of a file; the first is its top level, whose name is
/// empty.
#[derive(Debug, Default)]
pub(super) struct KnownKeys {
    tables: Vec<(String, Vec<String>)>,
}

impl KnownKeys {
    /// All that is declared.
    pub(super) fn declared() -> Self {
        let mut known = Self::default();
        for setting in Config::settings_in_file_order() {
            known.add(setting.key);
        }
        for setting in FeedConfig::settings() {
            known.add(&format!("feeds.{ANY_NAME}.{}", setting.key));
        }
        for setting in SinkConfig::settings() {
            known.add(&format!("sinks.{ANY_NAME}.{}", setting.key));
        }
        // Their keys are names.
        known
            .tables
            .retain(|(table, _)| !NAMED.contains(&table.as_str()));
        known
    }

    /// Each table and its keys.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&str, &[String])> {
        let tables = self.tables.iter();
        tables.map(|(table, keys)| (table.as_str(), keys.as_slice()))
    }

    fn add(&mut self, full: &str) {
        let mut table = String::new();
        for part in full.split('.') {
            let at = match self.tables.iter().position(|(known, _)| *known == table) {
                Some(at) => at,
                None => {
                    self.tables.push((table.clone(), Vec::new()));
                    self.tables.len() - 1
                }
            };
            let keys = &mut self.tables[at].1;
            if keys.iter().all(|known| known != part) {
                keys.push(part.to_owned());
            }
            table = joined(&table, part);
        }
    }

    /// Notes every key of the file that is not known, and what is written as a value and should be a table.
    pub(super) fn check(&self, layers: &mut Layers<'_>) {
        let is_named = |table: &(&str, &[String])| table.0.contains(ANY_NAME);
        for (table, keys) in self.tables().filter(|table| !is_named(table)) {
            self.check_table(layers, table, keys);
        }
        for around in NAMED {
            let of_these = |table: &(&str, &[String])| table.0.starts_with(&format!("{around}."));
            for (name, _) in layers.node(around).map_or(&[][..], Node::entries) {
                for (table, keys) in self.tables().filter(of_these) {
                    self.check_table(layers, &table.replace(ANY_NAME, name), keys);
                }
            }
        }
    }

    fn check_table(&self, layers: &mut Layers<'_>, table: &str, known: &[String]) {
        let node = match table.is_empty() {
            true => Some(layers.root),
            false => layers.node(table),
        };
        let Some(node) = node else {
            return;
        };
        if !matches!(node.value, WrittenValue::Table(_)) {
            let problem = format!(
                "{table} = {}: is not a table; write [{table}] with one key a line",
                node.value
            );
            return layers.problem(&ValueSource::File(node.line), &problem);
        }
        let is_known = |name: &String| known.contains(name);
        for (name, child) in node.entries().iter().filter(|(name, _)| !is_known(name)) {
            let full = joined(table, name);
            let hint = self.hint(name, known);
            layers.problem(
                &ValueSource::File(child.line),
                &format!("unknown key {full:?}; {hint}"),
            );
        }
    }

    /// What an unknown key was probably meant to be.
    fn hint(&self, name: &str, known: &[String]) -> String {
        let is_known = |key: &str| known.iter().any(|known| known == key);
        // What other programs call it, or where it would stand with them.
        match name {
            "db" | "file" | "path" if is_known("database") => {
                return "did you mean \"database\"?".to_owned();
            }
            "tables" | "feed" if is_known("feeds") => {
                return "tables are named by feeds: write [feeds.NAME] with table = \"…\" for each, or feeds = \"*\" for every \
                        table that can be one"
                    .to_owned();
            }
            "auth" if is_known("ingest") => {
                return "[auth] stands at the top level and holds for every feed".to_owned();
            }
            _ => {}
        }
        if let Some(key) = nearest(name, known.iter().map(String::as_str)) {
            return format!("did you mean {key:?}?");
        }
        let begun = format!("{name}_");
        if let Some(key) = known.iter().find(|key| key.starts_with(&begun)) {
            return format!("did you mean {key:?}?");
        }
        let elsewhere = |(_, keys): &(&str, &[String])| keys.iter().any(|key| key == name);
        match self.tables().find(elsewhere) {
            Some(("", _)) => {
                format!("{name:?} belongs at the top of the file, before the first [section]")
            }
            Some((table, _)) => format!("did you mean \"{table}.{name}\"?"),
            None => format!("known here: {}", known.join(", ")),
        }
    }
}

/// The key `name` of `table`, which is empty for the top of the file.
fn joined(table: &str, name: &str) -> String {
    match table.is_empty() {
        true => name.to_owned(),
        false => format!("{table}.{name}"),
    }
}
