//! What a table looks like: key, columns, AUTOINCREMENT; and which of it a feed exposes.

use rusqlite::{Connection, OptionalExtension};

use crate::config::FeedConfig;
use crate::model::filter::{FilterColumn, quote_identifier};
use crate::sqlite::error::{BrokenKind, Unavailable};
use crate::sqlite::open::schema_version;
use crate::text::nearest::did_you_mean;

#[cfg(test)]
mod tests;

/// A table as the file describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: String,
    /// In table order, generated ones included.
    pub columns: Vec<Column>,
    /// Index of the cursor column in `columns`.
    pub key: usize,
    /// Ids are never given twice.
    pub autoincrement: bool,
}

/// A column as it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// Declared type, upper case; empty where none was given.
    pub declared: String,
    pub not_null: bool,
    pub has_default: bool,
    pub generated: bool,
    pub primary_key: bool,
    /// Another name for the rowid, which is all that SQLite itself keeps to integers.
    pub rowid: bool,
}

impl Column {
    /// Returns whether SQLite makes integers of what is written to it, where that can be done.
    pub fn is_integer(&self) -> bool {
        self.declared.contains("INT")
    }
}

/// Why a table can't be a feed.
#[derive(Debug)]
pub enum TableError {
    /// There is no such table (yet).
    Missing,
    /// The table or the feed's configuration has to change; says which and how.
    Unfit(String),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for TableError {
    fn from(error: rusqlite::Error) -> Self {
        TableError::Sqlite(error)
    }
}

impl TableError {
    pub fn unavailable(self, table: &str, path: &std::path::Path) -> Unavailable {
        match self {
            TableError::Missing => Unavailable::NoTable(table.to_owned()),
            TableError::Unfit(reason) => Unavailable::Broken {
                kind: BrokenKind::UnfitTable,
                reason,
            },
            TableError::Sqlite(error) => Unavailable::from_sqlite(&error, path),
        }
    }
}

impl Table {
    /// Looks the table up. `key` names the cursor column; `None` takes the integer primary key.
    pub fn introspect(
        connection: &Connection,
        name: &str,
        key: Option<&str>,
    ) -> Result<Table, TableError> {
        let found: Option<(String, String, Option<String>)> = connection
            .query_row(
                "SELECT name, type, sql FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')",
                [name],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        let (name, kind, sql) = found.ok_or(TableError::Missing)?;
        let sql = sql.unwrap_or_default();
        if kind == "view" {
            return Err(TableError::Unfit(format!(
                "{name} is a view; a feed needs a table, for only a table has ids in the order of its commits"
            )));
        }
        let mut columns = columns(connection, &name)?;
        let key = match key {
            Some(key) if is_hidden_rowid(connection, &name, &columns, key)? => {
                columns.insert(0, hidden_rowid());
                0
            }
            Some(key) => named_key(connection, &name, &columns, key)?,
            None => integer_primary_key(connection, &name, &columns)?,
        };
        let autoincrement = columns[key].primary_key && declares_autoincrement(&sql);
        Ok(Table {
            name,
            columns,
            key,
            autoincrement,
        })
    }

    pub fn key_name(&self) -> &str {
        &self.columns[self.key].name
    }

    /// Returns whether the key is a rowid that no column is a name for: VACUUM may give every row another one.
    pub fn is_key_unstable(&self) -> bool {
        let key = &self.columns[self.key];
        key.rowid && !key.primary_key
    }

    /// SQL, to be joined with `AND`, that holds for the rows of the feed. SQLite lets any other key than the rowid hold
    /// NULL, text or a fraction, whatever its type; such rows have no position and are none of the feed's.
    pub fn has_position(&self) -> String {
        match self.columns[self.key].rowid {
            true => String::new(),
            false => format!(
                " AND typeof({}) = 'integer'",
                quote_identifier(self.key_name())
            ),
        }
    }

    /// The highest id SQLite ever gave in this table, as far as it remembers: the larger of `max(key)` and, with
    /// AUTOINCREMENT, its `sqlite_sequence`. `None` for a table that never had a row.
    pub fn highest(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        Ok(self.max_key(connection)?.max(self.sequence(connection)?))
    }

    /// Returns the highest id in the table; `None` where it has no row.
    pub fn max_key(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        self.extreme(connection, "max")
    }

    /// Returns the lowest id in the table; `None` where it has no row.
    pub fn min_key(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        self.extreme(connection, "min")
    }

    /// What `sqlite_sequence` says of an AUTOINCREMENT table. Anybody may write anything there; as SQLite does it, the first
    /// of several rows counts, and what is no integer is made one.
    pub fn sequence(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        if !self.autoincrement {
            return Ok(None);
        }
        connection
            .prepare_cached("SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = ?1")?
            .query_row([&self.name], |row| row.get(0))
            .optional()
            // It gives ids from 1 on; what is lower was given by others, and is not remembered.
            .map(|sequence| sequence.flatten().filter(|id| *id > 0))
    }

    /// How many rows there are from the lowest to the highest of these ids, counted no further than `most`.
    pub fn count_within(
        &self,
        connection: &Connection,
        (lowest, highest): (i64, i64),
        most: i64,
    ) -> rusqlite::Result<i64> {
        let key = quote_identifier(self.key_name());
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} WHERE {key} >= ? AND {key} <= ?{} LIMIT {most})",
            quote_identifier(&self.name),
            self.has_position(),
        );
        connection
            .prepare_cached(&sql)?
            .query_row((lowest, highest), |row| row.get(0))
    }

    fn extreme(&self, connection: &Connection, which: &str) -> rusqlite::Result<Option<i64>> {
        connection
            .prepare_cached(&self.extreme_query(which))?
            .query_row([], |row| row.get(0))
    }

    /// SQL for the highest (`max`) or lowest (`min`) id.
    pub fn extreme_query(&self, which: &str) -> String {
        let (key, table) = (
            quote_identifier(self.key_name()),
            quote_identifier(&self.name),
        );
        // The range is that of all integers: it spares the index those NULLs and texts that stand before and behind.
        match self.has_position().as_str() {
            "" => format!("SELECT {which}({key}) FROM {table}"),
            integer => format!(
                "SELECT {which}({key}) FROM {table} WHERE {key} BETWEEN {} AND {}{integer}",
                i64::MIN,
                i64::MAX
            ),
        }
    }
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut columns: Vec<Column> = connection
        .prepare("SELECT name, upper(type), \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid")?
        .query_map([table], |row| {
            Ok(Column {
                name: row.get(0)?,
                declared: row.get(1)?,
                not_null: row.get(2)?,
                has_default: row.get(3)?,
                primary_key: row.get::<_, i64>(4)? > 0,
                generated: row.get::<_, i64>(5)? > 1,
                rowid: false,
            })
        })?
        .collect::<Result<_, _>>()?;
    // WITHOUT ROWID and `INTEGER PRIMARY KEY DESC` are told apart by the index that they need and the rowid does not.
    let has_index: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')",
        [table],
        |row| row.get(0),
    )?;
    if let Some(index) = sole_primary_key(&columns)
        && columns[index].declared == "INTEGER"
    {
        columns[index].rowid = !has_index;
    }
    Ok(columns)
}

