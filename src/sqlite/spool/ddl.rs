//! The tables of a spool, made after those of an origin.

use crate::model::filter::quote_identifier;
use crate::sqlite::whole_row::{DescribedChanges, DescribedColumn, TableDescription};

/// The table that says what each feed is.
pub(super) fn states() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (feed TEXT PRIMARY KEY, description TEXT NOT NULL, epoch TEXT NOT NULL, head INTEGER,
            generation INTEGER NOT NULL, is_whole INTEGER NOT NULL, is_removed INTEGER NOT NULL DEFAULT 0, reason TEXT) WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS {} (feed TEXT NOT NULL, at INTEGER NOT NULL, head INTEGER NOT NULL,
            PRIMARY KEY (feed, at)) WITHOUT ROWID",
        super::STATES,
        super::prune::MARKS
    )
}

/// What is added to a spool of an earlier version.
pub(super) fn add_reason() -> String {
    format!("ALTER TABLE {} ADD COLUMN reason TEXT", super::STATES)
}

/// The table as the origin has it: names and declared types, and nothing that could refuse a row. Of a captured one its log
/// too.
pub(super) fn create(table: &TableDescription) -> String {
    let columns = table.columns.iter().map(|column| match &table.changes {
        Some(changes) => keyed(column, changes),
        // By any other type the key would not be the rowid; declared so it is an index of its own.
        None if column.name.eq_ignore_ascii_case(&table.key) => {
            format!("{} PRIMARY KEY", declaration(column))
        }
        None => declaration(column),
    });
    let mut columns: Vec<String> = columns.collect();
    let changes = table.changes.as_ref();
    if let Some(changes) = changes.filter(|changes| !changes.rowid) {
        // Of a sole column that is an INTEGER a primary key would be the rowid, which this one need not be.
        let key = changes.key.iter().map(|key| quote_identifier(&key.name));
        let key: Vec<String> = key.collect();
        columns.push(format!("UNIQUE ({})", key.join(", ")));
    }
    let strict = if table.strict { " STRICT" } else { "" };
    format!(
        "CREATE TABLE {} ({}){strict}; {}",
        quote_identifier(&table.table),
        columns.join(", "),
        create_log(table).unwrap_or_default()
    )
}

/// A column of a captured table. Those of the key are compared as they are at the origin.
fn keyed(column: &DescribedColumn, changes: &DescribedChanges) -> String {
    let declared = declaration(column);
    let mut key = changes.key.iter();
    match key.find(|key| key.name.eq_ignore_ascii_case(&column.name)) {
        Some(key) => {
            let rowid = if changes.rowid { " PRIMARY KEY" } else { "" };
            let collation = quote_identifier(&key.collation);
            format!("{declared}{rowid} COLLATE {collation}")
        }
        None => declared,
    }
}

/// The log of a captured table, whose columns have the types that they have at the origin.
fn create_log(table: &TableDescription) -> Option<String> {
    let (name, columns) = (table.log_table()?, table.log_columns()?);
    let columns = columns.names.iter().map(|name| match name.as_str() {
        "seq" => "seq INTEGER PRIMARY KEY".to_owned(),
        "op" => "op TEXT".to_owned(),
        "at" => "at REAL".to_owned(),
        "moved" => "moved INTEGER".to_owned(),
        name => quote_identifier(name),
    });
    let columns: Vec<String> = columns.collect();
    let name = quote_identifier(&name);
    Some(format!("CREATE TABLE {name} ({})", columns.join(", ")))
}

/// Takes a change into the log; `None` where there is none.
pub(super) fn insert_change(table: &TableDescription) -> Option<String> {
    let (name, columns) = (table.log_table()?, table.log_columns()?);
    let marks = vec!["?"; columns.names.len()].join(", ");
    let names = columns.names.iter().map(|name| quote_identifier(name));
    let names: Vec<String> = names.collect();
    let name = quote_identifier(&name);
    Some(format!(
        "INSERT OR REPLACE INTO {name} ({}) VALUES ({marks})",
        names.join(", ")
    ))
}

