//! What can happen to the file: links, late creation, deletion, replacement, restores in place.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::database::{STOCK_SCHEMA, insert};
use crate::common::{
    Daemon, Database, PATIENCE, STOCK_HISTORY, StopAtEnd, Subscriber, assert_ledger, directory,
    ids, wait_until,
};

/// A plain, and three resumable subscribers that differ in what they do after a reset.
struct Audience {
    plain: Subscriber,
    earliest: Subscriber,
    now: Subscriber,
    last: Subscriber,
    epoch: Value,
}

impl Audience {
    #[track_caller]
    fn of(walcast: &Daemon) -> Audience {
        let resumable = |query| {
            let (mut subscriber, hello) = walcast.resume(query);
            while subscriber.next_row_or_frame().is_none() {}
            (subscriber, hello["epoch"].clone())
        };
        let (earliest, epoch) = resumable("since=earliest");
        Audience {
            plain: walcast.subscribe(""),
            earliest,
            now: resumable("since=now").0,
            last: resumable("last=2").0,
            epoch,
        }
    }

    /// All are told of the new history and follow it, beginning with what `rows` says is in it.
    #[track_caller]
    fn expect_new_history(&mut self, rows: &[Value]) {
        let head = rows.last().map_or(json!(0), |row| row["id"].clone());
        let earliest = rows.first().map_or(Value::Null, |row| row["id"].clone());
        self.plain.expect_close(1012);
        let newest = &rows[rows.len().saturating_sub(2)..];
        let followers = [
            (&mut self.earliest, rows),
            (&mut self.now, rows),
            (&mut self.last, newest),
        ];
        for (subscriber, expected) in followers {
            let reset = subscriber.expect("reset");
            assert_ne!(reset["epoch"], self.epoch);
            assert_eq!(
                (&reset["reason"], &reset["head"], &reset["earliest"]),
                (&json!("database_replaced"), &head, &earliest)
            );
            assert_ledger(&subscriber.next_rows(expected.len()), expected);
            assert_eq!(subscriber.expect("live")["id"], head);
        }
    }

    /// The resumable ones get the row, live.
    #[track_caller]
    fn expect_row(&mut self, id: i64) {
        for subscriber in [&mut self.earliest, &mut self.now, &mut self.last] {
            assert_eq!(subscriber.next_row()["id"], id);
        }
    }
}

#[test]
fn a_database_behind_a_link_is_watched_where_it_is() {
    let dir = directory();
    fs::create_dir(dir.path().join("real")).unwrap();
    let real = Database::with_stock_table(&dir.path().join("real"));
    std::os::unix::fs::symlink(real.path(), dir.path().join("walcast.db")).unwrap();
    let walcast = Daemon::on(dir.path()).without_poll().start();
    let mut plain = walcast.subscribe("");
    let mut python = real.python();
    for id in 1..=3 {
        assert_eq!(python.insert(1), [id]);
        assert_eq!(plain.next_row()["id"], id);
    }
}

#[test]
fn a_file_that_its_writer_creates_later_is_served_from_the_first_row() {
    let walcast = Daemon::on_new_file()
        .without_poll()
        .stock_feed("create = false")
        .start();
    let mut plain = walcast.subscribe("");
    let mut resumable = walcast.subscribe("since=now");
    assert_eq!(resumable.expect("waiting")["reason"], "no_database");
    let empty = walcast.get(STOCK_HISTORY).json();
    assert_eq!((&empty["items"], &empty["total"]), (&json!([]), &json!(0)));
    let mut python = walcast.database().python();
    for id in 1..=3 {
        assert_eq!(python.insert(1), [id]);
        assert_eq!(plain.next_row()["id"], id);
    }
    let rows = loop {
        match resumable.next_row_or_frame() {
            None if resumable.ledger().len() == 3 => break resumable.ledger(),
            None => {}
            Some(frame) => assert_ne!(frame["type"], "reset"),
        }
    };
    assert_eq!(ids(rows), [1, 2, 3]);
}

#[test]
fn a_file_that_is_no_database_is_tried_again_however_rarely_is_polled() {
    let dir = directory();
    let database = Database::within(dir.path());
    fs::write(
        database.path(),
        "this is not a database, and long enough to be read as one".repeat(20),
    )
    .unwrap();
    let walcast = Daemon::on(dir.path()).without_poll().start();
    let ready = walcast.get("/readyz");
    assert_eq!(ready.status, 503, "{}", ready.text());
    let good = Database::at(dir.path().join("good.db"));
    good.execute(STOCK_SCHEMA);
    fs::rename(good.path(), database.path()).unwrap();
    walcast.wait_until_ready();
    let mut plain = walcast.subscribe("");
    assert_eq!(database.python().insert(1), [1]);
    assert_eq!(plain.next_row()["id"], 1);
}

