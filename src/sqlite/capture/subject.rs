//! What of a table is captured: its key, and the columns that are recorded.

use rusqlite::{Connection, OptionalExtension};

use crate::sqlite::capture::sql_words::default_value;
use crate::sqlite::capture::uniques::{Asked, Unique};
use crate::sqlite::capture::{CaptureMode, is_own};
use crate::sqlite::table::TableError;
use crate::text::nearest::did_you_mean;

/// The most columns that `full` is offered for: the log has two for each, and SQLite's bound for a table is 2,000.
const MOST_RECORDED: usize = 900;

/// A column whose values stand in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedColumn {
    pub name: String,
    /// Declared type, upper case; empty where none was given.
    pub declared: String,
}

impl CapturedColumn {
    /// Returns whether values of the column that SQLite holds to be equal, by their bytes, are of one type: 1 and 1.0 are
    /// equal, but only a column with a type makes one of the other.
    pub fn has_one_type(&self) -> bool {
        let declared = self.declared.as_str();
        let is_number_or_text = ["INT", "CHAR", "CLOB", "TEXT"];
        let is_number_or_text = is_number_or_text.iter().any(|part| declared.contains(part));
        is_number_or_text
            || !(declared.is_empty() || declared.contains("BLOB") || declared == "ANY")
    }
}

/// A table as its triggers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// As the file spells it.
    pub table: String,
    pub key: Vec<CapturedColumn>,
    /// Columns whose old and new values are recorded.
    pub filters: Vec<CapturedColumn>,
    /// Columns that `full` records; none in `keys`.
    pub recorded: Vec<CapturedColumn>,
    pub mode: CaptureMode,
    /// The constraints by which REPLACE could delete a row unseen.
    pub(super) uniques: Vec<Unique>,
}

/// A column of the table, and what of it the triggers depend on.
pub(super) struct TableColumn {
    pub(super) captured: CapturedColumn,
    /// Place in the primary key, from 1; 0 where it is no part of it.
    key_place: i64,
    /// Computed when it is read.
    is_virtual: bool,
    /// Computed, be it when it is read or when it is written.
    pub(super) is_generated: bool,
    /// SQL of what REPLACE puts where NULL may not stand.
    pub(super) put_for_null: Option<String>,
}

impl Subject {
    /// Looks the table up.
    ///
    /// # Errors
    /// There is no such table, it can't be captured in this way (says which line to change), or as SQLite has them.
    pub fn of(
        connection: &Connection,
        table: &str,
        mode: CaptureMode,
        filters: &[String],
    ) -> Result<Subject, TableError> {
        let table = table_name(connection, table)?;
        let columns = columns(connection, &table)?;
        let key = key(&table, &columns)?;
        refuse_own_cascade(connection, &table, mode, filters)?;
        let filters: Vec<CapturedColumn> = filters
            .iter()
            .map(|name| filter(&table, &columns, name))
            .collect::<Result<_, _>>()?;
        let recorded = match mode {
            CaptureMode::Keys => Vec::new(),
            CaptureMode::Full => recorded(&table, &columns)?,
        };
        let kept = filters.iter().chain(&recorded);
        let kept: Vec<&str> = kept.map(|column| column.name.as_str()).collect();
        let asked = Asked {
            table: &table,
            columns: &columns,
            key: &key,
            recorded: &kept,
        };
        let uniques = asked.uniques(connection)?;
        let key = key.iter().map(|column| column.captured.clone());
        Ok(Subject {
            key: key.collect(),
            table,
            filters,
            recorded,
            mode,
            uniques,
        })
    }
}

