//! The daemon killed in the middle of it: who comes back with cursor and epoch misses nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::common::database::insert;
use crate::common::subscriber::{Received, row_of};
use crate::common::wait::pause;
use crate::common::{Daemon, StopAtEnd, Subscriber, assert_ledger, id};

/// A client as a browser should be: it keeps rows, its position and the epoch, and resumes with them.
#[derive(Default)]
struct Client {
    rows: Vec<Value>,
    epoch: Option<String>,
}

impl Client {
    fn position(&self) -> i64 {
        self.rows.last().map_or(0, id)
    }

    fn connect(&mut self, walcast: &Daemon) -> Subscriber {
        let epoch = match &self.epoch {
            Some(epoch) => format!("&epoch={epoch}"),
            None => String::new(),
        };
        let (subscriber, hello) = walcast.resume(&format!("since={}{epoch}", self.position()));
        assert_eq!(hello["recovered"], true, "after a crash: {hello}");
        self.epoch = hello["epoch"].as_str().map(str::to_owned);
        subscriber
    }

    /// Takes frames until `enough` or the connection's end.
    fn read(&mut self, subscriber: &mut Subscriber, enough: impl Fn(&Client) -> bool) {
        while !enough(self) {
            let Received::Text(text) = subscriber.receive() else {
                return;
            };
            let frame = serde_json::from_str(&text).unwrap();
            match row_of(&frame) {
                Some(row) => self.rows.push(row),
                None => assert_eq!(frame["type"], "live", "unexpected: {text}"),
            }
        }
    }
}

#[test]
fn a_daemon_killed_while_rows_are_written_loses_none() {
    let walcast = Daemon::start_new();
    let database = walcast.database();
    let stop = AtomicBool::new(false);
    let mut client = Client::default();
    let walcast = std::thread::scope(|scope| {
        let stop_at_end = StopAtEnd(&stop);
        let mut walcast = walcast;
        let persistent = scope.spawn(|| {
            let writer = database.connect();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    insert(&writer, "acme", "persistent");
                }
                // Not faster than a client on a busy machine can read.
                pause();
            }
        });
        let fresh = scope.spawn(|| {
            let mut python = database.python();
            while !stop.load(Ordering::Relaxed) {
                python.insert(1);
            }
        });
        for _ in 0..4 {
            let mut subscriber = client.connect(&walcast);
            let enough = client.rows.len() + 200;
            client.read(&mut subscriber, |client| client.rows.len() >= enough);
            let killed = walcast.kill();
            // What was on its way when the daemon died still counts.
            client.read(&mut subscriber, |_| false);
            walcast = killed.start();
        }
        drop(stop_at_end);
        persistent.join().unwrap();
        fresh.join().unwrap();
        walcast
    });
    let rows = database.rows();
    let last = rows.last().map_or(0, id);
    let mut subscriber = client.connect(&walcast);
    client.read(&mut subscriber, |client| client.position() >= last);
    assert_ledger(&client.rows, &rows);
}

#[test]
fn a_daemon_killed_in_a_replay_goes_on_where_the_client_was() {
    let mut walcast = Daemon::start_new();
    let database = walcast.database();
    let last = database.insert_many(20_000);
    walcast.wait_for_head(last);
    let mut client = Client::default();
    for _ in 0..3 {
        let mut subscriber = client.connect(&walcast);
        let enough = client.rows.len() + 3_000;
        client.read(&mut subscriber, |client| client.rows.len() >= enough);
        drop(subscriber);
        walcast = walcast.kill().start();
    }
    let mut subscriber = client.connect(&walcast);
    client.read(&mut subscriber, |client| client.position() >= last);
    assert_ledger(&client.rows, &database.rows());
}
