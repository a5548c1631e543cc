//! Ten subscribers that do not read, beside fifty that do: what the ten cost the fifty, and whether anyone loses a row.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::database::STOCK_PATH;
use crate::load::{Keep, Load, Receipt, Subscriber};
use crate::report::Target;
use crate::server::{Server, Subject};
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::writer::{Mode, Writer, Writing, Written};

use super::{joined, ms, subscribers};

const SCENARIO: &str = "slow";
const READERS: usize = 50;
const SLOW: usize = 10;
/// 1,000 rows a second.
const GAP: Duration = Duration::from_millis(1);

pub fn run(bench: &mut Bench) -> Result<()> {
    let rounds = bench.pick(bench.rounds.min(3), 1);
    for subject in bench.turns(rounds) {
        let without = readers_p99(bench, subject, 0)?;
        let with = readers_p99(bench, subject, SLOW)?;
        bench.add(
            SCENARIO,
            "readers, insert→receipt p99, alone",
            "ms",
            Target::None,
            subject,
            without,
        );
        bench.add(
            SCENARIO,
            "readers, insert→receipt p99, beside ten that don't read",
            "ms",
            Target::None,
            subject,
            with,
        );
        bench.add(
            SCENARIO,
            "with ÷ without the ten",
            "×",
            Target::AtMost(1.5),
            subject,
            with / without,
        );
    }
    Ok(())
}

fn readers_p99(bench: &mut Bench, subject: Subject, slow: usize) -> Result<f64> {
    let database = bench.new_database(0)?;
    let server = bench.start(subject, &database, None)?;
    let reader = Subscriber::plain(STOCK_PATH, 1);
    let stalled = Subscriber {
        stalled: true,
        ..reader.clone()
    };
    let readers = Load::connect(server.address, subscribers(READERS, &reader), Keep::Every)?;
    let stalled = Load::connect(server.address, subscribers(slow, &stalled), Keep::Count)?;
    // Ten seconds fill any ring of a few MiB in their first half, and stay below the 30 s after which a client may be closed.
    let rows = if slow > 0 {
        bench.pick(15_000, 10_000)
    } else {
        bench.pick(15_000, 3_000)
    };
    let writing = Writing {
        payload: 1_800,
        ..Writing::new(&database, Mode::Normal, rows, GAP)
    };
    let writer = writing.spawn()?;
    let (written, growth) = watch_memory(&server, writer, &readers, rows)?;
    let last = written.last().context("no row was written")?.id;
    let receipts = readers.finish(last)?;
    if slow > 0 {
        bench.add(
            SCENARIO,
            "resident growth in the second half",
            "MiB",
            Target::AtMost(1.0),
            subject,
            growth,
        );
        stalled.resume();
    }
    stalled
        .finish(last)
        .context("one of the ten, after it resumed")?;
    Ok(p99(&written, &receipts))
}

/// Waits for the writer; how much higher the resident memory was in the second half of the rows than in the first.
fn watch_memory(
    server: &Server,
    writer: Writer,
    readers: &Load,
    rows: u64,
) -> Result<(Vec<Written>, f64)> {
    let half = rows * READERS as u64 / 2;
    let mut highest = [0.0_f64; 2];
    loop {
        let received = readers.received();
        let slot = &mut highest[usize::from(received > half)];
        *slot = slot.max(server.resident_mib()?);
        if writer.has_ended() {
            return Ok((writer.finish()?, highest[1] - highest[0]));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn p99(written: &[Written], receipts: &[Receipt]) -> f64 {
    let times = joined(written, receipts)
        .map(|(row, receipt)| ms(row.started, receipt.at))
        .collect();
    percentile(&sorted(times), 0.99)
}
