//! A table as one feed shows it: which of its columns leave, and how.

use std::sync::Arc;

use rusqlite::Connection;

use super::{Column, Table, TableError, listed, nearest_column};
use crate::config::FeedConfig;
use crate::model::filter::{FilterColumn, quote_identifier};
use crate::sqlite::changes::{ChangeLog, captured};
use crate::sqlite::open::schema_version;

/// A table as one feed shows it: which columns leave, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Of the file's schema this was read from. Where it is another by now, the table may be, too.
    pub version: i64,
    pub table: Table,
    /// Exposed columns in table order. The key is always among them: without it nobody could resume.
    pub exposed: Vec<Exposed>,
    /// Place of the key in `exposed`. A change has its key beside them, and this says nothing of it.
    pub key_place: usize,
    /// Columns that are not shown, but that scopes compare.
    pub hidden: Vec<String>,
    /// What `table` tells of another table, of which it is the log of changes; `None` where its own rows are the feed's.
    pub changes: Option<ChangeLog>,
    /// Where rows that clients send go, of a feed of changes that takes them and whose table can; else where they come
    /// from.
    pub written: Option<Arc<Schema>>,
}

/// One exposed column.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposed {
    pub name: String,
    /// Embed text that is valid JSON as JSON.
    pub json: bool,
    /// Cut text to so many code points.
    pub truncate: Option<usize>,
}

impl Schema {
    /// Introspects the feed's table and applies the feed's choice of columns.
    pub fn of_feed(connection: &Connection, feed: &FeedConfig) -> Result<Schema, TableError> {
        // Asked first: what is read after it is no older.
        let version = schema_version(connection)?;
        match captured(connection, feed)? {
            Some((log, changes)) => Schema::of_changes(connection, feed, (version, &log), changes),
            None => Schema::of_rows(connection, feed),
        }
    }

    /// The same of the table itself, also where its feed is one of changes.
    ///
    /// # Errors
    /// There is no such table, it can't be a feed, or it can't be read.
    pub fn of_rows(connection: &Connection, feed: &FeedConfig) -> Result<Schema, TableError> {
        let version = schema_version(connection)?;
        let table = Table::introspect(connection, &feed.table, feed.key.as_deref())?;
        check_columns((&table.name, &table.columns), feed)?;
        let exposed = exposed_columns(&table.columns, feed, |index| index == table.key);
        let hidden = hidden_columns(&exposed, feed);
        let key_place = exposed
            .iter()
            .position(|e| e.name == table.key_name())
            .ok_or_else(|| {
                TableError::Unfit(format!(
                    "table {}: the key is not among its columns",
                    table.name
                ))
            })?;
        Ok(Schema {
            version,
            table,
            exposed,
            key_place,
            hidden,
            changes: None,
            written: None,
        })
    }

    /// The log of a captured table.
    fn of_changes(
        connection: &Connection,
        feed: &FeedConfig,
        (version, log): (i64, &str),
        changes: ChangeLog,
    ) -> Result<Schema, TableError> {
        check_columns((&changes.table, &changes.columns), feed)?;
        check_scope(&changes, feed)?;
        let is_key = |index: usize| changes.is_key(&changes.columns[index].name);
        let written = match feed.ingest {
            // Without an integer key it takes no rows, which does not keep its changes from being sent.
            true => Schema::of_rows(connection, feed).ok(),
            false => None,
        };
        let exposed = exposed_columns(&changes.columns, feed, is_key);
        Ok(Schema {
            version,
            table: Table::introspect(connection, log, None)?,
            key_place: 0,
            exposed,
            hidden: Vec::new(),
            changes: Some(changes),
            written: written.map(Arc::new),
        })
    }

    /// Returns where a row has the exposed column of exactly this name.
    pub fn place(&self, column: &str) -> Option<usize> {
        self.exposed.iter().position(|e| e.name == column)
    }

    /// Returns the columns that can be asked for in a filter.
    pub fn filterable(&self) -> Vec<&str> {
        let mut names = self.column_names();
        names.retain(|name| self.place_of(FilterColumn::Asked(name)).is_some());
        names
    }

    /// Returns where a row has the column; `None` where the column is gone, or may not be asked for.
    pub fn place_of(&self, column: FilterColumn<'_>) -> Option<usize> {
        if let Some(changes) = &self.changes {
            return self.recorded_place(changes, column);
        }
        let name = match column {
            FilterColumn::Asked(name) => return self.place(name),
            FilterColumn::Scope(name) => name,
        };
        let shown = self.exposed.iter();
        shown
            .map(|exposed| &exposed.name)
            .position(|shown| shown.eq_ignore_ascii_case(name))
            .or_else(|| {
                let hidden = self.hidden.iter();
                let found = hidden
                    .map(String::as_str)
                    .position(|hidden| hidden.eq_ignore_ascii_case(name));
                // As `select_list` has them.
                let embedded = self.exposed.iter().filter(|e| e.json).count();
                found.map(|index| self.exposed.len() + embedded + index)
            })
    }

    /// Where a change has the column, of those that are recorded. What is not shown may not be asked for.
    fn recorded_place(&self, changes: &ChangeLog, column: FilterColumn<'_>) -> Option<usize> {
        let mut recorded = changes.recorded.iter();
        match column {
            FilterColumn::Asked(name) => {
                self.place(name)?;
                recorded.position(|known| known.name == name)
            }
            FilterColumn::Scope(name) => {
                recorded.position(|known| known.name.eq_ignore_ascii_case(name))
            }
        }
    }

