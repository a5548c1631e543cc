//! Thousands of clients over TLS that stay, and come back by themselves when they are sent away, cut off, or lose the network.

mod backoff;
mod client;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use crate::sys;
use crate::tls::Clients;
use client::Client;

/// Clients stand for other machines and must not take the daemon's turns.
const NICE: i32 = 10;
/// How many may come at once for the first time: not what is measured.
const FIRST_AT_ONCE: usize = 32;
/// How long all of them may take to become live.
const PATIENCE: Duration = Duration::from_secs(180);
/// Kinds of cuts and faults that are told apart.
const KINDS: usize = 20;

/// The clients. They leave when it is dropped.
pub struct Crowd {
    clients: usize,
    shared: Arc<Shared>,
    leave: watch::Sender<u64>,
    _runtime: Runtime,
}

/// What the clients of a crowd have in common.
struct Shared {
    server: SocketAddr,
    path: String,
    /// Counts what the crowd went through; each is looked at by itself.
    episode: AtomicU64,
    tally: Mutex<Tally>,
    first: Semaphore,
}

/// What came of the clients since [`Crowd::begin`].
#[derive(Default)]
pub struct Tally {
    /// When each became live, in the order in which they did; `CLOCK_MONOTONIC`, nanoseconds.
    pub live_at: Vec<u64>,
    /// The row that the hindmost of them has next.
    hindmost: Option<i64>,
    pub full_handshakes: u64,
    pub resumed_handshakes: u64,
    /// Attempts that met nobody who listens.
    pub unheard: u64,
    /// Connections that ended before their client was live, by how.
    pub cuts: BTreeMap<String, u64>,
    /// What must not be.
    faults: BTreeMap<String, u64>,
}

impl Crowd {
    /// Connects `clients` of them for the rows of `path`, and waits until all are live.
    ///
    /// # Errors
    /// When one does not become live.
    pub fn connect(server: SocketAddr, path: &str, clients: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .on_thread_start(|| sys::be_nice(NICE))
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared {
            server,
            path: path.to_owned(),
            episode: AtomicU64::new(0),
            tally: Mutex::default(),
            first: Semaphore::new(FIRST_AT_ONCE),
        });
        let leave = watch::Sender::new(0);
        let tls = Clients::new()?;
        for number in 0..clients {
            let client = Client::new(number, &shared, tls.one_more());
            runtime.spawn(client.stay(leave.subscribe()));
        }
        let crowd = Self {
            clients,
            shared,
            leave,
            _runtime: runtime,
        };
        crowd.all_live(0)?;
        Ok(crowd)
    }

    /// Begins to count anew: what follows is looked at by itself.
    pub fn begin(&self) {
        *self.shared.tally() = Tally::default();
        self.shared.episode.fetch_add(1, Relaxed);
    }

    /// Has all of them lose their connections, as when the network goes away for a moment.
    pub fn lose_the_network(&self) {
        self.leave.send_modify(|times| *times += 1);
    }

    /// Waits until all are live and have the rows up to the id `last`; returns what came of them.
    ///
    /// # Errors
    /// When one got other rows than it should, was sent away again, or does not become live.
    pub fn all_live(&self, last: i64) -> Result<Tally> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            {
                let mut tally = self.shared.tally();
                if let Some((fault, count)) = tally.faults.iter().next() {
                    bail!("{count} clients: {fault}");
                }
                let live = tally.live_at.len();
                if live == self.clients {
                    let next = tally.hindmost.unwrap_or_default();
                    ensure!(next > last, "a client is live without the row {next}");
                    return Ok(std::mem::take(&mut tally));
                }
                ensure!(
                    Instant::now() < deadline,
                    "{live} of {} clients became live in {PATIENCE:?}; cuts: {:?}",
                    self.clients,
                    tally.cuts
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner) // plain counts: whole whenever they are seen
    }
}

impl Tally {
    /// How many seconds after `since` a share (0 to 1) of the clients were live.
    pub fn seconds_until(&self, share: f64, since: u64) -> f64 {
        let rank = (share * self.live_at.len() as f64).ceil() as usize;
        let at = self.live_at.get(rank.max(1) - 1);
        at.map_or(f64::NAN, |&at| (at as f64 - since as f64) / 1e9)
    }

    /// When the last of them was live.
    pub fn last_live_at(&self) -> u64 {
        self.live_at.last().copied().unwrap_or_default()
    }

    fn live(&mut self, next: i64) {
        self.live_at.push(sys::monotonic_ns());
        self.hindmost = Some(self.hindmost.map_or(next, |before| before.min(next)));
    }

    fn cut(&mut self, how: String) {
        count(&mut self.cuts, how);
    }

    fn fault(&mut self, what: String) {
        count(&mut self.faults, what);
    }
}

/// Counts one of a kind; of too many kinds the further ones together.
fn count(kinds: &mut BTreeMap<String, u64>, kind: String) {
    let is_one_too_many = kinds.len() >= KINDS && !kinds.contains_key(&kind);
    let kind = if is_one_too_many {
        "others".to_owned()
    } else {
        kind
    };
    *kinds.entry(kind).or_default() += 1;
}
