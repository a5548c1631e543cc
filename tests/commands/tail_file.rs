//! `walcast tail` of a file.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use tempfile::TempDir;

use crate::common::database::{STOCK_COLUMNS, STOCK_SCHEMA};
use crate::program::{Running, database, emit, names, refusal, walcast, write_no_database};

#[test]
fn tail_of_a_file_prints_json_lines_and_leaves_no_trace() {
    let directory = TempDir::new().unwrap();
    // More rows than one page holds.
    let rows = "INSERT INTO remediation_events(ts) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
        SELECT 'row ' || i FROM n;";
    let path = database(
        &directory,
        &format!("PRAGMA journal_mode = WAL; {STOCK_SCHEMA} {rows}"),
    );
    let mut tail = Running::tail(&["--db", path.to_str().unwrap(), "--since", "earliest"]);
    assert_eq!(tail.ids(3000), (1..=3000).collect::<Vec<_>>());
    emit(&path, "1");
    let row = tail.row();
    assert_eq!(row["id"], 3001);
    assert!(
        STOCK_COLUMNS.iter().all(|column| row.get(column).is_some())
            && row.as_object().unwrap().len() == 7
    );
    tail.signal(libc::SIGINT);
    assert_eq!(tail.exit_code(), Some(0));
    assert_eq!(
        names(directory.path()),
        [path],
        "-wal and -shm are gone with the last connection"
    );
}

#[test]
fn tail_of_a_file_follows_filters_and_the_last_rows() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    emit(&path, "40");
    let tail = Running::tail(&[
        "--db",
        path.to_str().unwrap(),
        "--last",
        "2",
        "--filter",
        "status=error",
    ]);
    assert_eq!(tail.ids(2), [36, 40]);
    let filter = ["tail", "--filter", "nope=1", "--db"];
    let why = refusal(walcast().args(filter).arg(&path));
    assert!(why.contains("no column nope; it has id, ts"), "{why}");
    let filter = ["tail", "--filter", "tenent=acme", "--db"];
    let why = refusal(walcast().args(filter).arg(&path));
    assert!(why.contains("did you mean \"tenant\"?"), "{why}");
}

#[test]
fn tail_of_a_file_waits_for_it_and_prints_all_of_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    let mut tail = Running::tail(&["--db", path.to_str().unwrap()]);
    tail.says("does not exist yet");
    assert!(!path.exists());
    emit(&path, "3");
    assert_eq!(tail.ids(3), [1, 2, 3]);
    // Another history in its place is printed from its first row.
    let other = directory.path().join("other.db");
    emit(&other, "2");
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(tail.ids(2), [1, 2]);
}

#[test]
fn tail_refuses_what_is_no_database() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    write_no_database(&path);
    let why = refusal(walcast().args(["tail", "--db"]).arg(&path));
    assert!(why.contains("is not a SQLite database"), "{why}");
}

#[test]
fn tail_ends_quietly_when_nobody_reads_any_more() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("events.db");
    emit(&path, "3");
    let mut command = walcast();
    command
        .args(["tail", "--since", "earliest", "--db"])
        .arg(&path);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("feed remediation after id 0"), "{said}");
}
