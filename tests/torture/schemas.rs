//! Tables that are altered while they are read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::common::{Daemon, wait_until};
use crate::scale::sized;

/// To SQLite a double-quoted name that is no column is a string, unless it is told otherwise.
#[test]
fn no_row_has_the_name_of_a_column_for_its_value_while_columns_are_renamed() {
    let rows = sized(30_000, 200_000);
    let walcast = Daemon::on_new_file()
        .with_tables(&format!(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, x TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows})
             INSERT INTO t(ts, x) SELECT 'value ' || i, 'y' FROM n;"
        ))
        .toml("[feeds.t]\n")
        .start();
    let database = walcast.database();
    let renames = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let replays = sized(4, 20);
    thread::scope(|scope| {
        scope.spawn(|| {
            let writer = database.connect();
            let mut names = ["ts", "time"];
            while done.load(Ordering::Relaxed) == 0 {
                let [from, to] = names;
                writer
                    .execute_batch(&format!("ALTER TABLE t RENAME COLUMN {from} TO {to}"))
                    .expect("a column can be renamed");
                names.reverse();
                renames.fetch_add(1, Ordering::Relaxed);
                // Long enough for a page, far shorter than a replay.
                thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        let check = || {
            let before = renames.load(Ordering::Relaxed);
            for _ in 0..replays {
                let mut replay = walcast.subscribe_to("/ws/t", "since=earliest");
                replay.enlarge_buffer();
                replay.expect("hello");
                let (ids, _) = replay.replay();
                assert_eq!(ids.len(), rows);
                for row in replay.ledger() {
                    let value = row.get("ts").or_else(|| row.get("time"));
                    let expected = format!("value {}", row["id"]);
                    assert_eq!((value, &row["x"]), (Some(&json!(expected)), &json!("y")));
                }
                let history = walcast.get("/api/feeds/t/events?limit=500").json();
                let items = history["items"].as_array().map_or(0, Vec::len);
                assert_eq!(items, 500, "{history}");
            }
            wait_until("a column was renamed", || {
                renames.load(Ordering::Relaxed) > before
            });
        };
        // The writer must end also where the check does not hold.
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        done.store(1, Ordering::Relaxed);
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
}

/// What the user's own triggers call a string stays one.
#[test]
fn ingest_fires_triggers_that_quote_strings_as_names() {
    let walcast = Daemon::on_new_file()
        .with_tables(
            "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, x TEXT);
             CREATE TABLE log(what TEXT);
             CREATE TRIGGER logged AFTER INSERT ON t BEGIN INSERT INTO log VALUES (\"inserted\"); END;",
        )
        .toml("[feeds.t]\ningest = true\n")
        .start();
    let answer = walcast.post("/api/feeds/t/events", &json!({"x": "a"}));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let logged: Vec<Value> = walcast.database().query("SELECT what FROM log");
    assert_eq!(logged, [json!({"what": "inserted"})]);
}
