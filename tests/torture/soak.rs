//! Everything at once, for as long as is asked for: writers of every kind in processes of their own, subscribers of
//! every kind, neighbours that mean harm, and what operators do to a file and its daemon.
//!
//! Time goes in eras. In each, all write and read at once while things happen that change no history; then it is quiet,
//! and each subscriber's ledger is compared with the table. Between two eras the history may become another.
//! `WALCAST_SOAK_SECONDS` says for how long; `WALCAST_SEED`, which a failure prints, repeats the choices that were made,
//! though not how the processes took their turns.

mod events;
mod ledger;
mod neighbours;
mod socket;
mod sse;
mod writers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::database::STOCK_SCHEMA;
use crate::common::random::Random;
use crate::common::wait::pause;
use crate::common::{Daemon, Database, PATIENCE, Settings, StopAtEnd};
use crate::faults::faulty::{Control, faulty};
use crate::scale;

use ledger::Truth;
use socket::{Client, Wish};
use sse::SseClient;

/// How long an era's writing lasts.
const ERA: Duration = Duration::from_millis(700);
/// Between two events of an era.
const EVENT: Duration = Duration::from_millis(100);
/// How long everybody may take to have everything once it is quiet.
const SETTLING: Duration = PATIENCE;

#[test]
fn every_ledger_agrees_with_the_table_after_each_era() {
    World::new(seed(), false).live(time());
}

#[test]
fn every_ledger_agrees_although_the_file_system_fails_now_and_then() {
    World::new(seed(), true).live(time());
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |now| u64::from(now.subsec_nanos()));
    number("WALCAST_SEED").unwrap_or(nanos)
}

fn time() -> Duration {
    Duration::from_secs(number("WALCAST_SOAK_SECONDS").unwrap_or(scale::sized(4, 120)))
}

struct World {
    seed: u64,
    /// Calls of SQLite fail in the daemon now and then.
    failing: bool,
    /// How many did.
    failed: u64,
    random: Random,
    /// `None` only while it is down; then there are settings.
    daemon: Option<Daemon>,
    settings: Option<Settings>,
    database: Database,
    clients: Vec<Client>,
    sse: Vec<SseClient>,
    log: Vec<String>,
    eras: usize,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let tail = self.log.len().saturating_sub(25);
            let last = self.log[tail..].join("\n  ");
            eprintln!(
                "WALCAST_SEED={}, era {}; the last steps:\n  {last}",
                self.seed, self.eras
            );
        }
    }
}

impl World {
    fn new(seed: u64, failing: bool) -> World {
        let settings = Daemon::on_new_file().with_tables(STOCK_SCHEMA);
        let settings = match failing {
            true => faulty(settings),
            false => settings,
        };
        let settings = settings
            .option("--ring-rows", "512")
            // Those neighbours who take nothing are not waited for.
            .option("--drain-timeout", "500ms");
        let daemon = settings.start();
        World {
            seed,
            failing,
            failed: 0,
            random: Random::new(seed),
            database: daemon.database(),
            daemon: Some(daemon),
            settings: None,
            clients: vec![],
            sse: vec![],
            log: vec![],
            eras: 0,
        }
    }

    fn live(mut self, time: Duration) {
        let end = Instant::now() + time;
        self.populate();
        while Instant::now() < end {
            self.eras += 1;
            self.era();
            self.settle();
            match self.random.below(4) {
                0 => self.remove_companions(),
                1 | 2 => self.another_history(),
                _ => continue,
            }
            self.settle();
        }
        let rows: usize = self.clients.iter().map(Client::received).sum();
        eprintln!(
            "seed {}: {} eras, {rows} rows to WebSockets, {} failed calls",
            self.seed, self.eras, self.failed
        );
    }

    fn say(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it is not being restarted")
    }

    fn populate(&mut self) {
        let address = self.daemon().address();
        for query in ["", "since=earliest", "last=20", "tenant=globex"] {
            self.sse.push(SseClient::start(address, query));
        }
        let wishes = [Wish::Plain, Wish::Now, Wish::Earliest, Wish::Last(50)];
        for wish in wishes {
            for tenants in [&[][..], &["acme"], &["globex", "initech"]] {
                let client = Client::connect(self.daemon(), wish, tenants.to_vec());
                self.clients.push(client);
            }
        }
    }

    /// All write and read at once, and things happen.
    fn era(&mut self) {
        let over = AtomicBool::new(false);
        let database = self.database.clone();
        let (address, seed) = (self.daemon().address(), self.random.seed());
        self.say(format!("era {}", self.eras));
        std::thread::scope(|scope| {
            let _end = StopAtEnd(&over);
            writers::start(scope, &database, &over, seed);
            neighbours::start(scope, address, &over, seed);
            let end = Instant::now() + ERA;
            let mut next_event = Instant::now() + EVENT;
            while Instant::now() < end {
                if Instant::now() >= next_event {
                    next_event += EVENT;
                    self.event();
                }
                self.sip();
                pause();
            }
        });
        assert!(over.load(Ordering::Relaxed));
        if self.failing {
            self.failed += Control::of(self.daemon()).disarm();
        }
    }

    /// Those who are not slow take what is there; those who were sent away come back.
    fn sip(&mut self) {
        let daemon = self.daemon.as_ref().expect("it is not being restarted");
        for client in &mut self.clients {
            client.return_to(daemon);
            if !client.slow {
                client.sip();
            }
        }
    }

    /// It is quiet: everybody gets all there is, and nothing else.
    fn settle(&mut self) {
        let truth = Truth::of(&self.database, self.daemon().epoch());
        let deadline = Instant::now() + SETTLING;
        for client in &mut self.clients {
            client.slow = false;
        }
        loop {
            self.sip();
            let behind = self.clients.iter().find(|client| !client.has_all(&truth));
            let late = self.sse.iter().find(|client| !client.has_all(&truth));
            if behind.is_none() && late.is_none() {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "of {truth:?} they still lack something: {behind:?} {late:?}"
            );
            pause();
        }
        self.clients.iter().for_each(|client| client.check(&truth));
        self.sse.iter().for_each(|client| client.check(&truth));
        self.say(format!("settled at {truth:?}"));
    }
}
