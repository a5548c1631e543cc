//! Changes that a stream lacks, histories that end, and streams that are all an edge has.

use serde_json::{Value, json};
use walcast::config::CaptureMode::{Full, Keys};

use super::{STREAM, WRITES, edge_of, expect_each_once, head, origin, pair, streams_of};
use super::{table, take_until_held, wait_for_changes, wait_for_head, wait_for_stream_alone};
use crate::common::{Settings, wait_until};
use crate::scenes::{ORDERS, capture, follow, follow_live, settings};
use crate::server::Server;
use crate::setup::section;
use crate::stored::Client;

#[test]
fn changes_that_the_stream_has_no_more_come_from_the_origin() {
    let server = Server::start();
    let (origin, edge) = pair(&server, Full);
    let (database, epoch, before) = (origin.database(), origin.epoch(), head(&origin));
    let (_, mut held) = follow_live(&edge, "since=earliest");
    let settings = edge.stop();
    for turn in 0..5 {
        database.execute(&format!(
            "UPDATE orders SET note = {turn}; DELETE FROM orders WHERE id = {turn}"
        ));
    }
    let client = Client::of(&server);
    client.wait_for_row(STREAM, head(&origin));
    client.purge_all_but_one(STREAM);
    let edge = settings.start();
    wait_for_head(&edge, head(&origin));
    edge.wait_for_log("came from edge.upstream");
    let (mut subscriber, hello) = follow(&edge, &format!("since={before}&epoch={epoch}"));
    assert_eq!(
        (&hello["recovered"], hello.get("snapshot")),
        (&json!(true), None)
    );
    held.take_until_live(&mut subscriber);
    expect_each_once(&subscriber, head(&origin));
    assert_eq!(held, table(&database));
    // From here on it is the stream again that has them.
    wait_for_stream_alone(&origin);
    database.execute("UPDATE orders SET note = 'last'");
    take_until_held(&mut subscriber, &mut held, &database);
}

#[test]
fn changes_that_nobody_has_any_more_are_told_of_with_the_table_as_it_is() {
    let mut server = Server::start();
    let (origin, edge) = pair(&server, Keys);
    let (database, before) = (origin.database(), head(&origin));
    let (mut subscriber, mut held) = follow_live(&edge, "since=earliest");
    server.kill();
    edge.wait_for_log("is not had from its origin");
    database.execute("UPDATE orders SET total = 9; UPDATE orders SET total = 10");
    // Pruned before the origin has read them they would be no gap in the stream, but in the history.
    wait_for_head(&origin, head(&origin));
    let first = before + 4;
    database.execute(&format!("DELETE FROM _walcast_orders WHERE seq < {first}"));
    server.run();
    let said = take_until_held(&mut subscriber, &mut held, &database);
    let resets = said.iter().filter(|frame| frame["type"] == "reset");
    let resets: Vec<&Value> = resets.collect();
    assert_eq!(resets.len(), 1, "{resets:?}");
    // It is the history of before, some of which nobody was told.
    assert_eq!(resets[0]["reason"], "capture_interrupted");
    assert_eq!(resets[0]["snapshot"], true);
    assert_eq!(resets[0]["epoch"], origin.epoch());
    let messages = Client::of(&server).wait_for_row(STREAM, head(&origin));
    let gap = messages.iter().find(|message| message.kind == "gap");
    let gap = gap.expect("the stream tells of it");
    assert_eq!((gap.prev, gap.last), (before, before + 3));
}

#[test]
fn a_database_that_is_replaced_reaches_a_subscriber_of_an_edge_as_one_reset() {
    let server = Server::start();
    let (origin, edge) = pair(&server, Keys);
    let (database, old) = (origin.database(), origin.epoch());
    let (mut at_origin, _) = follow_live(&origin, "since=now");
    let (mut subscriber, mut held) = follow_live(&edge, "since=earliest");
    database.replace_with(|other| {
        other.execute(ORDERS);
        capture(other, "orders", Keys, &["tenant"]);
        other.execute("INSERT INTO orders VALUES (70, 'acme', 1, NULL)");
    });
    wait_until("the epoch is another", || origin.epoch() != old);
    let said = take_until_held(&mut subscriber, &mut held, &origin.database());
    let resets: Vec<&Value> = said
        .iter()
        .filter(|frame| frame["type"] == "reset")
        .collect();
    assert_eq!(resets.len(), 1, "{said:?}");
    let told = at_origin.expect("reset");
    drop(at_origin);
    for key in ["epoch", "reason"] {
        assert_eq!(resets[0][key], told[key]);
    }
    subscriber.expect("live");
    wait_for_stream_alone(&origin);
    origin
        .database()
        .execute("DELETE FROM orders WHERE id = 70");
    assert_eq!(subscriber.next_row()["op"], "d");
}

