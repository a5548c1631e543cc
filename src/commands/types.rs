//! `walcast types`: TypeScript interfaces of the rows of each feed, as they leave.

use std::io::{self, Write as _};
use std::path::Path;

use super::shapes::{Shape, shapes};
use crate::commands::named_file::existing;
use crate::config::{Config, FeedConfig};
use crate::sqlite::changes::ChangeLog;
use crate::sqlite::table::{Column, Exposed};

/// Prints the interfaces.
///
/// # Errors
/// There is no database that can be read, or no feed in it.
pub fn types(named: bool, config: &Config) -> anyhow::Result<()> {
    if named {
        existing(&config.database)?;
    }
    let found = shapes(config)?;
    found.refuse_none(config)?;
    let text = text(&config.database, &found.feeds);
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

fn text(database: &Path, shapes: &[Shape]) -> String {
    let file = database.file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!(
        "// The rows of {}, as walcast sends them. Made by `walcast types`.\n\
         // Integers beyond \u{b1}(2^53 - 1) and infinite numbers come as strings, blobs as base64. A column without a type,\n\
         // or of a type that SQLite does not keep its values to, may hold numbers and texts.\n",
        comment(&file)
    );
    let mut names: Vec<String> = Vec::new();
    for shape in shapes {
        let name = free_name(&type_name(&shape.feed.name), &mut names);
        text.push_str(&interfaces(&name, shape));
    }
    text
}

/// A name whose interfaces are none of those there are, numbered where it has to be. A second of one name would be taken
/// for more of the first.
fn free_name(name: &str, taken: &mut Vec<String>) -> String {
    let mut numbered = name.to_owned();
    for number in 2.. {
        let of_feed = ["", "Change", "Message"].map(|end| format!("{numbered}{end}"));
        if of_feed.iter().all(|name| !taken.contains(name)) {
            taken.extend(of_feed);
            break;
        }
        numbered = format!("{name}{number}");
    }
    numbered
}

fn interfaces(name: &str, shape: &Shape) -> String {
    let mut text = format!(
        "\n/** A row of the feed {}, from the table {}. */\nexport interface {name} {{\n",
        shape.feed.name,
        comment(shape.schema.shown().0)
    );
    for exposed in &shape.schema.exposed {
        let (_, columns) = shape.schema.shown();
        if let Some(column) = columns.iter().find(|column| column.name == exposed.name) {
            let kind = value_type(column, exposed, shape);
            text.push_str(&format!("  {}: {kind};\n", property(&column.name)));
        }
    }
    let feed = &shape.feed;
    if let Some(changes) = &shape.schema.changes {
        text.push_str("}\n");
        text.push_str(&change_interfaces(name, feed, changes));
        return text;
    }
    text.push_str(&format!(
        "}}\n\n/** What the feed {} sends for each row. */\nexport interface {name}Message {{\n  type: {};\n  {}: {name};\n  \
         /** Columns whose value was cut, for the row was too large. */\n  truncated?: string[];\n}}\n",
        feed.name,
        string(&feed.message_type),
        property(&feed.message_body)
    ));
    text
}

/// What a feed of changes sends.
fn change_interfaces(name: &str, feed: &FeedConfig, changes: &ChangeLog) -> String {
    let key = changes.key.iter().map(|column| string(column));
    let key = format!("Pick<{name}, {}>", key.collect::<Vec<_>>().join(" | "));
    let before = match changes.is_full {
        true => format!("\n  /** The row before the change. */\n  before?: {name};"),
        false => String::new(),
    };
    format!(
        "\n/** A change of a row of the feed {}. */\nexport interface {name}Change {{\n  /** Its position; none of a row of the \
         snapshot. */\n  seq?: number;\n  op: \"c\" | \"u\" | \"d\" | \"r\";\n  at?: string | null;\n  key: {key};\n  \
         /** The key before the change, where that was another. */\n  old_key?: {key};\n  /** The row is there, but none of \
         this subscriber's any more. */\n  left?: true;\n  after?: {name};{before}\n}}\n\n/** What the feed {} sends for each \
         change. */\nexport interface {name}Message {{\n  type: {};\n  {}: {name}Change;\n  /** Columns whose value was cut, \
         for the row was too large. */\n  truncated?: string[];\n}}\n",
        feed.name,
        feed.name,
        string(&feed.message_type),
        property(&feed.message_body)
    )
}

/// What a column's values are in JSON.
fn value_type(column: &Column, exposed: &Exposed, shape: &Shape) -> String {
    if exposed.json {
        return "unknown".to_owned();
    }
    let changes = shape.schema.changes.as_ref();
    let is_key = changes.is_none() && column.name == shape.schema.table.key_name();
    let kind = match affinity(&column.declared, shape.strict) {
        // Rows without an integer there are none of the feed's.
        _ if is_key => "number",
        Affinity::Number => "number",
        Affinity::Text => "string",
        Affinity::Any => "number | string",
    };
    // Nor are those of a captured table whose key holds NULL, as SQLite lets it.
    let is_part_of_key = changes.is_some_and(|changes| changes.key.contains(&column.name));
    match column.not_null || column.rowid || is_key || is_part_of_key {
        true => kind.to_owned(),
        false => format!("{kind} | null"),
    }
}

enum Affinity {
    Number,
    Text,
    Any,
}

/// SQLite's rules for a declared type, in their order: <https://sqlite.org/datatype3.html#determination_of_column_affinity>.
/// A text column holds texts and blobs, which are both strings here.
fn affinity(declared: &str, strict: bool) -> Affinity {
    let holds = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    match () {
        () if holds(&["INT"]) => Affinity::Number,
        () if holds(&["CHAR", "CLOB", "TEXT"]) => Affinity::Text,
        () if strict && declared == "BLOB" => Affinity::Text,
        () if holds(&["REAL", "FLOA", "DOUB"]) => Affinity::Number,
        () => Affinity::Any,
    }
}

/// A feed's name in the letters of a type.
fn type_name(feed: &str) -> String {
    let parts = feed.split(['_', '-']).filter(|part| !part.is_empty());
    let name: String = parts
        .map(|part| {
            let (first, rest) = part.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect();
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => name,
        false => format!("Feed{name}"),
    }
}

fn property(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let is_plain = name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    match is_plain && !name.is_empty() {
        true => name.to_owned(),
        false => string(name),
    }
}

/// A string literal: those of JSON are some of TypeScript's.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Text that ends no comment.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .replace("*/", "* /")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_feeds_share_an_interface() {
        let mut taken = Vec::new();
        let feeds = [
            "Orders",
            "Orders",
            "OrdersMessage",
            "LinesChange",
            "Lines",
            "Orders2",
        ];
        let named = feeds.map(|name| free_name(name, &mut taken));
        let wanted = [
            "Orders",
            "Orders2",
            "OrdersMessage2",
            "LinesChange",
            "Lines2",
            "Orders22",
        ];
        assert_eq!(named, wanted);
    }

    #[test]
    fn names_of_types_and_properties_are_valid() {
        for (feed, name) in [
            ("orders", "Orders"),
            ("order_lines-x", "OrderLinesX"),
            ("_own", "Own"),
            ("2024", "Feed2024"),
            ("_", "Feed"),
        ] {
            assert_eq!(type_name(feed), name);
        }
        assert_eq!(property("id"), "id");
        assert_eq!(property("2x"), "\"2x\"");
        assert_eq!(property("a \"b\""), "\"a \\\"b\\\"\"");
        assert_eq!(comment("a*/b\n"), "a* /b ");
    }
}