fn sole_primary_key(columns: &[Column]) -> Option<usize> {
    let mut keys = (0..columns.len()).filter(|&index| columns[index].primary_key);
    let first = keys.next();
    first.filter(|_| keys.next().is_none())
}

fn integer_primary_key(
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
    Ok(match fit.as_slice() {
        [] if has_rowid(connection, table)? && rowid_name(columns).is_some() => format!(
            "{declare}, or name a unique integer column with `key`; `key = \"rowid\"` does too, as long as nobody runs \
             VACUUM, which may give every row another one"
        ),
        [] => format!("{declare} or name a unique integer column with `key`"),
        fit => format!("say {}, which is unique; or {declare}", fit.join(" or ")),
    })
}

/// Whether `key` means the rowid of a table in which no column is a name for it.
fn is_hidden_rowid(
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

fn hidden_rowid() -> Column {
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

/// Returns the names of columns as a list for people.
fn listed(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    names.join(", ")
}

/// A cursor column other than the primary key must still identify and order rows.
fn named_key(
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
    Err(TableError::Unfit(format!(
        "key = \"{key}\": column {table}.{} must be an INTEGER PRIMARY KEY or an integer column with a unique index of its own, \
         or rows could share a position; {}",
        column.name,
        key_remedy(connection, table, columns)?
    )))
}

/// The column that was probably meant, in words that follow a name.
pub(crate) fn nearest_column(name: &str, columns: &[Column]) -> String {
    let names = columns.iter().map(|column| column.name.as_str());
    did_you_mean(name, names)
}

/// Returns whether the keyword stands in a CREATE TABLE outside of strings, quoted names and comments.
fn declares_autoincrement(sql: &str) -> bool {
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let skip = match first {
            '\'' | '"' | '`' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            '-' if rest.starts_with("--") => rest.find('\n').map_or(rest.len(), |end| end + 1),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            c if c.is_alphanumeric() || c == '_' => {
                let end = rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                if rest[..end].eq_ignore_ascii_case("autoincrement") {
                    return true;
                }
                end
            }
            c => c.len_utf8(),
        };
        rest = &rest[skip..];
    }
    false
}

/// A table as one feed shows it: which columns leave, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Of the file's schema this was read from. Where it is another by now, the table may be, too.
    pub version: i64,
    pub table: Table,
    /// Exposed columns in table order. The key is always among them: without it nobody could resume.
    pub exposed: Vec<Exposed>,
    /// Place of the key in `exposed`.
    pub key_place: usize,
    /// Columns that are not shown, but that scopes compare.
    pub hidden: Vec<String>,
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
        let table = Table::introspect(connection, &feed.table, feed.key.as_deref())?;
        check_columns(&table, feed)?;
        let exposed = exposed_columns(&table, feed);
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
        })
    }

    pub fn place(&self, column: &str) -> Option<usize> {
        self.exposed.iter().position(|e| e.name == column)
    }

    /// Returns where a row has the column; `None` where the column is gone, or may not be asked for.
    pub fn place_of(&self, column: FilterColumn<'_>) -> Option<usize> {
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

    pub fn column_names(&self) -> Vec<&str> {
        self.exposed.iter().map(|e| e.name.as_str()).collect()
    }

    /// Returns the exposed columns and their declared types, upper case and empty where none was given.
    pub fn declared_types(&self) -> impl Iterator<Item = (&str, &str)> {
        let declared = |name: &str| self.table.columns.iter().find(|c| c.name == name);
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
        let embedded = self.exposed.iter().filter(|e| e.json).map(|e| {
            let name = quote_identifier(&e.name);
            // 8: strictly JSONB (json_valid in SQLite's documentation); json() would fail for other blobs.
            format!(
                "CASE WHEN typeof({name}) = 'blob' AND length({name}) <= {longest} AND json_valid({name}, 8) THEN json({name}) END"
            )
        });
        let hidden = self.hidden.iter().map(|name| quote_identifier(name));
        let all = names.chain(embedded).chain(hidden);
        all.collect::<Vec<_>>().join(", ")
    }
}

/// Every column that the feed names must be there.
fn check_columns(table: &Table, feed: &FeedConfig) -> Result<(), TableError> {
    let there: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
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
            "feeds.{}.{key}: table {} has no column {unknown}{}; it has {}",
            feed.name,
            table.name,
            nearest_column(unknown, &table.columns),
            listed(&table.columns)
        ))),
        None => Ok(()),
    }
}

/// The feed's choice of columns, in the table's order; the key is always among them.
fn exposed_columns(table: &Table, feed: &FeedConfig) -> Vec<Exposed> {
    let is_chosen = |name: &str| {
        let named = feed.columns.as_ref();
        named.is_none_or(|names| holds(names, name)) && !holds(&feed.exclude, name)
    };
    let columns = table.columns.iter().enumerate();
    columns
        .filter(|(index, column)| *index == table.key || is_chosen(&column.name))
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
