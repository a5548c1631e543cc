//! What `walcast check` says of `[publish]`, and of an edge's `nats`.

use std::ffi::OsStr;
use std::path::Path;

use walcast::config::CaptureMode::Keys;

use crate::common::Daemon;
use crate::common::settings::program;
use crate::server::Server;
use crate::setup::{STREAM, published, publishing, wait_for_state};
use crate::stored::Client;

/// Runs `walcast check` on the configuration of these settings; gives what it printed, and whether all would work.
fn check(directory: &Path, toml: &str) -> (String, bool) {
    let database = directory.join("walcast.db");
    check_with(directory, toml, &["--db".as_ref(), database.as_os_str()])
}

/// The same of an edge of this server, with these further keys.
fn check_edge(server: &Server, keys: &str) -> (String, bool) {
    let directory = crate::common::directory();
    let toml = format!("[edge]\nnats = {:?}\n{keys}\n", server.url());
    check_with(directory.path(), &toml, &[])
}

fn check_with(directory: &Path, toml: &str, args: &[&OsStr]) -> (String, bool) {
    let config = directory.join("checked.toml");
    std::fs::write(&config, toml).expect("a configuration can be written");
    let done = program()
        .args(["check", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .arg("--state-dir")
        .arg(directory.join("state"))
        .args(args)
        .output()
        .expect("walcast can be run");
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    (printed, done.status.success())
}

#[test]
fn check_reaches_the_server_and_tells_of_streams() {
    let mut server = Server::start();
    let settings = publishing(Daemon::on_new_file(), &server, "");
    let toml = settings.toml_text();
    let directory = settings.directory().to_owned();
    let (printed, _) = check(&directory, &toml);
    assert!(
        printed.contains("is reached, messages of 1048576 bytes"),
        "{printed}"
    );
    assert!(printed.contains("is not there yet"), "{printed}");
    let daemon = settings.start();
    wait_for_state(&daemon, "live");
    let (printed, _) = check(&directory, &toml);
    assert!(
        printed.contains("stream walcast_remediation  holds 1 messages"),
        "{printed}"
    );
    server.kill();
    let (printed, works) = check(&directory, &toml);
    assert!(
        printed.contains("PROBLEM  publish") && printed.contains("no connection"),
        "{printed}"
    );
    assert!(!works);
}

#[test]
fn check_names_what_would_keep_feeds_from_being_published() {
    let off = Server::with("");
    let small = Server::with_jetstream_and("max_payload: 64KB");
    for (server, wanted) in [(&off, "enable JetStream"), (&small, "raise max_payload")] {
        let settings = publishing(Daemon::on_new_file(), server, "");
        let (printed, works) = check(settings.directory(), &settings.toml_text());
        assert!(printed.contains(wanted) && !works, "{printed}");
    }
}

#[test]
fn check_of_an_edge_tells_of_servers_and_streams() {
    let mut server = Server::start();
    let (printed, works) = check_edge(&server, "");
    assert!(printed.contains("is reached") && works, "{printed}");
    assert!(
        printed.contains("there is no stream walcast_*"),
        "{printed}"
    );
    let daemon = published(&server);
    let last = daemon.fill(3);
    Client::of(&server).wait_for_row(STREAM, last);
    let upstream = format!("upstream = \"ws://{}\"", daemon.address());
    let (printed, works) = check_edge(&server, &upstream);
    assert!(works, "{printed}");
    for wanted in [
        "stream walcast_remediation  can be read: ",
        "up to id 3",
        "feeds: remediation",
        "edge.keep",
    ] {
        assert!(printed.contains(wanted), "{printed}");
    }
    server.kill();
    let (printed, works) = check_edge(&server, "");
    assert!(printed.contains("no connection") && !works, "{printed}");
}

#[test]
fn check_names_what_feeds_of_changes_need() {
    let server = Server::start();
    let section = crate::setup::section(&server, "");
    let settings = crate::scenes::settings(crate::scenes::ORDERS, "orders", Keys, &[], &section);
    let toml = settings.toml_text();
    let origin = settings.start();
    Client::of(&server).wait_for_row("walcast_orders", 0);
    let (printed, works) = check(origin.settings().directory(), &toml);
    let note = "changes go into the streams of orders; edges need upstream";
    assert!(printed.contains(note) && works, "{printed}");
    // A table is captured where the configuration does not say so, too.
    let toml = format!("feeds = \"*\"\n{section}");
    let (printed, works) = check(origin.settings().directory(), &toml);
    assert!(printed.contains(note) && works, "{printed}");
    let (printed, works) = check_edge(&server, "");
    assert!(printed.contains("edge.upstream") && !works, "{printed}");
    let upstream = format!("upstream = \"ws://{}\"", origin.address());
    let (printed, works) = check_edge(&server, &upstream);
    assert!(
        printed.contains("of changes, the table as it is") && works,
        "{printed}"
    );
}

#[test]
fn check_of_an_edge_names_the_right_that_is_missing() {
    let manual = include_str!("../../docs/nats.md");
    let rights = crate::refusals::rights_of_edges(manual);
    let server = |rights: &str| {
        let user = format!("{{ user: edge, password: s3cret, {rights} }}");
        let origin = "{ user: origin, password: s3cret }";
        let users = format!("authorization {{ users: [{origin}, {user}] }}");
        Server::with_jetstream_and(&users)
    };
    let credentials = crate::common::directory();
    let write = |name: &str| {
        let path = credentials.path().join(name);
        crate::refusals::write_credentials(&path, &format!("{name}:s3cret\n"));
        format!(
            "credentials = {:?}",
            path.to_str().expect("the path is text")
        )
    };
    let lacking = |right: &str| rights.replace(&format!("{right:?}"), "\"nothing\"");
    for (rights, lacks) in [
        (rights.clone(), None),
        (
            lacking("$JS.API.CONSUMER.CREATE.>"),
            Some("$JS.API.CONSUMER.CREATE."),
        ),
        (
            lacking("$JS.API.STREAM.NAMES"),
            Some("$JS.API.STREAM.NAMES"),
        ),
        (
            lacking("walcast.*.standing"),
            Some("walcast.remediation.standing"),
        ),
    ] {
        let server = server(&rights);
        let keys = write("origin");
        let daemon = publishing(Daemon::on_new_file(), &server, &keys).start();
        wait_for_state(&daemon, "live");
        let (printed, works) = check_edge(&server, &write("edge"));
        assert_eq!(works, lacks.is_none(), "{printed}");
        let said = lacks.map(|right| printed.contains("lack a right") && printed.contains(right));
        assert_ne!(said, Some(false), "{printed}");
    }
}

#[test]
fn check_of_an_edge_names_what_its_server_lacks() {
    let off = Server::with("");
    let (printed, works) = check_edge(&off, "");
    assert!(printed.contains("enable JetStream") && !works, "{printed}");
    let users = "authorization { users: [{ user: edge, password: s3cret }] }";
    let (printed, works) = check_edge(&Server::with_jetstream_and(users), "");
    assert!(printed.contains("edge.credentials") && !works, "{printed}");
}
