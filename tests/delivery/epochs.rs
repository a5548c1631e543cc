//! What keeps an epoch and what ends it, while the daemon runs and while it is down.

use serde_json::{Value, json};

use crate::common::database::STOCK_SCHEMA;
use crate::common::{Daemon, Database, Subscriber, assert_ledger, directory, ids};

/// Subscribes from `since` in `epoch`; gives the hello too.
#[track_caller]
fn resume(walcast: &Daemon, since: i64, epoch: &Value) -> (Subscriber, Value) {
    let epoch = epoch.as_str().expect("an epoch is a string");
    walcast.resume(&format!("since={since}&epoch={epoch}"))
}

/// The epoch as a newcomer is told it.
#[track_caller]
fn epoch_of(walcast: &Daemon) -> Value {
    walcast.resume("since=now").1["epoch"].clone()
}

/// Statements after which it is still the same history, each applied to a table of 20 rows and those before it.
const HARMLESS: [&str; 9] = [
    "DELETE FROM remediation_events WHERE id IN (5, 6, 7)",
    "UPDATE remediation_events SET status = 'error'",
    "UPDATE remediation_events SET details = 'edited', status = 'error', tenant = NULL
         WHERE id = (SELECT max(id) FROM remediation_events)",
    "VACUUM",
    "ALTER TABLE remediation_events ADD COLUMN severity INTEGER DEFAULT 3",
    "CREATE INDEX by_tenant ON remediation_events(tenant)",
    "DELETE FROM remediation_events WHERE id = (SELECT max(id) FROM remediation_events)",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "DELETE FROM remediation_events WHERE id > 8",
];

#[test]
fn an_epoch_survives_edits_and_restarts() {
    let mut walcast = Daemon::start_new();
    let database = walcast.database();
    let mut head = database.insert_many(20);
    walcast.wait_for_head(head);
    let epoch = epoch_of(&walcast);
    let (mut live, _) = resume(&walcast, head, &epoch);
    live.expect("live");
    for sql in HARMLESS {
        database.execute(sql);
        head = database.insert(sql);
        assert_eq!(live.next_row()["id"], head, "after {sql}");
        // Who stays and does not read keeps a stop waiting.
        drop(live);
        walcast = walcast.restart();
        let (mut again, hello) = resume(&walcast, head, &epoch);
        assert_eq!(
            (&hello["epoch"], &hello["recovered"], &hello["head"]),
            (&epoch, &json!(true), &json!(head)),
            "after {sql}"
        );
        again.expect("live");
        live = again;
    }
}

#[test]
fn an_epoch_survives_edits_while_the_daemon_is_down() {
    let mut walcast = Daemon::start_new();
    let database = walcast.database();
    // One by one, so that each has a time of its own: what all of a transaction share tells no history from another.
    let mut head = database.python().insert(30)[29];
    walcast.wait_for_head(head);
    let epoch = epoch_of(&walcast);
    // Some of the newest rows may go, not all of them, or nothing is left to recognise the history by.
    for sql in &HARMLESS[..8] {
        let stopped = walcast.stop();
        database.execute(sql);
        walcast = stopped.start();
        let (_, hello) = resume(&walcast, head, &epoch);
        assert_eq!(
            (&hello["epoch"], &hello["recovered"], &hello["head"]),
            (&epoch, &json!(true), &json!(head)),
            "after {sql}"
        );
        head = database.insert(sql);
        walcast.wait_for_head(head);
    }
}

#[test]
fn the_head_is_not_lowered_by_deleting_everything() {
    let walcast = Daemon::start_new();
    let database = walcast.database();
    walcast.fill(10);
    let epoch = epoch_of(&walcast);
    database.execute("DELETE FROM remediation_events");
    let walcast = walcast.restart();
    let (_, hello) = resume(&walcast, 10, &epoch);
    assert_eq!(
        (
            &hello["recovered"],
            &hello["head"],
            &hello["earliest"],
            &hello["epoch"]
        ),
        (&json!(true), &json!(10), &Value::Null, &epoch)
    );
    let (_, pruned) = resume(&walcast, 9, &epoch);
    assert_eq!(
        (&pruned["recovered"], &pruned["since"]),
        (&json!(false), &json!(10))
    );
}

