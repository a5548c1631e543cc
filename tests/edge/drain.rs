//! An edge that is stopped while another one stands beside it, behind one address.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use super::pair::edge_of;
use crate::common::nginx::Nginx;
use crate::common::{Daemon, STOCK_FEED, Subscriber, ids, wait_until};

/// nginx before several daemons.
struct Balancer {
    _nginx: Nginx,
    address: SocketAddr,
}

impl Balancer {
    /// `None`, said aloud, where there is no nginx.
    fn before(daemons: &[&Daemon], directory: &Path) -> Option<Balancer> {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = port.local_addr().expect("it is bound");
        drop(port);
        let servers = daemons.iter();
        let servers: String = servers
            .map(|daemon| format!("server {};", daemon.address()))
            .collect();
        let site = format!(
            "upstream edges {{ {servers} }}\n\
             server {{ listen {address}; location / {{ proxy_pass http://edges; proxy_http_version 1.1;\n\
             proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection upgrade; proxy_read_timeout 60s;\n\
             proxy_next_upstream error timeout http_503; }} }}\n"
        );
        let balancer = Balancer {
            _nginx: Nginx::start(directory, &site)?,
            address,
        };
        wait_until("nginx listens", || {
            TcpStream::connect(balancer.address).is_ok()
        });
        Some(balancer)
    }
}

#[test]
fn clients_of_an_edge_that_is_stopped_go_on_at_the_other_one() {
    const CLIENTS: usize = 12;
    let origin = Daemon::start_new();
    let edges = [edge_of(&origin).start(), edge_of(&origin).start()];
    for edge in &edges {
        edge.wait_until_ready();
    }
    let directory = crate::common::directory();
    let Some(balancer) = Balancer::before(&[&edges[0], &edges[1]], directory.path()) else {
        return;
    };
    let connect = |query: &str| {
        let mut subscriber = Subscriber::connect(balancer.address, STOCK_FEED, query);
        assert_eq!(subscriber.expect("hello")["recovered"], true);
        subscriber
    };
    let mut clients: Vec<(Subscriber, Vec<i64>)> =
        (0..CLIENTS).map(|_| (connect("since=0"), vec![])).collect();
    let before = origin.fill(10);
    for edge in &edges {
        edge.wait_for_head(before);
    }
    let [stopped, _other] = &edges;
    stopped.signal(libc::SIGTERM);
    stopped.wait_for_log("stopping");
    let last = origin.fill(10);
    let mut delays = vec![];
    for (subscriber, held) in &mut clients {
        loop {
            let frame = subscriber.next_row_or_frame();
            if let Some(frame) = frame.filter(|frame| frame["type"] == "goodbye") {
                delays.push(frame["reconnect_after_ms"].as_u64().expect("a time"));
                subscriber.expect_close(1012);
                held.extend(ids(subscriber.ledger()));
                let since = held.last().copied().unwrap_or(0);
                *subscriber = connect(&format!("since={since}&epoch={}", origin.epoch()));
            }
            if subscriber
                .ledger()
                .last()
                .is_some_and(|row| row["id"] == last)
            {
                break;
            }
        }
        held.extend(ids(subscriber.ledger()));
        assert_eq!(*held, (1..=last).collect::<Vec<_>>());
    }
    // Some of them were there, and they were not all told the same time.
    assert!(!delays.is_empty() && delays.len() < CLIENTS, "{delays:?}");
    let different: BTreeSet<_> = delays.iter().collect();
    assert!(different.len() > 1, "{delays:?}");
    // While it ends it does not answer any more.
    let [mut stopped, _other] = edges;
    stopped.wait_for_exit();
}
