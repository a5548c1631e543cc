//! The whole table to one subscriber and to a hundred at once, and what others notice of it meanwhile.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::database::{self, STOCK_PATH, STOCK_TABLE};
use crate::ledger::Ledger;
use crate::load::{Keep, Load, Receipt, Subscriber};
use crate::report::Target;
use crate::server::{Server, Subject};
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::writer::{Mode, Writing, Written};

use super::{joined, ms, subscribers};

const SCENARIO: &str = "replay";
/// Live subscribers beside the replay, and the pause between their rows.
const OTHERS: usize = 10;
const GAP: Duration = Duration::from_millis(5);
/// The replaying subscribers stand for other machines: their reading gives way to what is measured on this one.
const NICE: i32 = 10;

pub fn run(bench: &mut Bench) -> Result<()> {
    for (count, rows, rounds) in [
        (1, 1_000_000, bench.rounds.min(3)),
        (100, bench.pick(1_000_000, 100_000), 1),
    ] {
        let rounds = bench.pick(rounds, 1);
        let database = bench.shared_database(rows)?;
        for subject in bench.turns(rounds) {
            let server = bench.start(subject, &database, None)?;
            let quiet = alone(&server, &database, count)?;
            let name = format!(
                "{count} × {}",
                if rows == 1_000_000 {
                    "1 M rows"
                } else {
                    "100 k rows"
                }
            );
            let target = Target::AtLeast(if count == 1 { 400e3 } else { 1.5e6 });
            bench.add(
                SCENARIO,
                format!("{name}, together"),
                "rows/s",
                target,
                subject,
                quiet.rate,
            );
            bench.add(
                SCENARIO,
                format!("{name}, resident growth at the peak"),
                "MiB",
                Target::None,
                subject,
                quiet.growth,
            );
            disturbance(bench, subject, &server, &database, count, &name)?;
        }
    }
    Ok(())
}

struct Replay {
    rate: f64,
    growth: f64,
}

fn replaying(first: i64, count: usize) -> Vec<Subscriber> {
    let path = format!("{STOCK_PATH}?since=earliest");
    subscribers(
        count,
        &Subscriber {
            ledger: Ledger::new(first, 1),
            ..Subscriber::plain(&path, first)
        },
    )
}

/// A replay with nothing else to do.
fn alone(server: &Server, database: &Path, count: usize) -> Result<Replay> {
    let last = database::head(database, STOCK_TABLE)?;
    server.forget_peak()?;
    let before = server.resident_mib()?;
    let load = Load::connect(server.address, replaying(1, count), Keep::Count)?;
    load.complete(last)?;
    let time = ms(load.started_at, load.last_at());
    load.finish(last)?;
    let rate = last as f64 * count as f64 / time * 1e3;
    Ok(Replay {
        rate,
        growth: server.peak_mib()? - before,
    })
}

/// Live latency of others before and during a replay.
fn disturbance(
    bench: &mut Bench,
    subject: Subject,
    server: &Server,
    database: &Path,
    count: usize,
    name: &str,
) -> Result<()> {
    let last = database::head(database, STOCK_TABLE)?;
    let others = subscribers(OTHERS, &Subscriber::plain(STOCK_PATH, last + 1));
    let others = Load::connect(server.address, others, Keep::Every)?;
    let endless = Writing {
        until_stdin_closes: true,
        ..Writing::new(database, Mode::Normal, u64::MAX, GAP)
    };
    let quiet = bench.pick(Duration::from_secs(2), Duration::from_secs(1));
    let writer = endless.spawn()?;
    std::thread::sleep(quiet);
    let load = Load::connect_nice(server.address, replaying(1, count), Keep::Count, NICE)?;
    load.complete(last)?;
    let (from, to) = (load.started_at, load.last_at());
    let written = writer.finish()?;
    let newest = written.last().context("no row was written")?.id;
    load.finish(newest)?;
    let receipts = others.finish(newest)?;
    let before = p50(&written, &receipts, 0, from);
    let during = p50(&written, &receipts, from, to);
    bench.add(
        SCENARIO,
        format!("{name}, others' insert→receipt p50, before"),
        "ms",
        Target::None,
        subject,
        before,
    );
    bench.add(
        SCENARIO,
        format!("{name}, others' insert→receipt p50, meanwhile"),
        "ms",
        Target::None,
        subject,
        during,
    );
    bench.add(
        SCENARIO,
        format!("{name}, meanwhile ÷ before"),
        "×",
        Target::AtMost(2.0),
        subject,
        during / before,
    );
    Ok(())
}

/// Of the rows that were begun between two times.
fn p50(written: &[Written], receipts: &[Receipt], from: u64, to: u64) -> f64 {
    let chosen = joined(written, receipts).filter(|(row, _)| (from..to).contains(&row.started));
    percentile(
        &sorted(
            chosen
                .map(|(row, receipt)| ms(row.started, receipt.at))
                .collect(),
        ),
        0.5,
    )
}
