//! One row to the last of many subscribers, and many rows to many.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::database::{self, STOCK_PATH, STOCK_TABLE};
use crate::load::{Keep, Load, Subscriber};
use crate::report::Target;
use crate::server::Server;
use crate::stats::median;
use crate::suite::Bench;
use crate::writer::{Mode, Writing, Written};

use super::{joined, ms, subscribers};

const SCENARIO: &str = "fanout";
/// Bursts of one size, one after the other.
const BURSTS: usize = 5;
/// After this no more rows or bursts of one kind are begun: slow subjects are slow enough with fewer.
const LONG_ENOUGH: Duration = Duration::from_secs(20);
const WARM_UP: usize = 2;
/// Between a row's last receipt and the next row.
const SETTLE: Duration = Duration::from_millis(5);

/// A number of subscribers, and what is sent to them.
struct Size {
    subscribers: usize,
    /// What one row to the last of them may take, times the floor.
    last: f64,
    /// Rows in a burst, and the rate to reach. A client takes a burst in one write whose cost hardly depends on its
    /// length, so the rate is little more than the number of rows: without that number it says nothing.
    bursts: [(u64, Target); 3],
}

const SIZES: [Size; 2] = [
    Size {
        subscribers: 1_000,
        last: 0.85,
        bursts: [
            (20, Target::None),
            (50, Target::AtLeast(4e6)),
            (500, Target::None),
        ],
    },
    Size {
        subscribers: 10_000,
        last: 1.05,
        bursts: [
            (20, Target::AtLeast(1.5e6)),
            (50, Target::None),
            (200, Target::None),
        ],
    },
];

pub fn run(bench: &mut Bench) -> Result<()> {
    let rounds = bench.pick(bench.rounds, 1);
    for size in SIZES {
        for subject in bench.turns(rounds) {
            let count = size.subscribers;
            let database = bench.new_database(0)?;
            let server = bench.start(subject, &database, None)?;
            let rows = bench.pick(50, 10);
            let cost = one_row(&server, &database, count, rows)?;
            let name = format!("one row, insert→last of {count}");
            bench.add(
                SCENARIO,
                name,
                "ms",
                Target::AtMostFloor(size.last),
                subject,
                cost.last_ms,
            );
            let name = format!("one row to {count}, server's CPU per delivery");
            bench.add(
                SCENARIO,
                name,
                "µs",
                Target::None,
                subject,
                cost.cpu_us / count as f64,
            );
            for (rows, target) in size.bursts {
                let rate = burst(&server, &database, count, Mode::Bulk, rows)?;
                let name = format!("{rows} rows in one transaction to {count}");
                bench.add(SCENARIO, name, "deliveries/s", target, subject, rate);
            }
            let rate = burst(&server, &database, count, Mode::Normal, 50)?;
            let name = format!("50 rows in 50 transactions to {count}");
            bench.add(SCENARIO, name, "deliveries/s", Target::None, subject, rate);
        }
    }
    Ok(())
}

/// What it costs to send one row to everyone.
pub struct FanOut {
    /// From the insert's start to the last receipt, median over the rows.
    pub last_ms: f64,
    /// Processor time of the server for one row, microseconds: detection and all deliveries.
    pub cpu_us: f64,
}

/// Writes row after row, each when everyone has the one before, and measures when its last copy came.
///
/// # Errors
/// When a row is lost.
pub fn one_row(server: &Server, database: &Path, count: usize, rows: u64) -> Result<FanOut> {
    let first = database::head(database, STOCK_TABLE)? + 1;
    let plain = Subscriber::plain(STOCK_PATH, first);
    let load = Load::connect(server.address, subscribers(count, &plain), Keep::Last)?;
    let write = || -> Result<Written> {
        let written = Writing::new(database, Mode::Normal, 1, Duration::ZERO).run()?;
        let row = *written.first().context("no row was written")?;
        load.complete(row.id)?;
        thread::sleep(SETTLE);
        Ok(row)
    };
    for _ in 0..WARM_UP {
        write()?;
    }
    let cpu = server.cpu_ns()?;
    let start = Instant::now();
    let mut written = Vec::new();
    while (written.len() as u64) < rows && start.elapsed() < LONG_ENOUGH {
        written.push(write()?);
    }
    let cpu_us = (server.cpu_ns()? - cpu) as f64 / 1e3 / written.len() as f64;
    let receipts = load.finish(written.last().map_or(0, |row| row.id))?;
    let times: Vec<f64> = joined(&written, &receipts)
        .map(|(row, receipt)| ms(row.started, receipt.at))
        .collect();
    Ok(FanOut {
        last_ms: median(&times),
        cpu_us,
    })
}

/// Deliveries a second from the start of the first insert to the last receipt, median over some bursts. Not from the
/// commit's return: with every core busy delivering, the writer may get to look at its clock long after.
fn burst(server: &Server, database: &Path, count: usize, mode: Mode, rows: u64) -> Result<f64> {
    let first = database::head(database, STOCK_TABLE)? + 1;
    let plain = Subscriber::plain(STOCK_PATH, first);
    let load = Load::connect(server.address, subscribers(count, &plain), Keep::Count)?;
    let mut rates = Vec::new();
    let mut last = first - 1;
    let start = Instant::now();
    while rates.len() < BURSTS && start.elapsed() < LONG_ENOUGH {
        let written = Writing::new(database, mode, rows, Duration::ZERO).run()?;
        last = written.last().context("no row was written")?.id;
        load.complete(last)?;
        rates.push((rows * count as u64) as f64 / ms(written[0].started, load.last_at()) * 1e3);
    }
    load.finish(last)?;
    Ok(median(&rates))
}
