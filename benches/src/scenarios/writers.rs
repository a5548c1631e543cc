//! What the writer notices: its own commit latency with and without somebody who watches.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rusqlite::Connection;

use crate::database::{self, STOCK_PATH, STOCK_TABLE};
use crate::load::{Keep, Load, Subscriber};
use crate::report::Target;
use crate::server::Subject;
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::sys;
use crate::writer::{Mode, Writing};

use super::ms;

const SCENARIO: &str = "writers";
const GAP: Duration = Duration::from_millis(3);
const WRITERS: [(Mode, &str); 3] = [
    (Mode::Normal, "NORMAL"),
    (Mode::Full, "FULL"),
    (Mode::Fresh, "fresh"),
];

/// A stretch: half a second.
const ROWS: u64 = 150;
/// Rows after which the WAL has its full size and is written from its start again, as in a database long in use.
const WARM_UP: u64 = 2_000;

pub fn run(bench: &mut Bench) -> Result<()> {
    for (mode, writer) in WRITERS {
        measure(bench, mode, writer)?;
    }
    Ok(())
}

/// How long a commit takes drifts by half within seconds, whoever watches: each stretch of rows that somebody watched is
/// compared with those before and after it that nobody did.
fn measure(bench: &mut Bench, mode: Mode, writer: &str) -> Result<()> {
    let database = bench.new_database(0)?;
    // In all cases somebody holds the file open: else the fresh writer's close would delete and remake the WAL.
    let holder = Connection::open(&database)?;
    holder.query_row(&format!("SELECT count(*) FROM {STOCK_TABLE}"), (), |_| {
        Ok(())
    })?;
    Writing::new(&database, Mode::Normal, WARM_UP, Duration::ZERO).run()?;
    let mut before = commit_p50(&database, mode)?;
    for subject in bench.turns(bench.pick(5 * bench.rounds, 3)) {
        let watched = watched_p50(bench, subject, &database, mode)?;
        let after = commit_p50(&database, mode)?;
        let alone = f64::midpoint(before, after);
        before = after;
        let mut add = |what: &str, unit, target, value| {
            bench.add(
                SCENARIO,
                format!("{writer} writer, {what}"),
                unit,
                target,
                subject,
                value,
            );
        };
        add("commit p50, nobody watching", "ms", Target::None, alone);
        add(
            "commit p50, with one subscriber",
            "ms",
            Target::None,
            watched,
        );
        add("with ÷ without", "×", Target::AtMost(1.05), watched / alone);
    }
    Ok(())
}

fn watched_p50(bench: &mut Bench, subject: Subject, database: &Path, mode: Mode) -> Result<f64> {
    let server = bench.start(subject, database, None)?;
    let first = database::head(database, STOCK_TABLE)? + 1;
    let one = vec![Subscriber::plain(STOCK_PATH, first)];
    let load = Load::connect(server.address, one, Keep::Count)?;
    let p50 = commit_p50(database, mode)?;
    load.finish(database::head(database, STOCK_TABLE)?)?;
    Ok(p50)
}

/// From the insert's start (the opening, with the fresh writer) to the commit's return.
fn commit_p50(database: &Path, mode: Mode) -> Result<f64> {
    sys::flush_disks();
    let written = Writing::new(database, mode, ROWS, GAP).run()?;
    let times = written
        .iter()
        .skip(10)
        .map(|row| ms(row.started, row.committed))
        .collect();
    Ok(percentile(&sorted(times), 0.5))
}
