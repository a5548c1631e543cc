//! `walcast emit`.

use rusqlite::Connection;
use tempfile::TempDir;

use crate::program::{database, emit, execute, refusal, text, walcast};

#[test]
fn emit_creates_the_table_and_writes_events() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    assert!(
        text(&emit(&path, "40").stderr)
            .contains(&format!("wrote 40 events to {}, ids 1–40", path.display()))
    );
    emit(&path, "2");
    let db = Connection::open(&path).unwrap();
    let of = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(of("SELECT count(*) FROM remediation_events"), 42);
    assert_eq!(
        of("SELECT count(*) FROM remediation_events WHERE status = 'error'"),
        10
    );
    let stamp = "____-__-__T__:__:__.___Z";
    assert_eq!(
        of(&format!(
            "SELECT count(*) FROM remediation_events WHERE ts LIKE '{stamp}' AND ts > '2020'"
        )),
        42
    );
}

#[test]
fn emit_makes_nothing_beside_tables_of_others() {
    let directory = TempDir::new().unwrap();
    let path = database(
        &directory,
        "CREATE TABLE orders(id INTEGER PRIMARY KEY); CREATE TABLE notes(id INTEGER PRIMARY KEY)",
    );
    let before = std::fs::read(&path).unwrap();
    let output = walcast().arg("emit").arg(&path).output().unwrap();
    let why = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{why}");
    for part in ["no table remediation_events", "there are notes, orders"] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // Where its owner made it, it is written to like any other.
    execute(&path, include_str!("../../schema.sql"));
    emit(&path, "1");
}

#[test]
fn emit_fills_a_database_that_holds_no_table() {
    let directory = TempDir::new().unwrap();
    let path = database(&directory, "PRAGMA user_version = 7");
    emit(&path, "2");
    let db = Connection::open(&path).unwrap();
    let version = db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    assert_eq!(version, Ok(7));
}

#[test]
fn emit_refuses_a_table_of_another_shape() {
    let directory = TempDir::new().unwrap();
    let path = database(
        &directory,
        "CREATE TABLE remediation_events(id INTEGER PRIMARY KEY, x)",
    );
    let why = refusal(walcast().args(["emit", "--db"]).arg(&path));
    assert!(why.contains("is not the stock table"), "{why}");
}
