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
const WRITERS: [Writer; 4] = [
    Writer::paced(Mode::Normal, "NORMAL"),
    Writer::paced(Mode::Full, "FULL"),
    Writer::paced(Mode::Fresh, "fresh"),
    // Commit after commit, as an import that forgot to begin a transaction.
    Writer {
        mode: Mode::Normal,
        name: "NORMAL, without a pause,",
        rows: 20_000,
        gap: Duration::ZERO,
    },
];

struct Writer {
    mode: Mode,
    name: &'static str,
    /// A stretch: about half a second.
    rows: u64,
    gap: Duration,
}

impl Writer {
    const fn paced(mode: Mode, name: &'static str) -> Writer {
        Writer {
            mode,
            name,
            rows: 150,
            gap: Duration::from_millis(3),
        }
    }
}

/// Rows after which the WAL has its full size and is written from its start again, as in a database long in use.
const WARM_UP: u64 = 2_000;

pub fn run(bench: &mut Bench) -> Result<()> {
    WRITERS.iter().try_for_each(|writer| measure(bench, writer))
}

/// How long a commit takes drifts by half within seconds, whoever watches: each stretch of rows that somebody watched is
/// compared with those before and after it that nobody did.
fn measure(bench: &mut Bench, writer: &Writer) -> Result<()> {
    let database = bench.new_database(0)?;
    // In all cases somebody holds the file open: else the fresh writer's close would delete and remake the WAL.
    let holder = Connection::open(&database)?;
    holder.query_row(&format!("SELECT count(*) FROM {STOCK_TABLE}"), (), |_| {
        Ok(())
    })?;
    Writing::new(&database, Mode::Normal, WARM_UP, Duration::ZERO).run()?;
    let mut before = commit_p50(&database, writer)?;
    for subject in bench.turns(bench.pick(5 * bench.rounds, 3)) {
        let watched = watched_p50(bench, subject, &database, writer)?;
        let after = commit_p50(&database, writer)?;
        let alone = f64::midpoint(before, after);
        before = after;
        let mut add = |what: &str, unit, target, value| {
            bench.add(
                SCENARIO,
                format!("{} writer, {what}", writer.name),
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

fn watched_p50(
    bench: &mut Bench,
    subject: Subject,
    database: &Path,
    writer: &Writer,
) -> Result<f64> {
    let server = bench.start(subject, database, None)?;
    let first = database::head(database, STOCK_TABLE)? + 1;
    let one = vec![Subscriber::plain(STOCK_PATH, first)];
    let load = Load::connect(server.address, one, Keep::Count)?;
    let p50 = commit_p50(database, writer)?;
    load.finish(database::head(database, STOCK_TABLE)?)?;
    Ok(p50)
}

/// From the insert's start (the opening, with the fresh writer) to the commit's return.
fn commit_p50(database: &Path, writer: &Writer) -> Result<f64> {
    sys::flush_disks();
    let written = Writing::new(database, writer.mode, writer.rows, writer.gap).run()?;
    let times = written
        .iter()
        .skip(10)
        .map(|row| ms(row.started, row.committed))
        .collect();
    Ok(percentile(&sorted(times), 0.5))
}
