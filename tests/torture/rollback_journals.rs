//! Writers with a rollback journal of every sort.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::database::{STOCK_SCHEMA, insert};
use crate::common::{Daemon, PATIENCE, StopAtEnd, assert_ledger};
use crate::scale;

const MODES: [&str; 5] = ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"];

/// Rows come while the writer goes on committing, `pause` after each; nothing but file events tells of them.
fn rows_come_while_writing(mode: &str, pause: Duration) {
    let walcast = Daemon::on_new_file()
        .with_tables(STOCK_SCHEMA)
        .without_poll()
        .option("--journal-mode", "keep")
        .start();
    let database = walcast.database();
    let mut plain = walcast.subscribe("");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop_at_end = StopAtEnd(&stop);
        let (stop, database) = (&stop, &database);
        let writing = scope.spawn(move || {
            let writer = database.connect();
            let pragmas = format!("PRAGMA journal_mode = {mode}; PRAGMA synchronous = OFF");
            writer.execute_batch(&pragmas).unwrap();
            let begun = Instant::now();
            while !stop.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                insert(&writer, "acme", mode);
                std::thread::sleep(pause);
            }
            assert!(
                stop.load(Ordering::Relaxed),
                "{mode}: no row came meanwhile"
            );
        });
        plain.next_rows(scale::sized(100, 500));
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap();
    });
    let written = database.rows();
    let missing = written.len() - plain.ledger().len();
    plain.next_rows(missing);
    assert_ledger(plain.ledger(), &written);
}

#[test]
fn rows_come_while_their_writer_commits_again_and_again() {
    for mode in MODES {
        rows_come_while_writing(mode, Duration::from_millis(10));
    }
}

#[test]
fn rows_come_while_their_writer_commits_without_a_pause() {
    for mode in MODES {
        rows_come_while_writing(mode, Duration::ZERO);
    }
}
