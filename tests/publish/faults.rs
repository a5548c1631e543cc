//! Disks, credentials and versions that fail between an origin, its servers and its edges, with ledgers of what clients got.

use async_nats::{ConnectOptions, HeaderMap};

use crate::common::disks::{mount_small, own_mounts, resize};
use crate::common::random::Random;
use crate::common::{Daemon, Settings, assert_ledger, wait_until};
use crate::refusals::write_credentials;
use crate::server::Server;
use crate::setup::{Listener, STREAM, publishing, wait_for_state};
use crate::stored::Client;

fn edge_with(server: &Server, keys: &str) -> Settings {
    let toml = format!("[edge]\nnats = {:?}\n{keys}\n", server.url());
    Settings::on_new_file().toml(toml).edge()
}

/// Users of a server with JetStream: these, with one password.
fn users(names: &[&str]) -> String {
    let user = |name: &&str| format!("{{ user: {name}, password: s3cret }}");
    let users: Vec<String> = names.iter().map(user).collect();
    let users = users.join(", ");
    format!("jetstream {{ store_dir: \"STORE\" }}\nauthorization {{ users: [{users}] }}")
}

#[test]
fn credentials_that_are_revoked_stop_nothing_but_what_they_were_for() {
    let mut server = Server::with(&users(&["origin", "edge", "test"]));
    let directory = crate::common::directory();
    let credentials = |name: &str| {
        let path = directory.path().join(name);
        write_credentials(&path, &format!("{name}:s3cret\n"));
        (
            format!(
                "credentials = {:?}",
                path.to_str().expect("the path is text")
            ),
            path,
        )
    };
    let (for_origin, origins) = credentials("origin");
    let (for_edge, edges) = credentials("edge");
    let origin = publishing(Daemon::on_new_file(), &server, &for_origin).start();
    wait_for_state(&origin, "live");
    let edge = edge_with(&server, &for_edge).start();
    edge.wait_until_ready();
    let mut subscriber = edge.subscribe_live();
    subscriber.rows_to(origin.fill(100));
    server.reload_with(&users(&["origin", "test"]));
    edge.wait_for_log("refuses the credentials of");
    // The edge serves what it has, and the origin publishes on.
    let last = origin.fill(100);
    let test = ConnectOptions::with_user_and_password("test".into(), "s3cret".into());
    Client::with(&server, test).expect_rows_to(last);
    assert_eq!(edge.resume("since=earliest").0.replay().0.len(), 100);
    server.reload_with(&users(&["other", "test"]));
    wait_for_state(&origin, "failing");
    let last = origin.fill(100);
    server.reload_with(&users(&["other", "another", "test"]));
    write_credentials(&edges, "another:s3cret\n");
    write_credentials(&origins, "other:s3cret\n");
    subscriber.rows_to(last);
    assert_ledger(subscriber.ledger(), &origin.database().rows());
}

#[test]
#[ignore = "takes half a minute: tests/run faults"]
fn a_full_disk_of_the_server_delays_rows_and_loses_none() {
    if !own_mounts() {
        return;
    }
    let mut server = Server::at(
        "127.0.0.1",
        "jetstream { store_dir: \"STORE\", max_file_store: 1GB }",
    );
    let store = server.store();
    std::fs::create_dir_all(&store).expect("a directory can be made");
    mount_small(&store, 2048);
    server.run();
    let origin = publishing(Daemon::on_new_file(), &server, "").start();
    wait_for_state(&origin, "live");
    let edge = edge_with(&server, "").start();
    edge.wait_until_ready();
    let mut at_edge = Listener::of(&edge);
    let mut at_origin = origin.subscribe_live();
    let last = origin.fill(40_000);
    at_origin.rows_to(last);
    wait_for_state(&origin, "failing");
    resize(&store, 256 * 1024);
    // A server whose disk was full takes nothing more before it is started again.
    server.restart();
    at_edge.expect_all(&origin, last);
    let one = origin.database().insert("one");
    at_edge.expect_all(&origin, one);
    drop((origin, edge, server));
}

