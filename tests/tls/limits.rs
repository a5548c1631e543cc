//! Limits hold for handshakes too.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::client::{believer, connect, get};
use crate::common::{Daemon, PATIENCE, STOCK_FEED, http, wait_until};

/// Takes ten seconds: the time a request may take to come, its handshake included.
#[test]
fn a_handshake_that_comes_to_no_end_is_cut_off() {
    let daemon = Daemon::on_new_file().over_tls().start();
    let mut silent = http::connect(daemon.own_address());
    let mut half = http::connect(daemon.own_address());
    // A record of 512 bytes is announced, of which six come.
    half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])
        .expect("the daemon reads");
    let mut done = connect(&daemon, "localhost", &believer(&daemon));
    for stream in [&mut silent, &mut half, &mut done.sock] {
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(10) + PATIENCE))
            .expect("a socket takes a time limit");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("it is closed in time");
    }
    wait_until("they are counted", || {
        daemon.connection_errors("tls") == 2.0
    });
}

#[test]
fn above_the_connection_limit_who_speaks_tls_is_told_so_too() {
    let daemon = Daemon::on_new_file()
        .option("--max-connections", "2")
        .over_tls()
        .start();
    let first = daemon.subscribe("");
    let _second = daemon.subscribe("");
    let client = believer(&daemon);
    let mut third = connect(&daemon, "localhost", &client);
    let refused = get(&mut third, "/api/feeds");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let mut asking = connect(&daemon, "localhost", &client);
    assert_eq!(get(&mut asking, "/healthz").status, 200);
    assert_eq!(daemon.refused_upgrade(STOCK_FEED).status, 503);
    drop(first);
    wait_until("the place is free again", || {
        daemon.get("/api/feeds").status == 200
    });
}

#[test]
fn handshakes_that_hang_above_the_limit_keep_nobody_from_asking_for_health() {
    let daemon = Daemon::on_new_file()
        .option("--max-connections", "2")
        .over_tls()
        .start();
    let idle: Vec<TcpStream> = (0..60)
        .map(|_| http::connect(daemon.own_address()))
        .collect();
    assert_eq!(daemon.get("/healthz").status, 200);
    drop(idle);
}