/// Deletes the row of exactly this key from a captured table; `None` where it is none.
pub(super) fn delete_by_key(table: &TableDescription) -> Option<String> {
    let key = table.changes.as_ref()?.key.iter().enumerate();
    let terms = key.map(|(place, key)| {
        let (name, place) = (quote_identifier(&key.name), place + 1);
        // Its index is asked by its own collation; what that takes for the same may be another row.
        format!("{name} = ?{place} AND {name} = ?{place} COLLATE BINARY")
    });
    let terms: Vec<String> = terms.collect();
    let name = quote_identifier(&table.table);
    Some(format!("DELETE FROM {name} WHERE {}", terms.join(" AND ")))
}

/// What is added for a column that came.
pub(super) fn add_column(table: &TableDescription, column: &DescribedColumn) -> String {
    let (table, declared) = (quote_identifier(&table.table), declaration(column));
    format!("ALTER TABLE {table} ADD COLUMN {declared}")
}

/// Takes a row in, whatever was there under its id.
pub(super) fn insert(table: &TableDescription) -> String {
    let names = table
        .columns
        .iter()
        .map(|column| quote_identifier(&column.name));
    let names: Vec<String> = names.collect();
    format!(
        "INSERT OR REPLACE INTO {} ({}) VALUES ({})",
        quote_identifier(&table.table),
        names.join(", "),
        vec!["?"; names.len()].join(", ")
    )
}

fn declaration(column: &DescribedColumn) -> String {
    format!(
        "{} {}",
        quote_identifier(&column.name),
        type_name(&column.declared)
    )
}

/// A declared type as SQL. What is no plain name, or could be read as more than a type, is quoted.
fn type_name(declared: &str) -> String {
    let (name, size) = match declared.split_once('(') {
        Some((name, size)) => (name.trim(), Some(size)),
        None => (declared, None),
    };
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !word.is_empty()
            && word.chars().all(plain)
            && !word.starts_with(|c: char| c.is_ascii_digit())
    };
    let is_size = |size: &str| {
        let number = |c: char| c.is_ascii_digit() || " ,+-.".contains(c);
        size.strip_suffix(')')
            .is_some_and(|size| size.chars().all(number))
    };
    let plain = name
        .split_whitespace()
        .all(|word| is_word(word) && !RESERVED.contains(&word));
    match size {
        None if plain => name.to_owned(),
        Some(size) if plain && is_size(size) => format!("{name}({size}"),
        _ => quote_identifier(declared),
    }
}

/// Words that would end a type where a column is declared.
const RESERVED: [&str; 11] = [
    "PRIMARY",
    "UNIQUE",
    "NOT",
    "NULL",
    "CHECK",
    "DEFAULT",
    "COLLATE",
    "REFERENCES",
    "GENERATED",
    "AS",
    "CONSTRAINT",
];

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_type_is_declared_as_it_was_whatever_it_says() {
        for declared in [
            "",
            "TEXT",
            "VARCHAR(20)",
            "DECIMAL(10, 2)",
            "DOUBLE PRECISION",
            "INT NOT NULL",
            "X); DROP TABLE T; --",
            "A\"B",
            "5",
        ] {
            let column = DescribedColumn {
                name: "a \"b\"".into(),
                declared: declared.into(),
                hidden: false,
            };
            let db = Connection::open_in_memory().unwrap();
            let sql = format!(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, {})",
                declaration(&column)
            );
            db.execute_batch(&sql).unwrap();
            let found: String = db
                .query_row(
                    "SELECT type FROM pragma_table_info('t') WHERE cid = 1",
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            assert_eq!(
                found.replace("\"\"", "\"").trim_matches('"'),
                declared.trim_matches('"'),
                "{sql}"
            );
        }
    }
}
