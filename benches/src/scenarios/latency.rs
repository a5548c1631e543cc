//! How long after an insert a subscriber has the row: three kinds of writers, 1 and 100 subscribers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::database::{self, STOCK_PATH, STOCK_TABLE};
use crate::load::{Keep, Load, Receipt, Subscriber};
use crate::report::Target;
use crate::server::{Server, Subject};
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::writer::{Mode, Writing, Written};

use super::{joined, ms, subscribers};

const SCENARIO: &str = "latency";
const GAP: Duration = Duration::from_millis(5);
/// Rows whose times are thrown away.
const WARM_UP: usize = 10;
const ENOUGH_FOR_P99: usize = 500;

const WRITERS: [(Mode, &str); 4] = [
    (Mode::Normal, "NORMAL"),
    (Mode::Full, "FULL"),
    (Mode::Fresh, "fresh"),
    (Mode::Python, "Python"),
];

pub fn run(bench: &mut Bench) -> Result<()> {
    for (count, (mode, writer)) in [1, 100].into_iter().flat_map(|n| WRITERS.map(|w| (n, w))) {
        for subject in bench.turns(bench.rounds) {
            let database = bench.new_database(0)?;
            let server = bench.start(subject, &database, None)?;
            let (written, receipts) = measure(bench, &server, &database, count, mode)?;
            report(
                bench,
                subject,
                &format!("{writer} writer, {count} sub"),
                count,
                &written,
                &receipts,
            );
        }
    }
    Ok(())
}

pub(super) fn measure(
    bench: &Bench,
    server: &Server,
    database: &Path,
    count: usize,
    mode: Mode,
) -> Result<(Vec<Written>, Vec<Receipt>)> {
    let rows = bench.pick(1_000, 90);
    let first = database::head(database, STOCK_TABLE)? + 1;
    let plain = Subscriber::plain(STOCK_PATH, first);
    let load = Load::connect(server.address, subscribers(count, &plain), Keep::Every)?;
    let mut written = Writing::new(database, mode, rows + WARM_UP as u64, GAP).run()?;
    let last = written.last().map_or(0, |row| row.id);
    let receipts = load.finish(last)?;
    written.drain(..WARM_UP);
    Ok((written, receipts))
}

fn report(
    bench: &mut Bench,
    subject: Subject,
    name: &str,
    count: usize,
    written: &[Written],
    receipts: &[Receipt],
) {
    let mut last_of_row = BTreeMap::new();
    let mut from_insert = Vec::with_capacity(receipts.len());
    let mut from_commit = Vec::with_capacity(receipts.len());
    for (row, receipt) in joined(written, receipts) {
        let time = ms(row.started, receipt.at);
        from_insert.push(time);
        from_commit.push(ms(row.committed, receipt.at));
        let last = last_of_row.entry(row.id).or_insert(time);
        *last = last.max(time);
    }
    let (from_insert, from_commit) = (sorted(from_insert), sorted(from_commit));
    let mut add = |what: &str, target, value| {
        bench.add(
            SCENARIO,
            format!("{name}, {what}"),
            "ms",
            target,
            subject,
            value,
        );
    };
    // One subscriber: within a fifth of the floor. A hundred: two cores serve them, the floor uses one.
    let (p50, p99) = match count {
        // The p99 of few rows is their slowest: a verdict on it would be a verdict on the disk.
        1 if written.len() >= ENOUGH_FOR_P99 => (1.2, Target::AtMostFloor(1.5)),
        1 => (1.2, Target::None),
        _ => (1.0, Target::None),
    };
    add(
        "insert→receipt p50",
        Target::AtMostFloor(p50),
        percentile(&from_insert, 0.5),
    );
    add(
        "insert→receipt p90",
        Target::None,
        percentile(&from_insert, 0.9),
    );
    add("insert→receipt p99", p99, percentile(&from_insert, 0.99));
    add(
        "insert→receipt max",
        Target::None,
        percentile(&from_insert, 1.0),
    );
    if count > 1 {
        let last = sorted(last_of_row.into_values().collect());
        add(
            "insert→last receipt p50",
            Target::AtMostFloor(1.0),
            percentile(&last, 0.5),
        );
    }
    add(
        "commit→receipt p50",
        Target::None,
        percentile(&from_commit, 0.5),
    );
    add(
        "commit→receipt p99",
        Target::None,
        percentile(&from_commit, 0.99),
    );
}
