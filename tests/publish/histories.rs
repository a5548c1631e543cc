//! Tables and streams that are replaced, restored, pruned or removed.

use crate::common::{Daemon, Database, wait_until};
use crate::server::Server;
use crate::setup::{STREAM, failures, published, publishing, wait_for_state, wait_for_trouble};
use crate::stored::{Client, ledger};

#[test]
fn another_history_begins_with_a_reset_and_the_old_one_goes() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let last = daemon.fill(5);
    client.wait_for_row(STREAM, last);
    let old = daemon.epoch();
    daemon.database().replace_with(|other| {
        other.execute(crate::common::database::STOCK_SCHEMA);
        other.insert_many(2);
    });
    wait_until("the epoch is another", || daemon.epoch() != old);
    let new = daemon.epoch();
    let of_new = |messages: &[crate::stored::Message]| {
        messages.iter().all(|message| message.epoch == new)
            && messages.last().is_some_and(|last| last.last == 2)
    };
    wait_until("the old history is gone from the stream", || {
        of_new(&client.messages(STREAM))
    });
    let messages = client.messages(STREAM);
    assert_eq!(messages[0].kind, "reset");
    assert_eq!(ledger(&messages), [1, 2]);
    let resets = messages.iter().filter(|message| message.kind == "reset");
    assert_eq!(resets.count(), 1);
}

#[test]
fn a_history_that_changed_while_the_daemon_was_down_is_published_anew() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let last = daemon.fill(5);
    client.wait_for_row(STREAM, last);
    let settings = daemon.stop();
    Database::at(settings.database_path()).replace_with(|other| {
        other.execute(crate::common::database::STOCK_SCHEMA);
        other.insert_many(7);
    });
    let daemon = settings.start();
    // Whether another publishes there is listened for first.
    let messages = client.wait_for_row(STREAM, 7);
    assert_eq!(ledger(&messages), (1..=7).collect::<Vec<i64>>());
    assert_eq!(
        messages.last().map(|last| last.epoch.as_str()),
        Some(daemon.epoch().as_str())
    );
}

#[test]
fn a_table_that_was_away_for_a_while_goes_on_in_its_stream() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let last = daemon.fill(5);
    let before = client.wait_for_row(STREAM, last);
    // Servers know messages again for a tenth of a second.
    std::thread::sleep(2 * client.config(STREAM).duplicate_window);
    let database = daemon.database();
    database.execute("ALTER TABLE remediation_events RENAME TO elsewhere");
    wait_for_state(&daemon, "waiting");
    database.execute("ALTER TABLE elsewhere RENAME TO remediation_events");
    wait_for_state(&daemon, "live");
    let last = database.insert("after");
    let messages = client.wait_for_row(STREAM, last);
    assert_eq!(messages[..before.len()], before);
    assert_eq!(ledger(&messages), (1..=last).collect::<Vec<i64>>());
    assert_eq!(failures(&daemon, "elsewhere"), 0.0);
}

#[test]
fn rows_that_were_pruned_before_they_were_published_are_told_of() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let last = daemon.fill(5);
    client.wait_for_row(STREAM, last);
    let settings = daemon.stop();
    let database = Database::at(settings.database_path());
    database.insert_many(5);
    database.execute("DELETE FROM remediation_events WHERE id < 9");
    let daemon = settings.start();
    let messages = client.wait_for_row(STREAM, 10);
    assert_eq!(ledger(&messages), [1, 2, 3, 4, 5, 9, 10]);
    let gap = messages
        .iter()
        .find(|message| message.kind == "gap")
        .expect("it is told");
    assert_eq!((gap.prev, gap.last), (5, 8));
    daemon.wait_for_log("removed from the table before they were published");
}

