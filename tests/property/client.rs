//! A client with its ledger, and what must be true of it.

use std::time::Duration;

use serde_json::Value;

use crate::common::subscriber::{Received, row_of};
use crate::common::{Daemon, Subscriber, id};
use crate::model::{Model, Row};

/// What a client asks for when it begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wish {
    Plain,
    Now,
    Earliest,
    Last(usize),
    Since(i64),
}

/// The promise, in terms of the model:
///
/// * Each stream has a beginning: the head when a plain client came, the `since` of the hello for others, which must be
///   the one that the table dictates.
/// * A ledger holds ids above the beginning only, strictly ascending, each with a content that was committed for it and
///   that the client's filter takes.
/// * When a client is settled, every such row that exists is in its ledger. A row may be missing only when it was
///   deleted: before a settlement a deleted row may or may not have been sent, and afterwards those that existed at the
///   settlement are in the ledger for good.
/// * Nobody is sent away but by a stop of the daemon, or because a row above its position was deleted from the low end
///   of the table. Who comes back is told by `recovered: false` when exactly that happened, or where a daemon killed
///   without warning could not recognise the history.
pub struct Client {
    wish: Wish,
    tenants: Vec<&'static str>,
    /// Reads nothing for the time being.
    pub slow: bool,
    connection: Option<Subscriber>,
    epoch: Option<String>,
    beginning: i64,
    ledger: Vec<Value>,
    live: bool,
}

