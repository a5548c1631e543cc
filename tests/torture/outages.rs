//! What the daemon needs goes away for a while, or is another thing than it should be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::common::database::STOCK_SCHEMA;
use crate::common::{Daemon, Database, directory, ids, wait_until};

#[test]
fn a_state_directory_that_is_lost_for_a_while_is_written_again() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    let head = walcast.fill(20);
    walcast.wait_for_kept_head(head);
    let (state, aside) = (
        walcast.directory().join("state"),
        walcast.directory().join("aside"),
    );
    fs::rename(&state, &aside).unwrap();
    fs::write(&state, b"no directory").unwrap();
    let mut written = 20;
    wait_until("it is said that the identity can't be kept", || {
        walcast.database().insert("meanwhile");
        written += 1;
        walcast.log().contains("can't be kept")
    });
    // Rows are sent all the same.
    assert_eq!(ids(&plain.next_rows(written)).len(), written);
    fs::remove_file(&state).unwrap();
    fs::rename(&aside, &state).unwrap();
    wait_until("it is kept again", || {
        walcast.database().insert("afterwards");
        walcast.log().contains("is kept again")
    });
    assert_eq!(walcast.log().matches("can't be kept").count(), 1);
    let epoch = walcast.epoch();
    drop(plain);
    assert_eq!(walcast.restart().epoch(), epoch);
}

#[test]
fn a_directory_in_the_place_of_the_file_is_named_and_waited_out() {
    let directory = directory();
    let path = directory.path().join("walcast.db");
    fs::create_dir(&path).unwrap();
    let walcast = Daemon::on(directory.path())
        .stock_feed("create = false")
        .start();
    let answer = walcast.get("/readyz");
    assert_eq!(answer.status, 503, "{}", answer.text());
    walcast.wait_for_log("is a directory");
    let mut early = walcast.subscribe("since=earliest");
    assert_eq!(early.expect("waiting")["reason"], "unreadable");
    fs::remove_dir(&path).unwrap();
    let database = Database::with_stock_table(directory.path());
    let id = database.insert("at last");
    while early.next_row_or_frame().is_some() {}
    assert_eq!(early.ledger()[0]["id"], id);
    walcast.wait_until_ready();
}

#[test]
fn a_table_dropped_in_the_middle_of_a_replay_starts_it_over_when_it_is_back() {
    let walcast = Daemon::on_new_file().option("--ring-rows", "64").start();
    let head = walcast.fill(20_000);
    let mut slow = walcast.subscribe_slow(crate::common::STOCK_FEED, "since=0");
    slow.expect("hello");
    slow.next_row();
    let database = walcast.database();
    database.execute("DROP TABLE remediation_events");
    wait_until("it is not ready", || walcast.get("/readyz").status == 503);
    slow.enlarge_buffer();
    database.execute(STOCK_SCHEMA);
    let last = database.insert_many(10);
    walcast.wait_for_head(last);
    // Some rows of the dropped table may be on their way; all those of the new one follow a reset.
    let reset = loop {
        match slow.next_row_or_frame() {
            Some(frame) if frame["type"] == "reset" => break frame,
            Some(frame) => assert_eq!(frame["type"], "waiting", "{frame}"),
            None => {}
        }
    };
    assert!(slow.ledger().len() < usize::try_from(head).unwrap());
    assert_eq!(reset["reason"], "database_replaced");
    let before = slow.ledger().len();
    while slow.ledger().last().is_none_or(|row| row["id"] != last) || slow.ledger().len() == before
    {
        if let Some(frame) = slow.next_row_or_frame() {
            assert_eq!(frame["type"], "live", "{frame}");
        }
    }
    let expected: Vec<i64> = (1..=last).collect();
    assert_eq!(ids(&slow.ledger()[before..]), expected);
}

/// Nobody of this number is on the machine, which does not matter to the kernel.
const DAEMON: u32 = 64_001;
const OWNER: u32 = 64_002;

#[test]
fn companions_that_the_owner_could_not_write_are_not_made() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can start the daemon as another user");
        return;
    }
    let directory = directory();
    let database = Database::with_stock_table(directory.path());
    database.execute("PRAGMA journal_mode = WAL");
    let id = database.insert("of the owner");
    let set = |owner: u32, mode: u32| {
        chown(database.path(), Some(owner), Some(owner)).unwrap();
        fs::set_permissions(database.path(), fs::Permissions::from_mode(mode)).unwrap();
    };
    set(OWNER, 0o644);
    chown(directory.path(), Some(DAEMON), Some(DAEMON)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let walcast = Daemon::on(directory.path()).user(DAEMON).start();
    walcast.wait_for_log("is not opened: -wal and -shm would be");
    assert_eq!(walcast.get("/readyz").status, 503);
    let files = fs::read_dir(directory.path()).unwrap().flatten();
    let names: Vec<_> = files.map(|file| file.file_name()).collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().ends_with("-shm")),
        "{names:?}"
    );
    // Everybody may write them now.
    set(OWNER, 0o666);
    walcast.wait_until_ready();
    let (mut all, _) = walcast.resume("since=earliest");
    assert_eq!(all.next_row()["id"], id);
}
