//! Ten thousand subscribers of a thousand tenants: does a row cost its tenant's subscribers, or all?

use std::time::Duration;

use anyhow::{Context, Result};

use crate::database::STOCK_PATH;
use crate::ledger::Ledger;
use crate::load::{Keep, Load, Subscriber};
use crate::report::Target;
use crate::server::Subject;
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::writer::{Mode, Writing};

use super::{joined, ms, subscribers};

const SCENARIO: &str = "filters";
const TENANTS: u64 = 1_000;
const EACH: usize = 10;
const GAP: Duration = Duration::from_millis(5);
/// Rows written before the measurement.
const WARM_UP: u64 = 20;

pub fn run(bench: &mut Bench) -> Result<()> {
    let rounds = bench.pick(bench.rounds.min(3), 1);
    for subject in bench.turns(rounds) {
        match subject {
            Subject::Walcast => walcast(bench)?,
            // The floor knows no filters: ten subscribers of everything are what it can say to this.
            Subject::Floor => {
                let ten = subscribers(EACH, &Subscriber::plain(STOCK_PATH, 1));
                let cost = measure(bench, subject, ten, 1)?;
                add(bench, subject, "only one tenant's 10", &cost);
            }
        }
    }
    Ok(())
}

fn walcast(bench: &mut Bench) -> Result<()> {
    let only = measure(bench, Subject::Walcast, of_tenant(0, Ledger::new(1, 1)), 1)?;
    let among = (0..TENANTS).flat_map(|tenant| {
        // Rows of one tenant only: the others' subscribers get nothing, and anything they got would be a fault.
        let first = if tenant == 0 { 1 } else { i64::MAX / 2 };
        of_tenant(tenant, Ledger::new(first, 1))
    });
    let among = measure(bench, Subject::Walcast, among.collect(), 1)?;
    let turns = (0..TENANTS)
        .flat_map(|tenant| of_tenant(tenant, Ledger::new(tenant as i64 + 1, TENANTS as i64)));
    let spread = measure(bench, Subject::Walcast, turns.collect(), TENANTS)?;
    let subject = Subject::Walcast;
    add(bench, subject, "only one tenant's 10", &only);
    add(bench, subject, "one tenant's 10 among 10,000", &among);
    add(bench, subject, "1,000 tenants in turn, 10 each", &spread);
    let limit = Target::AtMost(1.5);
    bench.add(
        SCENARIO,
        "CPU per row, among 10,000 ÷ only 10",
        "×",
        limit,
        subject,
        among.cpu_us / only.cpu_us,
    );
    bench.add(
        SCENARIO,
        "latency, among 10,000 ÷ only 10",
        "×",
        limit,
        subject,
        among.p50_ms / only.p50_ms,
    );
    Ok(())
}

fn of_tenant(tenant: u64, ledger: Ledger) -> Vec<Subscriber> {
    let path = format!("{STOCK_PATH}?tenant=tenant-{tenant}");
    subscribers(
        EACH,
        &Subscriber {
            ledger,
            ..Subscriber::plain(&path, 1)
        },
    )
}

struct Cost {
    cpu_us: f64,
    p50_ms: f64,
}

fn add(bench: &mut Bench, subject: Subject, name: &str, cost: &Cost) {
    bench.add(
        SCENARIO,
        format!("{name}, server's CPU per row"),
        "µs",
        Target::None,
        subject,
        cost.cpu_us,
    );
    bench.add(
        SCENARIO,
        format!("{name}, insert→receipt p50"),
        "ms",
        Target::None,
        subject,
        cost.p50_ms,
    );
}

fn measure(
    bench: &mut Bench,
    subject: Subject,
    subscribers: Vec<Subscriber>,
    tenants: u64,
) -> Result<Cost> {
    // A warm-up that is a whole number of turns, so that the ids say whose a row is.
    let warm_up = WARM_UP.next_multiple_of(tenants);
    let rows = if tenants == 1 {
        bench.pick(2_000, 300)
    } else {
        bench.pick(1_000, 300)
    };
    let database = bench.new_database(0)?;
    let server = bench.start(subject, &database, None)?;
    let load = Load::connect(server.address, subscribers, Keep::Every)?;
    let writing = |rows, gap| Writing {
        tenants,
        ..Writing::new(&database, Mode::Normal, rows, gap)
    };
    writing(
        warm_up,
        if tenants == 1 {
            GAP
        } else {
            Duration::from_millis(1)
        },
    )
    .run()?;
    load.complete(warm_up as i64)?;
    let before = server.cpu_ns()?;
    let written = writing(rows, GAP).run()?;
    let last = written.last().context("no row was written")?.id;
    load.complete(last)?;
    let cpu_us = (server.cpu_ns()? - before) as f64 / 1e3 / rows as f64;
    let receipts = load.finish(last)?;
    let times = sorted(
        joined(&written, &receipts)
            .map(|(row, receipt)| ms(row.started, receipt.at))
            .collect(),
    );
    Ok(Cost {
        cpu_us,
        p50_ms: percentile(&times, 0.5),
    })
}