#[test]
fn a_table_that_its_writer_creates_later_is_served_from_the_first_row() {
    let walcast = Daemon::on_new_file()
        .with_tables("CREATE TABLE other(x)")
        .without_poll()
        .stock_feed("create = false")
        .start();
    let database = walcast.database();
    let mut plain = walcast.subscribe("");
    let last = database.python().insert(20)[19];
    plain.rows_to(last);
    assert_ledger(plain.ledger(), &database.rows());
}

#[test]
fn a_file_deleted_and_made_again_is_another_history() {
    let walcast = Daemon::start_new();
    let database = walcast.database();
    let mut python = database.python();
    python.insert(5);
    walcast.wait_for_head(5);
    let mut audience = Audience::of(&walcast);
    database.delete();
    walcast.wait_for_log("does not exist");
    python.insert(1);
    let mut rest = python.insert(1);
    audience.plain.expect_close(1012);
    for subscriber in [
        &mut audience.earliest,
        &mut audience.now,
        &mut audience.last,
    ] {
        assert_eq!(subscriber.expect("waiting")["reason"], "no_database");
        assert_ne!(subscriber.expect("reset")["epoch"], audience.epoch);
        while subscriber.ledger().last().is_none_or(|row| row["id"] != 2) {
            if let Some(frame) = subscriber.next_row_or_frame() {
                assert_eq!(frame["type"], "live");
            }
        }
    }
    rest.extend(python.insert(1));
    assert_eq!(rest, [2, 3]);
    let (mut fresh, _) = walcast.resume("since=earliest");
    fresh.rows_to(3);
    assert_ledger(fresh.ledger(), &database.rows());
}

/// A file of the same shape with eight rows of its own.
fn another_history(directory: &Path) -> Database {
    let other = Database::at(directory.join("other.db"));
    other.execute(STOCK_SCHEMA);
    other.insert_many(8);
    other
}

/// Puts `new` in the place of the database as an operator should: what belonged to the old file goes with it.
fn move_into_place(new: &Path, database: &Database) {
    for suffix in ["-wal", "-shm"] {
        let mut name = database.path().as_os_str().to_owned();
        name.push(suffix);
        let _ = fs::remove_file(name);
    }
    fs::rename(new, database.path()).unwrap();
}

#[test]
fn a_file_replaced_by_rename_is_another_history() {
    let dir = directory();
    let walcast = Daemon::on(dir.path()).without_poll().start();
    let database = walcast.database();
    walcast.fill(5);
    let mut audience = Audience::of(&walcast);
    let other = another_history(dir.path());
    let rows = other.rows();
    move_into_place(other.path(), &database);
    audience.expect_new_history(&rows);
    assert_eq!(database.python().insert(1), [9]);
    audience.expect_row(9);
}

#[test]
fn a_file_replaced_while_commits_come_densely_is_another_history() {
    let dir = directory();
    let settings = Daemon::on(dir.path())
        .without_poll()
        .without_write_timeout();
    let walcast = settings.start();
    let other = another_history(dir.path());
    let mut resumable = walcast.subscribe_live();
    walcast.commit_densely();
    // No event tells of it.
    move_into_place(other.path(), &walcast.database());
    let (_, reset) = resumable.rows_until("reset");
    assert_eq!(reset["head"], 8);
}

#[test]
fn a_file_replaced_while_its_writer_goes_on_densely_is_another_history() {
    let dir = directory();
    let settings = Daemon::on(dir.path())
        .without_poll()
        .without_write_timeout();
    let walcast = settings.start();
    let other = another_history(dir.path());
    let writer = walcast.database().connect();
    writer.pragma_update(None, "synchronous", "OFF").unwrap();
    let mut resumable = walcast.subscribe_live();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop_at_end = StopAtEnd(&stop);
        let stop = &stop;
        let writing = scope.spawn(move || {
            let begun = Instant::now();
            while !stop.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                insert(&writer, "acme", "dense");
            }
            stop.load(Ordering::Relaxed)
        });
        wait_until("the daemon asks for commits", || !walcast.hears_of_writes());
        move_into_place(other.path(), &walcast.database());
        let (_, reset) = resumable.rows_until("reset");
        assert_eq!(reset["head"], 8);
        stop.store(true, Ordering::Relaxed);
        assert!(writing.join().unwrap(), "noticed when the writer had ended");
    });
}

