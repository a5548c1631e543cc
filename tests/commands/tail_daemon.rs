//! `walcast tail` of a daemon.

use std::net::TcpListener;

use crate::check::check;
use crate::common::{Daemon, Settings};
use crate::program::{Running, emit, refusal, walcast};

#[test]
fn tail_of_a_daemon_outlives_its_restarts_and_misses_nothing() {
    let mut daemon = Daemon::start_new();
    let database = daemon.database().path().to_owned();
    let mut tail = Running::tail(&[
        &format!("http://{}", daemon.address()),
        "--filter",
        "status=error",
    ]);
    tail.says("connected to");
    emit(&database, "8");
    assert_eq!(tail.ids(2), [4, 8]);
    for end in [Daemon::stop as fn(Daemon) -> Settings, Daemon::kill] {
        let ended = end(daemon);
        emit(&database, "4");
        daemon = ended.start();
        emit(&database, "4");
    }
    assert_eq!(tail.ids(4), [12, 16, 20, 24]);
    tail.signal(libc::SIGINT);
    assert_eq!(tail.exit_code(), Some(0));
    assert!(tail.lines.try_recv().is_err(), "nothing twice");
}

#[test]
fn tail_of_a_daemon_says_why_it_was_refused() {
    let daemon = Daemon::start_new();
    let database = daemon.database().path().to_owned();
    emit(&database, "1");
    let refused = |arguments: &[&str]| refusal(walcast().arg("tail").args(arguments));
    let url = format!("ws://{}/ws/remediation", daemon.address());
    assert!(refused(&[&url, "--filter", "nope=1"]).contains("nope"));
    assert!(refused(&[&format!("ws://{}/ws/nope", daemon.address())]).contains("404"));
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(refused(&[&format!("ws://{free}")]).contains("is walcast running there?"));
    // And check knows its own.
    let checked = check(&database, &["--listen", &daemon.address().to_string()]);
    assert_eq!(checked.says("is served by a running walcast").code, 0);
}
