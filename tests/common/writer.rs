//! The Python writer in its own process, told what to do line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A Python program that writes to the database with the standard `sqlite3` module. Dropped, it is killed: what it has
/// not committed is rolled back by SQLite.
pub struct Writer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Writer {
    pub fn python(database: &Path) -> Writer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/writer.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let orders = child.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Writer {
            child,
            orders,
            answers,
        }
    }

    /// Writes this many events, each on a new connection; gives their ids.
    #[track_caller]
    pub fn insert(&mut self, count: usize) -> Vec<i64> {
        self.order(&json!({"do": "insert", "count": count}))
    }

    /// Writes one event with these columns instead of the usual ones.
    #[track_caller]
    pub fn insert_row(&mut self, row: &Value) -> i64 {
        self.order(&json!({"do": "insert", "row": row}))[0]
    }

    /// Opens a transaction and leaves it open.
    #[track_caller]
    pub fn begin(&mut self) {
        self.order(&json!({"do": "begin"}));
    }

    /// Opens a transaction whose page cache is so small that it writes to the file long before it commits.
    #[track_caller]
    pub fn begin_spilling(&mut self) {
        self.order(&json!({"do": "begin", "cache": 10}));
    }

    /// Opens a transaction that locks everyone else out.
    #[track_caller]
    pub fn begin_exclusive(&mut self) {
        self.order(&json!({"do": "exclusive"}));
    }

    /// Writes events in the open transaction, with `bytes` of details each.
    #[track_caller]
    pub fn add(&mut self, count: usize, bytes: usize) -> Vec<i64> {
        self.order(&json!({"do": "add", "count": count, "bytes": bytes}))
    }

    #[track_caller]
    pub fn commit(&mut self) {
        self.order(&json!({"do": "commit"}));
    }

    #[track_caller]
    pub fn rollback(&mut self) {
        self.order(&json!({"do": "rollback"}));
    }

    /// Runs a script on a new connection.
    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        self.order(&json!({"do": "run", "sql": sql}));
    }

    /// Overwrites the database in place with a copy, as `.restore` of the shell does.
    #[track_caller]
    pub fn restore(&mut self, copy: &Path) {
        self.order(&json!({"do": "restore", "from": copy}));
    }

    /// Has an order carried out. Panics with the Python error where it fails.
    #[track_caller]
    pub fn order(&mut self, order: &Value) -> Vec<i64> {
        self.try_order(order)
            .unwrap_or_else(|e| panic!("{order} failed: {e}"))
    }

    #[track_caller]
    pub fn try_order(&mut self, order: &Value) -> Result<Vec<i64>, String> {
        writeln!(self.orders, "{order}").expect("the writer listens");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the writer answers");
        let answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("the writer ended or says no JSON ({e}): {line:?}"));
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(serde_json::from_value(answer["ids"].clone()).expect("ids are numbers")),
        }
    }

    /// SIGKILL in the middle of whatever it does.
    pub fn kill(mut self) {
        self.child.kill().expect("the writer can be killed");
        self.child.wait().expect("a killed child can be waited for");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
