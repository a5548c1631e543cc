//! Which column gives a table's rows their position, and what to do where none does.

use rusqlite::Connection;

use super::{Column, TableError, listed, nearest_column};
use crate::config::{CaptureMode, CaptureRules};
use crate::sqlite::capture::public_install_command;

pub(super) fn sole_primary_key(columns: &[Column]) -> Option<usize> {
    let mut keys = (0..columns.len()).filter(|&index| columns[index].primary_key);
    let first = keys.next();
    first.filter(|_| keys.next().is_none())
}

pub(super) fn integer_primary_key(
    connection: &Connection,
    table: &str,
    columns: &[Column],
) -> Result<usize, TableError> {
    match sole_primary_key(columns) {
        Some(index) if columns[index].is_integer() => Ok(index),
        _ => {
            let remedy = key_remedy(connection, table, columns)?;
            Err(TableError::Unfit(format!(
                "table {table} has no integer primary key, so its rows have no order to resume from; {remedy}"
            )))
        }
    }
}

/// What makes a table without an integer primary key a feed: the columns that would do, else what to declare.
fn key_remedy(
    connection: &Connection,
    table: &str,
    columns: &[Column],
) -> rusqlite::Result<String> {
    let mut fit = Vec::new();
    for column in columns.iter().filter(|c| c.is_integer() && c.not_null) {
        if is_unique(connection, table, column)? {
            fit.push(format!("`key = \"{}\"`", column.name));
        }
    }
    let declare = "declare one (`id INTEGER PRIMARY KEY AUTOINCREMENT`)";
    let remedy = match fit.as_slice() {
        [] if has_rowid(connection, table)? && rowid_name(columns).is_some() => format!(
            "{declare}, or name a unique integer column with `key`; `key = \"rowid\"` does too, as long as nobody runs \
             VACUUM, which may give every row another one"
        ),
        [] => format!("{declare} or name a unique integer column with `key`"),
        fit => format!("say {}, which is unique; or {declare}", fit.join(" or ")),
    };
    let capture = match columns.iter().any(|column| column.primary_key) {
        true => {
            let rules = CaptureRules::found(CaptureMode::Keys, Vec::new());
            let command = public_install_command(table, &rules);
            format!(
                "; changes are sent by whatever key, once they are captured: `{command}`, or capture = \"keys\""
            )
        }
        false => String::new(),
    };
    Ok(remedy + &capture)
}

/// Whether `key` means the rowid of a table in which no column is a name for it.
pub(super) fn is_hidden_rowid(
    connection: &Connection,
    table: &str,
    columns: &[Column],
    key: &str,
) -> rusqlite::Result<bool> {
    Ok(key.eq_ignore_ascii_case(ROWID)
        && rowid_name(columns).is_some()
        && columns.iter().all(|column| !column.rowid)
        && has_rowid(connection, table)?)
}

const ROWID: &str = "rowid";

/// What the rowid can be asked for by, unless a column has that name.
fn rowid_name(columns: &[Column]) -> Option<&'static str> {
    let taken = |column: &Column| column.name.eq_ignore_ascii_case(ROWID);
    (!columns.iter().any(taken)).then_some(ROWID)
}

pub(super) fn hidden_rowid() -> Column {
    Column {
        name: ROWID.to_owned(),
        declared: "INTEGER".to_owned(),
        not_null: true,
        has_default: true,
        generated: false,
        primary_key: false,
        rowid: true,
    }
}

fn has_rowid(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ?1 AND wr)",
        [table],
        |row| row.get(0),
    )
}

/// Whether no two rows share the column's value.
fn is_unique(connection: &Connection, table: &str, column: &Column) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1) AS list WHERE list.\"unique\" AND NOT list.partial
           AND (SELECT count(*) = 1 AND max(name) = ?2 FROM pragma_index_info(list.name)))",
        [table, &column.name],
        |row| row.get(0),
    )
}

/// Returns whether a column of this name mostly tells when its row was last changed.
fn is_time_of_change(column: &str) -> bool {
    let name = column.to_ascii_lowercase().replace('_', "");
    let words = [
        "updated",
        "modified",
        "changed",
        "lastupdate",
        "lastmodif",
        "mtime",
    ];
    words.iter().any(|word| name.contains(word))
}

/// A cursor column other than the primary key must still identify and order rows.
pub(super) fn named_key(
    connection: &Connection,
    table: &str,
    columns: &[Column],
    key: &str,
) -> Result<usize, TableError> {
    // Another name for the integer primary key, where no column has it.
    let rowid = || {
        let named = key.eq_ignore_ascii_case(ROWID);
        columns.iter().position(|column| named && column.rowid)
    };
    let index = columns
        .iter()
        .position(|c| c.name.eq_ignore_ascii_case(key))
        .or_else(rowid)
        .ok_or_else(|| {
            TableError::Unfit(format!(
                "key = \"{key}\": table {table} has no such column{}; it has {}",
                nearest_column(key, columns),
                listed(columns)
            ))
        })?;
    let column = &columns[index];
    if column.is_integer()
        && (sole_primary_key(columns) == Some(index) || is_unique(connection, table, column)?)
    {
        return Ok(index);
    }
    if is_time_of_change(&column.name) {
        return Err(TableError::Unfit(format!(
            "key = \"{key}\": a time of change is no position, and asking for what is newer than the last one seen loses rows \
             silently: transactions commit out of the order of their times, several rows share one, and a deleted row has none; \
             capture = \"keys\" sends updates and deletes as they are committed"
        )));
    }
    Err(TableError::Unfit(format!(
        "key = \"{key}\": column {table}.{} must be an INTEGER PRIMARY KEY or an integer column with a unique index of its own, \
         or rows could share a position; {}",
        column.name,
        key_remedy(connection, table, columns)?
    )))
}
