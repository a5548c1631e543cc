//! What is measured, a file for each question.

mod bulk;
mod capture;
mod edge;
mod edges;
mod fanout;
mod filters;
mod growth;
mod idle;
mod latency;
mod publish;
mod replay;
mod slow;
mod stalled;
mod startup;
mod storm;
mod writers;

use anyhow::Result;

use crate::load::{Receipt, Subscriber};
use crate::suite::Bench;
use crate::writer::Written;

/// One of the scenarios.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub run: fn(&mut Bench) -> Result<()>,
}

/// All scenarios, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "latency",
        run: latency::run,
    },
    Scenario {
        name: "fanout",
        run: fanout::run,
    },
    Scenario {
        name: "idle",
        run: idle::run,
    },
    Scenario {
        name: "stalled",
        run: stalled::run,
    },
    Scenario {
        name: "slow",
        run: slow::run,
    },
    Scenario {
        name: "replay",
        run: replay::run,
    },
    Scenario {
        name: "filters",
        run: filters::run,
    },
    Scenario {
        name: "bulk",
        run: bulk::run,
    },
    Scenario {
        name: "growth",
        run: growth::run,
    },
    Scenario {
        name: "writers",
        run: writers::run,
    },
    Scenario {
        name: "capture",
        run: capture::run,
    },
    Scenario {
        name: "publish",
        run: publish::run,
    },
    Scenario {
        name: "edge",
        run: edge::run,
    },
    Scenario {
        name: "edges",
        run: edges::run,
    },
    Scenario {
        name: "startup",
        run: startup::run,
    },
    Scenario {
        name: "storm",
        run: storm::run,
    },
];

/// `count` equal subscribers.
fn subscribers(count: usize, one: &Subscriber) -> Vec<Subscriber> {
    vec![one.clone(); count]
}

/// Milliseconds from `from` to `to`, both nanoseconds; negative when it was the other way round.
fn ms(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1e6
}

/// Each receipt with the row it is of. Rows that nobody wrote, such as those of a warm-up, are left out.
fn joined<'a>(
    written: &'a [Written],
    receipts: &'a [Receipt],
) -> impl Iterator<Item = (&'a Written, &'a Receipt)> {
    let mut sorted: Vec<&Written> = written.iter().collect();
    sorted.sort_by_key(|row| (row.table, row.id));
    receipts.iter().filter_map(move |receipt| {
        let found =
            sorted.binary_search_by_key(&(receipt.group, receipt.id), |row| (row.table, row.id));
        found.ok().map(|index| (sorted[index], receipt))
    })
}
