//! Servers and daemons that are down, frozen, or killed in the middle.

use crate::common::{Daemon, wait_until};
use crate::server::Server;
use crate::setup::{
    STREAM, failures, published, publishing, state, wait_for_state, wait_for_trouble,
};
use crate::stored::{Client, ledger};

#[test]
fn rows_wait_for_a_server_that_is_killed_and_come_back_with_it() {
    let mut server = Server::start();
    let daemon = published(&server);
    let before = daemon.fill(100);
    Client::of(&server).wait_for_row(STREAM, before);
    server.kill();
    wait_for_state(&daemon, "failing");
    let mut subscriber = daemon.subscribe_live();
    let last = daemon.fill(2_000);
    // Clients are served as ever.
    subscriber.rows_to(last);
    let told = state(&daemon);
    assert_eq!(told["lag_rows"], 2_000, "{told}");
    assert_eq!(daemon.get("/readyz").status, 200);
    server.run();
    let client = Client::of(&server);
    client.expect_rows_to(last);
    wait_for_state(&daemon, "live");
    assert!(failures(&daemon, "connection") >= 1.0);
    daemon.wait_for_log("is published again");
}

#[test]
fn a_daemon_starts_while_its_server_is_down() {
    let mut server = Server::start();
    server.kill();
    let daemon = publishing(Daemon::on_new_file(), &server, "").start();
    let last = daemon.fill(10);
    wait_for_trouble(&daemon, "no connection");
    daemon.wait_for_log("clients are served as ever");
    server.run();
    let client = Client::of(&server);
    assert_eq!(
        ledger(&client.wait_for_row(STREAM, last)),
        (1..=10).collect::<Vec<i64>>()
    );
}

#[test]
fn a_server_that_is_frozen_is_waited_for() {
    let server = Server::start();
    let client = Client::of(&server);
    let daemon = published(&server);
    let before = daemon.fill(10);
    client.wait_for_row(STREAM, before);
    server.freeze();
    let last = daemon.fill(500);
    wait_for_state(&daemon, "failing");
    server.thaw();
    client.expect_rows_to(last);
    wait_for_state(&daemon, "live");
}

#[test]
fn a_daemon_that_is_killed_publishes_no_row_twice_and_loses_none() {
    let server = Server::start();
    let client = Client::of(&server);
    let mut daemon = publishing(Daemon::on_new_file(), &server, "").start();
    let mut last = 0;
    for round in 1..=4 {
        last = daemon.database().insert_many(3_000);
        // In the middle of it, wherever that is.
        client.wait_for_row(STREAM, round * 3_000 - 2_500);
        daemon = daemon.kill().start();
    }
    client.expect_rows_to(last);
}

#[test]
fn rows_that_wait_for_a_server_cost_no_memory() {
    const ROWS: usize = 100_000;
    let mut server = Server::start();
    let settings = publishing(Daemon::on_new_file(), &server, "");
    // With little kept ready for everybody, what publishing costs is not hidden by it.
    let daemon = settings.option("--ring-rows", "64").start();
    wait_for_state(&daemon, "live");
    let first = daemon.fill(1_000);
    Client::of(&server).wait_for_row(STREAM, first);
    server.kill();
    wait_for_state(&daemon, "failing");
    daemon.fill(1_000);
    let before = daemon.memory("VmRSS");
    let mut last = 0;
    for _ in 0..10 {
        last = daemon.fill(ROWS / 10);
    }
    let grown = daemon.memory("VmRSS").saturating_sub(before);
    assert!(grown < 8 << 20, "{ROWS} rows that wait took {grown} bytes");
    server.run();
    let client = Client::of(&server);
    let messages = client.wait_for_row(STREAM, last);
    assert_eq!(ledger(&messages).len() as i64, last);
}

#[test]
fn a_stop_does_not_wait_for_a_server() {
    let server = Server::start();
    let settings = publishing(Daemon::on_new_file(), &server, "");
    let daemon = settings.option("--drain-timeout", "0").start();
    wait_for_state(&daemon, "live");
    server.freeze();
    daemon.fill(100);
    wait_until("it was sent", || state(&daemon)["lag_rows"] == 100);
    // Far less than a server may take to answer: a stop that waited for that would fail.
    daemon.stop();
    server.thaw();
}
