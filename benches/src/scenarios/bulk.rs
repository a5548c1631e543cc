//! A million rows committed at once, to one subscriber that is live.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::database::STOCK_PATH;
use crate::load::{Keep, Load, Subscriber};
use crate::report::Target;
use crate::suite::Bench;
use crate::writer::{Mode, Writing};

use super::ms;

const SCENARIO: &str = "bulk";
const ROWS: u64 = 1_000_000;

pub fn run(bench: &mut Bench) -> Result<()> {
    let rounds = bench.pick(bench.rounds.min(3), 1);
    for subject in bench.turns(rounds) {
        let database = bench.new_database(0)?;
        let server = bench.start(subject, &database, None)?;
        let load = Load::connect(
            server.address,
            vec![Subscriber::plain(STOCK_PATH, 1)],
            Keep::Count,
        )?;
        let base = server.resident_mib()?;
        server.forget_peak()?;
        let written = Writing::new(&database, Mode::Bulk, ROWS, Duration::ZERO).run()?;
        let commit = written.first().context("no row was written")?;
        load.complete(commit.id)?;
        // From the first receipt: the commit returns only after a checkpoint, long after others can see the rows.
        let rate = ROWS as f64 / ms(load.first_at(), load.last_at()) * 1e3;
        bench.add(
            SCENARIO,
            "one transaction of 1 M rows to one subscriber",
            "rows/s",
            Target::AtLeast(100e3),
            subject,
            rate,
        );
        // A ring of 8 MiB and the pages being read: what does not grow with the transaction.
        let growth = server.peak_mib()? - base;
        bench.add(
            SCENARIO,
            "resident growth at the peak",
            "MiB",
            Target::AtMost(16.0),
            subject,
            growth,
        );
        load.finish(commit.id)?;
    }
    Ok(())
}
