//! How long after a commit a subscriber at an edge has the row, beside one at the origin in the same run; and how fast an edge
//! takes in what is there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{joined, ms};
use crate::database::{self, STOCK_PATH, STOCK_TABLE};
use crate::load::{Keep, Load, Receipt, Subscriber};
use crate::report::Target;
use crate::server::Subject;
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::writer::{Mode, Writing, Written};

const SCENARIO: &str = "edge";
const GAP: Duration = Duration::from_millis(5);
/// Rows whose times are thrown away.
const WARM_UP: usize = 10;
/// Milliseconds that an edge may add at the median, on the same machine.
const ADDED: f64 = 1.0;

pub fn run(bench: &mut Bench) -> Result<()> {
    if !bench.has_walcast() {
        return Ok(());
    }
    for _ in 0..bench.rounds {
        latency(bench)?;
        fill(bench)?;
    }
    Ok(())
}

fn latency(bench: &mut Bench) -> Result<()> {
    let database = bench.new_database(0)?;
    let origin = bench.start(Subject::Walcast, &database, None)?;
    let edge = bench.start_edge(&origin)?;
    let rows = bench.pick(1_000, 90);
    let first = database::head(&database, STOCK_TABLE)? + 1;
    let one = || vec![Subscriber::plain(STOCK_PATH, first)];
    let at_origin = Load::connect(origin.address, one(), Keep::Every)?;
    let at_edge = Load::connect(edge.address, one(), Keep::Every)?;
    let mut written = Writing::new(&database, Mode::Normal, rows + WARM_UP as u64, GAP).run()?;
    let last = written.last().map_or(0, |row| row.id);
    let (at_origin, at_edge) = (at_origin.finish(last)?, at_edge.finish(last)?);
    written.drain(..WARM_UP);
    let (origin, edge) = (times(&written, &at_origin), times(&written, &at_edge));
    let mut add = |what: &str, target, value| {
        bench.add(
            SCENARIO,
            what.to_owned(),
            "ms",
            target,
            Subject::Walcast,
            value,
        );
    };
    for (quantile, name) in [(0.5, "p50"), (0.99, "p99")] {
        let (here, there) = (percentile(&origin, quantile), percentile(&edge, quantile));
        add(
            &format!("commit→receipt {name} at the origin"),
            Target::None,
            here,
        );
        add(
            &format!("commit→receipt {name} at the edge"),
            Target::None,
            there,
        );
        let target = match name {
            "p50" => Target::AtMost(ADDED),
            _ => Target::None,
        };
        add(&format!("{name}: added by the edge"), target, there - here);
    }
    Ok(())
}

/// Milliseconds from each commit to its receipt, in order of size.
fn times(written: &[Written], receipts: &[Receipt]) -> Vec<f64> {
    let times = joined(written, receipts).map(|(row, receipt)| ms(row.committed, receipt.at));
    sorted(times.collect())
}

fn fill(bench: &mut Bench) -> Result<()> {
    let rows = bench.pick(500_000, 50_000);
    let database = bench.new_database(rows)?;
    let origin = bench.start(Subject::Walcast, &database, None)?;
    let began = Instant::now();
    let mut edge = bench.start_edge(&origin)?;
    edge.wait_for(
        "/api/feeds/remediation/events?limit=1",
        Duration::from_millis(5),
    )?;
    let (status, body) = crate::wire::get(edge.address, "/api/feeds")?;
    let filled = String::from_utf8_lossy(&body).contains(&format!("\"head\":{rows}"));
    ensure!(
        status == 200 && filled,
        "the edge has not all of {rows} rows"
    );
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    let target = Target::None;
    bench.add(
        SCENARIO,
        "rows taken in",
        "rows/s",
        target,
        Subject::Walcast,
        rate,
    );
    Ok(())
}