impl Client {
    pub fn connect(daemon: &Daemon, model: &Model, wish: Wish, tenants: Vec<&'static str>) -> Self {
        let mut client = Client {
            wish,
            tenants,
            slow: false,
            connection: None,
            epoch: None,
            beginning: 0,
            ledger: vec![],
            live: false,
        };
        client.open(daemon, model, &client.first_query());
        client
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Comes back as a client of its sort does: with cursor and epoch, or as a newcomer. `crashed`: the daemon was
    /// killed since.
    pub fn reconnect(&mut self, daemon: &Daemon, model: &Model, crashed: bool) {
        let Some(epoch) = self.epoch.clone() else {
            let query = self.first_query();
            return self.open(daemon, model, &query);
        };
        let position = self.position();
        let query = format!("since={position}&epoch={epoch}{}", self.filter());
        let hello = self.upgrade(daemon, &query).expect("hello");
        let from_earliest = model.earliest().map_or(model.head(), |id| id - 1);
        let can_recover = position >= from_earliest && position <= model.head();
        // `since=0` is the wish for everything and always granted.
        let same_epoch = hello["epoch"] == *epoch;
        assert!(
            same_epoch || crashed,
            "another epoch without reason: {hello}"
        );
        let recovered = position == 0 || (can_recover && same_epoch);
        assert_eq!(hello["recovered"], recovered, "{query}: {hello}");
        let granted = can_recover && same_epoch;
        self.check_hello(
            &hello,
            model,
            if granted { position } else { from_earliest },
        );
        if !granted {
            self.beginning = from_earliest;
            self.ledger.clear();
        }
    }

    fn open(&mut self, daemon: &Daemon, model: &Model, query: &str) {
        self.upgrade(daemon, query);
        self.ledger.clear();
        self.beginning = match self.wish {
            Wish::Plain | Wish::Now => model.head(),
            Wish::Earliest => model.earliest().map_or(model.head(), |id| id - 1),
            Wish::Last(n) => {
                let newest = model.existing().rev().filter(|(_, row)| self.takes(row));
                newest.take(n).last().map_or(model.head(), |(id, _)| id - 1)
            }
            Wish::Since(id) => id,
        };
        if self.wish != Wish::Plain {
            let hello = self
                .connection
                .as_mut()
                .expect("just opened")
                .expect("hello");
            assert_eq!(hello["recovered"], true, "{query}: {hello}");
            self.check_hello(&hello, model, self.beginning);
        }
    }

    fn upgrade(&mut self, daemon: &Daemon, query: &str) -> &mut Subscriber {
        self.live = self.wish == Wish::Plain;
        let address = daemon.address();
        let connection =
            Subscriber::connect_with_small_buffer(address, "/ws/remediation", query, &[]);
        self.connection.insert(connection)
    }

    fn check_hello(&mut self, hello: &Value, model: &Model, since: i64) {
        assert_eq!(hello["since"], since, "{hello}");
        assert_eq!(hello["head"], model.head(), "{hello}");
        assert_eq!(hello["earliest"], Value::from(model.earliest()), "{hello}");
        self.epoch = hello["epoch"].as_str().map(str::to_owned);
    }

    fn first_query(&self) -> String {
        let wish = match self.wish {
            Wish::Plain => String::new(),
            Wish::Now => "since=now".to_owned(),
            Wish::Earliest => "since=earliest".to_owned(),
            Wish::Last(n) => format!("last={n}"),
            Wish::Since(id) => format!("since={id}"),
        };
        let query = wish + &self.filter();
        query.trim_start_matches('&').to_owned()
    }

    fn filter(&self) -> String {
        let terms = self.tenants.iter().map(|t| format!("&tenant={t}"));
        terms.collect()
    }

    fn takes(&self, row: &Row) -> bool {
        self.tenants.is_empty() || self.tenants.contains(&row.tenant)
    }

    fn position(&self) -> i64 {
        self.ledger.last().map_or(self.beginning, id)
    }

    /// Takes what is there, without waiting for more.
    pub fn sip(&mut self, model: &Model) {
        while let Some(connection) = &mut self.connection {
            match connection.receive_within(Duration::ZERO) {
                Some(received) => self.take(received, model),
                None => return,
            }
        }
    }

    /// Reads until it has all there is, or was sent away; then the promise must hold.
    pub fn settle(&mut self, model: &Model) {
        self.slow = false;
        let newest = model.existing().rev().find(|(_, row)| self.takes(row));
        let newest = newest.map_or(0, |(id, _)| id);
        while (self.position() < newest && newest > self.beginning) || !self.live {
            let Some(connection) = &mut self.connection else {
                return;
            };
            let received = connection.receive();
            self.take(received, model);
        }
        if self.is_connected() {
            self.check_nothing_is_missing(model);
        }
    }

    /// Reads to the end of a connection that a stopping daemon closes.
    pub fn expect_goodbye(&mut self, model: &Model) {
        let mut said_goodbye = self.wish == Wish::Plain;
        while let Some(connection) = &mut self.connection {
            match connection.receive() {
                Received::Closed(code) => {
                    assert_eq!(code, Some(1012), "at a stop");
                    assert!(said_goodbye, "closed without a goodbye");
                    self.connection = None;
                }
                Received::Text(text) if text.contains(r#""type":"goodbye""#) => said_goodbye = true,
                text => self.take(text, model),
            }
        }
    }

    /// Reads what a killed daemon had sent.
    pub fn drain(&mut self, model: &Model) {
        while let Some(connection) = &mut self.connection {
            match connection.receive() {
                Received::Closed(_) => self.connection = None,
                text => self.take(text, model),
            }
        }
    }

    fn take(&mut self, received: Received, model: &Model) {
        let text = match received {
            Received::Text(text) => text,
            Received::Closed(code) => {
                let pruned = model.earliest().is_some_and(|id| self.position() < id - 1);
                assert!(
                    code == Some(1012) && pruned,
                    "closed with {code:?} at {}, earliest {:?}",
                    self.position(),
                    model.earliest()
                );
                self.connection = None;
                return;
            }
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        match row_of(&frame) {
            Some(row) => self.enter(row, model),
            None if frame["type"] == "heartbeat" => {}
            None => {
                assert_eq!(frame["type"], "live", "unexpected: {text}");
                assert!(!self.live, "live came twice or to a plain client");
                self.live = true;
            }
        }
    }

    fn enter(&mut self, row: Value, model: &Model) {
        let id = id(&row);
        assert!(id > self.position(), "{id} came to {self:?}");
        let known = model.row(id);
        let known = known.unwrap_or_else(|| panic!("{row} was never committed"));
        assert!(known.was_ever(&row), "{row} was never committed like this");
        assert!(self.takes(known), "{row} does not match {:?}", self.tenants);
        self.ledger.push(row);
    }

    fn check_nothing_is_missing(&self, model: &Model) {
        let mut ledger = self.ledger.iter().map(id).peekable();
        let due = model
            .existing()
            .filter(|(id, row)| *id > self.beginning && self.takes(row));
        for (expected, _) in due {
            while ledger.next_if(|id| *id < expected).is_some() {}
            assert_eq!(
                ledger.next(),
                Some(expected),
                "row {expected} is missing, {self:?}"
            );
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last) = (self.ledger.first().map(id), self.ledger.last().map(id));
        write!(
            f,
            "{:?} of {:?} from {}, {} rows {first:?} to {last:?}",
            self.wish,
            self.tenants,
            self.beginning,
            self.ledger.len()
        )
    }
}
