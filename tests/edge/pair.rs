//! An origin and edges of it.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::common::secrets::add_token;
use crate::common::{Daemon, Settings, Subscriber};

/// The URL of a daemon as its edges name it.
pub fn url(daemon: &Daemon) -> String {
    format!("ws://{}", daemon.address())
}

/// An edge of this daemon, in a directory of its own.
pub fn edge_of(origin: &Daemon) -> Settings {
    Settings::on_new_file().edge_of(url(origin))
}

/// A daemon on a new file, and an edge that has what is there.
pub fn pair() -> (Daemon, Daemon) {
    let origin = Daemon::start_new();
    let edge = edge_of(&origin).start();
    edge.wait_until_ready();
    (origin, edge)
}

/// What identifies a history, of the stock feed.
pub fn epoch(daemon: &Daemon) -> String {
    let epoch = daemon.feed()["epoch"].clone();
    epoch.as_str().expect("an epoch is text").to_owned()
}

/// A resumable subscriber that takes rows up to `live`, and the ids it was given.
#[track_caller]
pub fn replayed(daemon: &Daemon, query: &str) -> (Subscriber, Vec<i64>) {
    let (mut subscriber, _) = daemon.resume(query);
    let (ids, _) = subscriber.replay();
    (subscriber, ids)
}

/// An origin and an edge of it that ask for tokens, with one feed, whose rows are scoped by the column `customer`.
pub struct GuardedPair {
    pub origin: Daemon,
    pub edge: Daemon,
    /// The token by which the edge is fed.
    pub edge_token: String,
    /// A token for the rows of one customer.
    pub acme: String,
    /// A token that says nothing of customers.
    pub unlimited: String,
    _places: [TempDir; 2],
}

/// Starts one with this table `orders`; `more` is the rest of the edge's configuration.
pub fn guarded_pair(table: &str, more: &str) -> GuardedPair {
    let directory = crate::common::directory();
    let tokens = directory.path().join("tokens.toml");
    let edge_token = add_token(&tokens, &["edge", "--edge", "--feed", "orders"]);
    let acme = ["acme", "--feed", "orders", "--where", "customer=acme"];
    let acme = add_token(&tokens, &acme);
    let unlimited = add_token(&tokens, &["unlimited", "--feed", "orders"]);
    let counter = add_token(&tokens, &["counter", "--metrics"]);
    let auth = format!("[auth]\ntokens = {tokens:?}\n");
    let origin = Settings::on(directory.path())
        .with_tables(table)
        .metrics_by(&counter)
        .toml(format!(
            "{auth}[feeds.orders]\nexclude = [\"customer\"]\nscope = {{ customer = \"claim:customer\" }}\n"
        ))
        .start();
    let at_edge = crate::common::directory();
    let edge = Settings::on(at_edge.path())
        .edge_of(url(&origin))
        .option("--token-file", token_file(&at_edge, &edge_token))
        .metrics_by(&counter)
        .toml(format!("{auth}{more}"))
        .start();
    edge.wait_until_ready();
    GuardedPair {
        origin,
        edge,
        edge_token,
        acme,
        unlimited,
        _places: [directory, at_edge],
    }
}

/// The file from which an edge has its token, with this one in it.
pub fn token_file(directory: &TempDir, token: &str) -> PathBuf {
    let file = directory.path().join("upstream.token");
    std::fs::write(&file, token).expect("a token can be written");
    file
}