#[test]
fn a_store_that_was_restored_is_filled_again() {
    let mut server = Server::start();
    let daemon = published(&server);
    let kept_at = daemon.fill(100);
    Client::of(&server).wait_for_row(STREAM, kept_at);
    server.stop();
    let kept = server.keep_store();
    server.run();
    let lost = daemon.fill(300);
    Client::of(&server).wait_for_row(STREAM, lost);
    server.kill();
    server.restore(&kept);
    server.run();
    let last = daemon.database().insert("after");
    let client = Client::of(&server);
    client.expect_rows_to(last);
}

#[test]
fn a_stream_that_was_deleted_is_made_and_filled_again() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let before = daemon.fill(200);
    client.wait_for_row(STREAM, before);
    client.delete_stream(STREAM);
    let last = daemon.database().insert("after");
    client.expect_rows_to(last);
}

#[test]
fn a_message_deleted_from_the_middle_stops_nothing_and_one_at_the_end_is_sent_again() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    for id in 1..=5 {
        assert_eq!(daemon.database().insert("x"), id);
        client.wait_for_row(STREAM, id);
    }
    let third = client
        .messages(STREAM)
        .iter()
        .find(|message| message.last == 3)
        .map(|m| m.sequence);
    client.delete_message(STREAM, third.expect("it is there"));
    let sixth = daemon.database().insert("x");
    let messages = client.wait_for_row(STREAM, sixth);
    // Its reader sees that a link is missing.
    let after = messages
        .iter()
        .find(|message| message.last == 4)
        .expect("it is there");
    assert_eq!(after.prev, 3);
    let settings = daemon.stop();
    let newest = messages.last().expect("there is one");
    assert_eq!(newest.last, sixth);
    client.delete_message(STREAM, newest.sequence);
    let daemon = settings.start();
    let last = daemon.database().insert("x");
    let messages = client.wait_for_row(STREAM, last);
    let lasts: Vec<i64> = messages.iter().map(|message| message.last).collect();
    // Of the two newest rows each is there once, in one message or two.
    let tail = &messages[messages
        .iter()
        .position(|m| m.last == 5)
        .expect("it is there")
        + 1..];
    let ids: Vec<i64> = tail
        .iter()
        .flat_map(|m| m.rows())
        .filter_map(|row| row[0].as_i64())
        .collect();
    assert_eq!(ids, [sixth, last], "{lasts:?}");
}

#[test]
fn a_stream_that_was_emptied_goes_on() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let before = daemon.fill(10);
    client.wait_for_row(STREAM, before);
    let stream = client.stream(STREAM);
    client
        .run(async { stream.purge().await })
        .expect("a stream can be purged");
    let last = daemon.database().insert("x");
    let messages = client.wait_for_row(STREAM, last);
    assert_eq!(
        messages.last().map(|m| (m.prev, m.last)),
        Some((before, last))
    );
    // Where it ended is not known any more: the table is published again.
    let settings = daemon.stop();
    client
        .run(async { stream.purge().await })
        .expect("a stream can be purged");
    let _daemon = settings.start();
    client.expect_rows_to(last);
}

#[test]
fn the_younger_of_two_publishers_stops_before_it_undoes_anything() {
    let server = Server::start();
    let client = Client::of(&server);
    let first = publishing(Daemon::on_new_file(), &server, "").start();
    wait_for_state(&first, "live");
    let last = first.fill(5);
    client.wait_for_row(STREAM, last);
    // Of the same name, and another database.
    let second = publishing(Daemon::on_new_file(), &server, "").start();
    second.database().insert_many(9);
    wait_for_state(&second, "ended");
    wait_for_trouble(&second, "another walcast on");
    second.wait_for_log("is published no more");
    let last = first.database().insert("still");
    let messages = client.wait_for_row(STREAM, last);
    assert_eq!(ledger(&messages), (1..=last).collect::<Vec<i64>>());
    assert!(
        messages
            .iter()
            .all(|message| message.epoch == first.epoch())
    );
    assert_eq!(second.get("/readyz").status, 200, "it serves on");
}
