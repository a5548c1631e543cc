//! Feeds of changes, published and at edges that have them from streams.

mod lost;

use std::time::Instant;

use serde_json::{Value, json};
use walcast::config::CaptureMode::{self, Full, Keys};
use walcast::sqlite::capture::remove;

use crate::common::secrets::add_token;
use crate::common::wait::pause;
use crate::common::{Daemon, Database, PATIENCE, Settings, Subscriber, wait_until};
use crate::line::Line;
use crate::scenes::{Held, ORDERS, capture, follow, follow_live, settings};
use crate::server::Server;
use crate::setup::section;
use crate::stored::{Client, Message};

const STREAM: &str = "walcast_orders";

const WRITES: &str = "INSERT INTO orders VALUES (1, 'acme', 5, 'a'), (2, 'globex', 0.1, x'00ff'), (3, 'acme', 9e999, NULL);
     UPDATE orders SET total = 6 WHERE id = 1; UPDATE orders SET tenant = 'globex' WHERE id = 3;
     UPDATE orders SET id = 7 WHERE id = 2; DELETE FROM orders WHERE id = 3;
     INSERT INTO orders VALUES (4, NULL, 9007199254740993, CAST(x'61ff' AS TEXT))";

/// An origin that publishes the changes of `orders`, captured so, to which `WRITES` were made.
fn origin(server: &Server, mode: CaptureMode) -> Daemon {
    let section = section(server, "");
    let origin = settings(ORDERS, "orders", mode, &["tenant"], &section).start();
    origin.database().execute(WRITES);
    origin
}

/// An edge of the streams of this server, and of this daemon.
fn edge_of(server: &Server, upstream: &Daemon) -> Settings {
    streams_of(server).edge_of(format!("ws://{}", upstream.address()))
}

fn streams_of(server: &Server) -> Settings {
    Settings::on_new_file().toml(format!("[edge]\nnats = {:?}\n", server.url()))
}

/// An origin, and an edge that has what is there and goes on from the stream alone.
#[track_caller]
fn pair(server: &Server, mode: CaptureMode) -> (Daemon, Daemon) {
    let origin = origin(server, mode);
    let edge = edge_of(server, &origin).start();
    edge.wait_until_ready();
    wait_for_stream_alone(&origin);
    (origin, edge)
}

/// Waits until nobody has the feed from the origin itself.
#[track_caller]
fn wait_for_stream_alone(origin: &Daemon) {
    wait_until("the edge is no subscriber of the origin", || {
        // The publisher is one.
        listed(origin)["subscribers"] == 1
    });
}

fn listed(daemon: &Daemon) -> Value {
    daemon.get("/api/feeds").json()["feeds"][0].clone()
}

/// The number of the newest change.
fn head(origin: &Daemon) -> i64 {
    origin
        .database()
        .number("SELECT max(seq) FROM _walcast_orders")
}

#[track_caller]
fn wait_for_head(daemon: &Daemon, seq: i64) {
    let deadline = Instant::now() + 4 * PATIENCE;
    while listed(daemon)["head"] != seq {
        assert!(
            Instant::now() < deadline,
            "{seq} is not the head: {}",
            listed(daemon)
        );
        pause();
    }
}

/// Waits until the stream ends with changes.
#[track_caller]
fn wait_for_changes(server: &Server) {
    let client = Client::of(server);
    let deadline = Instant::now() + 4 * PATIENCE;
    let is_of_changes = |message: &Message| message.lines()[0]["type"] == "changes";
    while !client.messages(STREAM).last().is_some_and(is_of_changes) {
        assert!(Instant::now() < deadline, "the stream is not of changes");
        pause();
    }
}

fn table(database: &Database) -> Held {
    Held::of(database, "SELECT * FROM orders", &["id"])
}

/// Takes what comes until what is held is the table, as who goes on from before; gives the frames that were no changes.
#[track_caller]
fn take_until_held(
    subscriber: &mut Subscriber,
    held: &mut Held,
    database: &Database,
) -> Vec<Value> {
    let (wanted, mut said) = (table(database), vec![]);
    while *held != wanted {
        said.extend(held.take(subscriber));
    }
    said
}

