//! The file, written and read from outside the daemon.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use serde_json::{Map, Value, json};

use super::writer::Writer;

pub const STOCK_SCHEMA: &str = include_str!("../../schema.sql");

/// The columns of the stock table.
pub const STOCK_COLUMNS: [&str; 7] = [
    "id",
    "ts",
    "alertname",
    "tenant",
    "action",
    "status",
    "details",
];

const INSERT: &str =
    "INSERT INTO remediation_events(ts, alertname, tenant, action, status, details)
    VALUES (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 'HighCPU', ?1, 'restart_service', 'success', ?2)";

/// A database file. Each call opens a connection and closes it again, as fresh-connection writers do; keep the result
/// of [`Database::connect`] for a writer that stays.
#[derive(Debug, Clone)]
pub struct Database {
    path: PathBuf,
}

impl Database {
    pub fn at(path: impl Into<PathBuf>) -> Database {
        Database { path: path.into() }
    }

    /// `walcast.db` in this directory, the file a [`super::Daemon`] serves by default.
    pub fn within(directory: &Path) -> Database {
        Database::at(directory.join("walcast.db"))
    }

    /// The same, with the stock table made by someone who is not the daemon.
    pub fn with_stock_table(directory: &Path) -> Database {
        let database = Database::within(directory);
        database.execute(STOCK_SCHEMA);
        database
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    #[track_caller]
    pub fn connect(&self) -> Connection {
        let connection = Connection::open(&self.path)
            .unwrap_or_else(|e| panic!("{} can't be opened: {e}", self.path.display()));
        connection
            .busy_timeout(Duration::from_secs(30))
            .expect("a time limit can be set");
        connection
    }

    /// Runs a script.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        let connection = self.connect();
        connection
            .execute_batch(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// Commits one event with these details; gives its id.
    #[track_caller]
    pub fn insert(&self, details: &str) -> i64 {
        insert(&self.connect(), "acme", details)
    }

    /// Commits one event of this tenant.
    #[track_caller]
    pub fn insert_for(&self, tenant: &str, details: &str) -> i64 {
        insert(&self.connect(), tenant, details)
    }

    /// Commits this many events in one transaction; gives the id of the last.
    #[track_caller]
    pub fn insert_many(&self, count: usize) -> i64 {
        insert_many(&mut self.connect(), count)
    }

    /// A Python writer on this file, in a process of its own.
    pub fn python(&self) -> Writer {
        Writer::python(&self.path)
    }

    /// Runs a script in the `sqlite3` shell; `None` where that is not installed.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Option<String> {
        let mut child = Command::new("sqlite3")
            .args(["-batch", "-bail", "-cmd", ".timeout 30000"])
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut input = child.stdin.take().expect("stdin is piped");
        input
            .write_all(script.as_bytes())
            .expect("the shell reads its script");
        drop(input);
        let output = child
            .wait_with_output()
            .expect("the shell can be waited for");
        assert!(
            output.status.success(),
            "the sqlite3 shell failed: {}",
            output.status
        );
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The one number a query gives.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let connection = self.connect();
        connection
            .query_row(sql, [], |row| row.get(0))
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// All rows of the stock table in id order, as a subscriber gets them; details as they are stored.
    #[track_caller]
    pub fn rows(&self) -> Vec<Value> {
        self.query("SELECT * FROM remediation_events ORDER BY id")
    }

    /// What a query gives, each row as the JSON object a subscriber would get.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Value> {
        let connection = self.connect();
        let mut statement = connection
            .prepare(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let rows = statement.query_map([], |row| {
            let mut object = Map::new();
            for (index, name) in names.iter().enumerate() {
                object.insert(name.clone(), json_of(row.get_ref(index)?));
            }
            Ok(Value::Object(object))
        });
        rows.and_then(Iterator::collect)
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Copies the database, whole, to another file.
    #[track_caller]
    pub fn copy_to(&self, target: &Path) -> Database {
        let connection = self.connect();
        let target_name = target.to_str().expect("the path is text");
        connection
            .execute("VACUUM INTO ?1", params![target_name])
            .unwrap_or_else(|e| panic!("no copy at {target_name}: {e}"));
        Database::at(target)
    }

    /// Puts another file in its place, as an operator does who moves it there: the stock table, filled by `build`.
    #[track_caller]
    pub fn replace_with(&self, build: impl FnOnce(&Database)) {
        let new = Database::at(self.path.with_extension("new"));
        new.execute(STOCK_SCHEMA);
        build(&new);
        self.delete();
        std::fs::rename(new.path(), &self.path).expect("the file can be moved");
    }

    /// Removes the file and what SQLite keeps beside it.
    pub fn delete(&self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            // Those that are not there need not go.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Commits one event on a connection that stays open.
#[track_caller]
pub fn insert(connection: &Connection, tenant: &str, details: &str) -> i64 {
    let mut statement = connection
        .prepare_cached(INSERT)
        .expect("the stock table is there");
    statement
        .execute(params![tenant, details])
        .expect("an event can be inserted");
    connection.last_insert_rowid()
}

/// Commits this many events in one transaction; gives the id of the last.
#[track_caller]
pub fn insert_many(connection: &mut Connection, count: usize) -> i64 {
    let transaction = connection
        .transaction()
        .expect("a transaction can be opened");
    let mut last = 0;
    for number in 0..count {
        last = insert(&transaction, "acme", &format!("{number} of {count}"));
    }
    transaction
        .commit()
        .expect("the transaction can be committed");
    last
}

fn json_of(value: ValueRef<'_>) -> Value {
    const EXACT: i64 = (1 << 53) - 1;
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) if (-EXACT..=EXACT).contains(&n) => json!(n),
        ValueRef::Integer(n) => json!(n.to_string()),
        ValueRef::Real(x) if x.is_infinite() => {
            json!(if x > 0.0 { "Infinity" } else { "-Infinity" })
        }
        ValueRef::Real(x) => json!(x),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
    }
}
