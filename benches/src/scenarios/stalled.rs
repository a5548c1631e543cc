//! What connections that never read hold in the kernel, where no resident memory shows it.

use std::time::Duration;

use anyhow::Result;

use crate::database::STOCK_PATH;
use crate::load::{Keep, Load, Subscriber};
use crate::report::Target;
use crate::server::tcp_memory_kib;
use crate::suite::Bench;
use crate::writer::{Mode, Writing};

use super::subscribers;

const SCENARIO: &str = "stalled";
const CONNECTIONS: usize = 50;
/// 8 MB in rows of 2 KB: twice what the kernel gives one socket by itself.
const ROWS: u64 = 4_000;

pub fn run(bench: &mut Bench) -> Result<()> {
    for subject in bench.turns(1) {
        let database = bench.new_database(0)?;
        let server = bench.start(subject, &database, None)?;
        let stalled = Subscriber {
            stalled: true,
            ..Subscriber::plain(STOCK_PATH, 1)
        };
        let load = Load::connect(
            server.address,
            subscribers(CONNECTIONS, &stalled),
            Keep::Count,
        )?;
        let before = tcp_memory_kib()?;
        let rows = Writing {
            payload: 2_000,
            ..Writing::new(&database, Mode::Normal, ROWS, Duration::ZERO)
        };
        let last = rows.run()?.last().map_or(0, |row| row.id);
        std::thread::sleep(Duration::from_secs(1));
        let held = (tcp_memory_kib()? - before) / CONNECTIONS as f64;
        bench.add(
            SCENARIO,
            "kernel memory per stalled connection",
            "KiB",
            Target::None,
            subject,
            held,
        );
        load.resume();
        load.finish(last)?;
    }
    Ok(())
}