#[test]
fn a_copy_of_the_file_moved_over_it_is_the_same_history() {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let database = walcast.database();
    walcast.fill(12);
    let mut resumable = walcast.subscribe_live();
    walcast.wait_for_kept_head(12);
    let copy = database.copy_to(&dir.path().join("copy.db"));
    move_into_place(copy.path(), &database);
    walcast.wait_for_log("was replaced by another file");
    assert_eq!(database.insert("in the copy"), 13);
    assert_eq!(resumable.next_row()["id"], 13);
}

#[test]
fn a_restore_in_place_is_another_history() {
    let dir = directory();
    let walcast = Daemon::on(dir.path()).without_poll().start();
    let database = walcast.database();
    database.insert_many(5);
    let copy = database.copy_to(&dir.path().join("copy.db"));
    let rows = copy.rows();
    database.insert_many(5);
    walcast.wait_for_head(10);
    let mut audience = Audience::of(&walcast);
    let mut python = database.python();
    python.restore(copy.path());
    audience.expect_new_history(&rows);
    assert_eq!(python.insert(1), [6]);
    audience.expect_row(6);
}

/// `kept`: long enough after the last commit for the daemon to have taken a sample of the newest rows.
fn restore_and_write_past_the_head_between_two_looks(kept: bool) {
    let dir = directory();
    let walcast = Daemon::start(dir.path());
    let database = walcast.database();
    database.insert_many(5);
    let copy = database.copy_to(&dir.path().join("copy.db"));
    database.insert_many(5);
    walcast.wait_for_head(10);
    let mut audience = Audience::of(&walcast);
    if kept {
        walcast.wait_for_kept_head(10);
    }
    // Stopped, the daemon sees nothing of what happens until it goes on.
    walcast.freeze();
    database.python().restore(copy.path());
    assert_eq!(database.insert_many(8), 13);
    let rows = database.rows();
    walcast.signal(libc::SIGCONT);
    audience.expect_new_history(&rows);
}

#[test]
fn a_restore_written_past_the_head_is_another_history() {
    restore_and_write_past_the_head_between_two_looks(true);
}

#[test]
fn a_restore_written_past_the_head_right_after_a_commit_is_another_history() {
    restore_and_write_past_the_head_between_two_looks(false);
}

#[test]
fn a_table_dropped_and_made_again_is_another_history() {
    let walcast = Daemon::on_new_file().without_poll().start();
    let database = walcast.database();
    walcast.fill(5);
    let mut audience = Audience::of(&walcast);
    database.execute(&format!(
        "BEGIN; DROP TABLE remediation_events; {STOCK_SCHEMA};
         INSERT INTO remediation_events(ts) VALUES ('2026-01-01T00:00:00Z'); COMMIT;"
    ));
    audience.expect_new_history(&database.rows());
    assert_eq!(database.insert("next"), 2);
    audience.expect_row(2);
}

#[test]
fn rows_of_a_copy_that_was_locked_when_put_in_place_are_read_once_the_lock_goes() {
    let dir = directory();
    let walcast = Daemon::on(dir.path())
        .without_poll()
        .option("--journal-mode", "keep")
        .start();
    let database = walcast.database();
    database.insert_many(5);
    let mut resumable = walcast.subscribe("since=earliest");
    resumable.expect("hello");
    resumable.rows_to(5);
    resumable.expect("live");
    walcast.wait_for_kept_head(5);
    let copy = database.copy_to(&dir.path().join("copy.db"));
    copy.insert_many(3);
    let locking = copy.connect();
    locking.execute_batch("BEGIN EXCLUSIVE").unwrap();
    move_into_place(copy.path(), &database);
    wait_until("the daemon meets the lock", || {
        walcast.get("/readyz").status == 503
    });
    // Longer than the daemon goes on looking after a file event.
    let locked = Instant::now();
    wait_until("the lock has lasted for a while", || {
        locked.elapsed() > Duration::from_millis(1500)
    });
    // Nothing was written: no event tells of this.
    locking.execute_batch("ROLLBACK").unwrap();
    assert_eq!(resumable.expect("waiting")["reason"], "unreadable");
    assert_eq!(resumable.expect("hello")["since"], 5);
    // The table is open a moment before its rows are read: they come before `live` or after it.
    while resumable.ledger().len() < 8 {
        if let Some(frame) = resumable.next_row_or_frame() {
            assert_eq!(frame["type"], "live");
        }
    }
    assert_eq!(ids(resumable.ledger()), [1, 2, 3, 4, 5, 6, 7, 8]);
}
