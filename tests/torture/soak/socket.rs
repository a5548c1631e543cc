//! A WebSocket subscriber that comes back whenever it was sent away.

use std::time::Duration;

use serde_json::Value;

use super::ledger::{Ledger, Truth};
use crate::common::subscriber::{Received, row_of};
use crate::common::{Daemon, Subscriber};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wish {
    Plain,
    Now,
    Earliest,
    Last(usize),
}

pub struct Client {
    wish: Wish,
    tenants: Vec<&'static str>,
    /// Reads nothing for the time being.
    pub slow: bool,
    connection: Option<Subscriber>,
    /// There was a hello on this connection.
    greeted: bool,
    epoch: Option<String>,
    ledger: Ledger,
}

impl Client {
    pub fn connect(daemon: &Daemon, wish: Wish, tenants: Vec<&'static str>) -> Client {
        let mut client = Client {
            wish,
            ledger: Ledger::of(tenants.clone()),
            tenants,
            slow: false,
            connection: None,
            greeted: false,
            epoch: None,
        };
        client.return_to(daemon);
        client
    }

    pub fn received(&self) -> usize {
        self.ledger.received
    }

    /// Connects again where it is not connected.
    pub fn return_to(&mut self, daemon: &Daemon) {
        if self.connection.is_some() {
            return;
        }
        let wish = match (&self.epoch, self.ledger.position(), self.wish) {
            (_, _, Wish::Plain) => String::new(),
            (Some(epoch), Some(position), _) => format!("since={position}&epoch={epoch}"),
            (_, _, Wish::Now) => "since=now".into(),
            (_, _, Wish::Earliest) => "since=earliest".into(),
            (_, _, Wish::Last(n)) => format!("last={n}"),
        };
        let filter: String = self
            .tenants
            .iter()
            .map(|t| format!("&tenant={t}"))
            .collect();
        let query = wish + &filter;
        let address = daemon.address();
        let path = crate::common::STOCK_FEED;
        let connection = Subscriber::connect_with_small_buffer(
            address,
            path,
            query.trim_start_matches('&'),
            &[],
        );
        self.connection = Some(connection);
        self.greeted = false;
        if self.wish == Wish::Plain {
            // Everything above what is committed by now is due; what was committed on the way may come.
            let head = daemon
                .database()
                .number("SELECT coalesce(max(id), 0) FROM remediation_events");
            self.ledger.begin(None, Some(head));
            self.epoch = Some(daemon.epoch());
        }
    }

    /// Leaves, to come back later.
    pub fn leave(&mut self) {
        self.connection = None;
    }

    /// Takes what is there, without waiting for more.
    pub fn sip(&mut self) {
        while let Some(connection) = &mut self.connection {
            match connection.receive_within(Duration::ZERO) {
                Some(Received::Text(text)) => self.take(&text),
                Some(Received::Closed(code)) => self.closed(code),
                None => return,
            }
        }
    }

    /// Nobody is told not to come back, and nobody is at fault.
    fn closed(&mut self, code: Option<u16>) {
        // None: the daemon was killed. 4008: slow for as long as a write may take.
        let known = [None, Some(1012), Some(1013), Some(4008)];
        assert!(known.contains(&code), "closed with {code:?}: {self:?}");
        self.connection = None;
    }

    fn take(&mut self, text: &str) {
        let frame: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        if let Some(row) = row_of(&frame) {
            return self.ledger.enter(row);
        }
        let kind = frame["type"].as_str().unwrap_or_default();
        assert_ne!(self.wish, Wish::Plain, "a plain client was told {text}");
        match kind {
            "hello" => self.hello(&frame),
            "reset" => {
                self.epoch = frame["epoch"].as_str().map(str::to_owned);
                let beginning = match (self.wish, frame["earliest"].as_i64()) {
                    (Wish::Last(_), _) => None,
                    (_, Some(earliest)) => Some(earliest - 1),
                    (_, None) => frame["head"].as_i64(),
                };
                self.ledger.begin(beginning, None);
            }
            "live" | "heartbeat" | "goodbye" | "waiting" => {}
            _ => panic!("an unknown frame: {text}"),
        }
    }

    fn hello(&mut self, hello: &Value) {
        let epoch = hello["epoch"].as_str().map(str::to_owned);
        let since = hello["since"].as_i64().expect("since is a number");
        let resumed = self
            .epoch
            .is_some()
            .then(|| self.ledger.position())
            .flatten();
        let same = self.epoch == epoch;
        match resumed {
            Some(position) if hello["recovered"] == true => {
                assert!(same, "{hello} to {self:?}");
                // After a wait it goes on where it was, beyond rows that its filter passes by.
                let goes_on = since == position || self.greeted && since > position;
                assert!(goes_on, "{hello} to {self:?}");
            }
            Some(position) => {
                let head = hello["head"].as_i64().expect("head is a number");
                let pruned = match hello["earliest"].as_i64() {
                    Some(earliest) => position < earliest - 1,
                    None => position < head,
                };
                let lost = !same || position > head || pruned;
                assert!(lost, "not recovered without a reason: {hello} to {self:?}");
                self.ledger.begin(Some(since), None);
            }
            None => {
                assert_eq!(hello["recovered"], true, "{hello}");
                self.ledger.begin(Some(since), None);
            }
        }
        (self.epoch, self.greeted) = (epoch, true);
    }

    pub fn has_all(&self, truth: &Truth) -> bool {
        let same = self.epoch.as_ref() == Some(&truth.epoch);
        same && self.connection.is_some() && self.ledger.has_all(truth)
    }

    pub fn check(&self, truth: &Truth) {
        self.ledger.check(truth, self);
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let connected = self.connection.is_some();
        write!(
            f,
            "{:?} in {:?} (connected: {connected}), {:?}",
            self.wish, self.epoch, self.ledger
        )
    }
}
