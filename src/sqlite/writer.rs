//! The daemon's own writing connection: creates the stock table, inserts what is ingested. Its `update_hook` wakes the
//! feed loop, but only after the commit returned.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::Connection;
use rusqlite::hooks::Action;
use rusqlite::types::Value;
use serde_json::{Map, Value as Json};

use crate::filter::quote_identifier;
use crate::sqlite::open::{FileId, Unavailable, leave_on_close, open_writing};
use crate::sqlite::openings::{Opening, Openings};
use crate::sqlite::table::{Column, Schema};
use crate::wake::{Wake, Wakes};

/// How long an ingest waits for other writers before it is refused.
const BUSY: Duration = Duration::from_secs(5);

/// The stock table.
pub const STOCK_SCHEMA: &str = include_str!("../../schema.sql");

/// Creates the file and the stock table where they are missing.
pub fn create_stock_table(path: &Path) -> Result<(), Unavailable> {
    create_file(path);
    let connection = open_writing(path, BUSY, true)?;
    connection
        .execute_batch(STOCK_SCHEMA)
        .map_err(|e| Unavailable::from_sqlite(&e, path))
}

/// Creates an empty file, which is an empty database, where there is none. SQLite itself would make it 0644 less the
/// umask, and -wal and -shm after it: a umask chosen to let a group write would be of no use.
fn create_file(path: &Path) {
    // Open nowhere else in this process, as it is new, so closing it costs no locks. What keeps it from being created
    // keeps SQLite from it as well, which then says so.
    let _ = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(path);
}

/// Why rows were not ingested; nothing was written.
#[derive(Debug)]
pub enum IngestError {
    /// The request is at fault; names the field.
    Invalid(String),
    /// Others held the database for too long, or it can't be written.
    Unavailable(Unavailable),
}

/// Rows ready to insert: column names and values.
#[derive(Debug)]
pub struct NewRow(Vec<(String, Value)>);

/// A connection that inserts.
pub struct Writer {
    path: PathBuf,
    wake: Arc<Wake>,
    openings: Arc<Openings>,
    open: Option<OpenWriter>,
    /// Set by the `update_hook`, taken after the commit.
    changed: Arc<AtomicBool>,
}

struct OpenWriter {
    file: FileId,
    connection: Connection,
    /// Dropped after the connection.
    opening: Opening,
}

impl Writer {
    pub fn new(path: PathBuf, wake: Arc<Wake>, openings: Arc<Openings>) -> Writer {
        Writer {
            path,
            wake,
            openings,
            open: None,
            changed: Arc::default(),
        }
    }

    /// Closes the connection; the next insert would open it anew.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Closes the connection if it is to be closed.
    pub fn close_stale(&mut self) {
        self.open.take_if(|open| !open.opening.is_current());
    }

    /// Inserts all rows in one transaction and gives their ids.
    pub fn insert(&mut self, schema: &Schema, rows: &[NewRow]) -> Result<Vec<i64>, IngestError> {
        let path = self.path.clone();
        let unavailable =
            |e: &rusqlite::Error| IngestError::Unavailable(Unavailable::from_sqlite(e, &path));
        let result = self.try_insert(schema, rows);
        self.close_stale();
        match result {
            Ok(ids) => {
                if self.changed.swap(false, Ordering::AcqRel) {
                    self.wake.signal(Wakes::HOOK);
                }
                Ok(ids)
            }
            Err(InsertFailure::Open(reason)) => Err(IngestError::Unavailable(reason)),
            Err(InsertFailure::NoKey) => {
                self.changed.store(false, Ordering::Release);
                Err(IngestError::Invalid(format!(
                    "column \"{}\" is the key, and the database gives it no integer; rows can be sent to tables with an \
                     INTEGER PRIMARY KEY or a key with a DEFAULT",
                    schema.table.key_name()
                )))
            }
            Err(InsertFailure::Sqlite(e)) => {
                self.changed.store(false, Ordering::Release);
                Err(match e.sqlite_error_code() {
                    // A CHECK, UNIQUE or foreign key the request violates; SQLite names it.
                    Some(
                        rusqlite::ErrorCode::ConstraintViolation
                        | rusqlite::ErrorCode::TypeMismatch,
                    ) => IngestError::Invalid(e.to_string()),
                    _ => unavailable(&e),
                })
            }
        }
    }

