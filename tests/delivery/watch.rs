//! The ways to hear of writes, each with every kind of thing to hear of: a write to `-wal` and to a rollback journal, a
//! file that comes, is replaced, loses its `-shm`, a directory that comes and one that is moved, a link that is pointed
//! elsewhere, and commits so dense that they are asked for. Events must do where there are any: the safety poll is off.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::database::{STOCK_SCHEMA, insert};
use crate::common::{Daemon, Database, Settings, Subscriber, assert_ledger, directory, wait_until};

/// How a daemon hears of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Auto,
    Notify,
    Poll,
}

/// The same test for each way.
macro_rules! each_way {
    ($($test:ident)*) => { $(
        mod $test {
            use super::Way;

            #[test]
            fn auto() {
                super::$test(Way::Auto);
            }

            #[test]
            fn notify() {
                super::$test(Way::Notify);
            }

            #[test]
            fn poll() {
                super::$test(Way::Poll);
            }
        }
    )* };
}

each_way! {
    rows_arrive_alone_and_in_bursts
    rows_of_a_rollback_journal_arrive
    a_file_made_later_is_served_from_its_first_row
    a_file_replaced_by_rename_is_another_history
    a_file_that_lost_its_shm_is_opened_anew
    a_directory_made_later_is_served
    a_directory_moved_away_and_made_anew_is_followed
    a_link_pointed_elsewhere_is_followed
    dense_commits_are_asked_for_and_the_next_row_is_heard_of
}

impl Way {
    fn flag(self) -> &'static str {
        match self {
            Way::Auto => "auto",
            Way::Notify => "notify",
            Way::Poll => "poll",
        }
    }

    /// On `walcast.db` in this directory, with the poll only where there is nothing else.
    fn on(self, directory: &Path) -> Settings {
        let settings = Daemon::on(directory).option("--watch", self.flag());
        match self {
            Way::Poll => settings,
            Way::Auto | Way::Notify => settings.without_poll(),
        }
    }

    /// Rows were found in this way, and no other.
    #[track_caller]
    fn expect_used(self, walcast: &Daemon) {
        let wakes = |source| walcast.metric(&format!("walcast_wakes_total{{source=\"{source}\"}}"));
        match self {
            Way::Poll => assert!(wakes("wal") == 0.0 && wakes("poll") > 0.0),
            Way::Auto | Way::Notify => assert!(wakes("wal") > 0.0 && wakes("poll") == 0.0),
        }
        let threads = fs::read_dir(format!("/proc/{}/task", walcast.id())).unwrap();
        let names = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")));
        let notify = names.flatten().any(|name| name.starts_with("notify"));
        assert_eq!(notify, self == Way::Notify);
        let polled = walcast.log().contains("no file events are listened to");
        assert_eq!(polled, self == Way::Poll);
    }
}

/// Three rows by one writer, each alone.
#[track_caller]
fn expect_rows(subscriber: &mut Subscriber, database: &Database) {
    let mut python = database.python();
    for _ in 0..3 {
        let id = python.insert(1)[0];
        assert_eq!(subscriber.next_row()["id"], id);
    }
}

/// A database elsewhere with so many rows of its own.
fn another(directory: &Path, rows: usize) -> Database {
    let other = Database::at(directory.join("other.db"));
    other.execute(STOCK_SCHEMA);
    other.insert_many(rows);
    other
}

fn rows_arrive_alone_and_in_bursts(way: Way) {
    let directory = directory();
    let walcast = way.on(directory.path()).start();
    let mut plain = walcast.subscribe("");
    expect_rows(&mut plain, &walcast.database());
    let burst = walcast.database().python().insert(100);
    plain.rows_to(burst[99]);
    assert_ledger(plain.ledger(), &walcast.database().rows());
    way.expect_used(&walcast);
}

fn rows_of_a_rollback_journal_arrive(way: Way) {
    let directory = directory();
    Database::with_stock_table(directory.path()).execute("PRAGMA journal_mode = delete");
    let settings = way.on(directory.path());
    let walcast = settings.option("--journal-mode", "keep").start();
    let mut plain = walcast.subscribe("");
    expect_rows(&mut plain, &walcast.database());
    way.expect_used(&walcast);
}

fn a_file_made_later_is_served_from_its_first_row(way: Way) {
    let directory = directory();
    let walcast = way
        .on(directory.path())
        .stock_feed("create = false")
        .start();
    let mut plain = walcast.subscribe("");
    expect_rows(&mut plain, &walcast.database());
    assert_ledger(plain.ledger(), &walcast.database().rows());
    way.expect_used(&walcast);
}

