//! Reads from the file what a table looks like.

use rusqlite::{Connection, OptionalExtension};

use super::key::{hidden_rowid, integer_primary_key, is_hidden_rowid, named_key, sole_primary_key};
use super::{Column, Table, TableError};

impl Table {
    /// Looks the table up. `key` names the cursor column; `None` takes the integer primary key.
    pub fn introspect(
        connection: &Connection,
        name: &str,
        key: Option<&str>,
    ) -> Result<Table, TableError> {
        let (name, sql) = declared(connection, name)?;
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
        let strict = is_strict(connection, &name)?;
        Ok(Table {
            name,
            columns,
            key,
            autoincrement,
            strict,
        })
    }
}

/// The name of a table as it is written in the schema, and the SQL that declares it.
fn declared(connection: &Connection, name: &str) -> Result<(String, String), TableError> {
    let found: Option<(String, String, Option<String>)> = connection
        .query_row(
            "SELECT name, type, sql FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')",
            [name],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let (name, kind, sql) = found.ok_or(TableError::Missing)?;
    match kind.as_str() {
        "view" => Err(TableError::Unfit(format!(
            "{name} is a view; a feed needs a table, for only a table has ids in the order of its commits"
        ))),
        _ => Ok((name, sql.unwrap_or_default())),
    }
}

/// Returns the name of a table as it is written in the schema, and its columns, whatever its key is.
///
/// # Errors
/// There is no such table, it is a view, or the schema can't be read.
pub fn columns_of(
    connection: &Connection,
    name: &str,
) -> Result<(String, Vec<Column>), TableError> {
    let (name, _) = declared(connection, name)?;
    let columns = columns(connection, &name)?;
    Ok((name, columns))
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

/// Returns whether the table is declared STRICT.
///
/// # Errors
/// The schema can't be read.
pub fn is_strict(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ?1 AND strict)",
        [table],
        |row| row.get(0),
    )
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
