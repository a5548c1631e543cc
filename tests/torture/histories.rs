//! Is it the same history? A false "another" costs a replay, a false "same" loses rows for good.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Daemon, Database, directory, ids, wait_until};
use crate::scale::sized;

const FEED: &str = "[feeds.t]\n";
const CREATE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, status TEXT);";

fn head_is(walcast: &Daemon, head: i64) {
    wait_until(&format!("the head is {head}"), || {
        walcast.feed()["head"] == head
    });
}

/// SQL that writes rows whose `ts` and `details` are those of one history, and whose `extra` is `value` of the id `i`.
fn rows(from: i64, to: i64, mark: &str, extra: Option<&str>) -> String {
    let (column, value) = match extra {
        Some(value) => (", extra", format!(", {value}")),
        None => ("", String::new()),
    };
    format!(
        "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to})
         INSERT INTO t(ts, details{column}) SELECT '{mark}-' || i, '{mark} ' || i{value} FROM n;"
    )
}

/// A restore while the daemon is down, written past the old head since. That a column agrees proves nothing where it
/// follows from the id.
#[test]
fn a_restore_written_past_the_head_is_another_history_whatever_agrees_by_construction() {
    let cases = [
        ("extra TEXT AS ('evt-' || id)", None),
        ("extra INTEGER", Some("i")),
        ("extra INTEGER", Some("i % 16")),
        ("extra TEXT", Some("printf('job-%06d', i * 3)")),
        (
            "extra TEXT",
            Some("datetime('2026-01-01', '+' || i || ' minutes')"),
        ),
        ("extra TEXT", Some("'same'")),
    ];
    for (declared, extra) in &cases[..sized(3, cases.len())] {
        // In a file of its own, and in place.
        for in_place in [false, true] {
            let extra = *extra;
            let what = format!("{declared} {extra:?}, in place: {in_place}");
            let create = format!(
                "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, details TEXT, {declared});"
            );
            let settings = Daemon::on_new_file()
                .with_tables(&format!("{create}{}", rows(1, 90, "first", extra)))
                .toml(FEED);
            let database = Database::at(settings.database_path());
            let backup = settings.directory().join("backup.db");
            database.copy_to(&backup);
            database.execute(&rows(91, 100, "first", extra));
            let walcast = settings.start();
            head_is(&walcast, 100);
            let epoch = walcast.epoch();
            let settings = walcast.stop();
            if in_place {
                fs::copy(&backup, database.path()).unwrap();
            } else {
                database.delete();
                fs::rename(&backup, database.path()).unwrap();
            }
            database.execute(&rows(91, 105, "second", extra));
            let walcast = settings.start();
            let mut resumed = walcast.subscribe_to("/ws/t", &format!("since=100&epoch={epoch}"));
            assert_eq!(resumed.expect("hello")["recovered"], false, "{what}");
            assert_eq!(resumed.replay().0.len(), 105, "{what}");
            assert_eq!(resumed.ledger()[94]["ts"], "second-95", "{what}");
        }
    }
}

/// The same in place, where the newest row has a value that many have, in the one history as in the other.
#[test]
fn a_restore_is_told_by_the_rows_that_have_values_of_their_own() {
    for common in ["NULL", "'none'"] {
        let written = |from: i64, to: i64, mark: &str| {
            format!(
                "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to})
                 INSERT INTO t(ts, status) SELECT iif(i % 2, '{mark}-' || i, {common}), 'done' FROM n;"
            )
        };
        let settings = Daemon::on_new_file()
            .with_tables(&format!("{CREATE}{}", written(1, 90, "first")))
            .toml(FEED);
        let database = Database::at(settings.database_path());
        let backup = settings.directory().join("backup.db");
        database.copy_to(&backup);
        database.execute(&written(91, 100, "first"));
        let walcast = settings.start();
        head_is(&walcast, 100);
        let epoch = walcast.epoch();
        let settings = walcast.stop();
        fs::copy(&backup, database.path()).unwrap();
        database.execute(&written(91, 105, "second"));
        let walcast = settings.start();
        let mut resumed = walcast.subscribe_to("/ws/t", &format!("since=100&epoch={epoch}"));
        assert_eq!(resumed.expect("hello")["recovered"], false, "{common}");
        assert_eq!(resumed.replay().0.len(), 105, "{common}");
        assert_eq!(resumed.ledger()[94]["ts"], "second-95", "{common}");
    }
}

/// What the daemon keeps of the table's history.
fn kept(walcast: &Daemon) -> Vec<Vec<u8>> {
    let files = fs::read_dir(walcast.directory().join("state")).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let contents = paths.iter().map(|path| fs::read(path).unwrap_or_default());
    contents.collect()
}

fn running(rows: i64) -> String {
    let values = (1..=rows).map(|i| format!("('t{i}', 'running')"));
    let values: Vec<String> = values.collect();
    format!(
        "{CREATE} INSERT INTO t(ts, status) VALUES {};",
        values.join(", ")
    )
}

const REBUILD: &str = "BEGIN;
    CREATE TABLE n(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, status TEXT, more TEXT);
    INSERT INTO n(id, ts, status) SELECT id, ts, status FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT;";