/// Takes what comes up to this change; gives the frames that were no changes.
#[track_caller]
fn take_to(subscriber: &mut Subscriber, held: &mut Held, last: i64) -> Vec<Value> {
    let mut said = vec![];
    while !subscriber
        .ledger()
        .last()
        .is_some_and(|change| change["seq"] == last)
    {
        said.extend(held.take(subscriber));
    }
    said
}

/// The numbers of the changes that came, each of which must follow on the one before it.
#[track_caller]
fn expect_each_once(subscriber: &Subscriber, last: i64) {
    let changes = subscriber.ledger().iter();
    let numbers: Vec<i64> = changes
        .filter_map(|change| change["seq"].as_i64())
        .collect();
    let first = *numbers.first().expect("changes came");
    assert_eq!(numbers, (first..=last).collect::<Vec<i64>>());
}

#[test]
fn changes_are_in_the_stream_as_edges_get_them() {
    let server = Server::start();
    let origin = origin(&server, Keys);
    let last = head(&origin);
    let messages = Client::of(&server).wait_for_row(STREAM, last);
    let (mut at, mut numbers) = (0, vec![]);
    for message in &messages {
        assert_eq!(
            (message.prev, &message.epoch),
            (at, &origin.epoch()),
            "{message:?}"
        );
        at = message.last;
        let lines = message.lines();
        assert_eq!(
            (&lines[0]["type"], &lines[0]["changes"]["capture"]),
            (&json!("changes"), &json!("keys"))
        );
        for line in &lines[1..] {
            assert_eq!(line["type"], "change");
            numbers.push(line["log"][0].as_i64().expect("a change has a number"));
        }
    }
    assert_eq!((messages[0].kind.as_str(), messages[0].last), ("reset", 0));
    assert_eq!(numbers, (1..=last).collect::<Vec<i64>>());
}

#[test]
fn what_an_edge_of_streams_sends_of_changes_is_what_its_origin_does() {
    for mode in [Keys, Full] {
        let server = Server::start();
        let (origin, edge) = pair(&server, mode);
        assert_eq!(edge.epoch(), origin.epoch());
        let database = origin.database();
        for filter in ["", "&tenant=acme", "&tenant=globex"] {
            let query = format!("since=earliest{filter}");
            let mut both = [&edge, &origin].map(|daemon| follow_live(daemon, &query));
            assert_eq!(both[0].1, both[1].1, "{query}");
            for sql in [
                "INSERT OR REPLACE INTO orders VALUES (5, 'acme', 1, 'b')",
                "UPDATE orders SET tenant = 'globex' WHERE id = 5",
                "UPDATE orders SET id = 6, tenant = 'acme' WHERE id = 5",
                "INSERT OR REPLACE INTO orders VALUES (6, 'globex', 1, 'c')",
                "DELETE FROM orders WHERE id = 6",
            ] {
                database.execute(sql);
                // Of a row that is another by the time it is read, the one it is then is told.
                for daemon in [&edge, &origin] {
                    wait_for_head(daemon, head(&origin));
                }
            }
            database.execute(
                "INSERT OR REPLACE INTO orders VALUES (8, 'acme', 1, NULL), (9, 'globex', 1, NULL)",
            );
            let both = both.each_mut().map(|(subscriber, _)| {
                let last = if filter == "&tenant=acme" { 8 } else { 9 };
                let mut texts = vec![];
                while !texts.last().is_some_and(|text: &String| {
                    text.contains(&format!("\"key\":{{\"id\":{last}}}"))
                }) {
                    texts.push(subscriber.next_text());
                }
                texts
            });
            assert_eq!(both[0], both[1], "{query}");
            database.execute("DELETE FROM orders WHERE id > 7");
            wait_for_head(&edge, head(&origin));
        }
        wait_for_stream_alone(&origin);
        assert_eq!(follow_live(&edge, "since=0").1, table(&database));
    }
}

