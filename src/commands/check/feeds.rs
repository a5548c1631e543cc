//! What each feed finds in the file.

use rusqlite::Connection;

use super::report::Report;
use super::{DatabasePlace, captures, indexes, sinks};
use crate::config::{Config, FeedConfig};
use crate::model::filter::quote_identifier;
use crate::model::position::Cursor;
use crate::sqlite::capture::with_file_named;
use crate::sqlite::error::Unavailable;
use crate::sqlite::identity_store::IdentityFiles;
use crate::sqlite::stock_table::tables;
use crate::sqlite::table::{Schema, TableError, nearest_column};
use crate::text::nearest::nearest;

/// Rows are counted up to this; a count of all would read the whole table.
const COUNTED: i64 = 10_000;

/// Reports the feeds of a file that is not there yet.
pub(super) fn expect(config: &Config, report: &mut Report) {
    for feed in &config.feeds {
        report.note(&label(feed), missing(feed, &[]));
    }
}

/// Reports the feeds of an open file.
pub(super) fn look(
    config: &Config,
    place: &DatabasePlace,
    connection: &Connection,
    report: &mut Report,
) {
    for feed in &config.feeds {
        let label = label(feed);
        match Schema::of_feed(connection, feed) {
            Ok(schema) => match found(connection, &schema) {
                Ok(lines) => {
                    report.ok_lines(&label, &lines);
                    cut_columns(feed, &label, &schema, report);
                    sinks::columns(config, feed, &schema, report);
                    // The log of changes is as walcast made it.
                    if schema.changes.is_none() {
                        without_autoincrement(&label, &schema, report);
                        highest_id(connection, &label, &schema, report);
                        // What it could not look at is no fault of the feed's.
                        let _ = indexes::suggest(&label, connection, &schema, report);
                    }
                    history(config, feed, &label, report);
                }
                Err(e) => {
                    let reason = Unavailable::of_table(&e, &schema.table.name);
                    report.problem(&label, reason.to_string(), &[]);
                }
            },
            Err(TableError::Missing) => {
                let others = tables(connection).unwrap_or_default();
                let text = missing(feed, &others);
                match nearest(&feed.table, others.iter().map(String::as_str)) {
                    Some(table) => {
                        let step =
                            format!("did you mean the table {table}? then say table = {table:?}");
                        report.warn(&label, text, &[step]);
                    }
                    None => report.note(&label, text),
                }
            }
            Err(TableError::Unfit(_)) if captures::awaits(connection, feed) => {
                report.note(&label, "served once the table is captured".to_owned());
            }
            Err(TableError::Unfit(reason)) => {
                let reason = with_file_named(&reason, &config.database);
                report.problem(&label, reason, &[]);
            }
            Err(TableError::Sqlite(e)) => {
                report.problem(
                    &label,
                    Unavailable::from_sqlite(&e, &place.real).to_string(),
                    &[],
                );
            }
        }
    }
}

/// A name in `truncate` that is no column cuts nothing, and says nothing of it. What the stock feed cuts by itself need
/// not be there.
fn cut_columns(feed: &FeedConfig, label: &str, schema: &Schema, report: &mut Report) {
    if feed.truncate == FeedConfig::stock().truncate {
        return;
    }
    let (table, columns) = schema.shown();
    for (name, _) in &feed.truncate {
        if !columns.iter().any(|column| column.name == *name) {
            let near = nearest_column(name, columns);
            let text = format!("truncate cuts {name}, which is no column of table {table}{near}");
            report.warn(label, text, &[]);
        }
    }
}

fn label(feed: &FeedConfig) -> String {
    format!("feed {}", feed.name)
}

/// What becomes of a feed whose table is not there; `others` are.
fn missing(feed: &FeedConfig, others: &[String]) -> String {
    let table = &feed.table;
    match others {
        [] if feed.create => format!("table {table} does not exist yet; walcast creates it"),
        [] => {
            format!("table {table} does not exist yet; it is served as soon as a writer creates it")
        }
        others => format!(
            "table {table} does not exist yet; it is served as soon as a writer creates it (walcast creates nothing in a file \
             with tables of others; there are {})",
            others.join(", ")
        ),
    }
}

