//! What a change feed reads: the log of a captured table's changes and, where that names only keys, the rows as they are.

mod captured;
mod change;
mod change_json;
mod layout;

use rusqlite::types::Value;

pub use captured::captured;
pub use change::{Change, Op, Wording};
pub use change_json::ChangeEncoder;
pub use layout::Layout;

use crate::config::{CaptureMode, CaptureRules};
use crate::model::filter::{Filter, FilterColumn, quote_identifier};
use crate::sqlite::capture::public_install_command;
use crate::sqlite::table::Column;

/// A captured table, and what its log records of each change.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeLog {
    /// The captured table's name.
    pub table: String,
    /// Its columns, in table order.
    pub columns: Vec<Column>,
    /// Names of the columns of its key.
    pub key: Vec<String>,
    /// SQL of the key's columns, as the primary key compares them.
    pub key_order: Vec<String>,
    /// Of each column of the key, the collation by which no two rows are the same.
    pub collations: Vec<String>,
    /// Whether the table is declared STRICT.
    pub strict: bool,
    /// The log has rows as they were before and after a change. Else it has keys, and rows are read as they are.
    pub is_full: bool,
    /// The columns that are recorded for filters, besides the key and what full records.
    filters: Vec<String>,
    /// Names the stretch of time in which no change was missed.
    pub generation: String,
    /// The columns whose values before and after a change are known, by which it can be decided whose a change is.
    pub recorded: Vec<RecordedColumn>,
}

/// A column whose values before and after each change are known, as SQL.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedColumn {
    pub name: String,
    pub old: String,
    pub new: String,
    /// Its value in the row as it is; `None` where the log alone tells.
    pub now: Option<String>,
}

/// The log in the SQL of a change feed.
const LOG: &str = "l";
/// The table in the SQL of a change feed.
const ROW: &str = "t";

/// A column of the log.
pub fn logged(column: &str) -> String {
    format!("{LOG}.{}", quote_identifier(column))
}

/// A column of the row as it is.
pub fn present(column: &str) -> String {
    format!("{ROW}.{}", quote_identifier(column))
}

impl ChangeLog {
    /// A captured table with its columns. `filters` are the columns that are recorded besides the key, in the log's order.
    pub fn new(
        table: String,
        columns: Vec<Column>,
        key: Vec<String>,
        (filters, is_full): (&[String], bool),
        generation: String,
    ) -> ChangeLog {
        let mut recorded: Vec<RecordedColumn> = Vec::new();
        let recorded_filters = filters.iter().enumerate().map(|(n, name)| RecordedColumn {
            name: name.clone(),
            old: logged(&format!("old_f{n}")),
            new: logged(&format!("new_f{n}")),
            now: (!is_full).then(|| present(name)),
        });
        let whole = columns
            .iter()
            .filter(|_| is_full)
            .map(|column| RecordedColumn {
                name: column.name.clone(),
                old: logged(&before(&column.name)),
                new: logged(&after(&column.name)),
                now: None,
            });
        let moved = logged("moved");
        let keys = key.iter().enumerate().map(|(n, name)| {
            let (old, new) = (logged(&format!("old_k{n}")), logged(&format!("k{n}")));
            RecordedColumn {
                name: name.clone(),
                old: format!("iif({moved}, {old}, {new})"),
                new,
                now: None,
            }
        });
        for column in recorded_filters.chain(whole).chain(keys) {
            let is_known = |known: &RecordedColumn| known.name.eq_ignore_ascii_case(&column.name);
            if !recorded.iter().any(is_known) {
                recorded.push(column);
            }
        }
        ChangeLog {
            table,
            columns,
            key_order: key.iter().map(|name| quote_identifier(name)).collect(),
            collations: vec!["BINARY".to_owned(); key.len()],
            strict: false,
            key,
            is_full,
            filters: filters.to_vec(),
            generation,
            recorded,
        }
    }

    /// Returns the columns that are recorded for filters, in the log's order.
    pub fn filters(&self) -> &[String] {
        &self.filters
    }

    /// Returns the command that has this column recorded, too.
    pub fn recording_command(&self, column: &str) -> String {
        let mode = match self.is_full {
            true => CaptureMode::Full,
            false => CaptureMode::Keys,
        };
        let mut filters = self.filters.clone();
        filters.push(column.to_owned());
        public_install_command(&self.table, &CaptureRules::found(mode, filters))
    }

    /// Returns whether the column is part of the key.
    pub fn is_key(&self, column: &str) -> bool {
        self.key.iter().any(|key| key.eq_ignore_ascii_case(column))
    }

    /// SQL of what is read: the log named `log` and, where it takes the rows as they are, the table. Both are asked by
    /// their keys alone.
    pub fn source(&self, log: &str) -> String {
        let log = format!("{} AS {LOG} NOT INDEXED", quote_identifier(log));
        if self.is_full {
            return log;
        }
        let keys = self.key.iter().enumerate().map(|(n, name)| {
            let (row, key) = (present(name), logged(&format!("k{n}")));
            // Its index is asked by the column's own collation. What that takes for the same may be another row.
            format!("{row} = {key} AND {row} = {key} COLLATE BINARY")
        });
        let keys: Vec<String> = keys.collect();
        let table = quote_identifier(&self.table);
        format!("{log} LEFT JOIN {table} AS {ROW} ON {}", keys.join(" AND "))
    }

    /// SQL for the log's own key.
    pub fn seq(&self) -> String {
        logged("seq")
    }

    /// SQL, to be joined with `AND`, that holds for changes that concern a subscriber with this filter, and its
    /// parameters: those of rows that it takes, or took before. Empty without a filter. `None` where a column that it
    /// looks at is not recorded, as `place` says.
    pub fn concerns(
        &self,
        filter: &Filter,
        place: impl Fn(FilterColumn<'_>) -> Option<usize>,
    ) -> Option<(String, Vec<Value>)> {
        if filter.is_empty() {
            return Some(Default::default());
        }
        let recorded = |column: FilterColumn<'_>| self.recorded.get(place(column)?);
        let new = filter.sql(|column| recorded(column).map(|known| known.new.clone()))?;
        let old = filter.sql(|column| recorded(column).map(|known| known.old.clone()))?;
        let (mut sql, mut params) = (format!("1{}", new.0), new.1);
        if !self.is_full {
            // What is sent is the row as it is now: it must be one that may be sent.
            let now = filter.sql(|column| {
                let known = recorded(column)?;
                Some(known.now.clone().unwrap_or_else(|| known.new.clone()))
            })?;
            let is_there = self.is_there();
            sql.push_str(&format!(" AND {is_there}{}", now.0));
            params.extend(now.1);
        }
        let op = logged("op");
        params.extend(old.1);
        let sql = format!(
            " AND (({op} <> 'd' AND {sql}) OR ({op} <> 'c' AND 1{}))",
            old.0
        );
        Some((sql, params))
    }

    /// SQL that holds where there is a row of the change's key.
    pub fn is_there(&self) -> String {
        // A key that was joined is not NULL.
        let key = self.key.first().map_or(String::new(), |key| present(key));
        format!("{key} IS NOT NULL")
    }
}

/// The log's column for a column's value before a change.
pub fn before(column: &str) -> String {
    format!("before:{column}")
}

/// The log's column for a column's value after a change.
pub fn after(column: &str) -> String {
    format!("after:{column}")
}
