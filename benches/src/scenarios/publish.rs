//! What publishing to NATS does: how fast a table gets into its stream, and what live rows notice of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::broker::Broker;
use crate::report::Target;
use crate::server::{Server, Subject};
use crate::stats::{median, percentile, sorted};
use crate::suite::Bench;
use crate::wire;
use crate::writer::Mode;

use super::{joined, latency, ms};

const SCENARIO: &str = "publish";
/// How long a table may take to get into its stream.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(bench: &mut Bench) -> Result<()> {
    if !bench.has_walcast() {
        return Ok(());
    }
    for _ in 0..bench.pick(3, 2) {
        let speed = catching_up(bench)?;
        bench.add(
            SCENARIO,
            "catching up",
            "rows/s",
            Target::AtLeast(400_000.0),
            Subject::Walcast,
            speed,
        );
    }
    live(bench)
}

/// Rows a second from the first that the stream has to the last.
fn catching_up(bench: &mut Bench) -> Result<f64> {
    let rows = bench.pick(2_000_000, 500_000);
    let database = bench.shared_database(rows)?;
    let directory = bench.new_directory()?;
    let broker = Broker::start(&directory.join("store"))?;
    let config = broker.configure(&directory)?;
    let server = bench.start(Subject::Walcast, &database, Some(&config))?;
    let first = wait_for(&server, |published| published > 0.0)?;
    let last = wait_for(&server, |published| published >= rows as f64)?;
    Ok((last.rows - first.rows) / last.at.duration_since(first.at).as_secs_f64())
}

/// How many rows were published by then.
struct Published {
    rows: f64,
    at: Instant,
}

fn wait_for(server: &Server, enough: impl Fn(f64) -> bool) -> Result<Published> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, text) = wire::get(server.address, "/metrics")?;
        let at = Instant::now();
        let text = String::from_utf8_lossy(&text);
        let line = text
            .lines()
            .find(|line| line.starts_with("walcast_publish_rows_total{"));
        let rows = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        let rows: f64 = rows.context("walcast does not say what it published")?;
        if enough(rows) {
            return Ok(Published { rows, at });
        }
        ensure!(
            at < deadline,
            "only {rows} rows were published in {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Live rows without publishing, with it, and while the server is down: one after the other, round by round.
fn live(bench: &mut Bench) -> Result<()> {
    let (mut on, mut down) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds.max(3) {
        let without = insert_to_receipt(bench, None)?;
        let directory = bench.new_directory()?;
        let mut broker = Broker::start(&directory.join("store"))?;
        let config = broker.configure(&directory)?;
        on.push(insert_to_receipt(bench, Some(&config))? / without);
        broker.kill()?;
        down.push(insert_to_receipt(bench, Some(&config))? / without);
    }
    for (name, ratios) in [("published", on), ("server down", down)] {
        let ratio = median(&ratios);
        let name = format!("insert→receipt p50, {name} ÷ not published");
        bench.add(
            SCENARIO,
            name,
            "×",
            Target::AtMost(1.1),
            Subject::Walcast,
            ratio,
        );
    }
    Ok(())
}

/// The median for one subscriber, in milliseconds.
fn insert_to_receipt(bench: &mut Bench, config: Option<&Path>) -> Result<f64> {
    let database = bench.new_database(0)?;
    let server = bench.start(Subject::Walcast, &database, config)?;
    let (written, receipts) = latency::measure(bench, &server, &database, 1, Mode::Normal)?;
    let times = joined(&written, &receipts).map(|(row, receipt)| ms(row.started, receipt.at));
    Ok(percentile(&sorted(times.collect()), 0.5))
}
