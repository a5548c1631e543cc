//! Does a delivery cost the same with more connections, more feeds, more rows in the table?

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::database::{self, STOCK_PATH, STOCK_TABLE};
use crate::load::{Keep, Load, Subscriber};
use crate::report::Target;
use crate::server::{Server, Subject};
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::writer::{Mode, Writing};

use super::{fanout, joined, ms, subscribers};

const SCENARIO: &str = "growth";
const GAP: Duration = Duration::from_millis(5);
/// Subscribers of each feed, or of the one table.
const SUBSCRIBERS: usize = 10;
/// What "flat" may mean between the smallest and the largest.
const FLAT: Target = Target::AtMost(1.5);

pub fn run(bench: &mut Bench) -> Result<()> {
    connections(bench)?;
    if bench.has_walcast() {
        feeds(bench)?;
    }
    table_rows(bench)
}

fn connections(bench: &mut Bench) -> Result<()> {
    let counts: &[usize] = bench.pick(&[100, 1_000, 3_000, 10_000], &[100, 1_000, 10_000]);
    let rows = bench.pick(50, 10);
    for subject in bench.turns(1) {
        let database = bench.new_database(0)?;
        let server = bench.start(subject, &database, None)?;
        let mut costs = Vec::new();
        for &count in counts {
            let cost = fanout::one_row(
                &server,
                &database,
                count,
                rows * 1_000 / (count as u64).min(1_000),
            )?;
            let name = format!("{count} connections, time to the last ÷ connections");
            let per_delivery = cost.last_ms * 1e3 / count as f64;
            bench.add(SCENARIO, name, "µs", Target::None, subject, per_delivery);
            costs.push((count, cost.cpu_us));
        }
        // Slopes: what a row costs before it is sent to anyone would make a quotient fall with every connection.
        let mut slopes = Vec::new();
        for pair in costs.windows(2) {
            let [(fewer, less), (more, cost)] = [pair[0], pair[1]];
            let slope = (cost - less) / (more - fewer) as f64;
            let name = format!("{fewer} to {more} connections, server's CPU per further delivery");
            bench.add(SCENARIO, name, "µs", Target::None, subject, slope);
            slopes.push(slope);
        }
        flat(
            bench,
            subject,
            "CPU per further delivery, last ÷ first",
            &slopes,
        );
    }
    Ok(())
}

fn flat(bench: &mut Bench, subject: Subject, name: &str, curve: &[f64]) {
    if let [first, .., last] = *curve {
        bench.add(SCENARIO, name, "×", FLAT, subject, last / first);
    }
}

/// Rows written to the feeds in turn, each to ten subscribers: what the other feeds add to one row.
fn feeds(bench: &mut Bench) -> Result<()> {
    let counts: &[usize] = bench.pick(&[1, 4, 16, 64], &[1, 64]);
    let mut curve = Vec::new();
    for &count in counts {
        let cost = of_feeds(bench, count)?;
        let name = format!("{count} feeds with 10 subscribers each, insert→receipt p50");
        bench.add(
            SCENARIO,
            name,
            "ms",
            Target::None,
            Subject::Walcast,
            cost.p50_ms,
        );
        let name = format!("{count} feeds with 10 subscribers each, server's CPU per row");
        bench.add(
            SCENARIO,
            name,
            "µs",
            Target::None,
            Subject::Walcast,
            cost.cpu_us,
        );
        curve.push(cost.cpu_us);
    }
    flat(bench, Subject::Walcast, "CPU per row, 64 ÷ 1 feeds", &curve);
    Ok(())
}

fn of_feeds(bench: &mut Bench, count: usize) -> Result<Cost> {
    let directory = bench.new_directory()?;
    let database = directory.join("bench.db");
    let names: Vec<String> = (0..count).map(|feed| format!("feed{feed}")).collect();
    database::create(&database, &names, 0)?;
    let config = directory.join("walcast.toml");
    let sections = names.iter().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "[feeds.{name}]\ntable = \"{name}\"\n"); // writing to a String can't fail
        text
    });
    fs::write(&config, sections)?;
    let server = bench.start(Subject::Walcast, &database, Some(&config))?;
    let subscribers = names.iter().enumerate().flat_map(|(group, name)| {
        subscribers(
            SUBSCRIBERS,
            &Subscriber {
                group,
                ..Subscriber::plain(&format!("/ws/{name}"), 1)
            },
        )
    });
    // As many for each of 64 feeds, too.
    let rows = bench.pick(1_920, 320);
    let writing = Writing {
        tables: names.clone(),
        ..Writing::new(&database, Mode::Normal, rows, GAP)
    };
    measure(&server, subscribers.collect(), &writing)
}

struct Cost {
    p50_ms: f64,
    cpu_us: f64,
}

/// Every table that is written gets the same number of rows, all of them up to the same id.
fn measure(server: &Server, subscribers: Vec<Subscriber>, writing: &Writing) -> Result<Cost> {
    let load = Load::connect(server.address, subscribers, Keep::Every)?;
    let before = server.cpu_ns()?;
    let written = writing.run()?;
    let last = written.last().context("no row was written")?.id;
    load.complete(last)?;
    let cpu = (server.cpu_ns()? - before) as f64 / 1e3;
    let receipts = load.finish(last)?;
    let times = sorted(
        joined(&written, &receipts)
            .map(|(row, receipt)| ms(row.started, receipt.at))
            .collect(),
    );
    Ok(Cost {
        p50_ms: percentile(&times, 0.5),
        cpu_us: cpu / written.len() as f64,
    })
}

fn table_rows(bench: &mut Bench) -> Result<()> {
    let mut sizes = bench.pick(
        vec![10, 10_000, 1_000_000, 10_000_000],
        vec![10, 10_000, 1_000_000],
    );
    if bench.huge {
        sizes.push(100_000_000);
    }
    let databases: Vec<_> = sizes
        .iter()
        .map(|&rows| bench.shared_database(rows))
        .collect::<Result<_>>()?;
    for subject in bench.turns(1) {
        let mut curve = Vec::new();
        for (rows, database) in sizes.iter().zip(&databases) {
            let cost = of_table(bench, subject, database)?;
            bench.add(
                SCENARIO,
                format!("{rows} rows in the table, insert→receipt p50"),
                "ms",
                Target::None,
                subject,
                cost.p50_ms,
            );
            bench.add(
                SCENARIO,
                format!("{rows} rows in the table, server's CPU per row"),
                "µs",
                Target::None,
                subject,
                cost.cpu_us,
            );
            curve.push(cost.cpu_us);
        }
        flat(
            bench,
            subject,
            "CPU per row, largest ÷ smallest table",
            &curve,
        );
    }
    Ok(())
}

fn of_table(bench: &mut Bench, subject: Subject, database: &Path) -> Result<Cost> {
    let server = bench.start(subject, database, None)?;
    let first = database::head(database, STOCK_TABLE)? + 1;
    let rows = bench.pick(1_000, 200);
    let writing = Writing::new(database, Mode::Normal, rows, GAP);
    measure(
        &server,
        subscribers(SUBSCRIBERS, &Subscriber::plain(STOCK_PATH, first)),
        &writing,
    )
}
