//! Captured tables, and clients that apply what they are sent.

use std::collections::BTreeMap;

use serde_json::Value;
use walcast::config::CaptureMode;
use walcast::sqlite::capture::{Subject, install};

use crate::common::settings::Settings;
use crate::common::{Daemon, Database, Subscriber};

pub const ORDERS: &str =
    "CREATE TABLE orders(id INTEGER PRIMARY KEY, tenant TEXT, total REAL, note TEXT)";

/// Captures a table from outside the daemon.
#[track_caller]
pub fn capture(database: &Database, table: &str, mode: CaptureMode, filters: &[&str]) {
    let filters: Vec<String> = filters.iter().map(|name| (*name).to_owned()).collect();
    let subject =
        |connection: &rusqlite::Connection| Subject::of(connection, table, mode, &filters);
    let installed = install(&mut database.connect(), &subject);
    installed.unwrap_or_else(|e| panic!("{table} can't be captured: {e:?}"));
}

/// A daemon on a file with the table `orders`, captured so.
#[track_caller]
pub fn orders(mode: CaptureMode, filters: &[&str]) -> Daemon {
    captured(ORDERS, "orders", mode, filters, "")
}

/// A daemon on a file of these tables, of which one is captured and a feed; `keys` are further keys of it.
#[track_caller]
pub fn captured(
    tables: &str,
    table: &str,
    mode: CaptureMode,
    filters: &[&str],
    keys: &str,
) -> Daemon {
    settings(tables, table, mode, filters, keys).start()
}

#[track_caller]
pub fn settings(
    tables: &str,
    table: &str,
    mode: CaptureMode,
    filters: &[&str],
    keys: &str,
) -> Settings {
    let settings = Settings::on_new_file().with_tables(tables);
    capture(
        &Database::at(settings.database_path()),
        table,
        mode,
        filters,
    );
    let mode = mode.as_str();
    settings.toml(format!(
        "[feeds.orders]\ntable = {table:?}\ncapture = {mode:?}\ncapture_filters = {filters:?}\n{keys}\n"
    ))
}

/// A subscriber of `orders` that was told hello; and the hello.
#[track_caller]
pub fn follow(walcast: &Daemon, query: &str) -> (Subscriber, Value) {
    let mut subscriber = walcast.subscribe_to("/ws/orders", query);
    let hello = subscriber.expect("hello");
    (subscriber, hello)
}

/// The same, and it has all there is.
#[track_caller]
pub fn follow_live(walcast: &Daemon, query: &str) -> (Subscriber, Held) {
    let (mut subscriber, _) = follow(walcast, query);
    let mut held = Held::default();
    held.take_until_live(&mut subscriber);
    (subscriber, held)
}

/// The next change, without what it is not asked about: its position and its time, which must be there.
#[track_caller]
pub fn next_change(subscriber: &mut Subscriber) -> Value {
    let mut change = subscriber.next_row();
    let fields = change.as_object_mut().expect("a change is an object");
    let seq = fields.remove("seq");
    assert!(seq.is_some_and(|seq| seq.is_i64()), "a change without seq");
    let at = fields.remove("at");
    let at = at.as_ref().and_then(Value::as_str).unwrap_or_default();
    assert!(at.len() == 24 && at.ends_with('Z'), "at: {at:?}");
    change
}

/// Rows by their keys, as who applies what it is sent holds them.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Held(pub BTreeMap<String, Value>);

impl Held {
    /// Applies a change.
    #[track_caller]
    pub fn apply(&mut self, change: &Value) {
        let key = |name: &str| change[name].to_string();
        if change.get("old_key").is_some() {
            self.0.remove(&key("old_key"));
        }
        match change["op"].as_str() {
            Some("d") => drop(self.0.remove(&key("key"))),
            Some("c" | "u" | "r") => drop(self.0.insert(key("key"), change["after"].clone())),
            _ => panic!("not an op: {change}"),
        }
    }

    /// Takes what comes up to `live`; drops what it holds where it is told to.
    #[track_caller]
    pub fn take_until_live(&mut self, subscriber: &mut Subscriber) -> Value {
        loop {
            if let Some(frame) = self.take(subscriber)
                && frame["type"] == "live"
            {
                return frame;
            }
        }
    }

    /// Takes one frame. Gives it where it is no change.
    #[track_caller]
    pub fn take(&mut self, subscriber: &mut Subscriber) -> Option<Value> {
        let frame = subscriber.next_row_or_frame();
        match &frame {
            None => {
                let change = subscriber
                    .ledger()
                    .last()
                    .expect("it was just taken")
                    .clone();
                self.apply(&change);
            }
            Some(frame) if frame["snapshot"] == true => self.0.clear(),
            Some(_) => {}
        }
        frame
    }

    /// What is not in another.
    pub fn without(&self, other: &Held) -> Vec<&Value> {
        let rows = self.0.iter();
        let rows = rows.filter(|(key, row)| other.0.get(*key) != Some(row));
        rows.map(|(_, row)| row).take(5).collect()
    }

    /// What a query finds, by the columns `key`.
    #[track_caller]
    pub fn of(database: &Database, sql: &str, key: &[&str]) -> Held {
        let rows = database.query(sql).into_iter();
        let keyed = rows.map(|row| {
            let named = key
                .iter()
                .map(|name| ((*name).to_owned(), row[*name].clone()));
            (Value::Object(named.collect()).to_string(), row)
        });
        Held(keyed.collect())
    }
}
