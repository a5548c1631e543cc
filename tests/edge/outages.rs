//! What goes wrong with an edge, its spool and its origin, and what its clients are told.

use std::fs;

use serde_json::json;

use super::pair::{edge_of, epoch, pair, replayed};
use crate::common::{Daemon, Database, assert_ledger, wait_until};

#[test]
fn an_edge_killed_while_it_takes_rows_in_goes_on_where_it_was() {
    let origin = Daemon::start_new();
    origin.fill(20_000);
    let mut edge = edge_of(&origin).start();
    for burst in 0..6 {
        let connection = origin.database().connect();
        for _ in 0..20 {
            crate::common::database::insert(&connection, "acme", "while it is killed");
        }
        origin.database().insert_many(2000 * burst + 1);
        let settings = edge.kill();
        edge = settings.start();
    }
    let head = origin.fill(1);
    edge.wait_for_head(head);
    let (subscriber, _) = replayed(&edge, "since=earliest");
    assert_ledger(subscriber.ledger(), &origin.database().rows());
    assert_eq!(epoch(&edge), epoch(&origin));
}

#[test]
fn a_spool_deleted_under_an_edge_is_filled_again_without_a_reset() {
    let (origin, edge) = pair();
    let head = origin.fill(5000);
    edge.wait_for_head(head);
    let mut live = edge.subscribe_live();
    let (mut behind, hello) = edge.resume("since=4000");
    assert_eq!(hello["recovered"], true);
    behind.rows_until("live");
    let mut plain = edge.subscribe("");
    plain.expect_nothing();
    for suffix in ["", "-wal", "-shm"] {
        let path = edge.settings().database_path();
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    edge.wait_for_log("is not there any more");
    let id = origin.database().insert("after");
    for subscriber in [&mut live, &mut behind] {
        while let Some(frame) = subscriber.next_row_or_frame() {
            let kind = frame["type"].as_str().unwrap_or_default();
            assert!(["waiting", "hello", "live"].contains(&kind), "{frame}");
            assert_ne!(frame["recovered"], false, "{frame}");
        }
        assert_eq!(subscriber.ledger().last().expect("a row came")["id"], id);
    }
    assert_eq!(plain.next_row()["id"], id);
    let (subscriber, _) = replayed(&edge, "since=earliest");
    assert_ledger(subscriber.ledger(), &origin.database().rows());
}

#[test]
fn an_origin_that_is_replaced_resets_each_client_of_an_edge_once() {
    let origin = Daemon::start_new();
    origin.fill(100);
    let edge = edge_of(&origin).start();
    edge.wait_until_ready();
    let before = epoch(&edge);
    let mut live = edge.subscribe_live();
    let mut plain = edge.subscribe("");
    plain.expect_nothing();
    let directory = crate::common::directory();
    let other = Database::with_stock_table(directory.path());
    other.insert_many(7);
    other.execute("PRAGMA journal_mode = delete");
    let path = origin.settings().database_path();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    fs::rename(other.path(), path).expect("a file can be replaced");
    let reset = live.expect("reset");
    assert_ne!(reset["epoch"], before.as_str());
    let (ids, _) = live.rows_until("live");
    assert_eq!(ids, (1..=7).collect::<Vec<_>>());
    plain.expect_close(1012);
    let id = origin.database().insert("after");
    assert_eq!(live.next_row()["id"], id);
    assert_eq!(epoch(&edge), epoch(&origin));
    let (_subscriber, hello) = edge.resume(&format!("since=5&epoch={before}"));
    assert_eq!(hello["recovered"], false);
}

#[test]
fn an_edge_cut_off_serves_what_it_has_says_how_old_it_is_and_catches_up() {
    let (origin, edge) = pair();
    let head = origin.fill(10);
    edge.wait_for_head(head);
    let mut subscriber = edge.subscribe_live();
    let lag = r#"walcast_edge_lag_seconds{feed="remediation"}"#;
    assert_eq!(edge.metric(lag), 0.0);
    assert_eq!(
        edge.get("/readyz").json()["edge"],
        json!({"lag_seconds": 0.0})
    );
    let settings = origin.kill();
    wait_until("the edge says that it lags", || edge.metric(lag) > 0.0);
    edge.wait_for_log("what the spool holds is served meanwhile");
    let ready = edge.get("/readyz");
    assert_eq!(ready.status, 200);
    assert!(
        ready.json()["edge"]["lag_seconds"].as_f64() > Some(0.0),
        "{}",
        ready.text()
    );
    assert!(
        ready.json()["edge"]["trouble"].is_string(),
        "{}",
        ready.text()
    );
    let (_other, ids) = replayed(&edge, "since=earliest");
    assert_eq!(ids, (1..=10).collect::<Vec<_>>());
    let written = Database::at(settings.database_path()).insert_many(200);
    let origin = settings.start();
    subscriber.rows_to(written);
    wait_until("the edge lags no more", || edge.metric(lag) == 0.0);
    let id = origin.database().insert("after");
    assert_eq!(subscriber.next_row()["id"], id);
}

#[test]
fn what_was_pruned_at_the_origin_before_it_came_is_told() {
    let (origin, edge) = pair();
    origin.fill(10);
    edge.wait_for_head(10);
    let mut subscriber = edge.subscribe_live();
    let stopped = edge.stop_while(|| drop(subscriber.expect("goodbye")));
    origin.fill(90);
    origin
        .database()
        .execute("DELETE FROM remediation_events WHERE id <= 60");
    let edge = stopped.start();
    edge.wait_for_head(100);
    let (mut subscriber, hello) = edge.resume("since=10");
    assert_eq!(hello["recovered"], false);
    let (ids, _) = subscriber.rows_until("live");
    assert_eq!(ids, (61..=100).collect::<Vec<_>>());
}

#[test]
fn an_edge_keeps_as_much_as_it_is_told_to() {
    let origin = Daemon::start_new();
    let edge = edge_of(&origin)
        .toml("[edge]\nkeep = { bytes = \"256KiB\" }\n")
        .start();
    edge.wait_until_ready();
    let mut subscriber = edge.subscribe_live();
    let head = origin.fill(20_000);
    subscriber.rows_to(head);
    wait_until("old rows are gone", || {
        edge.feed()["earliest"].as_i64() > Some(head / 2)
    });
    let id = origin.database().insert("after");
    assert_eq!(subscriber.next_row()["id"], id);
    let path = edge.settings().database_path();
    wait_until("the file is small", || {
        fs::metadata(path).expect("the spool is there").len() < 2 << 20
    });
}

#[test]
fn two_edges_do_not_share_a_spool() {
    let (origin, edge) = pair();
    let directory = edge.directory();
    let failed = crate::common::Settings::on(directory)
        .edge_of(super::pair::url(&origin))
        .try_start();
    let Err(failed) = failed else {
        panic!("a second edge was started on the same spool");
    };
    assert!(failed.stderr.contains("another edge"), "{}", failed.stderr);
    assert_eq!(failed.status.code(), Some(1));
}

#[test]
fn a_spool_that_is_garbled_is_made_anew() {
    let (origin, edge) = pair();
    origin.fill(100);
    edge.wait_for_head(100);
    let settings = edge.kill();
    let path = settings.database_path();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", path.display()));
    }
    fs::write(path, vec![b'x'; 16 * 4096]).expect("the spool can be overwritten");
    let edge = settings.start();
    edge.wait_until_ready();
    edge.wait_for_head(100);
    let (_subscriber, ids) = replayed(&edge, "since=earliest");
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    drop(origin);
}

