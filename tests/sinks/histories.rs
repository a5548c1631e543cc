//! A table that is replaced, and rows that are deleted before they were posted.

use crate::common::{Daemon, Database, wait_until};
use crate::receiver::Receiver;
use crate::setup::{counted, wait_for_state, with_sink};

#[test]
fn another_history_is_posted_from_its_first_row_on() {
    let receiver = Receiver::start();
    let daemon = with_sink(Daemon::on_new_file(), &receiver.url(), "").start();
    wait_for_state(&daemon, "live");
    daemon.fill(5);
    receiver.ids_up_to(5);
    let old = daemon.epoch();
    daemon.database().replace_with(|other| {
        other.execute(crate::common::database::STOCK_SCHEMA);
        other.insert_many(2);
    });
    wait_until("the epoch is another", || daemon.epoch() != old);
    let new = daemon.epoch();
    let posts = receiver.wait_until("its last row came", |posts| {
        posts
            .iter()
            .any(|post| post.header("webhook-id") == format!("{new}:2"))
    });
    let of_new = posts
        .iter()
        .filter(|post| post.json()["epoch"] == new.as_str());
    let ids: Vec<i64> = of_new.flat_map(|post| post.ids()).collect();
    assert_eq!(ids, [1, 2]);
    daemon.wait_for_log("another history began");
}

#[test]
fn a_history_that_changed_while_the_daemon_was_down_is_noticed() {
    let receiver = Receiver::start();
    let daemon = with_sink(Daemon::on_new_file(), &receiver.url(), "").start();
    wait_for_state(&daemon, "live");
    daemon.fill(5);
    receiver.ids_up_to(5);
    wait_until("they were taken", || counted(&daemon, "rows_total") == 5.0);
    let settings = daemon.stop();
    Database::at(settings.database_path()).replace_with(|other| {
        other.execute(crate::common::database::STOCK_SCHEMA);
        other.insert_many(7);
    });
    let before = receiver.posts().len();
    let daemon = settings.start();
    let epoch = daemon.epoch();
    let posts = receiver.wait_until("its last row came", |posts| {
        posts
            .iter()
            .any(|post| post.header("webhook-id") == format!("{epoch}:7"))
    });
    let ids: Vec<i64> = posts[before..].iter().flat_map(|post| post.ids()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn rows_that_were_pruned_before_they_were_posted_are_told_of() {
    let receiver = Receiver::start();
    let settings = with_sink(
        Daemon::on_new_file(),
        &receiver.url(),
        "since = \"earliest\"",
    );
    let daemon = settings.start();
    daemon.fill(5);
    receiver.ids_up_to(5);
    wait_until("they were taken", || counted(&daemon, "rows_total") == 5.0);
    let settings = daemon.stop();
    let database = Database::at(settings.database_path());
    database.insert_many(5);
    database.execute("DELETE FROM remediation_events WHERE id < 9");
    let daemon = settings.start();
    assert_eq!(receiver.ids_up_to(10), [1, 2, 3, 4, 5, 9, 10]);
    daemon.wait_for_log("rows that were not delivered are gone");
}

#[test]
fn a_position_that_can_t_be_read_has_everything_posted_again() {
    let receiver = Receiver::start();
    let settings = with_sink(Daemon::on_new_file(), &receiver.url(), "");
    let daemon = settings.start();
    wait_for_state(&daemon, "live");
    daemon.fill(3);
    receiver.ids_up_to(3);
    wait_until("they were taken", || counted(&daemon, "rows_total") == 3.0);
    let settings = daemon.stop();
    let state =
        std::fs::read_dir(settings.directory().join("state")).expect("there is a state directory");
    let of_sink = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".sink.json");
    let kept: Vec<_> = state
        .map(|file| file.expect("a file").path())
        .filter(of_sink)
        .collect();
    assert_eq!(kept.len(), 1);
    std::fs::write(&kept[0], "{").expect("it can be damaged");
    let before = receiver.posts().len();
    let daemon = settings.start();
    let posts = receiver.wait_until("they came again", |posts| {
        posts[before..]
            .iter()
            .map(|post| post.ids().len())
            .sum::<usize>()
            == 3
    });
    assert_eq!(posts[before].ids()[0], 1);
    daemon.wait_for_log("is damaged, so everything is delivered again");
}
