//! Liveness and readiness.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::database::STOCK_SCHEMA;
use crate::common::wait::pause;
use crate::common::{
    Daemon, Database, PATIENCE, STOCK_EVENTS, STOCK_HISTORY, directory, wait_until,
};

/// Waits until `/readyz` says 503, for one or more of these reasons.
#[track_caller]
fn wait_for_reason(walcast: &Daemon, patience: Duration, reason: &str) {
    let deadline = Instant::now() + patience;
    let mut last = String::new();
    while Instant::now() < deadline {
        let ready = walcast.get("/readyz");
        assert_eq!(walcast.get("/healthz").status, 200);
        last = ready.text();
        if ready.status == 503 && last.contains(reason) {
            return;
        }
        pause();
    }
    panic!("/readyz does not say {reason:?}: {last}");
}

#[test]
fn readiness_waits_for_file_and_table_and_comes_by_itself() {
    let walcast = Daemon::on_new_file().stock_feed("create = false").start();
    wait_for_reason(&walcast, PATIENCE, "does not exist yet");
    walcast
        .database()
        .execute("CREATE TABLE other(id INTEGER PRIMARY KEY)");
    wait_for_reason(
        &walcast,
        PATIENCE,
        "the table remediation_events does not exist yet",
    );
    walcast.database().execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
    walcast.database().delete();
    wait_for_reason(&walcast, PATIENCE, "does not exist yet");
    walcast.database().execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
}

#[test]
fn a_missing_directory_is_waited_for() {
    let dir = directory();
    let inner = dir.path().join("not/yet");
    let walcast = Daemon::on(dir.path())
        .database(inner.join("events.db"))
        .start();
    wait_for_reason(&walcast, PATIENCE, "does not exist yet");
    fs::create_dir_all(&inner).expect("a directory can be made");
    walcast.database().execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
    let mut subscriber = walcast.subscribe("");
    let id = walcast.database().insert("in a directory that came late");
    assert_eq!(subscriber.next_row()["id"], id);
}

#[test]
fn a_file_that_is_no_database_is_said_once_and_recovered_from() {
    let dir = directory();
    let database = Database::within(dir.path());
    fs::write(database.path(), "not a database\n".repeat(1000)).expect("a file can be written");
    let walcast = Daemon::start(dir.path());
    wait_for_reason(&walcast, PATIENCE, "not a SQLite database");
    assert_eq!(walcast.get(STOCK_HISTORY).status, 503);
    assert!(walcast.metric(r#"walcast_database_errors_total{kind="not_a_database"}"#) >= 1.0);
    wait_until("it was tried again", || {
        walcast.metric(r#"walcast_database_errors_total{kind="not_a_database"}"#) >= 3.0
    });
    let errors = walcast
        .log()
        .lines()
        .filter(|line| line.contains("ERROR"))
        .count();
    assert_eq!(errors, 1, "the log floods:\n{}", walcast.log());
    database.delete();
    database.execute(STOCK_SCHEMA);
    walcast.wait_until_ready();
    assert_eq!(walcast.get(STOCK_HISTORY).status, 200);
}

/// Takes up to thirty seconds: a fresh connection looks no more often.
#[test]
fn a_file_garbled_in_place_is_noticed_and_recovered_from() {
    let dir = directory();
    let database = Database::with_stock_table(dir.path());
    database.insert_many(100);
    let walcast = Daemon::start(dir.path());
    walcast.wait_until_ready();
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)");
    let good = fs::read(database.path()).expect("the file can be read");
    fs::write(database.path(), vec![0x5a; good.len()]).expect("the file can be written");
    wait_for_reason(&walcast, Duration::from_secs(30) + PATIENCE, "database");
    fs::write(database.path(), good).expect("the file can be written");
    walcast.wait_until_ready();
    assert_eq!(walcast.get(STOCK_HISTORY).json()["total"], 100);
}

/// Takes five seconds: so long reads may fail before the daemon counts as not ready.
#[test]
fn a_database_locked_for_long_is_not_ready_until_it_is_free() {
    let walcast = Daemon::on_new_file()
        .with_tables(STOCK_SCHEMA)
        .toml("journal_mode = \"keep\"\n[feeds.remediation]\ncreate = false\n")
        .start();
    let database = walcast.database();
    walcast.wait_until_ready();
    let mut subscriber = walcast.subscribe("");
    let mut writer = database.python();
    writer.begin_exclusive();
    writer.add(1, 20);
    wait_for_reason(&walcast, Duration::from_secs(5) + PATIENCE, "locked");
    writer.commit();
    walcast.wait_until_ready();
    assert_eq!(subscriber.next_row()["id"], 1);
}

/// What is wrong is for everybody to know; where things are on this machine is not.
#[test]
fn no_answer_names_a_path_of_the_machine() {
    let dir = directory();
    let settings = || Daemon::on(dir.path()).stock_feed("create = false\ningest = true");
    let name_no_path = |walcast: &Daemon, what: &str| {
        let answers = [
            walcast.get("/readyz"),
            walcast.get("/healthz"),
            walcast.get("/api/feeds"),
            walcast.get(STOCK_EVENTS),
            walcast.get(STOCK_HISTORY),
            walcast.get("/metrics"),
            walcast.get("/ws/remediation"),
            walcast.get("/nope"),
            walcast.post(STOCK_EVENTS, &serde_json::json!({"ts": "t"})),
        ];
        let place = dir.path().display().to_string();
        for answer in answers {
            let text = answer.text();
            assert!(
                !text.contains(&place) && !text.contains("/tmp"),
                "{what}: {text}"
            );
        }
        assert!(walcast.log().contains(&place), "the log may say where");
    };
    let walcast = settings().start();
    name_no_path(&walcast, "no file");
    walcast.database().execute("CREATE TABLE other(x)");
    wait_until("the file is seen", || {
        walcast.get("/readyz").text().contains("remediation_events")
    });
    name_no_path(&walcast, "no table");
    drop(walcast);
    fs::write(dir.path().join("walcast.db"), [b'x'; 8192]).expect("a file can be written");
    for companion in ["walcast.db-wal", "walcast.db-shm"] {
        // They need not be there.
        let _ = fs::remove_file(dir.path().join(companion));
    }
    name_no_path(&settings().start(), "not a database");
    fs::remove_file(dir.path().join("walcast.db")).expect("a file can be removed");
    fs::create_dir(dir.path().join("walcast.db")).expect("a directory can be made");
    name_no_path(&settings().start(), "a directory");
}
