//! Sockets that systemd holds: over TLS too, clients wait in them while the daemon restarts.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::HandshakeKind;

use super::client::{believer, get, shake_hands};
use crate::common::{Daemon, http};

/// A program that passes the socket on as systemd does (sd_listen_fds(3)) and becomes walcast.
fn activated(here: &Path, listener: &TcpListener) -> PathBuf {
    let socket = listener.as_raw_fd();
    rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty())
        .expect("a descriptor can be left open for others");
    let path = here.join("activated");
    let walcast = env!("CARGO_BIN_EXE_walcast");
    let script = format!(
        "#!/usr/bin/env bash\nLISTEN_PID=$$ LISTEN_FDS=1 exec {walcast:?} \"$@\" 3<&{socket}\n"
    );
    fs::write(&path, script).expect("the directory can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("an own file has a mode");
    path
}

#[test]
fn clients_wait_in_the_socket_while_the_daemon_restarts() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let settings = Daemon::on_new_file().over_tls();
    let program = activated(settings.directory(), &listener);
    let daemon = settings.executable(program).start();
    assert_eq!(daemon.own_address(), address);
    let client = believer(&daemon);
    let mut before =
        shake_hands(http::connect(address), "localhost", &client).expect("it is shown");
    assert_eq!(get(&mut before, "/healthz").status, 200);
    let first = daemon.fill(3);
    let mut subscriber = daemon.subscribe("since=earliest");
    subscriber.expect("hello");
    assert_eq!(subscriber.replay().1, first);

    drop(subscriber);
    let settings = daemon.stop();
    // The kernel takes the connection, and nobody answers yet.
    let waiting = http::connect(address);
    let client_too = Arc::clone(&client);
    let shaken = std::thread::spawn(move || shake_hands(waiting, "localhost", &client_too));
    let daemon = settings.start();
    assert_eq!(daemon.own_address(), address);
    let shaken = shaken.join().expect("no panic");
    let mut waited = shaken.expect("the handshake is made when the daemon is back");
    // It has forgotten the keys of tickets.
    assert_eq!(waited.conn.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(get(&mut waited, "/api/feeds").status, 200);
    let last = daemon.fill(2);
    let mut subscriber = daemon.subscribe(&format!("since={first}"));
    subscriber.expect("hello");
    assert_eq!(subscriber.rows_to(last).len(), 2);
}
