//! The poll of the table every millisecond, on a thread of its own, and a task and a channel for each client.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The arguments that the benchmark gives walcast.
pub struct Arguments {
    pub db: PathBuf,
    pub listen: SocketAddr,
}

impl Arguments {
    /// Ends the process after `--version`.
    pub fn read(version: &str) -> Arguments {
        let given: Vec<String> = std::env::args().skip(1).collect();
        if given == ["--version"] {
            println!("{version}, a channel for each client, poll of 1 ms");
            std::process::exit(0);
        }
        let value = |name: &str| {
            let place = given.iter().position(|argument| argument == name);
            let value = place.and_then(|place| given.get(place + 1));
            value.unwrap_or_else(|| panic!("{name} is missing")).clone()
        };
        Arguments {
            db: value("--db").into(),
            listen: value("--listen").parse().expect("--listen is an address"),
        }
    }
}

/// Everyone who is to get rows.
#[derive(Clone, Default)]
pub struct Clients(Arc<Mutex<Vec<UnboundedSender<Arc<str>>>>>);

impl Clients {
    pub fn join(&self) -> UnboundedReceiver<Arc<str>> {
        let (sender, receiver) = unbounded_channel();
        self.0.lock().expect("no holder panics").push(sender);
        receiver
    }

    fn send(&self, text: &Arc<str>) {
        let mut clients = self.0.lock().expect("no holder panics");
        clients.retain(|client| client.send(Arc::clone(text)).is_ok());
    }

    /// Begins to poll.
    pub fn follow(&self, db: PathBuf) {
        let clients = self.clone();
        let database = Connection::open(db).expect("the database can be opened");
        let head = "SELECT coalesce(max(id), 0) FROM remediation_events";
        let mut head: i64 = database
            .query_row(head, [], |row| row.get(0))
            .expect("the table can be read");
        std::thread::spawn(move || {
            loop {
                read(&database, &mut head, &clients).expect("the table can be read");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

/// Sends a client its rows until it goes. `text` makes a message of a row.
pub async fn relay<S, M, E>(socket: S, mut rows: UnboundedReceiver<Arc<str>>, text: fn(&str) -> M)
where
    S: Stream<Item = Result<M, E>> + Sink<M>,
{
    let (mut out, mut input) = socket.split();
    let send = async {
        while let Some(row) = rows.recv().await {
            if out.send(text(&row)).await.is_err() {
                return;
            }
        }
    };
    let receive = async { while let Some(Ok(_)) = input.next().await {} };
    tokio::select! { () = send => {}, () = receive => {} }
}

fn read(database: &Connection, head: &mut i64, clients: &Clients) -> rusqlite::Result<()> {
    let mut select =
        database.prepare_cached("SELECT * FROM remediation_events WHERE id > ? ORDER BY id")?;
    let names: Vec<String> = select.column_names().map(str::to_owned).collect();
    let mut rows = select.query([*head])?;
    while let Some(row) = rows.next()? {
        let mut event = Map::new();
        for (place, name) in names.iter().enumerate() {
            let value = match row.get_ref(place)? {
                ValueRef::Integer(value) => value.into(),
                ValueRef::Real(value) => value.into(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                ValueRef::Null | ValueRef::Blob(_) => Value::Null,
            };
            event.insert(name.clone(), value);
        }
        *head = row.get(0)?;
        let message = json!({"type": "remediation_event", "event": event}).to_string();
        clients.send(&message.into());
    }
    Ok(())
}
