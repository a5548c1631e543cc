//! Rows that come by HTTP, faster than the file can take them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::database;
use crate::common::{Daemon, STOCK_EVENTS, StopAtEnd};
use crate::scale::sized;

/// Large ones hold the lock for long each, small ones one after the other.
#[test]
fn the_applications_own_writer_has_its_turn() {
    for rows in [10_000, 1] {
        let walcast = Daemon::on_new_file().stock_feed("ingest = true").start();
        let mut subscriber = walcast.subscribe("");
        let body = serde_json::Value::from(vec![json!({"ts": "ingested"}); rows]);
        let stop = AtomicBool::new(false);
        let mut worst = Duration::ZERO;
        let (mut own, mut ingested) = (0, 0);
        std::thread::scope(|scope| {
            let _stop_at_end = StopAtEnd(&stop);
            let post = || {
                let mut taken = 0;
                while !stop.load(Ordering::Relaxed) {
                    match walcast.post(STOCK_EVENTS, &body).status {
                        201 => taken += rows,
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
            let begun = Instant::now();
            while begun.elapsed() < sized(Duration::from_secs(2), Duration::from_secs(12)) {
                let asked = Instant::now();
                database::insert(&writer, "acme", "the application's own");
                worst = worst.max(asked.elapsed());
                own += 1;
            }
            stop.store(true, Ordering::Relaxed);
            for client in clients {
                ingested += client.join().expect("a client ends");
            }
        });
        // It was seconds; what an unburdened machine shows is under a quarter of one.
        assert!(
            worst < Duration::from_secs(2),
            "{rows} rows a body: {worst:?}"
        );
        assert!(ingested > 0 && own > 0);
        let all = walcast
            .database()
            .number("SELECT count(*) FROM remediation_events");
        assert_eq!(all, (own + ingested) as i64);
        subscriber.rows_to(all);
        eprintln!(
            "{rows} rows a body: {ingested} ingested beside {own}, who waited {worst:?} at most"
        );
    }
}