#[test]
fn what_a_newer_publisher_says_is_passed_over_or_told_and_never_joined() {
    let server = Server::start();
    let origin = publishing(Daemon::on_new_file(), &server, "").start();
    wait_for_state(&origin, "live");
    let last = origin.fill(10);
    let client = Client::of(&server);
    client.wait_for_row(STREAM, last);
    let edge = edge_with(&server, "").start();
    edge.wait_for_head(last);
    let mut subscriber = edge.subscribe_live();
    let settings = origin.stop();
    let newest = client.newest(STREAM);
    let publish = |change: &dyn Fn(&mut HeaderMap)| {
        let mut headers = HeaderMap::new();
        for name in ["Walcast-Kind", "Walcast-Epoch", "Walcast-Schema"] {
            let value = newest.headers.get(name).expect("a link has it");
            headers.insert(name, value.clone());
        }
        headers.insert("Walcast-New", "what nobody knew");
        change(&mut headers);
        client.publish("walcast.remediation", headers, newest.payload.clone());
    };
    let set = |headers: &mut HeaderMap, prev: i64, last: i64| {
        headers.insert("Walcast-Prev", prev.to_string());
        headers.insert("Walcast-First", last.to_string());
        headers.insert("Walcast-Last", last.to_string());
    };
    // A kind that nobody knew: what follows on it does not follow on what is here.
    publish(&|headers| {
        headers.insert("Walcast-Kind", "folded");
        set(headers, last, last + 5);
    });
    publish(&|headers| set(headers, last + 5, last + 6));
    let reset = subscriber.expect("reset");
    assert_eq!(reset["epoch"], edge.epoch());
    drop((settings, edge));
}

#[test]
fn clients_that_hop_between_edges_of_every_kind_have_every_row_once() {
    let seed = std::env::var("WALCAST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("WALCAST_SEED={seed}");
    let server = Server::start();
    let origin = publishing(Daemon::on_new_file(), &server, "").start();
    wait_for_state(&origin, "live");
    let upstream = format!("ws://{}", origin.address());
    let both = format!("upstream = {upstream:?}\nkeep = {{ bytes = \"64KiB\" }}");
    let edges = [
        edge_with(&server, "").start(),
        edge_with(&server, &both).start(),
        Settings::on_new_file().edge_of(&upstream).start(),
    ];
    for edge in &edges {
        edge.wait_until_ready();
    }
    let daemons = [&origin, &edges[0], &edges[1], &edges[2]];
    let epoch = origin.epoch();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (origin, epoch, done) = (&origin, &epoch, &done);
        let writing = scope.spawn(move || {
            let mut random = Random::new(seed);
            let mut last = 0;
            for _ in 0..60 {
                last = origin.database().insert_many(1 + random.below(60));
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            last
        });
        let hopping: Vec<_> = (1..=5)
            .map(|client| {
                scope.spawn(move || hop(&daemons, epoch, Random::new(seed + client), done))
            })
            .collect();
        let last = writing.join().expect("rows are written");
        for client in hopping {
            let (mut ids, since) = client.join().expect("a client has its rows");
            // What is left, from wherever.
            let (mut subscriber, hello) = edges[1].resume(&format!("since={since}&epoch={epoch}"));
            assert_eq!(hello["recovered"], true, "{hello}");
            if since < last {
                subscriber.next_row_or_frame();
                while subscriber
                    .ledger()
                    .last()
                    .is_none_or(|row| row["id"] != last)
                {
                    subscriber.next_row_or_frame();
                }
            }
            ids.extend(crate::common::ids(subscriber.ledger()));
            assert_eq!(ids, (1..=last).collect::<Vec<i64>>());
        }
    });
    wait_until("the edges are good", || {
        edges.iter().all(|edge| edge.get("/readyz").status == 200)
    });
}

/// Takes some rows here and some there, from where it was, until all are written. Gives the ids, and up to where.
fn hop(
    daemons: &[&Daemon; 4],
    epoch: &str,
    mut random: Random,
    done: &std::sync::atomic::AtomicBool,
) -> (Vec<i64>, i64) {
    let (mut ids, mut since) = (vec![], 0);
    while !done.load(std::sync::atomic::Ordering::Relaxed) {
        let daemon = daemons[random.below(4)];
        let (mut subscriber, hello) = daemon.resume(&format!("since={since}&epoch={epoch}"));
        assert_eq!(hello["recovered"], true, "since {since}: {hello}");
        let (mut rows, most) = (0, random.below(120));
        while rows < most {
            match subscriber.next_row_or_frame() {
                None => rows += 1,
                Some(frame) if frame["type"] == "live" => break,
                Some(_) => {}
            }
        }
        ids.extend(crate::common::ids(subscriber.ledger()));
        since = ids.last().copied().unwrap_or(since);
    }
    (ids, since)
}