#[test]
fn a_column_added_while_running_appears_with_the_next_row() {
    let walcast = Daemon::on_new_file().without_poll().start();
    let database = walcast.database();
    let mut plain = walcast.subscribe("");
    database.insert("before");
    assert!(plain.next_row().get("severity").is_none());
    database.execute("ALTER TABLE remediation_events ADD COLUMN severity INTEGER DEFAULT 3");
    database.insert("after");
    let row = plain.next_row();
    assert_eq!((&row["id"], &row["severity"]), (&json!(2), &json!(3)));
    let (mut filtered, _) = walcast.resume("since=0&severity=3");
    assert_eq!(ids(&filtered.next_rows(2)), [1, 2]);
}

#[test]
fn a_schema_change_right_after_the_first_row_is_no_new_history() {
    for sql in [
        "VACUUM",
        "CREATE TABLE other(x)",
        "ALTER TABLE remediation_events ADD COLUMN more",
    ] {
        let dir = directory();
        let walcast = Daemon::on(dir.path()).without_poll().start();
        let database = walcast.database();
        let mut plain = walcast.subscribe("");
        assert_eq!(database.insert("first"), 1);
        assert_eq!(plain.next_row()["id"], 1);
        database.execute(sql);
        assert_eq!(database.insert("second"), 2);
        assert_eq!(plain.next_row()["id"], 2, "after {sql}");
    }
}

#[test]
fn a_schema_change_after_an_edit_of_the_newest_row_is_no_new_history() {
    let walcast = Daemon::on_new_file()
        .toml("[feeds.remediation]\n[feeds.notes]\ntable = \"notes\"\n")
        .with_tables(&format!(
            "{STOCK_SCHEMA}; CREATE TABLE notes(id INTEGER PRIMARY KEY)"
        ))
        .without_poll()
        .start();
    let database = walcast.database();
    let head = walcast.fill(20);
    let mut plain = walcast.subscribe("");
    let mut notes = Subscriber::connect(walcast.address(), "/ws/notes", "");
    database.execute(&format!(
        "UPDATE remediation_events SET ts = 'later', alertname = 'other', tenant = 'other', action = 'other',
             status = 'other', details = 'other' WHERE id = {head}"
    ));
    // What was committed before it has been seen.
    database.execute("INSERT INTO notes VALUES (1)");
    assert_eq!(notes.next_row()["id"], 1);
    database.execute("ALTER TABLE remediation_events ADD COLUMN more");
    assert_eq!(database.insert("second"), head + 1);
    assert_eq!(plain.next_row()["id"], head + 1);
}