fn a_file_replaced_by_rename_is_another_history(way: Way) {
    let directory = directory();
    let walcast = way.on(directory.path()).start();
    walcast.fill(5);
    let mut resumable = walcast.subscribe_live();
    let other = another(directory.path(), 8);
    walcast.database().replace_with(|database| {
        fs::rename(other.path(), database.path()).unwrap();
    });
    assert_eq!(resumable.expect("reset")["head"], 8);
    resumable.rows_to(8);
    resumable.expect("live");
    expect_rows(&mut resumable, &walcast.database());
    way.expect_used(&walcast);
}

fn a_file_that_lost_its_shm_is_opened_anew(way: Way) {
    let directory = directory();
    let walcast = way.on(directory.path()).start();
    walcast.fill(5);
    let mut resumable = walcast.subscribe_live();
    fs::remove_file(directory.path().join("walcast.db-shm")).unwrap();
    walcast.wait_for_log("it is opened anew");
    expect_rows(&mut resumable, &walcast.database());
    way.expect_used(&walcast);
}

fn a_directory_made_later_is_served(way: Way) {
    let directory = directory();
    let later = directory.path().join("later");
    let database = Database::at(later.join("walcast.db"));
    // Where there is no directory there is nothing to listen to.
    let walcast = Daemon::on(directory.path())
        .option("--watch", way.flag())
        .database(database.path())
        .stock_feed("create = false")
        .start();
    let mut plain = walcast.subscribe("");
    fs::create_dir(&later).unwrap();
    expect_rows(&mut plain, &database);
    if way != Way::Poll {
        wait_until("writes are heard of", || walcast.hears_of_writes());
        let heard = || walcast.metric(r#"walcast_wakes_total{source="wal"}"#);
        let before = heard();
        expect_rows(&mut plain, &database);
        assert!(heard() > before);
    }
    assert_ledger(plain.ledger(), &database.rows());
}

fn a_directory_moved_away_and_made_anew_is_followed(way: Way) {
    let directory = directory();
    let place = directory.path().join("place");
    fs::create_dir(&place).unwrap();
    let database = Database::at(place.join("walcast.db"));
    let walcast = way.on(directory.path()).database(database.path()).start();
    database.insert_many(5);
    walcast.wait_for_head(5);
    let mut resumable = walcast.subscribe_live();
    let other = another(directory.path(), 8);
    fs::rename(&place, directory.path().join("away")).unwrap();
    walcast.wait_for_log("does not exist");
    fs::create_dir(&place).unwrap();
    fs::rename(other.path(), database.path()).unwrap();
    assert_eq!(resumable.expect("waiting")["reason"], "no_database");
    assert_eq!(resumable.expect("reset")["head"], 8);
    resumable.rows_to(8);
    resumable.expect("live");
    expect_rows(&mut resumable, &database);
}

fn a_link_pointed_elsewhere_is_followed(way: Way) {
    let directory = directory();
    let (first, link) = (
        another(directory.path(), 5),
        directory.path().join("walcast.db"),
    );
    symlink(first.path(), &link).unwrap();
    let walcast = way.on(directory.path()).start();
    let mut resumable = walcast.subscribe_live();
    expect_rows(&mut resumable, &first);
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let second = another(&elsewhere, 9);
    symlink(second.path(), directory.path().join("new")).unwrap();
    fs::rename(directory.path().join("new"), &link).unwrap();
    assert_eq!(resumable.expect("reset")["head"], 9);
    resumable.rows_to(9);
    resumable.expect("live");
    expect_rows(&mut resumable, &second);
    way.expect_used(&walcast);
}

fn dense_commits_are_asked_for_and_the_next_row_is_heard_of(way: Way) {
    let directory = directory();
    let walcast = way.on(directory.path()).without_write_timeout().start();
    let mut plain = walcast.subscribe("");
    let last = walcast.commit_densely();
    plain.rows_to(last);
    if way != Way::Poll {
        wait_until("writes are heard of again", || walcast.hears_of_writes());
    }
    let writer = walcast.database().connect();
    for _ in 0..3 {
        let id = insert(&writer, "acme", "alone");
        assert_eq!(plain.next_row()["id"], id);
    }
    assert_ledger(plain.ledger(), &walcast.database().rows());
}
