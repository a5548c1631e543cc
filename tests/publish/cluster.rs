//! A cluster of three servers, of which some die, stand still, or are cut off.

use std::net::TcpListener;

use crate::common::{Daemon, Settings, wait_until};
use crate::server::Server;
use crate::setup::{Listener, STREAM, wait_for_state};
use crate::stored::Client;

/// Three servers that know each other.
struct Cluster {
    servers: Vec<Server>,
}

/// Where the servers of a cluster are, and what runs each.
struct Place {
    host: String,
    run_by: Vec<String>,
}

impl Cluster {
    /// On loopback.
    fn start() -> Cluster {
        let places = (0..3).map(|_| Place {
            host: "127.0.0.1".to_owned(),
            run_by: vec![],
        });
        Cluster::at(places.collect())
    }

    fn at(places: Vec<Place>) -> Cluster {
        // Held until all are known, so that none is given twice.
        let held: Vec<TcpListener> = places
            .iter()
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free"))
            .collect();
        let ports = held
            .iter()
            .map(|port| port.local_addr().expect("it is bound").port());
        let ports: Vec<u16> = ports.collect();
        drop(held);
        let routes = places.iter().zip(&ports);
        let routes: Vec<String> = routes
            .map(|(place, port)| format!("\"nats://{}:{port}\"", place.host))
            .collect();
        let routes = routes.join(", ");
        let servers = places.iter().zip(&ports).enumerate();
        let mut servers: Vec<Server> = servers
            .map(|(number, (Place { host, run_by }, port))| {
                let config = format!(
                    "server_name: n{number}\njetstream {{ store_dir: \"STORE\" }}\n\
                     cluster {{ name: test, listen: \"{host}:{port}\", routes: [{routes}] }}"
                );
                let run_by: Vec<&str> = run_by.iter().map(String::as_str).collect();
                Server::at(host, &config).run_by(&run_by)
            })
            .collect();
        for server in &mut servers {
            server.run();
        }
        Cluster { servers }
    }

    /// The servers, as a configuration names them.
    fn urls(&self) -> String {
        let urls: Vec<String> = self.servers.iter().map(Server::url).collect();
        format!("{urls:?}")
    }

    /// An origin that publishes to all of them, once it does, and an edge that is ready.
    fn pair(&self) -> (Daemon, Daemon) {
        let origin = Daemon::on_new_file()
            .toml(format!(
                "[feeds.remediation]\n[publish]\nnats = {}\nreplicas = 3\nkeep.bytes = \"64MiB\"\n",
                self.urls()
            ))
            .start();
        wait_for_state(&origin, "live");
        let toml = format!("[edge]\nnats = {}\n", self.urls());
        let edge = Settings::on_new_file().toml(toml).edge().start();
        edge.wait_until_ready();
        (origin, edge)
    }

    /// The number of the server that leads the stream of the stock feed, as those say that are not among `without`.
    fn leader(&self, without: &[usize]) -> usize {
        let mut leader = None;
        wait_until("the stream has a leader", || {
            let asked = (0..3).find(|server| !without.contains(server));
            let client = Client::of(&self.servers[asked.expect("one is left")]);
            leader = client
                .leader(STREAM)
                .and_then(|name| name[1..].parse().ok());
            leader.is_some_and(|leader| !without.contains(&leader))
        });
        leader.expect("it was found")
    }
}

#[test]
fn a_leader_that_is_killed_costs_clients_of_edges_no_row() {
    let mut cluster = Cluster::start();
    let (origin, edge) = cluster.pair();
    let mut listener = Listener::of(&edge);
    let first = origin.fill(100);
    listener.expect_all(&origin, first);
    let leader = cluster.leader(&[]);
    cluster.servers[leader].kill();
    let last = origin.fill(100);
    listener.expect_all(&origin, last);
    cluster.servers[leader].run();
    let one = origin.database().insert("one");
    listener.expect_all(&origin, one);
}

#[test]
#[ignore = "takes half a minute: tests/run faults"]
fn a_leader_that_stands_still_costs_clients_of_edges_no_row() {
    let cluster = Cluster::start();
    let (origin, edge) = cluster.pair();
    let mut listener = Listener::of(&edge);
    let first = origin.fill(100);
    listener.expect_all(&origin, first);
    let leader = cluster.leader(&[]);
    cluster.servers[leader].freeze();
    let last = origin.fill(100);
    listener.expect_all(&origin, last);
    cluster.servers[leader].thaw();
    let one = origin.database().insert("one");
    listener.expect_all(&origin, one);
}

