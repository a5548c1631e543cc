//! Thousands of clients over TLS that come back at once: after a restart, a crash, and an outage of the network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::Connection;

use crate::bystander::Bystander;
use crate::crowd::{Crowd, Tally};
use crate::database::{self, STOCK_PATH, STOCK_TABLE};
use crate::report::Target;
use crate::server::{self, Launch, Places, Server, Subject};
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::sys::{self, monotonic_ns};
use crate::tls;
use crate::writer::{Mode, Writing};

use super::{joined, ms};

const SCENARIO: &str = "storm";
/// The bystander's feed: a row of the crowd's would go to all of them.
const OTHER_TABLE: &str = "orders";
const OTHER_PATH: &str = "/ws/orders";
const GAP: Duration = Duration::from_millis(5);
/// Rows that the clients miss while they are away.
const MISSED: u64 = 5;

/// What sends the clients away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Episode {
    /// A stop in order, and a start: the daemon tells each client when to come back.
    Restart,
    /// The daemon is killed, and started: each comes after the shortest wait of its own accord.
    Crash,
    /// The network is away for a moment, the daemon is not, and sessions of TLS are resumed.
    Outage,
}

impl Episode {
    fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Crash => "crash",
            Self::Outage => "outage",
        }
    }
}

pub fn run(bench: &mut Bench) -> Result<()> {
    if !bench.has_walcast() {
        return Ok(());
    }
    let clients = bench.pick(10_000, 2_000);
    for _ in 0..bench.pick(bench.rounds.min(3), 1) {
        for episode in [Episode::Restart, Episode::Crash, Episode::Outage] {
            measure(bench, episode, clients).context(episode.name())?;
        }
    }
    Ok(())
}

/// A daemon that speaks TLS and can be started again where it was.
struct Place {
    walcast: PathBuf,
    directory: PathBuf,
    database: PathBuf,
    config: PathBuf,
    places: Places,
}

impl Place {
    fn prepare(bench: &mut Bench) -> Result<Self> {
        let directory = bench.new_directory()?;
        let database = directory.join("bench.db");
        let tables = [STOCK_TABLE, OTHER_TABLE].map(str::to_owned);
        database::create(&database, &tables, 0)?;
        let (cert, key) = tls::write_key_pair(&directory)?;
        let places = Places::free()?;
        let config = directory.join("walcast.toml");
        let health = places.health;
        let text = format!(
            "[feeds.remediation]\n[feeds.{OTHER_TABLE}]\n[tls]\ncert = {cert:?}\nkey = {key:?}\n[metrics]\nlisten = \"{health}\"\n"
        );
        fs::write(&config, text)?;
        Ok(Self {
            walcast: bench.walcast().to_owned(),
            directory,
            database,
            config,
            places,
        })
    }

    fn start(&self) -> Result<Server> {
        let launch = Launch {
            subject: Subject::Walcast,
            walcast: &self.walcast,
            database: &self.database,
            directory: &self.directory,
            config: Some(&self.config),
            upstream: None,
            over_tls: Some(self.places),
        };
        launch.start()
    }
}

/// What was measured of the daemon while the crowd came back.
struct Back {
    /// When the clients were sent away, and when the daemon was there for them again.
    away_at: u64,
    there_at: u64,
    tally: Tally,
    cpu_ns: u64,
    overflows: u64,
    peak_mib: f64,
}

fn measure(bench: &mut Bench, episode: Episode, clients: usize) -> Result<()> {
    let place = Place::prepare(bench)?;
    sys::flush_disks();
    let server = place.start()?;
    let crowd = Crowd::connect(place.places.clients, STOCK_PATH, clients)?;
    let bystander = Bystander::follow(place.places.clients, OTHER_PATH)?;
    let writing = Writing {
        tables: vec![OTHER_TABLE.to_owned()],
        until_stdin_closes: true,
        ..Writing::new(&place.database, Mode::Normal, u64::MAX, GAP)
    };
    let writer = writing.spawn()?;
    let (_server, back) = come_back(&place, server, &crowd, episode)?;
    let live_at = match episode {
        Episode::Outage => back.away_at, // its own network was not away
        Episode::Restart | Episode::Crash => bystander.live_since(back.away_at)?,
    };
    let written = writer.finish()?;
    let receipts = bystander.finish(written.last().context("no row was written")?.id)?;
    let meanwhile = live_at..=back.tally.last_live_at();
    let times = joined(&written, &receipts)
        .filter(|(row, _)| meanwhile.contains(&row.started))
        .map(|(row, receipt)| ms(row.started, receipt.at));
    report(bench, episode, &back, &sorted(times.collect()));
    Ok(())
}

