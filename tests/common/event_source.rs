//! A client of server-sent events.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::http;
use super::secrets;
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
pub struct EventSource {
    stream: BufReader<TcpStream>,
    /// What it would send as `Last-Event-ID`; empty where it has none.
    last_id: String,
    head: Vec<String>,
}

impl EventSource {
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> EventSource {
        let mut stream = TcpStream::connect(address).expect("walcast accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(25) + PATIENCE))
            .expect("a socket takes a time limit");
        let head = http::head("GET", path, address, headers).replacen("HTTP/1.1", "HTTP/1.0", 1);
        stream.write_all(head.as_bytes()).expect("walcast reads");
        let mut events = EventSource {
            stream: BufReader::new(stream),
            last_id: String::new(),
            head: Vec::new(),
        };
        let head = events.head_lines();
        assert!(head[0].contains(" 200 "), "{head:?}");
        let kind = "content-type: text/event-stream";
        assert!(
            head.iter()
                .any(|line| line.to_ascii_lowercase().starts_with(kind)),
            "{head:?}"
        );
        assert_eq!(events.line().as_deref(), Some("retry: 2000"));
        events.head = head;
        events
    }

    /// The lines of the answer's head.
    fn head_lines(&mut self) -> Vec<String> {
        let mut lines = vec![];
        loop {
            match self.line().expect("an answer").as_str() {
                "" => return lines,
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.iter().filter_map(|line| line.split_once(": "));
        headers
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// What a browser would send as `Last-Event-ID` to go on from here.
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// The next line; `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        if read.expect("the stream goes on") == 0 {
            return None;
        }
        secrets::assert_none_in("a stream", &line);
        Some(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The next event; an id alone is none.
    #[track_caller]
    pub fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.block()?;
            if event.data.is_some() {
                return Some(event);
            }
        }
    }

    /// What comes up to an empty line. An empty line after no data and no id is an event to some parsers, so it fails.
    #[track_caller]
    fn block(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                assert!(
                    event.data.is_some() || event.id.is_some(),
                    "an empty event: {event:?}"
                );
                if let Some(id) = &event.id {
                    self.last_id.clone_from(id);
                }
                return Some(event);
            }
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
    }

    /// The id that a plain stream begins with.
    #[track_caller]
    pub fn expect_position(&mut self) -> String {
        let event = self.block().expect("an id");
        let id = event
            .id
            .clone()
            .unwrap_or_else(|| panic!("no id: {event:?}"));
        assert!(event.data.is_none() && event.name.is_none(), "{event:?}");
        id
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
        let mut next = || {
            self.next()
                .unwrap_or_else(|| panic!("the end instead of {name}"))
        };
        let mut event = next();
        // While another file is put in the place of the one that went.
        while name == "reset" && event.name.as_deref() == Some("waiting") {
            event = next();
        }
        assert_eq!(event.name.as_deref(), Some(name), "{event:?}");
        assert_eq!(event.json()["type"], name);
        event.json()
    }
}