    fn try_insert(&mut self, schema: &Schema, rows: &[NewRow]) -> Result<Vec<i64>, InsertFailure> {
        let connection = self.connection()?;
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut ids = Vec::with_capacity(rows.len());
        for NewRow(fields) in rows {
            let names: Vec<String> = fields
                .iter()
                .map(|(name, _)| quote_identifier(name))
                .collect();
            let sql = format!(
                "INSERT INTO {} ({}) VALUES ({}) RETURNING {}",
                quote_identifier(&schema.table.name),
                names.join(", "),
                vec!["?"; fields.len()].join(", "),
                quote_identifier(schema.table.key_name()),
            );
            let values = fields.iter().map(|(_, value)| value);
            let id: Value = transaction
                .prepare_cached(&sql)?
                .query_row(rusqlite::params_from_iter(values), |row| row.get(0))?;
            match id {
                Value::Integer(id) => ids.push(id),
                // Only the rowid is always given; a row without a position would be stored and never be sent.
                _ => return Err(InsertFailure::NoKey),
            }
        }
        transaction.commit()?;
        Ok(ids)
    }

    /// The open connection, made anew when the path names another file now.
    fn connection(&mut self) -> Result<&mut Connection, InsertFailure> {
        let file = FileId::of(&self.path).ok_or_else(|| Unavailable::NoFile(self.path.clone()))?;
        self.close_stale();
        self.open.take_if(|open| open.file != file);
        match &mut self.open {
            Some(open) => Ok(&mut open.connection),
            open => {
                let opening = self.openings.enter();
                let mut connection = open_writing(&self.path, BUSY, false)?;
                // The feed loop outlives it, and tidies up.
                leave_on_close(&connection, true)?;
                let changed = Arc::clone(&self.changed);
                connection.update_hook(Some(move |_: Action, _: &str, _: &str, _: i64| {
                    changed.store(true, Ordering::Release);
                }))?;
                let open = open.insert(OpenWriter {
                    file,
                    connection,
                    opening,
                });
                Ok(&mut open.connection)
            }
        }
    }
}

enum InsertFailure {
    Open(Unavailable),
    /// The new row has no position.
    NoKey,
    Sqlite(rusqlite::Error),
}

impl From<Unavailable> for InsertFailure {
    fn from(reason: Unavailable) -> Self {
        InsertFailure::Open(reason)
    }
}

impl From<rusqlite::Error> for InsertFailure {
    fn from(error: rusqlite::Error) -> Self {
        InsertFailure::Sqlite(error)
    }
}

/// Reads an ingest body: one object or an array of them.
pub fn parse_rows(schema: &Schema, body: &[u8]) -> Result<Vec<NewRow>, String> {
    let json: Json =
        serde_json::from_slice(body).map_err(|e| format!("the body is not valid JSON: {e}"))?;
    match json {
        Json::Object(row) => Ok(vec![new_row(schema, row)?]),
        Json::Array(rows) if rows.is_empty() => {
            Err("the array is empty; send at least one object".into())
        }
        Json::Array(rows) => rows
            .into_iter()
            .enumerate()
            .map(|(index, row)| match row {
                Json::Object(row) => new_row(schema, row).map_err(|e| format!("row {index}: {e}")),
                other => Err(format!("row {index}: {other} is not an object")),
            })
            .collect(),
        other => Err(format!(
            "the body must be an object or an array of objects, not {other}"
        )),
    }
}

fn new_row(schema: &Schema, row: Map<String, Json>) -> Result<NewRow, String> {
    if row.is_empty() {
        return Err("the object is empty; name at least one column".into());
    }
    let column = |name: &str| schema.table.columns.iter().find(|c| c.name == name);
    let writable = |c: &&Column| {
        schema.place(&c.name).is_some() && c.name != schema.table.key_name() && !c.generated
    };
    let mut fields = Vec::with_capacity(row.len());
    for (name, value) in row {
        if name == schema.table.key_name() {
            return Err(format!(
                "column \"{name}\" is the key; leave it out, the database gives it"
            ));
        }
        let found = column(&name).filter(writable).ok_or_else(|| {
            let names: Vec<&str> = schema
                .table
                .columns
                .iter()
                .filter(writable)
                .map(|c| c.name.as_str())
                .collect();
            format!("unknown column \"{name}\"; there are {}", names.join(", "))
        })?;
        let json = schema
            .place(&name)
            .is_some_and(|place| schema.exposed[place].json);
        fields.push((name, sql_value(found, json, value)?));
    }
    for required in schema
        .table
        .columns
        .iter()
        .filter(|c| c.not_null && !c.has_default && !c.generated)
    {
        let given = fields
            .iter()
            .find(|(name, _)| *name == required.name)
            .map(|(_, value)| value);
        if required.name != schema.table.key_name() && matches!(given, None | Some(Value::Null)) {
            return Err(format!(
                "column \"{}\" is NOT NULL and must be given",
                required.name
            ));
        }
    }
    Ok(NewRow(fields))
}