#[test]
#[ignore = "takes half a minute: tests/run faults"]
fn a_cluster_that_is_killed_as_a_whole_goes_on_where_it_was() {
    let mut cluster = Cluster::start();
    let (origin, edge) = cluster.pair();
    let mut listener = Listener::of(&edge);
    let first = origin.fill(100);
    listener.expect_all(&origin, first);
    for server in &mut cluster.servers {
        server.kill();
    }
    wait_for_state(&origin, "failing");
    let mut at_origin = origin.subscribe_live();
    let last = origin.fill(1000);
    at_origin.rows_to(last);
    for server in &mut cluster.servers {
        server.run();
    }
    listener.expect_all(&origin, last);
    // One after the other, too, as an upgrade does it.
    for server in &mut cluster.servers {
        server.restart();
        let last = origin.fill(10);
        listener.expect_all(&origin, last);
    }
}

/// Three servers in network namespaces of their own, behind a switch in another, in which this thread is from here on, with all
/// that it starts.
struct Network {
    names: Vec<String>,
}

impl Network {
    /// `None`, said aloud, where the system does not allow it.
    fn make() -> Option<Network> {
        let id = std::process::id();
        let switch = format!("wc{id}s");
        let mut network = Network { names: vec![] };
        let made = network.add(
            &switch,
            "ip link add br0 type bridge && ip link set br0 up && ip link set lo up",
        );
        if !made || !enter(&switch) {
            eprintln!("skipped: no network namespaces of its own");
            return None;
        }
        run("ip addr add 10.77.0.1/24 dev br0").then_some(())?;
        for server in 0..3 {
            let name = format!("wc{id}n{server}");
            assert!(network.add(&name, "ip link set lo up"));
            assert!(run(&format!(
                "ip link add v{server} type veth peer name eth0 netns {name} && ip link set v{server} master br0 up && \
                 ip -n {name} addr add 10.77.0.1{server}/24 dev eth0 && ip -n {name} link set eth0 up"
            )));
        }
        Some(network)
    }

    fn add(&mut self, name: &str, then: &str) -> bool {
        if !run(&format!("ip netns add {name}")) {
            return false;
        }
        self.names.push(name.to_owned());
        run(&format!("ip netns exec {name} sh -c '{then}'"))
    }

    fn places(&self) -> Vec<Place> {
        let servers = self.names[1..].iter().enumerate();
        let place = |(number, name): (usize, &String)| Place {
            host: format!("10.77.0.1{number}"),
            run_by: ["ip", "netns", "exec", name].map(str::to_owned).to_vec(),
        };
        servers.map(place).collect()
    }

    fn set(&self, server: usize, state: &str) {
        assert!(run(&format!("ip link set v{server} {state}")));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            run(&format!("ip netns del {name}"));
        }
    }
}

fn run(command: &str) -> bool {
    let done = std::process::Command::new("sh")
        .args(["-c", command])
        .output();
    done.is_ok_and(|done| done.status.success())
}

/// Has this thread, and what it starts, in a network namespace.
fn enter(name: &str) -> bool {
    use std::os::fd::AsRawFd as _;
    let Ok(file) = std::fs::File::open(format!("/run/netns/{name}")) else {
        return false;
    };
    // SAFETY: a plain system call on a descriptor that is open until after it.
    unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) == 0 }
}

#[test]
#[ignore = "takes half a minute: tests/run faults"]
fn a_leader_that_is_cut_off_costs_clients_of_edges_no_row() {
    let Some(network) = Network::make() else {
        return;
    };
    let cluster = Cluster::at(network.places());
    let (origin, edge) = cluster.pair();
    let mut listener = Listener::of(&edge);
    let first = origin.fill(100);
    listener.expect_all(&origin, first);
    let leader = cluster.leader(&[]);
    network.set(leader, "down");
    let last = origin.fill(100);
    listener.expect_all(&origin, last);
    let next = cluster.leader(&[leader]);
    assert_ne!(next, leader);
    network.set(leader, "up");
    let one = origin.database().insert("one");
    listener.expect_all(&origin, one);
    // Of all three, and with them nobody can store anything.
    for server in 0..3 {
        network.set(server, "down");
    }
    let last = origin.fill(100);
    for server in 0..3 {
        network.set(server, "up");
    }
    listener.expect_all(&origin, last);
    drop((origin, edge));
    drop(cluster);
}
