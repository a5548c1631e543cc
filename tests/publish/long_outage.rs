//! A server that is down while rows come: what clients of the origin and of an edge get, and what the origin needs for it.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::database::insert;
use crate::common::subscriber::{Received, row_of};
use crate::common::{Daemon, PATIENCE, Settings, Subscriber};
use crate::server::Server;
use crate::setup::{publishing, wait_for_state};
use crate::stored::Client;

/// How long the server is down in the test that takes its time.
const LONG: Duration = Duration::from_secs(600);
/// And in the one that is always run.
const SHORT: Duration = Duration::from_secs(3);
/// Between two rows, and by how many of these each a transaction of many rows comes.
const PAUSE: Duration = Duration::from_millis(5);
const EACH: usize = 20;
/// Subscribers of the origin.
const CLIENTS: usize = 8;
/// What the origin may need more after the outage than before it. The rows of the long one take several times as much.
const GROWTH: usize = 16 << 20;

#[test]
fn a_server_that_is_away_under_load_costs_no_row_and_no_memory() {
    away_under_load(SHORT, 300);
}

#[test]
#[ignore = "takes eleven minutes: tests/run faults"]
fn a_server_that_is_away_for_ten_minutes_costs_no_row_and_no_memory() {
    away_under_load(LONG, 60);
}

/// What was written: when each row was committed by itself, and the last one's id once nothing more is written.
#[derive(Default)]
struct Written {
    committed: Mutex<Vec<(i64, Instant)>>,
    last: Mutex<Option<i64>>,
}

/// The server is away for this time, while single rows come, and transactions of `many`.
fn away_under_load(time: Duration, many: usize) {
    let mut server = Server::start();
    // With little kept ready for everybody, what a backlog costs is not hidden by it.
    let settings = publishing(Daemon::on_new_file(), &server, "keep.bytes = \"512MiB\"");
    let origin = settings.option("--ring-rows", "64").start();
    wait_for_state(&origin, "live");
    let edge = edge_of(&server);
    let written = Arc::new(Written::default());
    let clients: Vec<_> = (0..CLIENTS).map(|_| follow(&origin, &written)).collect();
    let at_edge = follow(&edge, &written);

    let before = write(&origin, &written, time / 10, many);
    Client::of(&server).wait_for_row("walcast_remediation", before);
    server.kill();
    wait_for_state(&origin, "failing");
    let memory = origin.memory("VmRSS");
    let during = write(&origin, &written, time, many);
    let grown = origin.memory("VmRSS").saturating_sub(memory);
    wait_for_state(&origin, "failing");
    server.run();
    let after = write(&origin, &written, time / 10, many);
    *written.last.lock().expect("not poisoned") = Some(after);

    let mut receipts = vec![];
    for client in clients {
        receipts = client.join().expect("a subscriber has every row in order");
    }
    at_edge.join().expect("the edge's has, too");
    Client::of(&server).expect_rows_to(after);
    wait_for_state(&origin, "live");
    let rest = origin.memory("VmRSS").saturating_sub(memory);
    println!(
        "{} rows waited; the origin had {} KiB, then {} more, {} once all were published",
        during - before,
        memory >> 10,
        grown >> 10,
        rest >> 10,
    );
    for (phase, ids) in [
        ("before", 1..before),
        ("while it is away", before..during),
        ("after", during..after),
    ] {
        println!("rows {phase}: {}", latencies(&written, &receipts, ids));
    }
    assert!(grown < GROWTH, "the rows that waited took {grown} bytes");
}

/// An edge of this server.
fn edge_of(server: &Server) -> Daemon {
    let toml = format!("[edge]\nnats = {:?}\n", server.url());
    let edge = Settings::on_new_file().toml(toml).edge().start();
    edge.wait_until_ready();
    edge
}

/// Writes for this time; gives the id of the last row.
fn write(origin: &Daemon, written: &Written, time: Duration, many: usize) -> i64 {
    let database = origin.database();
    let writer = database.connect();
    let end = Instant::now() + time;
    let mut last = 0;
    while Instant::now() < end || last == 0 {
        for _ in 0..EACH {
            let id = insert(&writer, "acme", "one by one");
            let committed = (id, Instant::now());
            written
                .committed
                .lock()
                .expect("not poisoned")
                .push(committed);
            // The pace of the load; nothing is waited for.
            thread::sleep(PAUSE);
        }
        last = database.insert_many(many);
    }
    last
}

/// A subscriber on a thread of its own, which has each row once and in order, and when each came.
fn follow(daemon: &Daemon, written: &Arc<Written>) -> JoinHandle<Vec<Instant>> {
    let mut subscriber = daemon.subscribe_live();
    let written = Arc::clone(written);
    thread::spawn(move || {
        let mut receipts = vec![];
        let mut patience = Instant::now();
        loop {
            let last = *written.last.lock().expect("not poisoned");
            if last.is_some_and(|last| receipts.len() as i64 == last) {
                return receipts;
            }
            if take(&mut subscriber, &mut receipts) || last.is_none() {
                patience = Instant::now();
            }
            let (has, waited) = (receipts.len(), patience.elapsed());
            assert!(waited < 6 * PATIENCE, "row {has} of {last:?} was the last");
        }
    })
}

/// Takes a frame, if one comes soon: whether it was a row, which has to be the next.
fn take(subscriber: &mut Subscriber, receipts: &mut Vec<Instant>) -> bool {
    let frame = match subscriber.receive_within(Duration::from_millis(200)) {
        None => return false,
        Some(Received::Closed(code)) => panic!("closed with {code:?} after {}", receipts.len()),
        Some(Received::Text(text)) => text,
    };
    let frame = serde_json::from_str(&frame).expect("a frame is JSON");
    let Some(row) = row_of(&frame) else {
        assert_eq!(frame["type"], "heartbeat", "{frame}");
        return false;
    };
    receipts.push(Instant::now());
    assert_eq!(crate::common::id(&row), receipts.len() as i64);
    true
}

/// How long after its commit a subscriber had a row, of the rows with these ids that were committed one by one.
fn latencies(written: &Written, receipts: &[Instant], ids: std::ops::Range<i64>) -> String {
    let committed = written.committed.lock().expect("not poisoned");
    let times = committed.iter().filter(|(id, _)| ids.contains(id));
    let mut times: Vec<Duration> = times
        .map(|(id, at)| receipts[*id as usize - 1].saturating_duration_since(*at))
        .collect();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)];
    format!(
        "{} singly, commit to receipt p50 {:?}, p99 {:?}",
        times.len(),
        at(50),
        at(99)
    )
}
