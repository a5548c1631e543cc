//! Edges that have their feeds from streams, and from a daemon what these have no more.

use serde_json::json;

use crate::common::secrets::add_token;
use crate::common::{Daemon, Settings, wait_until};
use crate::line::Line;
use crate::server::Server;
use crate::setup::{STREAM, publishing, section, wait_for_state};
use crate::stored::Client;

const LAG: &str = r#"walcast_edge_lag_seconds{feed="remediation"}"#;

/// An edge of the streams of this server, that asks this daemon for what they have no more.
fn edge_of(server: &Server, upstream: &Daemon) -> Settings {
    Settings::on_new_file()
        .toml(format!("[edge]\nnats = {:?}\n", server.url()))
        .edge_of(format!("ws://{}", upstream.address()))
}

/// An origin that publishes, with rows up to the id that is given with it.
fn origin(server: &Server) -> (Daemon, i64) {
    let origin = publishing(Daemon::on_new_file(), server, "").start();
    wait_for_state(&origin, "live");
    let last = origin.fill(100);
    (origin, last)
}

/// An edge that stopped at `before`, of a stream that has only the newest row by now, whose id is given with it.
fn behind(server: &Server, origin: &Daemon, before: i64) -> (Settings, i64) {
    let edge = edge_of(server, origin).start();
    edge.wait_for_head(before);
    let settings = edge.stop();
    let last = origin.fill(500);
    let client = Client::of(server);
    client.wait_for_row(STREAM, last);
    client.purge_all_but_one(STREAM);
    (settings, last)
}

/// The ids a client is given that was up to `before`, and whether it goes on there.
fn resumed(edge: &Daemon, before: i64, epoch: &str) -> (Vec<i64>, bool) {
    let (mut subscriber, hello) = edge.resume(&format!("since={before}&epoch={epoch}"));
    (subscriber.replay().0, hello["recovered"] == true)
}

#[test]
fn rows_that_the_stream_has_no_more_come_from_the_origin() {
    let server = Server::start();
    let (origin, before) = origin(&server);
    let (edge, last) = behind(&server, &origin, before);
    let edge = edge.start();
    edge.wait_for_head(last);
    let epoch = origin.epoch();
    let all: Vec<i64> = (before + 1..=last).collect();
    assert_eq!(resumed(&edge, before, &epoch), (all, true));
    edge.wait_for_log("came from edge.upstream");
    assert!(!edge.log().contains("had from the first on"));
    // From here on it is the stream again that has them.
    let mut subscriber = edge.subscribe_live();
    let one = origin.database().insert("one");
    assert_eq!(crate::common::id(&subscriber.next_row()), one);
}

#[test]
fn what_neither_the_stream_nor_the_origin_has_is_told() {
    let server = Server::start();
    let (origin, before) = origin(&server);
    let (edge, last) = behind(&server, &origin, before);
    let gone = format!("DELETE FROM remediation_events WHERE id <= {}", before + 10);
    origin.database().execute(&gone);
    let edge = edge.start();
    edge.wait_for_log("nor does edge.upstream give them");
    edge.wait_for_head(last);
    let (ids, recovered) = resumed(&edge, before, &origin.epoch());
    assert!(!recovered);
    let from = *ids.first().expect("the stream has some");
    assert!(from > before + 1);
    assert_eq!(ids, (from..=last).collect::<Vec<i64>>());
}

#[test]
fn rows_that_were_never_published_come_from_another_edge() {
    let mut server = Server::start();
    let (origin, before) = origin(&server);
    Client::of(&server).wait_for_row(STREAM, before);
    let other = Settings::on_new_file()
        .edge_of(format!("ws://{}", origin.address()))
        .start();
    let edge = edge_of(&server, &other).start();
    edge.wait_for_head(before);
    let mut subscriber = edge.subscribe_live();
    server.kill();
    wait_for_state(&origin, "failing");
    let last = origin.fill(50);
    other.wait_for_head(last);
    let gone = format!("DELETE FROM remediation_events WHERE id <= {}", before + 10);
    origin.database().execute(&gone);
    server.run();
    subscriber.rows_to(last);
    let ids = crate::common::ids(subscriber.ledger());
    assert_eq!(ids, (before + 1..=last).collect::<Vec<i64>>());
    edge.wait_for_log("came from edge.upstream");
}

#[test]
fn an_edge_lags_while_the_upstream_that_is_to_fill_a_gap_is_behind_itself() {
    let server = Server::start();
    let (origin, before) = origin(&server);
    let line = Line::slow_to(origin.address());
    let other = Settings::on_new_file()
        .edge_of(format!("ws://{}", line.address))
        .start();
    other.wait_for_head(before);
    let edge = edge_of(&server, &other).start();
    edge.wait_for_head(before);
    let edge = edge.stop();
    line.cut();
    let last = origin.fill(500);
    let client = Client::of(&server);
    client.wait_for_row(STREAM, last);
    client.purge_all_but_one(STREAM);
    let edge = edge.start();
    edge.wait_for_log("which is behind itself");
    assert!(edge.metric(LAG) > 0.0);
    let told = edge.get("/readyz").json();
    assert!(told["edge"]["lag_seconds"].as_f64() > Some(0.0), "{told}");
    line.mend();
    edge.wait_for_head(last);
    wait_until("it lags no more", || edge.metric(LAG) == 0.0);
    let all: Vec<i64> = (before + 1..=last).collect();
    assert_eq!(resumed(&edge, before, &origin.epoch()), (all, true));
}

#[test]
fn what_the_upstream_refuses_of_one_feed_it_gives_of_another() {
    let server = Server::start();
    let directory = crate::common::directory();
    let tokens = directory.path().join("tokens.toml");
    let fed = add_token(&tokens, &["edge", "--edge", "--feed", "granted"]);
    let tables = ["granted", "refused"]
        .map(|name| format!("CREATE TABLE {name}(id INTEGER PRIMARY KEY AUTOINCREMENT, n);"));
    let origin = Settings::on_new_file()
        .with_tables(&tables.concat())
        .toml(format!(
            "[feeds.granted]\n[feeds.refused]\n[auth]\nanonymous = true\ntokens = {tokens:?}\n{}",
            section(&server, "")
        ))
        .start();
    let client = Client::of(&server);
    for feed in ["granted", "refused"] {
        for n in 1..=3 {
            let insert = format!("INSERT INTO {feed}(n) VALUES ({n})");
            origin.database().execute(&insert);
            client.wait_for_row(&format!("walcast_{feed}"), n);
        }
        client.purge_all_but_one(&format!("walcast_{feed}"));
    }
    let token_file = directory.path().join("upstream.token");
    std::fs::write(&token_file, fed).expect("a token can be written");
    let edge = edge_of(&server, &origin).option("--token-file", &token_file);
    let edge = edge.start();
    let goes_on = |feed: &str| {
        let mut subscriber = edge.subscribe_to(&format!("/ws/{feed}"), "since=1");
        subscriber.expect("hello")["recovered"].clone()
    };
    for feed in ["granted", "refused"] {
        wait_until("the newest row is there", || {
            let path = format!("/api/feeds/{feed}/events");
            edge.get(&path).json()["items"][0]["id"] == json!(3)
        });
    }
    assert_eq!(goes_on("refused"), json!(false));
    assert_eq!(goes_on("granted"), json!(true));
}
