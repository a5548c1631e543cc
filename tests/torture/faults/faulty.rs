//! A daemon on a file system that fails when it is told to, and those who watch what it sends meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::places::{Fault, Order, Place};
use crate::common::{Daemon, EventSource, STOCK_HISTORY, STOCK_SSE, Settings, Subscriber, Writer};
use crate::common::{ids, wait_until};

/// So many rows are there from the start: more than [`RING`], so that who replays them has them read from the table.
pub const ROWS: i64 = 300;
pub const RING: &str = "64";
/// Those of this tenant alone; the Python writer writes of this one.
const FILTER: &str = "tenant=acme";

/// The daemon of `tests/faulty` with these settings.
pub fn faulty(settings: Settings) -> Settings {
    let program = Path::new(env!("CARGO_BIN_EXE_walcast")).with_file_name("examples/faulty");
    assert!(program.exists(), "cargo build --example faulty");
    let control = control_path(&settings);
    settings
        .executable(program)
        .variable("FAULTY_CONTROL", control)
}

fn control_path(settings: &Settings) -> PathBuf {
    settings.directory().join("control")
}

/// Tells a running daemon where to fail.
pub struct Control(BufReader<UnixStream>);

impl Control {
    pub fn of(daemon: &Daemon) -> Control {
        let path = daemon.directory().join("control");
        let stream = UnixStream::connect(path).expect("the daemon under test can be told to fail");
        Control(BufReader::new(stream))
    }

    fn ask(&mut self, order: &str) -> String {
        writeln!(self.0.get_mut(), "{order}").expect("the daemon under test lives");
        let mut answer = String::new();
        let read = self.0.read_line(&mut answer);
        assert!(read.is_ok_and(|n| n > 0), "the daemon died at {order:?}");
        answer.trim().to_owned()
    }

    pub fn arm(&mut self, order: Order) {
        assert_eq!(self.ask(&format!("arm {order}")), "ok");
    }

    /// All works again. Gives how many calls failed.
    pub fn disarm(&mut self) -> u64 {
        self.ask("disarm").parse().expect("a number")
    }
}

/// Calls at `place` fail for ever.
pub fn lasting(place: Place, fault: Fault) -> Order {
    Order {
        place,
        fault,
        passed: 0,
        failing: u64::MAX / 2,
    }
}

/// Subscribers of every kind, all of them live, and a writer of another process.
pub struct Watchers {
    sockets: Vec<Subscriber>,
    sse: EventSource,
    writer: Writer,
    /// Up to here they have everything.
    pub head: i64,
}

impl Watchers {
    pub fn new(daemon: &Daemon) -> Watchers {
        let head = daemon
            .database()
            .number("SELECT max(id) FROM remediation_events");
        let mut all = daemon.subscribe("since=0");
        all.expect("hello");
        let expected: Vec<i64> = (1..=head).collect();
        assert_eq!(all.replay(), (expected, head));
        let mut some = daemon.subscribe(&format!("since=now&{FILTER}"));
        some.expect("hello");
        some.expect("live");
        let sse = daemon.event_source(STOCK_SSE, &[]);
        let sockets = vec![all, some, daemon.subscribe("")];
        Watchers {
            sockets,
            sse,
            writer: daemon.database().python(),
            head,
        }
    }

    /// Commits a row.
    pub fn write(&mut self) {
        self.head = self.writer.insert(1)[0];
    }

    /// Everybody gets the rows up to the last one written, and nothing else: no reset, no close, no row twice.
    pub fn expect_rows(&mut self, after: i64) {
        for id in after + 1..=self.head {
            for socket in &mut self.sockets {
                assert_eq!(next_row(socket), id);
            }
            assert_eq!(next_event(&mut self.sse), id);
        }
    }
}

/// The next row; that there is nothing to read for now may be said before it.
fn next_row(subscriber: &mut Subscriber) -> i64 {
    let mut tellings = 0;
    loop {
        match subscriber.next_row_or_frame() {
            None => return ids(subscriber.ledger())[subscriber.ledger().len() - 1],
            Some(frame) => {
                let kind = frame["type"].as_str().unwrap_or_default().to_owned();
                tellings += 1;
                let known = ["waiting", "hello", "live", "heartbeat"].contains(&kind.as_str());
                assert!(known && tellings < 20, "{frame}");
                assert_ne!(frame["recovered"], false, "{frame}");
            }
        }
    }
}

fn next_event(sse: &mut EventSource) -> i64 {
    loop {
        let event = sse.next().expect("the stream goes on");
        match event.name.as_deref() {
            None if event.data.is_none() => {}
            None => return crate::common::id(&event.json()["event"]),
            Some("waiting" | "hello" | "live") => {}
            Some(_) => panic!("{event:?}"),
        }
    }
}

/// One who comes while calls fail, waits as long as it takes, and gets the whole table.
pub struct Newcomer(Subscriber);

impl Newcomer {
    pub fn to(daemon: &Daemon) -> Newcomer {
        Newcomer(daemon.subscribe("since=0"))
    }

    pub fn expect_all(mut self, head: i64) {
        while self.0.ledger().last().is_none_or(|row| row["id"] != head) {
            next_row(&mut self.0);
        }
        let expected: Vec<i64> = (1..=head).collect();
        assert_eq!(ids(self.0.ledger()), expected);
    }
}

/// A history asked for while calls fail is answered, right or not at all.
pub fn check_history(daemon: &Daemon) {
    let answer = daemon.get(&format!("{STOCK_HISTORY}?limit=5&after=10"));
    let text = answer.text();
    match answer.status {
        200 => {
            let items = answer.json()["items"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            // While file or table are missing there are none.
            assert!(
                items.is_empty() || ids(&items) == [15, 14, 13, 12, 11],
                "{text}"
            );
        }
        503 => assert!(text.contains("message"), "{text}"),
        status => panic!("{status}: {text}"),
    }
}

/// It recovers and says so.
pub fn wait_until_ready(daemon: &Daemon, what: &dyn std::fmt::Display) {
    wait_until(&format!("the daemon is ready after {what}"), || {
        daemon.get("/readyz").status == 200
    });
}