/// The table, and its columns.
fn found(connection: &Connection, schema: &Schema) -> rusqlite::Result<[String; 2]> {
    let table = &schema.table;
    let (shown, columns) = schema.shown();
    // What only its writer's process can compute shows when it is read.
    connection
        .prepare(&format!(
            "SELECT {} FROM {} LIMIT 1",
            schema.select_list(1),
            quote_identifier(shown)
        ))?
        .query([])?
        .next()?;
    let rows: i64 = connection.query_row(
        &format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {})",
            quote_identifier(&table.name),
            COUNTED + 1
        ),
        [],
        |row| row.get(0),
    )?;
    let rows = match (rows, table.min_key(connection)?, table.max_key(connection)?) {
        (0, ..) => "no rows".to_owned(),
        (rows, Some(lowest), Some(highest)) => {
            let count = match rows {
                1 => "1 row".to_owned(),
                2..=COUNTED => format!("{rows} rows"),
                _ => format!("more than {COUNTED} rows"),
            };
            match lowest == highest {
                true => format!("{count}, id {lowest}"),
                false => format!("{count}, ids {lowest} to {highest}"),
            }
        }
        (1, ..) => "1 row, without an id".to_owned(),
        (rows, ..) => format!("{rows} rows, none of them with an id"),
    };
    let head = table.highest(connection)?.unwrap_or(0);
    let columns = columns.iter().map(|column| {
        let hidden = if schema.place(&column.name).is_none() {
            " (not exposed)"
        } else {
            ""
        };
        format!("{} {}{hidden}", column.name, column.declared)
            .trim_end()
            .to_owned()
    });
    let given = if table.autoincrement {
        ", AUTOINCREMENT"
    } else {
        ""
    };
    let what = match &schema.changes {
        Some(log) => format!(
            "changes of table {shown} by {}, in {}",
            log.key.join(", "),
            table.name
        ),
        None => format!("table {shown}"),
    };
    Ok([
        format!(
            "{what}, key {}{given}, head {head}, {rows}",
            table.key_name()
        ),
        columns.collect::<Vec<_>>().join(", "),
    ])
}

fn without_autoincrement(label: &str, schema: &Schema, report: &mut Report) {
    if schema.table.is_key_unstable() {
        let text = format!(
            "the rowid of {} is no column of it: VACUUM may give every row another id",
            schema.table.name
        );
        let declare = "declare an INTEGER PRIMARY KEY, or never run VACUUM".to_owned();
        report.warn(label, text, &[declare]);
    }
    if schema.table.autoincrement {
        return;
    }
    let (table, key) = (&schema.table.name, schema.table.key_name());
    let text = format!(
        "{table} has no AUTOINCREMENT: when its newest row is deleted, the next row gets the same id again, and \
         subscribers that have seen that id may miss it"
    );
    let declare = format!(
        "harmless where rows are never deleted; else declare {key} INTEGER PRIMARY KEY AUTOINCREMENT"
    );
    report.warn(label, text, &[declare]);
}

/// Above the largest id there can be, SQLite gives others at random, or none with AUTOINCREMENT.
fn highest_id(connection: &Connection, label: &str, schema: &Schema, report: &mut Report) {
    let table = &schema.table;
    // What can't be read was said before.
    if !matches!(table.highest(connection), Ok(Some(i64::MAX))) {
        return;
    }
    let next = match table.autoincrement {
        true => "SQLite refuses further rows",
        false => "SQLite gives further rows ids at random, and each makes subscribers start over",
    };
    let text = format!(
        "the highest id of {} is the largest there can be: {next}",
        table.name
    );
    let mend = format!("delete the row whose {} is {}", table.key_name(), i64::MAX);
    report.warn(label, text, &[mend]);
}

fn history(config: &Config, feed: &FeedConfig, label: &str, report: &mut Report) {
    let Some(directory) = &config.state_dir else {
        return;
    };
    match IdentityFiles::new(directory, &config.database, &feed.name).load() {
        Ok(Some(known)) if known.table == feed.table => {
            let head = Cursor(known.head);
            report.ok(
                label,
                format!("history {} is known up to head {head}", known.epoch),
            );
        }
        Ok(_) => report.note(
            label,
            "its history is not known yet; the first start makes it known",
        ),
        Err(e) => {
            let mend = "let this user read the files in the state directory".to_owned();
            report.warn(
                label,
                format!("what is known of its history can't be read ({e})"),
                &[mend],
            );
        }
    }
}
