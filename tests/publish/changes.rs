//! Feeds of changes, published and at edges that have them from streams.

use walcast::config::CaptureMode::{self, Keys};

use crate::common::{Daemon, Settings};
use crate::scenes::{Held, ORDERS, follow_live, settings};
use crate::server::Server;
use crate::setup::section;

/// An origin that publishes the changes of `orders`, captured so.
fn origin(server: &Server, mode: CaptureMode, filters: &[&str]) -> Daemon {
    settings(ORDERS, "orders", mode, filters, &section(server, "")).start()
}

/// An edge of the streams of this server, and of this daemon.
fn edge_of(server: &Server, upstream: &Daemon) -> Settings {
    Settings::on_new_file()
        .toml(format!("[edge]\nnats = {:?}\n", server.url()))
        .edge_of(format!("ws://{}", upstream.address()))
}

#[test]
fn a_change_reaches_a_subscriber_of_an_edge_by_the_stream() {
    let server = Server::start();
    let origin = origin(&server, Keys, &[]);
    let database = origin.database();
    database.execute("INSERT INTO orders VALUES (1, 'acme', 5, 'a'), (2, 'globex', 7, NULL)");
    let edge = edge_of(&server, &origin).start();
    edge.wait_until_ready();
    let (mut subscriber, mut held) = follow_live(&edge, "since=earliest");
    database.execute("UPDATE orders SET total = 6 WHERE id = 1");
    let change = subscriber.next_row();
    assert_eq!(
        (&change["op"], &change["after"]["total"]),
        (&"u".into(), &6.0.into())
    );
    held.apply(&change);
    assert_eq!(held, Held::of(&database, "SELECT * FROM orders", &["id"]));
}
