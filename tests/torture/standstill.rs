//! The daemon, or the machine under it, stands still for a while. Clients that were there before are there after.

use std::thread::sleep;
use std::time::Duration;

use crate::common::subscriber::Received;
use crate::common::{Daemon, STOCK_FEED, STOCK_SSE, http};
use crate::scale::sized;

/// Stops the process for `time`, which is what these tests are about, not a way to wait for something.
fn stand_still(walcast: &Daemon, time: Duration) {
    walcast.freeze();
    sleep(time);
    walcast.signal(libc::SIGCONT);
}

/// Long enough, at full size, for a client from which nothing is heard to count as dead.
#[test]
fn clients_that_were_quiet_stay() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    let (mut resumable, _) = walcast.resume("since=now");
    resumable.expect("live");
    let mut stream = walcast.event_source(STOCK_SSE, &[]);
    stream.expect_position();
    let mut kept_alive = http::connect(walcast.address());
    http::ask(&mut kept_alive, "/healthz");
    assert_eq!(http::read_response(&mut kept_alive).status, 200);
    walcast.freeze();
    walcast.database().insert("meanwhile");
    sleep(sized(Duration::from_secs(3), Duration::from_secs(75)));
    walcast.signal(libc::SIGCONT);
    for row in 1..=2 {
        assert_eq!(plain.next_row()["id"], row);
        assert_eq!(resumable.next_row()["id"], row);
        assert_eq!(stream.next_row(), row);
        http::ask(&mut kept_alive, "/healthz");
        assert_eq!(http::read_response(&mut kept_alive).status, 200);
        walcast.database().insert("after it");
    }
    for reason in ["no_pong", "write_timeout", "idle"] {
        assert_eq!(walcast.connection_errors(reason), 0.0, "{reason}");
    }
}

#[test]
fn a_client_that_was_slow_has_its_time() {
    const ROWS: usize = 30_000;
    let walcast = Daemon::on_new_file()
        .option("--write-timeout", "5s")
        .start();
    walcast.database().insert_many(ROWS);
    let (mut other, _) = walcast.resume("since=earliest");
    // Reads all that the other won't, which may take its time.
    assert_eq!(other.replay().0.len(), ROWS);
    let mut slow = walcast.subscribe_slow(STOCK_FEED, "since=earliest");
    // After the first the kernel has moved bytes to the slow one's own buffer, which counts as taken.
    for _ in 0..2 {
        stand_still(&walcast, Duration::from_millis(5_500));
        let next = walcast.database().insert("after it");
        assert_eq!(other.next_row()["id"], next);
        // Long enough for the daemon to look at whom it waits for.
        sleep(Duration::from_millis(500));
    }
    slow.expect("hello");
    let mut rows = 0;
    while rows <= ROWS {
        match slow.receive() {
            Received::Text(text) if text.contains("_event") => rows += 1,
            Received::Text(_) => {}
            Received::Closed(code) => panic!("closed with {code:?} after {rows} rows"),
        }
    }
}
