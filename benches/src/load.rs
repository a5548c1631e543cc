//! Any number of WebSocket subscribers on one thread: bare epoll, one buffer for all, nothing allocated for a row.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::ledger::Ledger;
use crate::sys::{self, Epoll, monotonic_ns};
use crate::wire::{self, Frame, IdFinder};

/// Handshakes under way at once: a storm of connections would measure the listen queue.
const HANDSHAKES: usize = 64;
/// Source addresses 127.0.0.2 and up: each has its own 28,000 ports.
const SOURCES: usize = 200;
/// Bytes taken from one socket at a time.
const READ: usize = 256 * 1024;
/// The longest beginning of a frame that waits for its end: a message of walcast has at most 1 MiB of JSON.
const LONGEST_TAIL: usize = 1024 * 1024 + 1024;
/// The receive buffer of a stalled subscriber: small, so that what it does not read stays with the server.
const STALLED_RECEIVE_BUFFER: usize = 4096;
/// How long the subscribers may be silent before what is outstanding counts as lost.
const SILENCE: Duration = Duration::from_secs(30);

/// How long after the last row a doubled one is waited for.
const AFTERMATH: Duration = Duration::from_millis(50);

/// One subscriber.
#[derive(Clone)]
pub struct Subscriber {
    /// Path and query.
    pub path: String,
    pub ledger: Ledger,
    /// Reads nothing after the handshake until [`Load::resume`].
    pub stalled: bool,
    /// Tells samples of different feeds apart.
    pub group: usize,
}

impl Subscriber {
    /// Reads all rows from the id `first` on, without a filter.
    pub fn plain(path: &str, first: i64) -> Self {
        Self {
            path: path.to_owned(),
            ledger: Ledger::new(first, 1),
            stalled: false,
            group: 0,
        }
    }
}

/// What is kept of each receipt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// That it was in order.
    Count,
    /// The time of a row's last receipt too.
    Last,
    /// The time of every receipt.
    Every,
}

/// One row received by one subscriber.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    pub group: usize,
    pub id: i64,
    /// `CLOCK_MONOTONIC`, nanoseconds, taken when the bytes had been read.
    pub at: u64,
}

#[derive(Default)]
struct Shared {
    received: AtomicU64,
    first_at: AtomicU64,
    last_at: AtomicU64,
    faults: AtomicU64,
    resume: AtomicBool,
    stop: AtomicBool,
}

/// Connected subscribers; they receive until [`Load::finish`].
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Vec<Receipt>>>>,
    ledgers: Vec<(Ledger, bool)>,
    /// When the first connection was begun, `CLOCK_MONOTONIC`.
    pub started_at: u64,
}

impl Load {
    /// Connects all subscribers and returns when each has its upgrade.
    ///
    /// # Errors
    /// When one is refused.
    pub fn connect(server: SocketAddr, subscribers: Vec<Subscriber>, keep: Keep) -> Result<Self> {
        Self::connect_nice(server, subscribers, keep, 0)
    }

    /// The same with a thread that gives way to others by `nice`.
    ///
    /// # Errors
    /// When one is refused.
    pub fn connect_nice(
        server: SocketAddr,
        subscribers: Vec<Subscriber>,
        keep: Keep,
        nice: i32,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let ledgers = subscribers.iter().map(|s| (s.ledger, s.stalled)).collect();
        let started_at = monotonic_ns();
        let (connected, wait) = mpsc::channel();
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("load".into()).spawn(move || {
            sys::be_nice(nice);
            let result = Receiver::connect(server, subscribers, keep, for_thread);
            let mut receiver = match result {
                Ok(receiver) => receiver,
                Err(error) => return Err(error),
            };
            let _ = connected.send(()); // fails only when the caller is gone
            receiver.run()?;
            Ok(receiver.receipts)
        })?;
        let mut load = Self {
            shared,
            thread: Some(thread),
            ledgers,
            started_at,
        };
        match wait.recv() {
            Ok(()) => Ok(load),
            Err(_) => Err(load
                .join()
                .err()
                .unwrap_or_else(|| anyhow!("the load generator ended early"))),
        }
    }