#[test]
fn a_capture_that_was_interrupted_is_told_at_an_edge_of_streams() {
    let server = Server::start();
    let (origin, edge) = pair(&server, Keys);
    let database = origin.database();
    let (mut subscriber, mut held) = follow_live(&edge, "since=earliest");
    database.execute("DROP TRIGGER _walcast_orders_update; UPDATE orders SET total = 9");
    capture(&database, "orders", Keys, &["tenant"]);
    let reset = subscriber.expect("reset");
    assert_eq!(
        (&reset["reason"], &reset["snapshot"]),
        (&json!("capture_interrupted"), &json!(true))
    );
    held.0.clear();
    held.take_until_live(&mut subscriber);
    assert_eq!(held, table(&database));
    assert_eq!(edge.epoch(), origin.epoch());
}

#[test]
fn a_stream_that_has_nothing_any_more_is_no_reason_to_wait() {
    let server = Server::start();
    let origin = origin(&server, Keys);
    let client = Client::of(&server);
    client.wait_for_row(STREAM, head(&origin));
    let stream = client.stream(STREAM);
    let purged = client.run(async move { stream.purge().await });
    purged.expect("a stream can be purged");
    let edge = edge_of(&server, &origin).start();
    wait_for_head(&edge, head(&origin));
    let (mut subscriber, mut held) = follow_live(&edge, "since=earliest");
    assert_eq!(held, table(&origin.database()));
    wait_for_stream_alone(&origin);
    origin.database().execute("UPDATE orders SET total = 12");
    take_until_held(&mut subscriber, &mut held, &origin.database());
}

#[test]
fn an_edge_of_streams_alone_says_what_a_feed_of_changes_needs() {
    let server = Server::start();
    let tables =
        format!("{ORDERS}; CREATE TABLE notes(id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT)");
    let keys = format!("[feeds.notes]\n{}", section(&server, ""));
    let origin = settings(&tables, "orders", Keys, &[], &keys).start();
    origin.database().execute(WRITES);
    origin
        .database()
        .execute("INSERT INTO notes(text) VALUES ('one')");
    let client = Client::of(&server);
    client.wait_for_row("walcast_notes", 1);
    client.wait_for_row(STREAM, head(&origin));
    let edge = streams_of(&server).edge().start();
    edge.wait_for_log("name the daemon that has it in edge.upstream");
    let refused = || edge.upgrade("/ws/orders?since=earliest", &[]);
    wait_until("the feed is refused", || {
        refused().error_message().contains("edge.upstream")
    });
    assert_eq!(refused().status, 503);
    assert_eq!(edge.get("/api/feeds/orders/events").status, 503);
    // The others are served.
    let mut subscriber = edge.subscribe_to("/ws/notes", "since=earliest");
    subscriber.expect("hello");
    subscriber.rows_until("live");
    origin
        .database()
        .execute("INSERT INTO notes(text) VALUES ('two')");
    assert_eq!(subscriber.next_row()["text"], "two");
    assert_eq!(edge.get("/readyz").status, 200);
    // And told of the daemon it serves this one, too.
    let settings = edge.stop();
    let edge = settings
        .edge_of(format!("ws://{}", origin.address()))
        .start();
    wait_until("the feed is served", || {
        edge.upgrade("/ws/orders?since=earliest", &[]).status == 101
    });
    assert_eq!(
        follow_live(&edge, "since=earliest").1,
        table(&origin.database())
    );
}

#[test]
fn an_edge_of_streams_alone_does_not_go_on_with_rows_of_what_became_a_feed_of_changes() {
    let server = Server::start();
    let origin = Settings::on_new_file()
        .with_tables(ORDERS)
        .toml(format!("feeds = \"*\"\n{}", section(&server, "")))
        .start();
    let database = origin.database();
    database.execute(WRITES);
    Client::of(&server).wait_for_row(STREAM, 7);
    let edge = streams_of(&server).edge().start();
    wait_for_head(&edge, 7);
    let mut edge = edge.restart();
    wait_for_head(&edge, 7);
    capture(&database, "orders", Keys, &[]);
    wait_for_changes(&server);
    // As where it has an upstream.
    assert_eq!(edge.wait_for_exit().code(), Some(1));
    let edge = edge.settings().clone().start();
    wait_until("the feed is refused", || {
        let refused = edge.upgrade("/ws/orders?since=earliest", &[]);
        refused.status == 503 && refused.error_message().contains("edge.upstream")
    });
}