#[test]
fn an_epoch_survives_what_happens_to_a_table_in_an_open_file() {
    for (count, change) in [
        (1, "UPDATE t SET ts = 't9', status = 'done'"),
        (3, "UPDATE t SET ts = 'n' || id, status = 'done'"),
        (100, "UPDATE t SET ts = 'n' || id, status = 'done'"),
        (
            5,
            "BEGIN; UPDATE t SET status = 'done' WHERE id = 2; CREATE INDEX i ON t(status); COMMIT",
        ),
        (
            5,
            "BEGIN; ALTER TABLE t ADD COLUMN sev TEXT; UPDATE t SET sev = 'x', status = 'moved'; COMMIT",
        ),
        (100, "DELETE FROM t WHERE id > 80"),
        (100, "DELETE FROM t WHERE id = 100; VACUUM"),
        (
            100,
            "ALTER TABLE t RENAME COLUMN ts TO time; ALTER TABLE t RENAME COLUMN status TO state",
        ),
        (100, REBUILD),
    ] {
        let walcast = Daemon::on_new_file()
            .with_tables(&running(count))
            .toml(FEED)
            .start();
        head_is(&walcast, count);
        let mut plain = walcast.subscribe_to("/ws/t", "");
        let epoch = walcast.epoch();
        let before = kept(&walcast);
        walcast.database().execute(change);
        // Seen together with a new row, the change of all there is could be a restore.
        wait_until("the change was seen", || kept(&walcast) != before);
        walcast.database().execute("INSERT INTO t DEFAULT VALUES");
        assert_eq!(plain.next_row()["id"], count + 1, "after {change}");
        assert_eq!(walcast.epoch(), epoch, "after {change}");
    }
}

#[test]
fn an_epoch_survives_what_happens_to_the_file_while_nobody_looks() {
    let pruned = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20)
        INSERT INTO t(ts, status) SELECT 'u' || i, 'running' FROM n; DELETE FROM t WHERE id <= 110";
    for (count, change) in [
        (1, "UPDATE t SET status = 'done'"),
        (5, "UPDATE t SET status = 'done' WHERE id = 2"),
        (5, "UPDATE t SET status = 'done'"),
        (100, "DELETE FROM t WHERE id > 80"),
        (100, pruned),
        (100, "DELETE FROM t"),
        (100, "VACUUM"),
    ] {
        let walcast = Daemon::on_new_file()
            .with_tables(&running(count))
            .toml(FEED)
            .start();
        head_is(&walcast, count);
        let epoch = walcast.epoch();
        let settings = walcast.stop();
        Database::at(settings.database_path()).execute(change);
        let walcast = settings.start();
        assert_eq!(walcast.epoch(), epoch, "after {change}");
    }
}

/// A table made anew forgets that the ids of deleted rows were given. Until they are given again nothing is lost.
#[test]
fn ids_given_again_after_a_migration_are_another_history() {
    let walcast = Daemon::on_new_file()
        .with_tables(&format!("{} DELETE FROM t WHERE id > 98;", running(100)))
        .toml(FEED)
        .start();
    head_is(&walcast, 100);
    let epoch = walcast.epoch();
    let mut resumable = walcast.subscribe_to("/ws/t", "since=now");
    resumable.expect("hello");
    resumable.expect("live");
    walcast.database().execute(REBUILD);
    wait_until("the new column is seen", || {
        let columns = walcast.feed()["columns"].to_string();
        columns.contains("more")
    });
    assert_eq!(walcast.epoch(), epoch);
    walcast
        .database()
        .execute("INSERT INTO t(ts) VALUES ('again')");
    assert_eq!(resumable.expect("reset")["head"], 99);
}

/// Rows that SQL replaced as a restore does, with others past the head, in one transaction.
#[test]
fn a_restore_by_sql_while_running_is_another_history() {
    let walcast = Daemon::on_new_file()
        .with_tables(&running(100))
        .toml(FEED)
        .start();
    head_is(&walcast, 100);
    let mut resumable = walcast.subscribe_to("/ws/t", "since=now");
    resumable.expect("hello");
    resumable.expect("live");
    walcast.database().execute(
        "BEGIN; DELETE FROM t WHERE id > 90; UPDATE sqlite_sequence SET seq = 90;
         WITH RECURSIVE n(i) AS (SELECT 91 UNION ALL SELECT i + 1 FROM n WHERE i < 105)
         INSERT INTO t(ts, status) SELECT 'second ' || i, 'queued' FROM n; COMMIT",
    );
    assert_eq!(resumable.expect("reset")["head"], 105);
}

/// The file a feed's history was seen in is remembered: a copy with the same rows is the same, a longer one is not.
#[test]
fn another_file_is_the_same_history_only_where_nothing_tells_otherwise() {
    let at = "datetime('2026-01-01', '+' || i || ' seconds')";
    for (mark, same) in [("first", true), ("second", false)] {
        let dir = directory();
        let create = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT, details TEXT, extra TEXT);";
        let walcast = Daemon::on(dir.path())
            .with_tables(&format!("{create}{}", rows(1, 20, "first", Some(at))))
            .toml(FEED)
            .start();
        head_is(&walcast, 20);
        let epoch = walcast.epoch();
        let settings = walcast.stop();
        let database = Database::at(settings.database_path());
        let other = Database::at(dir.path().join("other.db"));
        other.execute(&format!("{create}{}", rows(1, 40, mark, Some(at))));
        database.delete();
        fs::rename(other.path(), database.path()).unwrap();
        let walcast = settings.start();
        assert_eq!(walcast.epoch() == epoch, same, "{mark}");
        let mut resumed = walcast.subscribe_to("/ws/t", &format!("since=20&epoch={epoch}"));
        let hello: Value = resumed.expect("hello");
        assert_eq!(hello["recovered"], same);
        let expected: Vec<i64> = if same {
            (21..=40).collect()
        } else {
            (1..=40).collect()
        };
        assert_eq!(ids(&resumed.next_rows(expected.len())), expected);
        assert_eq!(hello["head"], json!(40));
    }
}
