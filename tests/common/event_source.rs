//! A client of server-sent events.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::wait::PATIENCE;

/// A block of an event stream.
#[derive(Debug, Default, PartialEq)]
pub struct Event {
    pub name: Option<String>,
    pub id: Option<String>,
    pub data: Option<String>,
    pub retry: Option<String>,
    pub comment: bool,
}

impl Event {
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().expect("the event has data");
        serde_json::from_str(data).expect("the data is JSON")
    }
}

/// An EventSource, spoken over HTTP/1.0 so that the body is not cut in chunks.
pub struct EventSource(BufReader<TcpStream>);

impl EventSource {
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> EventSource {
        let mut stream = TcpStream::connect(address).expect("walcast accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(25) + PATIENCE))
            .expect("a socket takes a time limit");
        let mut head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .expect("walcast reads");
        let mut events = EventSource(BufReader::new(stream));
        let head = events.block().expect("an answer");
        assert!(head[0].contains(" 200 "), "{head:?}");
        let kind = "content-type: text/event-stream";
        assert!(
            head.iter()
                .any(|line| line.to_ascii_lowercase().starts_with(kind)),
            "{head:?}"
        );
        let first = events.next().expect("the stream begins");
        assert_eq!(first.retry.as_deref(), Some("2000"));
        events
    }

    /// Lines up to an empty one; `None` at the end.
    fn block(&mut self) -> Option<Vec<String>> {
        let mut lines = vec![];
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("the stream goes on");
            match line.trim_end_matches(['\r', '\n']) {
                _ if read == 0 => return None,
                "" if lines.is_empty() => {}
                "" => return Some(lines),
                text => lines.push(text.to_owned()),
            }
        }
    }

    pub fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        for line in self.block()? {
            let (field, value) = line.split_once(':').expect("a field");
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "event" => event.name = Some(value),
                "id" => event.id = Some(value),
                "data" => event.data = Some(value),
                "retry" => event.retry = Some(value),
                "" => event.comment = true,
                other => panic!("an unknown field {other}"),
            }
        }
        Some(event)
    }

    /// The id within the next row; an event of another kind is a failure.
    #[track_caller]
    pub fn next_row(&mut self) -> i64 {
        let event = self.next().expect("a row");
        assert_eq!(event.name, None, "{event:?}");
        super::id(&event.json()["event"])
    }

    /// The data of the next event, which must have this name.
    #[track_caller]
    pub fn expect(&mut self, name: &str) -> Value {
        let event = self
            .next()
            .unwrap_or_else(|| panic!("the end instead of {name}"));
        assert_eq!(event.name.as_deref(), Some(name), "{event:?}");
        assert_eq!(event.json()["type"], name);
        event.json()
    }
}
