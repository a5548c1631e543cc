//! Several feeds over one WebSocket over TLS.

use serde_json::{Value, json};

use crate::common::multi::Multi;
use crate::common::subscriber::row_of;
use crate::common::{Daemon, assert_ledger};

#[test]
fn replays_and_live_rows_of_several_subscriptions_come_whole_over_tls() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let head = daemon.fill(20_000);
    let mut multi = Multi::connect(&daemon);
    for (id, since) in [("all", 0), ("half", head / 2)] {
        multi.subscribe(id, "remediation", json!({"since": since}));
        multi.expect(id, "hello");
    }
    multi.subscribe(
        "none",
        "remediation",
        json!({"since": "now", "filters": {"tenant": "nobody"}}),
    );
    multi.expect("none", "hello");
    daemon.database().insert_many(500);
    let table = daemon.database().rows();
    for (id, since) in [("all", 0), ("half", head / 2)] {
        let wanted = &table[since as usize..];
        let (mut ledger, mut is_live): (Vec<Value>, bool) = (vec![], false);
        while ledger.len() < wanted.len() || !is_live {
            let frame = multi.next_of(id);
            is_live |= frame["type"] == "live";
            ledger.extend(row_of(&frame));
        }
        assert_ledger(&ledger, wanted);
    }
    multi.expect("none", "live");
    assert_eq!(daemon.metric("walcast_ws_connections_active"), 1.0);
    // What is larger than a message may be ends the socket, and says why.
    multi.socket.send(&"x".repeat(5_000));
    multi.socket.expect_close(1009);
}
