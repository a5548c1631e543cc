//! What a row costs an origin, and when a subscriber of its own has it, by how many edges there are and how many clients
//! these have. Edges and clients give way to the origin: they stand for other machines.

use std::time::Duration;

use anyhow::Result;

use super::{joined, ms, subscribers};
use crate::database::STOCK_PATH;
use crate::load::{Keep, Load, Subscriber};
use crate::report::Target;
use crate::server::{Server, Subject};
use crate::stats::{percentile, sorted};
use crate::suite::Bench;
use crate::sys;
use crate::writer::{Mode, Writing};

const SCENARIO: &str = "edges";
const EDGES: usize = 10;
/// Clients of all edges together.
const CLIENTS: [usize; 3] = [0, 100, 1_000];
/// Far enough apart that edges and clients have done with one row before the next, on two cores.
const GAP: Duration = Duration::from_millis(20);
/// Rows written before the measurement.
const WARM_UP: u64 = 20;
/// By how much edges and clients give way.
const NICE: i32 = 10;
/// How much more a row may cost, and be later, with clients at the edges.
const GROWTH: f64 = 1.1;

/// One origin with its edges.
struct Costs {
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub fn run(bench: &mut Bench) -> Result<()> {
    if !bench.has_walcast() {
        return Ok(());
    }
    let places = [(0, 0)].into_iter().chain(CLIENTS.map(|n| (EDGES, n)));
    let mut places: Vec<(usize, usize)> = places.collect();
    for _ in 0..bench.rounds {
        let mut found = Vec::new();
        for &(edges, clients) in &places {
            let costs = measure(bench, edges, clients)?;
            report(bench, edges, clients, &costs);
            found.push(((edges, clients), costs));
        }
        compare(bench, &found);
        // Whoever comes later meets a warmer machine.
        places.reverse();
    }
    Ok(())
}

fn measure(bench: &mut Bench, edges: usize, clients: usize) -> Result<Costs> {
    let rows = bench.pick(500, 100);
    let database = bench.new_database(0)?;
    let origin = bench.start(Subject::Walcast, &database, None)?;
    let started: Result<Vec<Server>> = (0..edges).map(|_| bench.start_edge(&origin)).collect();
    let started = started?;
    let one = Subscriber::plain(STOCK_PATH, 1);
    let own = Load::connect(origin.address, vec![one.clone()], Keep::Every)?;
    let mut at_edges = Vec::new();
    for edge in &started {
        sys::be_nice_as(edge.pid(), NICE)?;
        let share = subscribers(clients / EDGES, &one);
        at_edges.push(Load::connect_nice(edge.address, share, Keep::Count, NICE)?);
    }
    let writing = |rows| Writing::new(&database, Mode::Normal, rows, GAP).run();
    writing(WARM_UP)?;
    own.complete(WARM_UP as i64)?;
    let before = origin.cpu_ns()?;
    let written = writing(rows)?;
    let last = (WARM_UP + rows) as i64;
    own.complete(last)?;
    let cpu = origin.cpu_ns()? - before;
    for load in at_edges {
        load.finish(last)?;
    }
    let receipts = own.finish(last)?;
    let times = joined(&written, &receipts).map(|(row, receipt)| ms(row.committed, receipt.at));
    let times = sorted(times.collect());
    Ok(Costs {
        cpu_us: cpu as f64 / 1e3 / rows as f64,
        p50_ms: percentile(&times, 0.5),
        p99_ms: percentile(&times, 0.99),
    })
}

fn report(bench: &mut Bench, edges: usize, clients: usize, costs: &Costs) {
    let mut add = |what: &str, unit, value| {
        let name = format!("{edges} edges, {clients} clients there: {what}");
        bench.add(SCENARIO, name, unit, Target::None, Subject::Walcast, value);
    };
    add("origin's CPU per row", "µs", costs.cpu_us);
    add("commit→receipt at the origin p50", "ms", costs.p50_ms);
    add("commit→receipt at the origin p99", "ms", costs.p99_ms);
}

/// What the clients of edges cost the origin, within one round.
fn compare(bench: &mut Bench, found: &[((usize, usize), Costs)]) {
    let of = |clients| {
        let mut all = found.iter();
        let costs = all.find(|(place, _)| *place == (EDGES, clients));
        costs.map(|(_, costs)| costs)
    };
    let (Some(none), Some(most)) = (of(0), of(CLIENTS[CLIENTS.len() - 1])) else {
        return;
    };
    let mut add = |what: &str, value| {
        let name = format!("{what}, {EDGES} edges: 1,000 clients ÷ none");
        let target = Target::AtMost(GROWTH);
        bench.add(SCENARIO, name, "×", target, Subject::Walcast, value);
    };
    add("origin's CPU per row", most.cpu_us / none.cpu_us);
    add(
        "commit→receipt at the origin p50",
        most.p50_ms / none.p50_ms,
    );
}
