//! Edges that have their feeds from streams.

use crate::common::{Daemon, Settings, wait_until};
use crate::server::Server;
use crate::setup::{STREAM, publishing, wait_for_state};
use crate::stored::Client;

/// An edge of the streams of this server.
fn edge_of(server: &Server) -> Settings {
    let toml = format!("[edge]\nnats = {:?}\n", server.url());
    Settings::on_new_file().toml(toml).edge()
}

/// An origin that publishes, and an edge that has what is there.
fn pair(server: &Server) -> (Daemon, Daemon) {
    let origin = publishing(Daemon::on_new_file(), server, "").start();
    wait_for_state(&origin, "live");
    let edge = edge_of(server).start();
    edge.wait_until_ready();
    (origin, edge)
}

fn all(last: i64) -> Vec<i64> {
    (1..=last).collect()
}

#[test]
fn an_edge_serves_what_is_published_under_the_same_epoch() {
    let server = Server::start();
    let origin = publishing(Daemon::on_new_file(), &server, "").start();
    wait_for_state(&origin, "live");
    let last = origin.fill(1_000);
    Client::of(&server).wait_for_row(STREAM, last);
    let edge = edge_of(&server).start();
    edge.wait_for_head(last);
    assert_eq!(edge.epoch(), origin.epoch());
    let (mut subscriber, _) = edge.resume("since=earliest");
    let (ids, _) = subscriber.replay();
    assert_eq!(ids, all(last));
    // One row, followed by silence.
    let one = origin.database().insert("one");
    assert_eq!(subscriber.rows_to(one).len(), 1);
    // A position of the edge holds at the origin, and the other way round.
    for daemon in [&edge, &origin] {
        let (mut subscriber, hello) = daemon.resume(&format!("since=990&epoch={}", edge.epoch()));
        assert_eq!(hello["recovered"], true);
        assert_eq!(subscriber.replay().0, (991..=one).collect::<Vec<i64>>());
    }
}

#[test]
fn rows_come_whole_to_an_edge_however_large() {
    let server = Server::start();
    let (origin, edge) = pair(&server);
    let mut subscriber = edge.subscribe_live();
    origin.database().insert("small");
    origin.database().insert(&"x".repeat(3_000_000));
    let last = origin.database().insert("last");
    subscriber.rows_to(last);
    let length = "SELECT max(length(details)) FROM remediation";
    let spooled: i64 = edge
        .database()
        .connect()
        .query_row(length, [], |row| row.get(0))
        .expect("the spool can be read");
    assert_eq!(spooled, 3_000_000);
}

#[test]
fn an_edge_that_was_away_goes_on_where_it_was() {
    let server = Server::start();
    let (origin, edge) = pair(&server);
    let before = origin.fill(100);
    edge.wait_for_head(before);
    let settings = edge.stop();
    let meanwhile = origin.fill(200);
    let edge = settings.start();
    edge.wait_for_head(meanwhile);
    let (mut subscriber, hello) = edge.resume(&format!("since={before}&epoch={}", origin.epoch()));
    assert_eq!(hello["recovered"], true);
    let (ids, _) = subscriber.replay();
    assert_eq!(ids, ((before + 1)..=meanwhile).collect::<Vec<i64>>());
    let last = origin.database().insert("x");
    assert_eq!(crate::common::id(&subscriber.next_row()), last);
    assert!(!edge.log().contains("had from the first on"));
}

#[test]
fn a_client_of_an_edge_misses_nothing_over_a_server_that_is_killed_or_restored() {
    let mut server = Server::start();
    let (origin, edge) = pair(&server);
    let mut subscriber = edge.subscribe_live();
    let kept_at = origin.fill(100);
    subscriber.rows_to(kept_at);
    server.stop();
    let kept = server.keep_store();
    server.run();
    let lost = origin.fill(200);
    subscriber.rows_to(lost);
    server.kill();
    let meanwhile = origin.fill(100);
    server.restore(&kept);
    server.run();
    subscriber.rows_to(meanwhile);
    let last = origin.database().insert("after");
    subscriber.rows_to(last);
    assert_eq!(crate::common::ids(subscriber.ledger()), all(last));
    edge.wait_until_ready();
}

#[test]
fn what_is_on_its_way_is_not_taken_for_deleted() {
    let server = Server::start();
    let (origin, edge) = pair(&server);
    let last = origin.fill(5);
    edge.wait_for_head(last);
    // As a publisher says it that has sent rows up to 9, of which those above 5 are not stored yet, and of which those up to 7
    // were deleted.
    let standing = serde_json::json!({
        "publisher": { "started": u64::MAX, "id": "another", "host": "db" },
        "epoch": origin.epoch(), "head": 9, "published": 5, "complete": 7,
    });
    Client::of(&server).say("walcast.remediation.standing", &standing);
    edge.wait_for_head(7);
    assert_eq!(edge.feed()["head"], 7);
}

