//! What is in the way of publishing is named, with what mends it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use async_nats::ConnectOptions;

use crate::common::Daemon;
use crate::server::Server;
use crate::setup::{STREAM, publishing, wait_for_state, wait_for_trouble};
use crate::stored::{Client, ledger};

const USERS: &str = "authorization { users: [
    { user: origin, password: s3cret }
    { user: limited, password: s3cret, permissions: {
        publish: [\"walcast.>\", \"$JS.API.STREAM.INFO.*\"], subscribe: [\"_INBOX.>\", \"walcast.>\"] } }
] }";

pub fn write_credentials(path: &Path, text: &str) {
    fs::write(path, text).expect("credentials can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
}

#[test]
fn credentials_that_are_refused_are_named_and_read_again() {
    let server = Server::with_jetstream_and(USERS);
    let settings = Daemon::on_new_file();
    let path = settings.directory().join("nats.credentials");
    write_credentials(&path, "origin:wrong\n");
    let keys = format!(
        "credentials = {:?}",
        path.to_str().expect("the path is text")
    );
    let daemon = publishing(settings, &server, &keys).start();
    let last = daemon.fill(3);
    wait_for_trouble(&daemon, "refuses the credentials of");
    write_credentials(&path, "origin:s3cret\n");
    wait_for_state(&daemon, "live");
    let options = ConnectOptions::with_user_and_password("origin".into(), "s3cret".into());
    let client = Client::with(&server, options);
    assert_eq!(ledger(&client.wait_for_row(STREAM, last)), [1, 2, 3]);
}

#[test]
fn credentials_that_are_wanted_are_asked_for() {
    let server = Server::with_jetstream_and(USERS);
    let daemon = publishing(Daemon::on_new_file(), &server, "").start();
    let said = wait_for_trouble(&daemon, "wants credentials");
    assert!(said.contains("publish.credentials"), "{said}");
}

#[test]
fn a_right_that_is_missing_is_named() {
    let server = Server::with_jetstream_and(USERS);
    let settings = Daemon::on_new_file();
    let path = settings.directory().join("nats.credentials");
    write_credentials(&path, "limited:s3cret\n");
    let keys = format!(
        "credentials = {:?}",
        path.to_str().expect("the path is text")
    );
    let daemon = publishing(settings, &server, &keys).start();
    let said = wait_for_trouble(&daemon, "lack a right");
    assert!(
        said.contains("$JS.API.STREAM.CREATE.walcast_remediation"),
        "{said}"
    );
}

#[test]
fn a_file_of_credentials_that_others_may_read_keeps_it_from_starting() {
    let server = Server::start();
    let settings = Daemon::on_new_file();
    let path = settings.directory().join("nats.credentials");
    fs::write(&path, "a:b").expect("credentials can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode can be set");
    let keys = format!(
        "credentials = {:?}",
        path.to_str().expect("the path is text")
    );
    let failed = publishing(settings, &server, &keys).try_start();
    let Err(failed) = failed else {
        panic!("it started")
    };
    assert!(
        failed.stderr.contains("publish.credentials: "),
        "{}",
        failed.stderr
    );
    assert!(failed.stderr.contains("0644"), "{}", failed.stderr);
}

#[test]
fn jetstream_that_is_off_is_named_and_waited_for() {
    let mut server = Server::with("");
    let daemon = publishing(Daemon::on_new_file(), &server, "").start();
    let last = daemon.fill(3);
    wait_for_trouble(&daemon, "enable JetStream");
    server.configure("jetstream { store_dir: \"STORE\" }");
    server.restart();
    let client = Client::of(&server);
    assert_eq!(ledger(&client.wait_for_row(STREAM, last)), [1, 2, 3]);
}

#[test]
fn a_server_without_room_is_told_what_it_lacks() {
    let server = Server::with("jetstream { store_dir: \"STORE\", max_file: 10MB }");
    let daemon = publishing(Daemon::on_new_file(), &server, "").start();
    let said = wait_for_trouble(&daemon, "publish.keep.bytes");
    assert!(said.contains("max_file_store"), "{said}");
}

#[test]
fn a_server_that_is_alone_keeps_no_replicas() {
    let server = Server::start();
    let daemon = publishing(Daemon::on_new_file(), &server, "replicas = 3").start();
    wait_for_trouble(&daemon, "publish.replicas = 1");
}

#[test]
fn a_server_that_takes_only_small_messages_is_named() {
    let server = Server::with_jetstream_and("max_payload: 64KB");
    let daemon = publishing(Daemon::on_new_file(), &server, "").start();
    wait_for_trouble(&daemon, "raise max_payload");
}

/// The rights that a block of the manual names, as the configuration of a server has them.
fn rights(block: &str) -> String {
    let (publish, subscribe) = block
        .trim()
        .strip_prefix("publish:")
        .and_then(|rest| rest.split_once("subscribe:"))
        .expect("a block names both");
    let list = |text: &str| {
        let subjects: Vec<String> = text
            .split_whitespace()
            .map(|one| format!("{one:?}"))
            .collect();
        subjects.join(", ")
    };
    format!(
        "permissions: {{ publish: [{}], subscribe: [{}] }}",
        list(publish),
        list(subscribe)
    )
}

/// The rights that the manual names, those of an origin and those of an edge.
fn rights_of_manual(manual: &str) -> (String, String) {
    let blocks = manual.split("```text").skip(1);
    let blocks: Vec<&str> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    (rights(blocks[0]), rights(blocks[1]))
}

/// The rights that the manual names for an edge.
pub fn rights_of_edges(manual: &str) -> String {
    rights_of_manual(manual).1
}

#[test]
fn the_rights_that_the_manual_names_are_enough() {
    let (origin, edge) = rights_of_manual(include_str!("../../docs/nats.md"));
    let server = Server::with_jetstream_and(&format!(
        "authorization {{ users: [
            {{ user: origin, password: s3cret, {origin} }}
            {{ user: edge, password: s3cret, {edge} }}
        ] }}"
    ));
    let write = |settings: &crate::common::Settings, name: &str| {
        let path = settings.directory().join("nats.credentials");
        write_credentials(&path, &format!("{name}:s3cret\n"));
        format!(
            "credentials = {:?}",
            path.to_str().expect("the path is text")
        )
    };
    let settings = Daemon::on_new_file();
    let keys = write(&settings, "origin");
    let origin = publishing(settings, &server, &keys).start();
    wait_for_state(&origin, "live");
    let last = origin.fill(1_000);
    let settings = Daemon::on_new_file();
    let keys = write(&settings, "edge");
    let toml = format!("[edge]\nnats = {:?}\n{keys}\n", server.url());
    let edge = settings.toml(toml).edge().start();
    edge.wait_for_head(last);
    // With another history, what is purged is purged by right.
    origin.database().replace_with(|other| {
        other.execute(crate::common::database::STOCK_SCHEMA);
        other.insert_many(2);
    });
    crate::common::wait_until("the edge has the other history", || {
        edge.epoch() == origin.epoch()
    });
    assert!(!origin.log().contains("stays for now"), "it was purged");
}