/// The table's name as the file spells it.
fn table_name(connection: &Connection, table: &str) -> Result<String, TableError> {
    let found: Option<(String, String)> = connection
        .query_row(
            "SELECT made.name, CASE made.type WHEN 'table' THEN coalesce((SELECT list.type FROM pragma_table_list AS list
                    WHERE list.schema = 'main' AND list.name = made.name), 'table') ELSE made.type END
               FROM sqlite_schema AS made WHERE made.name = ?1 COLLATE NOCASE AND made.type IN ('table', 'view')",
            [table],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let (name, kind) = found.ok_or(TableError::Missing)?;
    match kind.as_str() {
        "table" if is_own(&name) => Err(TableError::Unfit(format!(
            "{name} is walcast's own; name the table whose changes it holds"
        ))),
        "table" => Ok(name),
        "view" => Err(TableError::Unfit(format!(
            "{name} is a view, and SQLite fires no trigger when its rows change; capture the tables it is made of"
        ))),
        _ => Err(TableError::Unfit(format!(
            "{name} is a {kind} table, on which SQLite allows no triggers; capture the table its content comes from"
        ))),
    }
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<TableColumn>> {
    connection
        .prepare("SELECT name, upper(type), pk, hidden, CASE WHEN \"notnull\" THEN dflt_value END FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid")?
        .query_map([table], |row| {
            Ok(TableColumn {
                captured: CapturedColumn {
                    name: row.get(0)?,
                    declared: row.get(1)?,
                },
                key_place: row.get(2)?,
                is_virtual: row.get::<_, i64>(3)? == 2,
                is_generated: row.get::<_, i64>(3)? > 1,
                put_for_null: row.get::<_, Option<String>>(4)?.as_deref().map(default_value),
            })
        })?
        .collect()
}

fn key<'c>(table: &str, columns: &'c [TableColumn]) -> Result<Vec<&'c TableColumn>, TableError> {
    let mut key: Vec<&TableColumn> = columns.iter().filter(|c| c.key_place > 0).collect();
    key.sort_by_key(|column| column.key_place);
    match key.is_empty() {
        false => Ok(key),
        true => Err(TableError::Unfit(format!(
            "table {table} has no primary key, so nobody could tell which of its rows changed; declare one (`id INTEGER \
             PRIMARY KEY`, or PRIMARY KEY on the columns that tell its rows apart)"
        ))),
    }
}

fn filter(table: &str, columns: &[TableColumn], name: &str) -> Result<CapturedColumn, TableError> {
    let mut named = columns.iter();
    let named = named.find(|column| column.captured.name.eq_ignore_ascii_case(name));
    match named {
        Some(column) if column.is_virtual => Err(TableError::Unfit(format!(
            "column {table}.{name} is generated when it is read, and computing it in a trigger could fail what its writer \
             does; declare it STORED, or filter on the columns it is made of"
        ))),
        Some(column) => Ok(column.captured.clone()),
        None => {
            let names: Vec<&str> = columns.iter().map(|c| c.captured.name.as_str()).collect();
            Err(TableError::Unfit(format!(
                "table {table} has no column {name} to be recorded for filters{}; it has {}",
                did_you_mean(name, names.iter().copied()),
                names.join(", ")
            )))
        }
    }
}

/// A row that references itself is changed by `ON UPDATE CASCADE` before the triggers of the update that brings it about fire: they
/// would log what it was in between, after what it is.
fn refuse_own_cascade(
    connection: &Connection,
    table: &str,
    mode: CaptureMode,
    filters: &[String],
) -> Result<(), TableError> {
    let columns: Vec<String> = connection
        .prepare(
            "SELECT \"from\" FROM pragma_foreign_key_list(?1) WHERE \"table\" = ?1 COLLATE NOCASE
               AND on_update NOT IN ('NO ACTION', 'RESTRICT')",
        )?
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let is_recorded = |column: &&String| {
        let mut filters = filters.iter();
        mode == CaptureMode::Full || filters.any(|filter| filter.eq_ignore_ascii_case(column))
    };
    match columns.iter().find(is_recorded) {
        None => Ok(()),
        Some(column) => Err(TableError::Unfit(format!(
            "{table}.{column} references {table} itself and changes with what it references (ON UPDATE): of a row that references              itself no trigger sees the last value; capture \"keys\", without {column} among the filters"
        ))),
    }
}

/// All columns but those that are computed when they are read: to compute one can fail, and with it what the writer does.
fn recorded(table: &str, columns: &[TableColumn]) -> Result<Vec<CapturedColumn>, TableError> {
    let recorded = columns.iter().filter(|column| !column.is_virtual);
    let recorded: Vec<_> = recorded.map(|column| column.captured.clone()).collect();
    match recorded.len() {
        ..=MOST_RECORDED => Ok(recorded),
        many => Err(TableError::Unfit(format!(
            "table {table} has {many} columns, more than the {MOST_RECORDED} that \"full\" records; capture \"keys\""
        ))),
    }
}
