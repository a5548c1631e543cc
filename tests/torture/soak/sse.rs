//! An EventSource on a thread of its own that comes back for ever, as a browser's does.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::ledger::{Ledger, Truth};
use crate::common::subscriber::row_of;
use crate::common::{STOCK_SSE, wait};

/// How soon it looks whether it is to end.
const TICK: Duration = Duration::from_millis(100);

pub struct SseClient {
    query: &'static str,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    last_event_id: Option<String>,
    /// The epoch of the rows in the ledger.
    epoch: String,
}

impl SseClient {
    pub fn start(address: SocketAddr, query: &'static str) -> SseClient {
        let tenants = query.strip_prefix("tenant=").into_iter().collect();
        let state = State {
            ledger: Ledger::of(tenants),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = {
            let (state, ended) = (Arc::clone(&state), Arc::clone(&ended));
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    // The daemon may be down, or go at any moment; then it is tried again.
                    let _ = follow(address, query, &state, &ended);
                    wait::pause();
                }
            })
        };
        SseClient {
            query,
            state,
            ended,
            thread: Some(thread),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|_| panic!("{} failed", self.query))
    }

    pub fn has_all(&self, truth: &Truth) -> bool {
        let state = self.state();
        state.epoch == truth.epoch && state.ledger.has_all(truth)
    }

    pub fn check(&self, truth: &Truth) {
        self.state().ledger.check(truth, self);
    }
}

impl std::fmt::Debug for SseClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        let (id, ledger) = (&state.last_event_id, &state.ledger);
        write!(f, "SSE {:?}, last event {id:?}, {ledger:?}", self.query)
    }
}

impl Drop for SseClient {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Where it failed, that was said when its state was asked for.
            let _ = thread.join();
        }
    }
}

fn follow(
    address: SocketAddr,
    query: &str,
    state: &Mutex<State>,
    ended: &AtomicBool,
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TICK))?;
    let last = state
        .lock()
        .expect("only this thread writes it")
        .last_event_id
        .clone();
    let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
    write!(
        stream,
        "GET {STOCK_SSE}?{query} HTTP/1.0\r\nHost: {address}\r\n{last}\r\n"
    )?;
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    let (mut name, mut id, mut data) = (None, None, None);
    while !ended.load(Ordering::Relaxed) {
        match lines.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) if line.ends_with(b"\n") => {}
            Err(e) if !matches!(e.kind(), std::io::ErrorKind::WouldBlock) => return Err(e),
            // The rest of the line is still to come.
            _ => continue,
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        match text.split_once(": ").unwrap_or((&text, "")) {
            ("event", value) => name = Some(value.to_owned()),
            ("id", value) => id = Some(value.to_owned()),
            ("data", value) => data = Some(value.to_owned()),
            ("", _) => {
                let mut state = state.lock().expect("only this thread writes it");
                state.take(name.take(), id.take(), data.take());
            }
            _ => {}
        }
    }
    Ok(())
}

impl State {
    fn take(&mut self, name: Option<String>, id: Option<String>, data: Option<String>) {
        if let Some(id) = id {
            self.come_to(&id, name.as_deref());
            self.last_event_id = Some(id);
        }
        let Some(data) = data else { return };
        let frame: Value = serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e}: {data}"));
        match name.as_deref() {
            None => {
                let row = row_of(&frame).unwrap_or_else(|| panic!("no row: {data}"));
                self.ledger.enter(row);
            }
            // Over HTTP a stream starts over by one of these; its rows follow.
            Some("reset") => self.ledger.begin(None, None),
            Some("hello") if frame["recovered"] == false => self.ledger.begin(None, None),
            Some("hello" | "live" | "goodbye" | "waiting") => {}
            Some(_) => panic!("an unknown event {name:?}: {data}"),
        }
    }

    /// A plain stream that came back in another history is told by the epoch of its ids alone.
    fn come_to(&mut self, id: &str, name: Option<&str>) {
        let epoch = id.split_once(':').map_or(id, |(epoch, _)| epoch);
        if self.epoch != epoch {
            self.epoch = epoch.to_owned();
            if name.is_none() {
                self.ledger.begin(None, None);
            }
        }
    }
}