#[test]
fn ids_that_start_over_end_the_epoch() {
    let walcast = Daemon::on_new_file().without_poll().start();
    let database = walcast.database();
    walcast.fill(5);
    let mut plain = walcast.subscribe("");
    let mut resumable = walcast.subscribe("since=5");
    let epoch = resumable.expect("hello")["epoch"].clone();
    resumable.expect("live");
    database.execute(
        "BEGIN; DELETE FROM remediation_events;
         DELETE FROM sqlite_sequence WHERE name = 'remediation_events'; COMMIT;",
    );
    plain.expect_close(1012);
    let reset = resumable.expect("reset");
    assert_ne!(reset["epoch"], epoch);
    assert_eq!(
        (&reset["head"], &reset["earliest"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(resumable.expect("live")["id"], 0);
    assert_eq!(database.insert("the first again"), 1);
    assert_eq!(resumable.next_row()["id"], 1);
}

/// `kept`: long enough after the last commit for the daemon to have taken a sample of the newest rows.
fn start_ids_over_and_pass_the_head_in_one_transaction(kept: bool) {
    let walcast = Daemon::on_new_file().without_poll().start();
    let database = walcast.database();
    walcast.fill(5);
    let (mut resumable, _) = walcast.resume("since=5");
    resumable.expect("live");
    if kept {
        walcast.wait_for_kept_head(5);
    }
    database.execute(
        "BEGIN; DELETE FROM remediation_events; DELETE FROM sqlite_sequence;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 8)
         INSERT INTO remediation_events(ts, details) SELECT '2026-02-02T00:00:00Z', 'new ' || i FROM n; COMMIT;",
    );
    assert_eq!(resumable.expect("reset")["head"], 8);
    assert_ledger(&resumable.next_rows(8), &database.rows());
    assert_eq!(resumable.expect("live")["id"], 8);
}

#[test]
fn ids_that_start_over_and_pass_the_head_end_the_epoch() {
    start_ids_over_and_pass_the_head_in_one_transaction(true);
}

#[test]
fn ids_that_start_over_and_pass_the_head_right_after_a_commit_end_the_epoch() {
    start_ids_over_and_pass_the_head_in_one_transaction(false);
}

#[test]
fn rows_written_while_the_daemon_was_down_are_replayed() {
    let walcast = Daemon::start_new();
    let database = walcast.database();
    database.insert_many(5);
    let mut before = walcast.subscribe("since=earliest");
    let epoch = before.expect("hello")["epoch"].clone();
    before.rows_to(5);
    let received = before.ledger().to_vec();
    drop(before);
    let stopped = walcast.stop();
    let last = database.python().insert(20)[19];
    let walcast = stopped.start();
    let (mut after, hello) = resume(&walcast, 5, &epoch);
    assert_eq!(
        (
            &hello["recovered"],
            &hello["epoch"],
            &hello["since"],
            &hello["head"]
        ),
        (&json!(true), &epoch, &json!(5), &json!(last))
    );
    after.rows_to(last);
    assert_eq!(after.expect("live")["id"], last);
    assert_ledger(&[&received, after.ledger()].concat(), &database.rows());
}

#[test]
fn a_restore_while_the_daemon_was_down_is_not_recovered() {
    for (written_after, name) in [(0, "below"), (8, "past")] {
        let dir = directory();
        let walcast = Daemon::start(dir.path());
        let database = walcast.database();
        database.insert_many(20);
        let copy = database.copy_to(&dir.path().join("copy.db"));
        database.insert_many(5);
        walcast.wait_for_head(25);
        let epoch = epoch_of(&walcast);
        let stopped = walcast.stop();
        database.python().restore(copy.path());
        database.insert_many(written_after);
        let walcast = stopped.start();
        let (mut resumed, hello) = resume(&walcast, 22, &epoch);
        assert_ne!(hello["epoch"], epoch, "restored {name} the old head");
        assert_eq!(
            (&hello["recovered"], &hello["since"]),
            (&json!(false), &json!(0)),
            "restored {name} the old head"
        );
        let rows = database.rows();
        assert_ledger(&resumed.next_rows(rows.len()), &rows);
    }
}

#[test]
fn another_file_while_the_daemon_was_down_is_not_recovered() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let database = walcast.database();
    walcast.fill(10);
    let epoch = epoch_of(&walcast);
    let stopped = walcast.stop();
    database.delete();
    let database = Database::with_stock_table(dir.path());
    database.insert_many(30);
    let walcast = stopped.start();
    let (_, hello) = resume(&walcast, 10, &epoch);
    assert_ne!(hello["epoch"], epoch);
    assert_eq!(hello["recovered"], false);
}

#[test]
fn a_cursor_of_another_epoch_is_not_recovered() {
    let walcast = Daemon::start_new();
    walcast.fill(3);
    let (mut foreign, hello) = resume(&walcast, 2, &json!("of-another-time"));
    assert_eq!(
        (&hello["recovered"], &hello["since"]),
        (&json!(false), &json!(0))
    );
    assert_eq!(ids(&foreign.next_rows(3)), [1, 2, 3]);
}

#[test]
fn what_is_kept_of_a_history_is_the_daemons_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let walcast = Daemon::start_new();
    let head = walcast.fill(3);
    walcast.wait_for_kept_head(head);
    let state = walcast.directory().join("state");
    let mode = |path: &std::path::Path| {
        let meta = std::fs::metadata(path).expect("it is there");
        meta.permissions().mode() & 0o777
    };
    assert_eq!(mode(&state), 0o700);
    for file in std::fs::read_dir(state).expect("a directory").flatten() {
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
    }
}