    /// Returns the table whose rows clients see, as its name and columns: the captured one where the feed is of changes.
    pub fn shown(&self) -> (&str, &[Column]) {
        match &self.changes {
            Some(changes) => (&changes.table, &changes.columns),
            None => (&self.table.name, &self.table.columns),
        }
    }

    /// Returns what tells this table's history from others of the file: its name and, of changes, the stretch of time in
    /// which none was missed.
    pub fn history_name(&self) -> String {
        match &self.changes {
            Some(log) => format!("{}:{}", self.table.name, log.generation),
            None => self.table.name.clone(),
        }
    }

    /// The exposed columns, in table order.
    pub fn column_names(&self) -> Vec<&str> {
        self.exposed.iter().map(|e| e.name.as_str()).collect()
    }

    /// Returns the exposed columns and their declared types, upper case and empty where none was given.
    pub fn declared_types(&self) -> impl Iterator<Item = (&str, &str)> {
        let declared = |name: &str| self.shown().1.iter().find(|c| c.name == name);
        self.exposed.iter().map(move |e| {
            (
                e.name.as_str(),
                declared(&e.name).map_or("", |c| &c.declared),
            )
        })
    }

    /// SQL that lists the exposed columns; then, for each that is embedded as JSON, a text where its value is JSONB (a
    /// blob, since SQLite 3.45) of at most `longest` bytes, else NULL; and then the columns that only scopes look at.
    pub fn select_list(&self, longest: usize) -> String {
        let names = self.exposed.iter().map(|e| quote_identifier(&e.name));
        let embedded = self.exposed.iter().filter(|e| e.json);
        let embedded = embedded.map(|e| jsonb_text(&quote_identifier(&e.name), longest));
        let hidden = self.hidden.iter().map(|name| quote_identifier(name));
        let all = names.chain(embedded).chain(hidden);
        all.collect::<Vec<_>>().join(", ")
    }
}

/// SQL for the text of a value that is JSONB of at most `longest` bytes; NULL for any other.
pub fn jsonb_text(value: &str, longest: usize) -> String {
    // 8: strictly JSONB (json_valid in SQLite's documentation); json() would fail for other blobs.
    format!(
        "CASE WHEN typeof({value}) = 'blob' AND length({value}) <= {longest} AND json_valid({value}, 8) THEN json({value}) END"
    )
}

/// Every column that the feed names must be there.
fn check_columns((table, columns): (&str, &[Column]), feed: &FeedConfig) -> Result<(), TableError> {
    let there: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    let mut named = [
        ("columns", feed.columns.as_deref().unwrap_or_default()),
        ("exclude", &feed.exclude),
        ("json", &feed.json),
        ("scope", &feed.scope_columns),
    ]
    .into_iter()
    .flat_map(|(key, names)| names.iter().map(move |name| (key, name)));
    match named.find(|(_, name)| !holds(&there, name)) {
        Some((key, unknown)) => Err(TableError::Unfit(format!(
            "{}: table {table} has no column {unknown}{}; it has {}",
            match key == "scope" && !feed.scope.compares(unknown) {
                true => "auth.anonymous".to_owned(),
                false => format!("feeds.{}.{key}", feed.name),
            },
            nearest_column(unknown, columns),
            listed(columns)
        ))),
        None => Ok(()),
    }
}

/// By what a scope compares, a change must be recorded: else nobody knows whose it is.
fn check_scope(changes: &ChangeLog, feed: &FeedConfig) -> Result<(), TableError> {
    let is_recorded = |name: &str| {
        let mut recorded = changes.recorded.iter();
        recorded.any(|known| known.name.eq_ignore_ascii_case(name))
    };
    let mut columns = feed.scope_columns.iter();
    match columns.find(|name| !is_recorded(name)) {
        Some(column) => Err(TableError::Unfit(format!(
            "feeds.{}.scope: the capture of table {} does not record the column {column}, so nobody knows whose a change \
             is; add it to `capture_filters`, or run `{}`",
            feed.name,
            changes.table,
            changes.recording_command(column)
        ))),
        None => Ok(()),
    }
}

/// The feed's choice of columns, in the table's order; the key is always among them.
fn exposed_columns(
    columns: &[Column],
    feed: &FeedConfig,
    is_key: impl Fn(usize) -> bool,
) -> Vec<Exposed> {
    let is_chosen = |name: &str| {
        let named = feed.columns.as_ref();
        named.is_none_or(|names| holds(names, name)) && !holds(&feed.exclude, name)
    };
    let columns = columns.iter().enumerate();
    columns
        .filter(|(index, column)| is_key(*index) || is_chosen(&column.name))
        .map(|(_, column)| Exposed {
            name: column.name.clone(),
            json: holds(&feed.json, &column.name),
            truncate: feed
                .truncate
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(&column.name))
                .map(|(_, n)| *n),
        })
        .collect()
}

/// The columns that scopes compare and that are not shown.
fn hidden_columns(exposed: &[Exposed], feed: &FeedConfig) -> Vec<String> {
    let is_shown = |name: &String| exposed.iter().any(|e| e.name.eq_ignore_ascii_case(name));
    let columns = feed.scope_columns.iter();
    columns.filter(|name| !is_shown(name)).cloned().collect()
}

/// Returns whether a column is among these; SQLite does not tell names apart by case.
fn holds(names: &[String], column: &str) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(column))
}