/// The value as the column's declared type wants it. SQLite would take anything; a typo must not.
fn sql_value(column: &Column, json: bool, value: Json) -> Result<Value, String> {
    let wrong = |value: &Json| {
        let wanted = match column.declared.as_str() {
            "" => "a string or a number",
            declared => declared,
        };
        format!("column \"{}\" takes {wanted}, not {value}", column.name)
    };
    let declared = column.declared.as_str();
    let is = |part: &str| declared.contains(part);
    let text = is("CHAR") || is("CLOB") || is("TEXT");
    match value {
        Json::Null if column.not_null => Err(format!("column \"{}\" is NOT NULL", column.name)),
        Json::Null => Ok(Value::Null),
        value if json => Ok(Value::Text(value.to_string())),
        Json::String(s) if text => Ok(Value::Text(s)),
        Json::String(s) if is("BLOB") => BASE64
            .decode(&s)
            .map(Value::Blob)
            .map_err(|e| format!("column \"{}\" takes base64: {e}", column.name)),
        // What walcast itself sends as a string it takes as a string.
        Json::String(s) if is("INT") => s
            .parse()
            .map(Value::Integer)
            .map_err(|_| wrong(&Json::String(s))),
        Json::String(s) if is("REAL") || is("FLOA") || is("DOUB") => match s.as_str() {
            "Infinity" => Ok(Value::Real(f64::INFINITY)),
            "-Infinity" => Ok(Value::Real(f64::NEG_INFINITY)),
            _ => Err(wrong(&Json::String(s))),
        },
        Json::String(s) => Ok(Value::Text(s)),
        Json::Bool(b) if is("BOOL") => Ok(Value::Integer(b.into())),
        Json::Number(n) if !text && !is("BLOB") => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Ok(Value::Integer(i)),
            (None, Some(r)) if !is("INT") => Ok(Value::Real(r)),
            _ => Err(wrong(&Json::Number(n))),
        },
        value => Err(wrong(&value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::table::{Exposed, Table};

    fn schema() -> Schema {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, ts TEXT NOT NULL, n INTEGER, r REAL, b BLOB, ok BOOLEAN, j TEXT, d TEXT NOT NULL DEFAULT 'x',
             g TEXT AS (ts))",
        )
        .unwrap();
        let table = Table::introspect(&db, "t", None).unwrap();
        let exposed = table
            .columns
            .iter()
            .map(|c| Exposed {
                name: c.name.clone(),
                kind: c.kind(),
                json: c.name == "j",
                truncate: None,
            })
            .collect();
        Schema {
            version: 1,
            table,
            exposed,
            key_place: 0,
        }
    }

    #[test]
    fn good_rows_become_values() {
        let rows = parse_rows(
            &schema(),
            br#"[{"ts":"a","n":"9007199254740993","r":1.5,"b":"AAE=","ok":true,"j":{"k":[1]}},{"ts":"b","n":null,"r":"Infinity"}]"#,
        )
        .unwrap();
        assert!(
            rows[0]
                .0
                .contains(&("n".into(), Value::Integer(9007199254740993)))
        );
        assert!(rows[0].0.contains(&("b".into(), Value::Blob(vec![0, 1]))));
        assert!(
            rows[0]
                .0
                .contains(&("j".into(), Value::Text("{\"k\":[1]}".into())))
        );
        assert!(
            rows[1]
                .0
                .contains(&("r".into(), Value::Real(f64::INFINITY)))
        );
    }

    #[test]
    fn bad_rows_are_refused_naming_the_field() {
        for (body, names) in [
            (r#"{"ts":"a","nope":1}"#, "nope"),
            (r#"{"ts":5}"#, "ts"),
            (r#"{"ts":null}"#, "ts"),
            (r#"{"n":1}"#, "ts"),
            (r#"{"ts":"a","n":1.5}"#, "n"),
            (r#"{"ts":"a","n":"five"}"#, "n"),
            (r#"{"ts":"a","b":"!"}"#, "b"),
            (r#"{"ts":"a","d":null}"#, "d"),
            (r#"{"ts":"a","r":[1]}"#, "r"),
            (r#"{"ts":"a","g":"x"}"#, "g"),
            (r#"{"id":1,"ts":"a"}"#, "id"),
            (r#"[{"ts":"a"},{"ts":7}]"#, "row 1"),
            ("[]", "empty"),
            ("{}", "empty"),
            ("7", "object"),
            ("{", "JSON"),
        ] {
            let error = parse_rows(&schema(), body.as_bytes()).unwrap_err();
            assert!(error.contains(names), "{body}: {error}");
        }
    }
}
