//! Lines, disks and credentials that fail between an origin and its edges, with a ledger of what clients got.

use std::fs;

use super::line::Line;
use super::pair::{epoch, replayed, url};
use crate::common::disks::{mount_small, own_mounts, resize};
use crate::common::secrets::add_token;
use crate::common::settings::program;
use crate::common::{Daemon, Settings, Subscriber, assert_ledger, wait_until};

#[test]
fn an_edge_is_fed_over_tls_with_the_origins_own_certificate() {
    let origin = Settings::on_new_file().over_tls().start();
    let head = origin.fill(1000);
    let directory = crate::common::directory();
    let authority = origin.settings().authority();
    let ca = authority.publish(directory.path(), "ca.pem");
    let upstream = format!("wss://localhost:{}", origin.own_address().port());
    let edge = Settings::on(directory.path())
        .edge_of(&upstream)
        .option("--ca", &ca)
        .start();
    edge.wait_for_head(head);
    let (mut subscriber, _) = replayed(&edge, "since=earliest");
    let id = origin.database().insert("after");
    assert_eq!(subscriber.next_row()["id"], id);
    assert_ledger(subscriber.ledger(), &origin.database().rows());
    assert_eq!(epoch(&edge), epoch(&origin));
    // Whom nobody vouches for is not taken for the origin.
    let stranger = crate::common::authority::Authority::new("another");
    let other = stranger.publish(directory.path(), "other.pem");
    let mistrusting = Settings::on_new_file()
        .edge_of(&upstream)
        .option("--ca", other)
        .start();
    mistrusting.wait_for_log("no authority that is known here has signed its certificate");
    let listed = mistrusting.get("/api/feeds").json();
    assert_eq!(listed["feeds"], serde_json::json!([]), "{listed}");
}

#[test]
fn a_slow_line_delays_an_edge_and_nobody_else() {
    const ROWS: usize = 4000;
    let origin = Daemon::start_new();
    let line = Line::slow_to(origin.address());
    let edge = Settings::on_new_file()
        .edge_of(format!("ws://{}", line.address))
        .start();
    edge.wait_until_ready();
    let mut at_edge = edge.subscribe_live();
    let mut at_origin = origin.subscribe_live();
    let head = origin.fill(ROWS);
    at_origin.rows_to(head);
    at_edge.rows_to(head);
    assert_ledger(at_edge.ledger(), &origin.database().rows());
    // Cut in the middle of rows, with nothing that says so, and mended.
    let before = line.passed();
    let head = origin.fill(ROWS);
    wait_until("some of it has passed", || line.passed() > before + 50_000);
    line.cut();
    at_origin.rows_to(head);
    line.mend();
    at_edge.rows_to(head);
    assert_ledger(at_edge.ledger(), &origin.database().rows());
}

#[test]
fn a_full_disk_delays_an_edge_which_says_so_and_loses_nothing() {
    if !own_mounts() {
        return;
    }
    let origin = Daemon::start_new();
    let directory = crate::common::directory();
    let small = directory.path().join("small");
    fs::create_dir(&small).expect("a directory can be made");
    mount_small(&small, 1024);
    let edge = Settings::on(directory.path())
        .database(small.join("spool.db"))
        .edge_of(url(&origin))
        .start();
    edge.wait_until_ready();
    let mut subscriber = edge.subscribe_live();
    let head = origin.fill(20_000);
    edge.wait_for_log("can't be written");
    wait_until("the edge says that it lags", || {
        edge.get("/readyz").json()["edge"]["trouble"].is_string()
    });
    assert!(edge.feed()["head"].as_i64() < Some(head));
    resize(&small, 64 * 1024);
    subscriber.rows_to(head);
    assert_ledger(subscriber.ledger(), &origin.database().rows());
    edge.wait_for_log("the spool can be written again");
    let one = origin.database().insert("one");
    assert_eq!(subscriber.next_row()["id"], one);
}

#[test]
fn an_edge_whose_token_is_revoked_serves_what_it_has_until_it_is_given_another() {
    const ORDERS: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY, item TEXT)";
    let directory = crate::common::directory();
    let tokens = directory.path().join("tokens.toml");
    let token = add_token(&tokens, &["edge", "--edge", "--feed", "orders"]);
    let counter = add_token(&tokens, &["counter", "--metrics"]);
    let origin = Settings::on(directory.path())
        .with_tables(ORDERS)
        .metrics_by(counter)
        .toml(format!("[auth]\ntokens = {tokens:?}\n[feeds.orders]\n"))
        .start();
    let insert = |from: i64, upto: i64| {
        origin.database().execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {upto})
             INSERT INTO orders SELECT i, 'an item' FROM n"
        ));
    };
    insert(1, 100);
    let at_edge = crate::common::directory();
    let token_file = at_edge.path().join("upstream.token");
    fs::write(&token_file, token).expect("a token can be written");
    let edge = Settings::on(at_edge.path())
        .edge_of(url(&origin))
        .option("--token-file", &token_file)
        .start();
    edge.wait_until_ready();
    let mut subscriber = edge.subscribe_to("/ws/orders", "since=earliest");
    subscriber.expect("hello");
    rows_to(&mut subscriber, 100);
    let revoked = program()
        .args(["token", "revoke", "edge", "--tokens"])
        .arg(&tokens)
        .output()
        .expect("walcast can be run");
    assert!(revoked.status.success());
    edge.wait_for_log("the token was revoked");
    insert(101, 300);
    let mut other = edge.subscribe_to("/ws/orders", "since=earliest");
    other.expect("hello");
    assert_eq!(other.replay().0, (1..=100).collect::<Vec<_>>());
    let token = add_token(&tokens, &["edge2", "--edge", "--feed", "orders"]);
    fs::write(&token_file, token).expect("a token can be written");
    rows_to(&mut subscriber, 300);
    assert_eq!(
        crate::common::ids(subscriber.ledger()),
        (1..=300).collect::<Vec<_>>()
    );
}

/// Takes rows up to this id, and what is said between them.
fn rows_to(subscriber: &mut Subscriber, last: i64) {
    while subscriber
        .ledger()
        .last()
        .is_none_or(|row| row["id"] != last)
    {
        subscriber.next_row_or_frame();
    }
}