#[test]
fn a_table_dropped_from_a_spool_is_had_anew_and_holds_up_no_other() {
    let origin = crate::common::Settings::on_new_file()
        .with_tables(
            "CREATE TABLE a(id INTEGER PRIMARY KEY); CREATE TABLE b(id INTEGER PRIMARY KEY)",
        )
        .toml("feeds = \"*\"\n")
        .start();
    origin
        .database()
        .execute("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)");
    let edge = edge_of(&origin).start();
    edge.wait_until_ready();
    let mut subscriber = edge.subscribe_to("/ws/b", "since=0");
    subscriber.expect("hello");
    Database::at(edge.settings().database_path()).execute("DROP TABLE a");
    origin
        .database()
        .execute("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)");
    subscriber.rows_until("live");
    while subscriber.ledger().last() != Some(&json!({"id": 2})) {
        subscriber.next_row();
    }
    wait_until("the table is had again", || {
        edge.get("/api/feeds/a/events").json()["total"] == 2
    });
}

#[test]
fn what_keeps_an_edge_from_being_fed_is_found_by_check() {
    let origin = Daemon::start_new();
    let check = |url: &str| {
        let output = crate::common::settings::program()
            .args(["check", "--config"])
            .arg(configuration(origin.directory(), url))
            .args(["--listen", "127.0.0.1:0", "--state-dir"])
            .arg(origin.directory())
            .output()
            .expect("walcast can be run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = check(&super::pair::url(&origin));
    assert!(
        code == Some(0) && said.contains("feeds: remediation"),
        "{said}"
    );
    let (code, said) = check("ws://127.0.0.1:1");
    assert!(
        code == Some(1) && said.contains("does not answer"),
        "{said}"
    );
}

fn configuration(directory: &std::path::Path, upstream: &str) -> std::path::PathBuf {
    let path = directory.join("edge.toml");
    fs::write(&path, format!("[edge]\nupstream = {upstream:?}\n")).expect("a file can be written");
    path
}
