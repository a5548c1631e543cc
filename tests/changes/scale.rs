//! One statement that changes many rows.

use walcast::config::CaptureMode::{Full, Keys};

use crate::scenes::{follow, follow_live, orders};

/// Changes of one statement: far more than the daemon keeps in memory.
const ROWS: usize = 30_000;
/// What the log of recent changes, pages under way and the caches of connections may take together, with room to spare.
const MOST: usize = 96 << 20;

#[test]
fn a_huge_update_reaches_fast_and_slow_alike_in_bounded_memory() {
    let rows = std::env::var("WALCAST_ROWS").map_or(ROWS, |rows| rows.parse().expect("a number"));
    for mode in [Keys, Full] {
        let walcast = orders(mode, &["tenant"]);
        let database = walcast.database();
        database.execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows})
             INSERT INTO orders SELECT i, 'tenant ' || (i % 10), i, hex(randomblob(50)) FROM n"
        ));
        let (mut all, _) = follow_live(&walcast, "since=now");
        let (mut tenth, _) = follow_live(&walcast, "since=now&tenant=tenant%203");
        let mut slow = walcast.subscribe_slow("/ws/orders", "since=now");
        slow.expect("hello");
        slow.expect("live");
        let before = walcast.memory("VmRSS");
        database.execute("UPDATE orders SET total = -total");
        for (subscriber, count) in [(&mut all, rows), (&mut tenth, rows / 10)] {
            for _ in 0..count {
                let change = subscriber.next_row();
                assert!(change["op"] == "u" && change["after"]["total"].as_f64() < Some(0.0));
            }
        }
        slow.enlarge_buffer();
        for _ in 0..rows {
            assert_eq!(slow.next_row()["op"], "u");
        }
        let most = walcast.memory("VmHWM");
        assert!(
            most < before + MOST,
            "{} MiB, and {} before",
            most >> 20,
            before >> 20
        );
        eprintln!(
            "{mode:?}: {rows} rows, {} MiB at most, {} before",
            most >> 20,
            before >> 20
        );
        let (_, hello) = follow(&walcast, "since=earliest");
        assert_eq!(hello["snapshot"], true);
    }
}