    /// Rows received by all subscribers together.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Acquire)
    }

    /// When the first row came to anyone, `CLOCK_MONOTONIC`; 0 before.
    pub fn first_at(&self) -> u64 {
        self.shared.first_at.load(Relaxed)
    }

    /// When the newest row came, `CLOCK_MONOTONIC`.
    pub fn last_at(&self) -> u64 {
        self.shared.last_at.load(Relaxed)
    }

    /// Lets stalled subscribers read.
    pub fn resume(&self) {
        self.shared.resume.store(true, Relaxed);
    }

    /// Waits until every subscriber that reads has all its rows up to the id `last`.
    ///
    /// # Errors
    /// When a row is missing, doubled or out of order, or a connection closed.
    pub fn complete(&self, last: i64) -> Result<()> {
        let resumed = self.shared.resume.load(Relaxed);
        let readers = self
            .ledgers
            .iter()
            .filter(|(_, stalled)| resumed || !stalled);
        let expected: u64 = readers.map(|(ledger, _)| ledger.outstanding(last)).sum();
        let mut seen = (self.received(), Instant::now());
        while self.received() < expected {
            if self.shared.faults.load(Relaxed) > 0 {
                bail!("a subscriber failed");
            }
            if self.received() > seen.0 {
                seen = (self.received(), Instant::now());
            }
            ensure!(
                seen.1.elapsed() < SILENCE,
                "{} of {expected} rows came, then none for {SILENCE:?}",
                seen.0
            );
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits for all rows up to `last`, disconnects, and returns what was kept of them.
    ///
    /// # Errors
    /// As [`Load::complete`]; the first fault is named.
    pub fn finish(mut self, last: i64) -> Result<Vec<Receipt>> {
        let complete = self.complete(last);
        thread::sleep(AFTERMATH);
        let receipts = self.join()?;
        complete?;
        Ok(receipts)
    }

    fn join(&mut self) -> Result<Vec<Receipt>> {
        self.shared.stop.store(true, Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => bail!("the load generator panicked"),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.join(); // the scenario has failed already and says why
        }
    }
}

struct Receiver {
    epoll: Epoll,
    connections: Vec<Connection>,
    keep: Keep,
    receipts: Vec<Receipt>,
    /// The lowest id of `receipts` where only the last receipt of each row is kept.
    base: Option<i64>,
    received: u64,
    last_at: u64,
    shared: Arc<Shared>,
    /// One for all connections: the tail of the one that is read, and behind it what it has to say.
    buffer: Vec<u8>,
    events: Vec<sys::Event>,
}

struct Connection {
    stream: TcpStream,
    upgraded: bool,
    /// The beginning of a frame whose end has not come yet.
    tail: Vec<u8>,
    ids: IdFinder,
    ledger: Ledger,
    group: usize,
    stalled: bool,
}

impl Receiver {
    fn connect(
        server: SocketAddr,
        subscribers: Vec<Subscriber>,
        keep: Keep,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let mut receiver = Self {
            epoll: Epoll::new()?,
            connections: Vec::with_capacity(subscribers.len()),
            keep,
            receipts: Vec::new(),
            base: None,
            received: 0,
            last_at: 0,
            shared,
            buffer: vec![0; LONGEST_TAIL + READ],
            events: sys::event_buffer(),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut upgraded = 0;
        let mut subscribers = subscribers.into_iter().enumerate();
        loop {
            while receiver.connections.len() - upgraded < HANDSHAKES {
                let Some((index, subscriber)) = subscribers.next() else {
                    break;
                };
                receiver.begin(server, index, subscriber)?;
            }
            if upgraded == receiver.connections.len() {
                return Ok(receiver);
            }
            ensure!(
                Instant::now() < deadline,
                "{upgraded} subscribers connected within 60 s, not all"
            );
            upgraded += receiver.turn()?;
        }
    }

    fn begin(&mut self, server: SocketAddr, index: usize, subscriber: Subscriber) -> Result<()> {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (index % SOURCES) as u8);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if subscriber.stalled {
            socket.set_recv_buffer_size(STALLED_RECEIVE_BUFFER)?;
        }
        socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
        socket
            .connect(&server.into())
            .with_context(|| format!("subscriber {index} of {server}"))?;
        // Closing by reset leaves no port in TIME_WAIT for the next round to stumble over.
        socket.set_linger(Some(Duration::ZERO))?;
        let stream = TcpStream::from(socket);
        (&stream).write_all(wire::upgrade_request(&subscriber.path).as_bytes())?;
        stream.set_nonblocking(true)?;
        self.epoll.add(&stream, index as u64, libc::EPOLLIN)?;
        self.connections.push(Connection {
            stream,
            upgraded: false,
            tail: Vec::new(),
            ids: IdFinder::default(),
            ledger: subscriber.ledger,
            group: subscriber.group,
            stalled: subscriber.stalled,
        });
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        while !self.shared.stop.load(Relaxed) {
            if let Err(fault) = self.turn() {
                self.shared.faults.fetch_add(1, Relaxed);
                return Err(fault);
            }
            if self.shared.resume.load(Relaxed) {
                self.resume()?;
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        for (index, connection) in self
            .connections
            .iter_mut()
            .enumerate()
            .filter(|(_, c)| c.stalled)
        {
            connection.stalled = false;
            self.epoll
                .add(&connection.stream, index as u64, libc::EPOLLIN)?;
        }
        Ok(())
    }

    /// Waits once and reads from every socket that has something; returns how many were upgraded.
    fn turn(&mut self) -> Result<usize> {
        let mut events = std::mem::take(&mut self.events);
        let mut upgraded = 0;
        for event in self.epoll.wait(&mut events, Duration::from_millis(20))? {
            let index = event.u64 as usize;
            let was = self.connections[index].upgraded;
            self.read(index)
                .with_context(|| format!("subscriber {index}"))?;
            upgraded += usize::from(self.connections[index].upgraded && !was);
        }
        self.events = events;
        self.shared.last_at.store(self.last_at, Relaxed);
        self.shared.received.store(self.received, Release);
        Ok(upgraded)
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let connection = &mut self.connections[index];
        let kept = connection.tail.len();
        ensure!(
            kept <= LONGEST_TAIL,
            "a frame of more than {LONGEST_TAIL} bytes"
        );
        buffer[..kept].copy_from_slice(&connection.tail);
        connection.tail.clear();
        let read = match (&connection.stream).read(&mut buffer[kept..kept + READ]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error).context("the connection broke"),
        };
        let at = monotonic_ns();
        let used = self.take(index, &buffer[..kept + read], at)?;
        if used < kept + read {
            self.connections[index]
                .tail
                .extend_from_slice(&buffer[used..kept + read]);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Takes the answer to the upgrade and all whole frames from `bytes`; returns how much that was.
    fn take(&mut self, index: usize, bytes: &[u8], at: u64) -> Result<usize> {
        let connection = &mut self.connections[index];
        let mut used = 0;
        if !connection.upgraded {
            let Some(length) = wire::head_length(bytes) else {
                return Ok(0);
            };
            let head = &bytes[..length];
            ensure!(
                wire::accepts_upgrade(head),
                "not upgraded: {}",
                String::from_utf8_lossy(head)
            );
            connection.upgraded = true;
            used = length;
            if connection.stalled {
                self.epoll.remove(&connection.stream)?;
            }
        }
        while let Some((frame, length)) = wire::first_frame(&bytes[used..])? {
            used += length;
            match frame {
                Frame::Text(payload) => self.enter(index, payload, at)?,
                Frame::Ping(payload) => {
                    (&self.connections[index].stream).write_all(&wire::pong(payload))?
                }
                Frame::Close(code) => bail!("closed with code {code:?}"),
                Frame::Pong => {}
            }
        }
        Ok(used)
    }

    fn enter(&mut self, index: usize, payload: &[u8], at: u64) -> Result<()> {
        let connection = &mut self.connections[index];
        let Some(id) = connection.ids.find(payload) else {
            ensure!(
                !payload.starts_with(br#"{"type":"reset""#),
                "{}",
                String::from_utf8_lossy(payload)
            );
            return Ok(()); // hello, live, heartbeat
        };
        connection.ledger.enter(id)?;
        if self.received == 0 {
            self.shared.first_at.store(at, Relaxed);
        }
        self.received += 1;
        self.last_at = at;
        let receipt = Receipt {
            group: connection.group,
            id,
            at,
        };
        match self.keep {
            Keep::Count => {}
            Keep::Every => self.receipts.push(receipt),
            Keep::Last => self.keep_last(receipt),
        }
        Ok(())
    }

    fn keep_last(&mut self, receipt: Receipt) {
        let base = *self.base.get_or_insert(receipt.id);
        let slot = (receipt.id - base) as usize; // ids of one ledger only rise, and all begin at the same
        if slot >= self.receipts.len() {
            self.receipts.resize(slot + 1, receipt);
        }
        self.receipts[slot] = receipt;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Sends one subscriber the rows `ids`, then nothing more.
    fn server_of(ids: &'static [i64]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            let mut answer = format!(
                "HTTP/1.1 101 X\r\nSec-WebSocket-Accept: {}\r\n\r\n",
                wire::ACCEPT
            )
            .into_bytes();
            for id in ids {
                let event = format!(r#"{{"type":"remediation_event","event":{{"id":{id}}}}}"#);
                wire::push_text_frame(&mut answer, event.as_bytes());
            }
            // In two pieces that part a frame.
            let (begin, end) = answer.split_at(answer.len() - 7);
            stream.write_all(begin).unwrap();
            thread::sleep(Duration::from_millis(20));
            stream.write_all(end).unwrap();
            let _ = stream.read(&mut request);
        });
        address
    }

    fn receive(ids: &'static [i64], last: i64) -> Result<Vec<Receipt>> {
        let plain = Subscriber::plain("/ws/remediation", 1);
        Load::connect(server_of(ids), vec![plain], Keep::Every)?.finish(last)
    }

    #[test]
    fn each_row_once_in_order_is_complete() {
        let receipts = receive(&[1, 2, 3], 3).unwrap();
        assert_eq!(receipts.iter().map(|r| r.id).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_missing_row_is_a_fault() {
        let error = format!("{:#}", receive(&[1, 2, 4], 4).unwrap_err());
        assert!(
            error.contains("rows are missing: expected id 3, got 4"),
            "{error}"
        );
    }

    #[test]
    fn a_doubled_row_is_a_fault() {
        let error = format!("{:#}", receive(&[1, 2, 2, 3], 3).unwrap_err());
        assert!(
            error.contains("came twice or out of order: expected id 3, got 2"),
            "{error}"
        );
    }
}