#[test]
fn an_edge_that_has_come_further_than_the_stream_lacks_nothing() {
    let mut server = Server::start();
    let (origin, edge) = pair(&server);
    let last = origin.fill(5);
    edge.wait_for_head(last);
    server.stop();
    let deleted = origin.database().insert("deleted before it is published");
    origin.wait_for_head(deleted);
    origin.database().execute(&format!(
        "DELETE FROM remediation_events WHERE id = {deleted}"
    ));
    server.run();
    edge.wait_for_head(deleted);
    let edge = edge.restart();
    edge.wait_until_ready();
    // Longer than nothing may come of a stream that has more.
    Client::of(&server).hear("walcast.remediation.standing", 3);
    edge.wait_until_ready();
    assert!(!edge.log().contains("brought nothing"), "{}", edge.log());
    let mut subscriber = edge.subscribe_live();
    let one = origin.database().insert("one");
    assert_eq!(crate::common::id(&subscriber.next_row()), one);
}

#[test]
fn a_stream_that_was_deleted_and_filled_again_is_no_news_to_an_edge() {
    let server = Server::start();
    let (origin, edge) = pair(&server);
    let mut subscriber = edge.subscribe_live();
    let before = origin.fill(100);
    subscriber.rows_to(before);
    Client::of(&server).delete_stream(STREAM);
    let last = origin.database().insert("after");
    // It hears that there is more, and that nothing comes.
    edge.wait_for_log("is not had from its origin");
    subscriber.rows_to(last);
    assert_eq!(crate::common::ids(subscriber.ledger()), all(last));
    assert_eq!(edge.epoch(), origin.epoch());
}

#[test]
fn a_history_that_is_replaced_reaches_a_client_of_an_edge_as_one_reset() {
    let server = Server::start();
    let (origin, edge) = pair(&server);
    let last = origin.fill(5);
    edge.wait_for_head(last);
    let (mut subscriber, _) = edge.resume("since=earliest");
    assert_eq!(subscriber.replay().0, all(last));
    let old = origin.epoch();
    origin.database().replace_with(|other| {
        other.execute(crate::common::database::STOCK_SCHEMA);
        other.insert_many(2);
    });
    wait_until("the epoch is another", || origin.epoch() != old);
    let reset = subscriber.expect("reset");
    assert_eq!(reset["epoch"], origin.epoch());
    assert_eq!(subscriber.replay().0, [1, 2]);
    let third = origin.database().insert("x");
    assert_eq!(crate::common::id(&subscriber.next_row()), third);
}

#[test]
fn an_edge_begins_after_a_row_that_is_there_in_part() {
    let server = Server::start();
    let client = Client::of(&server);
    let origin = publishing(Daemon::on_new_file(), &server, "").start();
    wait_for_state(&origin, "live");
    let large = origin.database().insert(&"x".repeat(3_000_000));
    let last = origin.database().insert("last");
    let messages = client.wait_for_row(STREAM, last);
    let second = messages
        .iter()
        .find(|message| message.part.starts_with("2/"));
    let second = second.expect("it came in parts").sequence;
    let stream = client.stream(STREAM);
    let purged = client.run(async move { stream.purge().sequence(second).await });
    purged.expect("a stream can be purged");
    let edge = edge_of(&server).start();
    edge.wait_for_head(last);
    let (mut subscriber, _) = edge.resume("since=earliest");
    assert_eq!(subscriber.replay().0, [large + 1]);
}

#[test]
fn an_edge_begins_after_a_link_that_is_missing() {
    let server = Server::start();
    let client = Client::of(&server);
    let origin = publishing(Daemon::on_new_file(), &server, "").start();
    wait_for_state(&origin, "live");
    for id in 1..=6 {
        assert_eq!(origin.database().insert("x"), id);
        client.wait_for_row(STREAM, id);
    }
    let messages = client.messages(STREAM);
    let third = messages
        .iter()
        .find(|message| message.last == 3)
        .expect("it is there");
    client.delete_message(STREAM, third.sequence);
    let edge = edge_of(&server).start();
    edge.wait_for_head(6);
    // What is before the hole is not joined to what is after it: nobody is told that he has everything.
    let (mut subscriber, hello) = edge.resume(&format!("since=2&epoch={}", origin.epoch()));
    assert_eq!(hello["recovered"], false);
    assert_eq!(subscriber.replay().0, [4, 5, 6]);
}

#[test]
fn an_edge_without_its_server_serves_what_it_has_and_says_so() {
    let mut server = Server::start();
    let (origin, edge) = pair(&server);
    let last = origin.fill(10);
    edge.wait_for_head(last);
    server.kill();
    edge.wait_for_log("is not had from its origin");
    let (mut subscriber, _) = edge.resume("since=earliest");
    assert_eq!(subscriber.replay().0, all(last));
    let settings = edge.stop();
    let edge = settings.start();
    let (mut subscriber, _) = edge.resume("since=earliest");
    assert_eq!(subscriber.replay().0, all(last));
    server.run();
    let next = origin.database().insert("x");
    subscriber.rows_to(next);
}
