//! An origin and edges of it.

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
