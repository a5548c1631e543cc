//! What a captured table costs its writer, what pruning its log costs a writer beside, and how soon subscribers have a change.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rusqlite::Connection;

use crate::database::{STOCK_TABLE, insert_rows};
use crate::report::Target;
use crate::server::Subject;
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::writer::Mode;

use super::{joined, latency, ms};

const SCENARIO: &str = "capture";
/// Commits of one stretch, each of one row.
const ROWS: i64 = 1_000;
/// Changes in a log that is pruned.
const LOGGED: u64 = 20_000;
/// How many times a round prunes: a prune lasts for some two hundred commits, too few for a p99.
const PRUNES: u32 = 5;
/// How many times as long as that of an inserted row the way of a change may take.
const AS_FAST: f64 = 1.2;
/// The stock feed, one of changes.
const CHANGES_OF_STOCK: &str =
    "[feeds.remediation]\ntable = \"remediation_events\"\ncapture = \"keys\"\n";

/// One kind of change: its words, its statement, and how much longer it may take than without capture where keys are logged.
const CHANGES: [(&str, &str, f64); 3] = [
    (
        "insert",
        "INSERT INTO remediation_events(id, ts, alertname, tenant, action, status, details) VALUES (?1, '2026-01-01T00:00:00.000Z', \
         'HighMemoryUsage', 'acme', 'restart_service', 'success', 'replica 7 restarted')",
        1.3,
    ),
    (
        "update",
        "UPDATE remediation_events SET status = 'error' WHERE id = ?1",
        1.5,
    ),
    (
        "delete",
        "DELETE FROM remediation_events WHERE id = ?1",
        1.5,
    ),
];

pub fn run(bench: &mut Bench) -> Result<()> {
    if !bench.has_walcast() {
        return Ok(());
    }
    for (mode, flags) in [("keys", &[][..]), ("full", &["--full"][..])] {
        writer(bench, mode, flags)?;
    }
    prune(bench)?;
    live(bench)
}

/// Stretches with and without capture take turns, as the time of a commit drifts.
fn writer(bench: &mut Bench, mode: &str, flags: &[&str]) -> Result<()> {
    let bare = bench.new_database(0)?;
    let captured = bench.new_database(0)?;
    capture(bench, &captured, &["install", STOCK_TABLE], flags)?;
    let (bare, captured) = (normal(&bare)?, normal(&captured)?);
    for round in 0..bench.pick(4 * bench.rounds, 4) {
        let first = i64::try_from(round)? * ROWS + 1;
        for (change, sql, most) in CHANGES {
            // Whoever comes second meets warmer caches.
            let (without, with) = match round % 2 {
                0 => {
                    let without = stretch(&bare, sql, first)?;
                    (without, stretch(&captured, sql, first)?)
                }
                _ => {
                    let with = stretch(&captured, sql, first)?;
                    (stretch(&bare, sql, first)?, with)
                }
            };
            let target = match mode {
                "keys" => Target::AtMost(most),
                _ => Target::None,
            };
            let mut add = |what: String, unit, target, value| {
                bench.add(SCENARIO, what, unit, target, Subject::Walcast, value);
            };
            add(
                format!("{change}, {mode}: commit p50"),
                "ms",
                Target::None,
                with,
            );
            add(
                format!("{change}, {mode}: with ÷ without"),
                "×",
                target,
                with / without,
            );
        }
    }
    Ok(())
}

/// The median time of a commit of one row, in milliseconds.
fn stretch(connection: &Connection, sql: &str, first: i64) -> Result<f64> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut times = Vec::new();
    for id in first..first + ROWS {
        let started = Instant::now();
        statement.execute([id])?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(percentile(&sorted(times), 0.5))
}

/// A writer's commits while its log is pruned, and as many with nobody beside, in turn: a p99 of commits is one of the disk, too.
fn prune(bench: &mut Bench) -> Result<()> {
    for _ in 0..bench.pick(bench.rounds, 1) {
        let database = bench.new_database(0)?;
        capture(bench, &database, &["install", STOCK_TABLE], &[])?;
        let filler = normal(&database)?;
        let (mut beside, mut alone) = (Vec::new(), Vec::new());
        for _ in 0..PRUNES {
            insert_rows(&filler, STOCK_TABLE, LOGGED)?;
            let times = beside_a_prune(bench, &database)?;
            insert_rows(&filler, STOCK_TABLE, LOGGED)?;
            let mut turns = times.iter();
            alone.extend(write_while(&database, || turns.next().is_some())?);
            beside.extend(times);
        }
        for (name, target, times) in [
            ("beside a prune", Target::AtMost(10.0), beside),
            ("with nobody beside", Target::None, alone),
        ] {
            let p99 = percentile(&sorted(times), 0.99);
            let what = format!("commit p99 of a writer {name}");
            bench.add(SCENARIO, what, "ms", target, Subject::Walcast, p99);
        }
    }
    Ok(())
}

fn beside_a_prune(bench: &Bench, database: &PathBuf) -> Result<Vec<f64>> {
    let pruned = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| write_while(database, || !pruned.load(Ordering::Relaxed)));
        let done = capture(bench, database, &["prune", STOCK_TABLE], &[]);
        pruned.store(true, Ordering::Relaxed);
        done?;
        writing.join().expect("the writer does not panic")
    })
}

/// Commits a row every millisecond; returns how long each took, in milliseconds.
fn write_while(database: &Path, mut goes_on: impl FnMut() -> bool) -> Result<Vec<f64>> {
    let connection = normal(database)?;
    let mut times = Vec::new();
    while goes_on() {
        let started = Instant::now();
        insert_rows(&connection, STOCK_TABLE, 1)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(times)
}

/// From the commit of an insert to its receipt: as a row of a feed of rows, and as a change of a feed of changes, in turn.
fn live(bench: &mut Bench) -> Result<()> {
    let config = bench.new_directory()?.join("walcast.toml");
    std::fs::write(&config, CHANGES_OF_STOCK)?;
    for round in 0..bench.rounds {
        let mut medians = [0.0; 2];
        // Whoever comes second meets a warmer machine.
        for of_changes in [round % 2 == 1, round % 2 == 0] {
            let database = bench.new_database(0)?;
            let config = of_changes.then_some(config.as_path());
            let server = bench.start(Subject::Walcast, &database, config)?;
            let (written, receipts) = latency::measure(bench, &server, &database, 1, Mode::Normal)?;
            let times = joined(&written, &receipts);
            let times = times.map(|(row, receipt)| ms(row.committed, receipt.at));
            medians[usize::from(of_changes)] = percentile(&sorted(times.collect()), 0.5);
        }
        let [row, change] = medians;
        for (name, unit, target, value) in [
            ("a row: commit→receipt p50", "ms", Target::None, row),
            ("a change: commit→receipt p50", "ms", Target::None, change),
            ("change ÷ row", "×", Target::AtMost(AS_FAST), change / row),
        ] {
            bench.add(SCENARIO, name, unit, target, Subject::Walcast, value);
        }
    }
    Ok(())
}

fn normal(database: &Path) -> Result<Connection> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.pragma_update(None, "synchronous", "normal")?;
    Ok(connection)
}

fn capture(bench: &Bench, database: &PathBuf, words: &[&str], flags: &[&str]) -> Result<()> {
    let mut command = Command::new(bench.walcast());
    command.arg("capture").args(words).args(flags);
    let done = command.arg("--db").arg(database).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "walcast capture: {said}");
    Ok(())
}
