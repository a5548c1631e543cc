//! Rows that come by HTTP, faster than the file can take them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::common::database;
use crate::common::{Daemon, STOCK_EVENTS, StopAtEnd, wait_until};
use crate::scale::sized;

/// Large ones hold the lock for long each, small ones one after the other.
#[test]
fn the_applications_own_writer_has_its_turn() {
    // How many bodies may pass the writer by. Of small ones that is as many as there are in SQLite's own pauses, so that only
    // its patience is a bound.
    for (rows, passing) in [(10_000, 8), (1, usize::MAX)] {
        let walcast = Daemon::on_new_file().stock_feed("ingest = true").start();
        let mut subscriber = walcast.subscribe("");
        let body = serde_json::Value::from(vec![json!({"ts": "ingested"}); rows]);
        let stop = AtomicBool::new(false);
        let (mut own, mut ingested, mut most) = (0, 0, 0);
        let bodies = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let _stop_at_end = StopAtEnd(&stop);
            let post = || {
                let mut taken = 0;
                while !stop.load(Ordering::Relaxed) {
                    match walcast.post(STOCK_EVENTS, &body).status {
                        201 => {
                            taken += rows;
                            bodies.fetch_add(1, Ordering::Relaxed);
                        }
                        503 => {}
                        other => panic!("{other}"),
                    }
                }
                taken
            };
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(post)).collect();
            let writer = walcast.database().connect();
            writer
                .busy_timeout(Duration::from_secs(60))
                .expect("a connection can be told to wait");
            let taken = || bodies.load(Ordering::Relaxed);
            for _ in 0..sized(10, 100) {
                let before = taken();
                wait_until("another body was taken", || taken() > before);
                let before = taken();
                database::insert(&writer, "acme", "the application's own");
                most = most.max(taken() - before);
                own += 1;
            }
            stop.store(true, Ordering::Relaxed);
            for client in clients {
                ingested += client.join().expect("a client ends");
            }
        });
        assert!(most <= passing, "{most} bodies of {rows} rows passed it by");
        assert!(ingested > 0 && own > 0);
        let all = walcast
            .database()
            .number("SELECT count(*) FROM remediation_events");
        assert_eq!(all, (own + ingested) as i64);
        subscriber.rows_to(all);
        eprintln!(
            "{rows} rows a body: {ingested} ingested beside {own}, who waited for {most} bodies at most"
        );
    }
}