#[test]
fn whoever_is_kept_to_their_own_rows_is_so_at_an_edge_of_streams() {
    let server = Server::start();
    let directory = crate::common::directory();
    let tokens = directory.path().join("tokens.toml");
    let token = |args: &[&str]| add_token(&tokens, &[args, &["--feed", "orders"]].concat());
    let acme = token(&["acme", "--where", "tenant=acme"]);
    let fed = token(&["edge", "--edge"]);
    let auth = format!("[auth]\ntokens = {tokens:?}\n");
    let scope = "exclude = [\"tenant\"]\nscope = { tenant = \"claim:tenant\" }";
    let keys = format!("{scope}\n{auth}{}", section(&server, ""));
    let origin = settings(ORDERS, "orders", Keys, &["tenant"], &keys).start();
    let database = origin.database();
    database.execute(WRITES);
    let token_file = directory.path().join("upstream.token");
    std::fs::write(&token_file, fed).expect("a token can be written");
    let edge = Settings::on_new_file()
        .toml(format!("[edge]\nnats = {:?}\n{auth}", server.url()))
        .edge_of(format!("ws://{}", origin.address()))
        .option("--token-file", &token_file)
        .start();
    edge.wait_until_ready();
    edge.wait_for_log("came from edge.upstream");
    let bearer = format!("Bearer {acme}");
    let headers = [("Authorization", &*bearer)];
    let mut both = [&edge, &origin].map(|daemon| {
        Subscriber::connect_with(daemon.address(), "/ws/orders", "since=0", &headers)
    });
    database.execute("UPDATE orders SET tenant = 'acme', id = 8 WHERE id = 7");
    database.execute("UPDATE orders SET tenant = NULL, id = 9 WHERE id = 8");
    database.execute("UPDATE orders SET note = 'seen' WHERE id = 1");
    let held = both.each_mut().map(|subscriber| {
        let mut held = Held::default();
        let is_seen = |held: &Held| held.0.values().any(|row| row["note"] == "seen");
        while !is_seen(&held) || held.0.len() > 1 {
            held.take(subscriber);
        }
        held
    });
    assert_eq!(held[0], held[1]);
    assert!(!json!(both[0].ledger()).to_string().contains("globex"));
}

#[test]
fn whoever_applies_changes_of_an_edge_holds_the_table_over_restarts_of_everything() {
    let mut server = Server::start();
    let (origin, mut edge) = pair(&server, Keys);
    let (database, epoch) = (origin.database(), origin.epoch());
    let (mut subscriber, mut held) = follow_live(&edge, "since=earliest");
    server.stop();
    database.execute("UPDATE orders SET total = 1; DELETE FROM orders WHERE id = 7");
    server.run();
    let said = take_to(&mut subscriber, &mut held, head(&origin));
    assert!(
        said.iter().all(|frame| frame["type"] == "heartbeat"),
        "{said:?}"
    );
    expect_each_once(&subscriber, head(&origin));
    server.kill();
    database
        .execute("INSERT INTO orders VALUES (20, 'acme', 1, NULL); UPDATE orders SET total = 2");
    server.run();
    take_to(&mut subscriber, &mut held, head(&origin));
    expect_each_once(&subscriber, head(&origin));
    assert_eq!(held, table(&database));
    for turn in 0..3 {
        let at = head(&origin);
        wait_for_head(&edge, at);
        let settings = edge.kill();
        database.execute(&format!("UPDATE orders SET note = {turn}; INSERT INTO orders VALUES (30 + {turn}, 'acme', 1, NULL)"));
        edge = settings.start();
        wait_for_head(&edge, head(&origin));
        let (mut subscriber, hello) = follow(&edge, &format!("since={at}&epoch={epoch}"));
        assert_eq!(
            (&hello["recovered"], hello.get("snapshot")),
            (&json!(true), None)
        );
        held.take_until_live(&mut subscriber);
        expect_each_once(&subscriber, head(&origin));
        assert_eq!(held, table(&database));
    }
    assert!(!edge.log().contains("from the first on"), "{}", edge.log());
}

#[test]
fn a_large_table_and_its_changes_join_while_it_is_written_to() {
    for mode in [Keys, Full] {
        let server = Server::start();
        let origin = origin(&server, mode);
        let database = origin.database();
        database.execute(
            "WITH RECURSIVE s(n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM s WHERE n < 20000)
             INSERT INTO orders SELECT n, 'acme', n, hex(randomblob(50)) FROM s",
        );
        let edge = edge_of(&server, &origin).start();
        let connection = database.connect();
        for id in 3..400 {
            let sql = format!(
                "UPDATE orders SET total = -1 WHERE id = {id} * 40; DELETE FROM orders WHERE id = {id} * 41"
            );
            connection.execute_batch(&sql).expect("it can be written");
        }
        drop(connection);
        wait_for_head(&edge, head(&origin));
        assert_eq!(follow_live(&edge, "since=earliest").1, table(&database));
        let spool = Database::at(edge.settings().database_path());
        let changes = "SELECT count(*) FROM _walcast_changes_orders";
        let logged = database.number("SELECT count(*) FROM _walcast_orders");
        assert_eq!(spool.number(changes), logged);
        // One that is larger than a message.
        wait_for_stream_alone(&origin);
        database.execute("INSERT INTO orders VALUES (50, 'acme', 1, hex(zeroblob(1500000)))");
        wait_for_head(&edge, head(&origin));
        let longest = "SELECT max(length(note)) FROM orders";
        assert_eq!(spool.number(longest), 3_000_000);
    }
}

