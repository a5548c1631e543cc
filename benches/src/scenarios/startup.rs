//! The binary's size, and how soon after its start it serves a large table.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::report::Target;
use crate::server::{Launch, Subject};
use crate::suite::Bench;
use crate::sys::monotonic_ns;

use super::ms;

const SCENARIO: &str = "startup";
const ROWS: u64 = 1_000_000;

pub fn run(bench: &mut Bench) -> Result<()> {
    if bench.has_walcast() {
        let size = fs::metadata(bench.walcast())?.len() as f64 / 1e6;
        bench.add(
            SCENARIO,
            "binary",
            "MB",
            Target::AtMost(8.0),
            Subject::Walcast,
            size,
        );
    }
    let database = bench.shared_database(ROWS)?;
    for subject in bench.turns(bench.pick(15, 5)) {
        let directory = bench.new_directory()?;
        let walcast = bench.walcast().to_owned();
        let launch = Launch {
            subject,
            walcast: &walcast,
            database: &database,
            directory: &directory,
            config: None,
            upstream: None,
            over_tls: None,
        };
        let started = monotonic_ns();
        let mut server = launch.spawn()?;
        // The newest row, read from the table: more than a sign of life. The floor has no more than that.
        let path = match subject {
            Subject::Walcast => "/api/feeds/remediation/events?limit=1",
            Subject::Floor => "/healthz",
        };
        server.wait_for(path, Duration::from_micros(200))?;
        let time = ms(started, monotonic_ns());
        bench.add(
            SCENARIO,
            "start to first answer, 1 M rows",
            "ms",
            Target::AtMost(20.0),
            subject,
            time,
        );
    }
    Ok(())
}
