//! What the daemon costs while nothing is written: resident memory and processor time, with nobody and with 10,000.

use std::time::Duration;

use anyhow::Result;

use crate::database::STOCK_PATH;
use crate::load::{Keep, Load, Subscriber};
use crate::report::Target;
use crate::server::{Server, Subject};
use crate::suite::Bench;
use crate::writer::{Mode, Writing};

use super::subscribers;

const SCENARIO: &str = "idle";
const CONNECTIONS: usize = 10_000;
/// Until a server that has just been busy has come to rest.
const SETTLE: Duration = Duration::from_secs(1);

pub fn run(bench: &mut Bench) -> Result<()> {
    for subject in bench.turns(1) {
        let database = bench.new_database(100)?;
        let server = bench.start(subject, &database, None)?;
        // One subscriber and one row first: what is loaded and made once belongs to the base.
        let warm_up = Load::connect(
            server.address,
            vec![Subscriber::plain(STOCK_PATH, 101)],
            Keep::Count,
        )?;
        Writing::new(&database, Mode::Normal, 1, Duration::ZERO).run()?;
        warm_up.finish(101)?;
        let base = settled_mib(&server)?;
        bench.add(
            SCENARIO,
            "resident, no connections",
            "MiB",
            Target::AtMost(12.0),
            subject,
            base,
        );
        let window = Duration::from_secs(if bench.quick || subject == Subject::Floor {
            3
        } else {
            60
        });
        let used = cpu_percent(&server, window)?;
        bench.add(
            SCENARIO,
            "CPU, no connections",
            "% of a core",
            Target::AtMost(0.1),
            subject,
            used,
        );
        connected(bench, subject, &server, &database, base)?;
    }
    Ok(())
}

fn connected(
    bench: &mut Bench,
    subject: Subject,
    server: &Server,
    database: &std::path::Path,
    base: f64,
) -> Result<()> {
    let plain = Subscriber::plain(STOCK_PATH, 102);
    let load = Load::connect(
        server.address,
        subscribers(CONNECTIONS, &plain),
        Keep::Count,
    )?;
    let full = settled_mib(server)?;
    let each = |resident: f64| (resident - base) * 1024.0 / CONNECTIONS as f64;
    bench.add(
        SCENARIO,
        "resident, 10,000 connections",
        "MiB",
        Target::AtMost(45.0),
        subject,
        full,
    );
    bench.add(
        SCENARIO,
        "resident per connection",
        "KiB",
        Target::AtMost(3.0),
        subject,
        each(full),
    );
    // 26 s hold one protocol ping to each, which are 25 s apart. The floor sends none.
    let window = Duration::from_secs(match subject {
        Subject::Floor => 5,
        Subject::Walcast => bench.pick(60, 26),
    });
    let used = cpu_percent(server, window)?;
    bench.add(
        SCENARIO,
        "CPU, 10,000 connections",
        "% of a core",
        Target::AtMost(1.0),
        subject,
        used,
    );
    let written = Writing::new(database, Mode::Normal, 10, Duration::from_millis(100)).run()?;
    load.complete(written.last().map_or(0, |row| row.id))?;
    let used = each(settled_mib(server)?);
    bench.add(
        SCENARIO,
        "resident per connection after 10 rows to each",
        "KiB",
        Target::None,
        subject,
        used,
    );
    load.finish(written.last().map_or(0, |row| row.id))?;
    Ok(())
}

fn settled_mib(server: &Server) -> Result<f64> {
    std::thread::sleep(SETTLE);
    server.resident_mib()
}

fn cpu_percent(server: &Server, window: Duration) -> Result<f64> {
    let before = server.cpu_ns()?;
    std::thread::sleep(window);
    Ok((server.cpu_ns()? - before) as f64 / window.as_nanos() as f64 * 100.0)
}