#[test]
fn an_edge_that_is_killed_in_the_table_as_it_is_begins_with_it_again() {
    let server = Server::start();
    let origin = origin(&server, Keys);
    let database = origin.database();
    database.execute(
        "WITH RECURSIVE s(n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM s WHERE n < 8000)
         INSERT INTO orders SELECT n, 'acme', n, 'x' FROM s",
    );
    let line = Line::slow_to(origin.address());
    let settings = streams_of(&server).edge_of(format!("ws://{}", line.address));
    let spool = Database::at(settings.database_path());
    let edge = settings.start();
    wait_until("some of the table has come", || {
        let rows = "SELECT count(*) FROM orders";
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'orders'";
        spool.number(tables) > 0 && spool.number(rows) > 0
    });
    let settings = edge.kill();
    database
        .execute("DELETE FROM orders WHERE id < 200; UPDATE orders SET id = 20000 WHERE id = 7000");
    let edge = settings.start();
    wait_for_head(&edge, head(&origin));
    assert_eq!(follow_live(&edge, "since=earliest").1, table(&database));
}

#[test]
fn a_feed_that_becomes_one_of_changes_is_one_in_its_stream_and_at_an_edge() {
    let server = Server::start();
    let toml = format!("feeds = \"*\"\n{}", section(&server, ""));
    let origin = Settings::on_new_file()
        .with_tables(ORDERS)
        .toml(toml)
        .start();
    let database = origin.database();
    database.execute(WRITES);
    let client = Client::of(&server);
    client.wait_for_row(STREAM, 7);
    let mut edge = edge_of(&server, &origin).start();
    wait_for_head(&edge, 7);
    capture(&database, "orders", Keys, &[]);
    wait_for_changes(&server);
    // As the service does by itself.
    assert_eq!(edge.wait_for_exit().code(), Some(1));
    let edge = edge.settings().clone().start();
    database.execute("DELETE FROM orders WHERE id = 7");
    wait_for_head(&edge, head(&origin));
    assert_eq!(follow_live(&edge, "since=earliest").1, table(&database));
    assert_eq!(listed(&origin)["published"]["state"], "live");
}

#[test]
fn a_feed_that_is_one_of_changes_no_more_is_one_of_rows_in_its_stream_and_at_an_edge() {
    let server = Server::start();
    let toml = format!("feeds = \"*\"\n{}", section(&server, ""));
    let settings = Settings::on_new_file().with_tables(ORDERS).toml(toml);
    let origin = settings.start();
    let database = origin.database();
    capture(&database, "orders", Keys, &[]);
    database.execute(WRITES);
    wait_for_changes(&server);
    let mut edge = edge_of(&server, &origin).start();
    wait_for_head(&edge, head(&origin));
    wait_for_stream_alone(&origin);
    assert_eq!(follow_live(&edge, "since=earliest").1, table(&database));
    let removed = remove(&mut database.connect(), "orders");
    assert!(removed.expect("a capture can be removed"));
    database.execute("INSERT INTO orders(id) VALUES (8)");
    // As the service does by itself.
    assert_eq!(edge.wait_for_exit().code(), Some(1));
    let edge = edge.settings().clone().start();
    wait_for_head(&edge, 8);
    let mut subscriber = edge.subscribe_to("/ws/orders", "since=earliest");
    assert_eq!(subscriber.expect("hello")["kind"], json!(null));
    let (ids, _) = subscriber.replay();
    assert_eq!(ids, [1, 4, 7, 8]);
    database.execute("INSERT INTO orders(id) VALUES (9)");
    assert_eq!(subscriber.next_row()["id"], 9);
    assert_eq!(listed(&origin)["published"]["state"], "live");
}