/// Sends the crowd away, and waits until all are back with the rows that they missed.
fn come_back(
    place: &Place,
    server: Server,
    crowd: &Crowd,
    episode: Episode,
) -> Result<(Server, Back)> {
    let overflows = server::listen_overflows()?;
    crowd.begin();
    let away_at = monotonic_ns();
    let (server, last) = match episode {
        Episode::Restart | Episode::Crash => {
            match episode {
                Episode::Crash => server.kill()?,
                _ => drop(server),
            }
            let last = miss(&place.database)?;
            (place.start()?, last)
        }
        Episode::Outage => {
            crowd.lose_the_network();
            server.forget_peak()?;
            (server, miss(&place.database)?)
        }
    };
    let (there_at, cpu_ns) = (monotonic_ns(), server.cpu_ns()?);
    let tally = crowd.all_live(last)?;
    for line in server.connection_errors()? {
        eprintln!("  {SCENARIO}: {}: the daemon counts {line}", episode.name());
    }
    let back = Back {
        away_at,
        there_at,
        tally,
        cpu_ns: server.cpu_ns()? - cpu_ns,
        overflows: server::listen_overflows()? - overflows,
        peak_mib: server.peak_mib()?,
    };
    Ok((server, back))
}

/// Writes rows that nobody is there for; returns the id of the last.
fn miss(path: &Path) -> Result<i64> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(10))?;
    database::insert_rows(&db, STOCK_TABLE, MISSED)?;
    Ok(db.last_insert_rowid())
}

/// `times`: from the insert to the bystander, of rows written while the crowd came, in order.
fn report(bench: &mut Bench, episode: Episode, back: &Back, times: &[f64]) {
    let tally = &back.tally;
    let clients = tally.live_at.len();
    let until = |share| tally.seconds_until(share, back.away_at);
    let cuts: u64 = tally.cuts.values().sum();
    for (how, count) in &tally.cuts {
        eprintln!("  {SCENARIO}: {}: {count} cut: {how}", episode.name());
    }
    let none = Target::None;
    let (soon, prompt) = (Target::AtMost(10.0), Target::AtMost(100.0));
    let cpu = back.cpu_ns as f64 / clients as f64 / 1e6;
    let slowest = times.last().copied().unwrap_or(f64::NAN);
    let lines = [
        ("the daemon is away", "s", none, seconds(back)),
        ("until half are live", "s", none, until(0.5)),
        ("until all are live", "s", soon, until(1.0)),
        ("cut off", "connections", none, cuts as f64),
        ("too early", "connections", none, tally.unheard as f64),
        (
            "beyond the listen queue",
            "connections",
            none,
            back.overflows as f64,
        ),
        ("in full", "handshakes", none, tally.full_handshakes as f64),
        (
            "resumed",
            "handshakes",
            none,
            tally.resumed_handshakes as f64,
        ),
        ("the daemon's CPU for each", "ms", none, cpu),
        ("resident at the peak", "MiB", none, back.peak_mib),
        ("to a bystander meanwhile", "rows", none, times.len() as f64),
        (
            "bystander, insert→receipt p50",
            "ms",
            none,
            percentile(times, 0.5),
        ),
        (
            "bystander, insert→receipt p99",
            "ms",
            none,
            percentile(times, 0.99),
        ),
        ("bystander, the slowest", "ms", prompt, slowest),
    ];
    for (name, unit, target, value) in lines {
        let name = format!("{} of {clients}: {name}", episode.name());
        bench.add(SCENARIO, name, unit, target, Subject::Walcast, value);
    }
}

fn seconds(back: &Back) -> f64 {
    (back.there_at - back.away_at) as f64 / 1e9
}
