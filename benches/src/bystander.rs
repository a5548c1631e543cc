//! One client over TLS whose rows are timed while a crowd comes. When its own connection ends it comes back before the crowd does.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::ledger::Ledger;
use crate::load::Receipt;
use crate::sys::monotonic_ns;
use crate::tls::{self, Clients};
use crate::wire::{self, Frame, IdFinder};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(5);
/// How often it is looked whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// How long rows, and a connection, are waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const READ: usize = 16 * 1024;

/// The client, on a thread of its own.
pub struct Bystander {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Vec<Receipt>>>>,
}

#[derive(Default)]
struct Shared {
    /// Each time it became live, `CLOCK_MONOTONIC`.
    live_at: Mutex<Vec<u64>>,
    /// The last row it has.
    position: AtomicI64,
    stop: AtomicBool,
}

impl Bystander {
    /// Has it take the rows of `path` from the first on.
    ///
    /// # Errors
    /// When no thread can be started, or it does not become live.
    pub fn follow(server: SocketAddr, path: &str) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut client = Client {
            server,
            path: path.to_owned(),
            tls: Clients::new()?.one_more(),
            shared: Arc::clone(&shared),
            ledger: Ledger::new(1, 1),
            ids: IdFinder::default(),
            receipts: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("bystander".into())
            .spawn(move || client.stay().map(|()| client.receipts))?;
        let bystander = Self {
            shared,
            thread: Some(thread),
        };
        bystander.live_since(0)?;
        Ok(bystander)
    }

    /// Waits until it has become live after `since`; returns when it first did.
    ///
    /// # Errors
    /// When it does not.
    pub fn live_since(&self, since: u64) -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let live_at = self.shared.live_at.lock();
            let live_at = live_at.unwrap_or_else(PoisonError::into_inner); // plain numbers
            if let Some(&at) = live_at.iter().find(|&&at| at >= since) {
                return Ok(at);
            }
            drop(live_at);
            ensure!(Instant::now() < deadline, "the bystander is not live");
            thread::sleep(PAUSE);
        }
    }

    /// Waits until it has the row `last`, and returns when each row came to it.
    ///
    /// # Errors
    /// When a row is missing, doubled or out of order.
    pub fn finish(mut self, last: i64) -> Result<Vec<Receipt>> {
        let deadline = Instant::now() + PATIENCE;
        while self.shared.position.load(Relaxed) < last
            && self.thread.as_ref().is_some_and(|one| !one.is_finished())
        {
            ensure!(Instant::now() < deadline, "a row did not come");
            thread::sleep(PAUSE);
        }
        self.shared.stop.store(true, Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(receipts)) => receipts,
            _ => bail!("the bystander panicked"),
        }
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // the scenario has failed already and says why
        }
    }
}

struct Client {
    server: SocketAddr,
    path: String,
    tls: Arc<ClientConfig>,
    shared: Arc<Shared>,
    ledger: Ledger,
    ids: IdFinder,
    receipts: Vec<Receipt>,
}

impl Client {
    fn stay(&mut self) -> Result<()> {
        while !self.shared.stop.load(Relaxed) {
            match self.connect() {
                Ok(mut stream) => self.receive(&mut stream)?,
                Err(_) => thread::sleep(PAUSE), // nobody listens at the moment
            }
        }
        Ok(())
    }

    fn connect(&self) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let stream = TcpStream::connect(self.server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE / 2))?;
        let name = ServerName::try_from(tls::NAME)?;
        let session = ClientConnection::new(Arc::clone(&self.tls), name)?;
        let mut stream = StreamOwned::new(session, stream);
        let position = self.shared.position.load(Relaxed);
        let path = format!("{}?since={position}", self.path);
        stream.write_all(wire::upgrade_request(&path).as_bytes())?;
        stream.flush()?;
        stream.sock.set_read_timeout(Some(LOOK))?;
        Ok(stream)
    }

    /// Takes what comes until the connection ends.
    fn receive(&mut self, stream: &mut StreamOwned<ClientConnection, TcpStream>) -> Result<()> {
        let (mut bytes, mut upgraded, mut room) = (Vec::new(), false, [0; READ]);
        while !self.shared.stop.load(Relaxed) {
            match stream.read(&mut room) {
                Ok(0) => return Ok(()),
                Ok(read) => bytes.extend_from_slice(&room[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(_) => return Ok(()),
            }
            let at = monotonic_ns();
            if !upgraded {
                let Some(length) = wire::head_length(&bytes) else {
                    continue;
                };
                let head: Vec<u8> = bytes.drain(..length).collect();
                if !wire::accepts_upgrade(&head) {
                    return Ok(()); // the daemon is about to stop
                }
                upgraded = true;
            }
            let used = self.take(stream, &bytes, at)?;
            bytes.drain(..used);
        }
        Ok(())
    }

    /// Takes all whole frames; returns how many bytes they are.
    fn take(&mut self, stream: &mut impl Write, bytes: &[u8], at: u64) -> Result<usize> {
        let mut used = 0;
        while let Some((frame, length)) = wire::first_frame(&bytes[used..])? {
            used += length;
            match frame {
                Frame::Text(text) => self.enter(text, at)?,
                // Where it can't be answered, the next read says that the connection has ended.
                Frame::Ping(payload) => drop(stream.write_all(&wire::pong(payload))),
                Frame::Close(_) | Frame::Pong => {}
            }
        }
        Ok(used)
    }

    fn enter(&mut self, text: &[u8], at: u64) -> Result<()> {
        if let Some(id) = self.ids.find(text) {
            self.ledger.enter(id)?;
            self.shared.position.store(id, Relaxed);
            self.receipts.push(Receipt { group: 0, id, at });
        } else if text.starts_with(br#"{"type":"live""#) {
            let live_at = self.shared.live_at.lock();
            live_at.unwrap_or_else(PoisonError::into_inner).push(at); // plain numbers
        }
        Ok(())
    }
}
