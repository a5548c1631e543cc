//! A daemon that publishes.

use serde_json::Value;

use crate::common::subscriber::{Received, row_of};
use crate::common::{Daemon, Settings, Subscriber, wait_until};
use crate::server::Server;

/// The stream of the stock feed.
pub const STREAM: &str = "walcast_remediation";

/// Room that any machine has: servers set aside what a stream may take.
const KEEP: &str = "keep.bytes = \"64MiB\"";

/// A daemon's settings with `[publish]` to this server; `keys` are further keys of it.
pub fn publishing(settings: Settings, server: &Server, keys: &str) -> Settings {
    settings.toml(format!("[feeds.remediation]\n{}", section(server, keys)))
}

/// A daemon on a new file that publishes to this server, once it does.
#[track_caller]
pub fn published(server: &Server) -> Daemon {
    let daemon = publishing(Daemon::on_new_file(), server, "").start();
    wait_for_state(&daemon, "live");
    daemon
}

/// `[publish]` to this server, with these further keys.
pub fn section(server: &Server, keys: &str) -> String {
    let keep = if keys.contains("keep") { "" } else { KEEP };
    format!("[publish]\nnats = {:?}\n{keep}\n{keys}\n", server.url())
}

/// How the stock feed is published, as the list of feeds has it.
pub fn state(daemon: &Daemon) -> Value {
    daemon.feed()["published"].clone()
}

#[track_caller]
pub fn wait_for_state(daemon: &Daemon, wanted: &str) {
    wait_until(&format!("publishing is {wanted}"), || {
        state(daemon)["state"] == wanted
    });
}

/// Waits until it is said that this is in the way.
#[track_caller]
pub fn wait_for_trouble(daemon: &Daemon, wanted: &str) -> String {
    let mut said = String::new();
    wait_until(&format!("the trouble is {wanted:?}"), || {
        said = state(daemon)["trouble"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        said.contains(wanted)
    });
    said
}

/// A metric of the stock feed's publishing.
#[track_caller]
pub fn counted(daemon: &Daemon, name: &str) -> f64 {
    daemon.metric(&format!(r#"walcast_publish_{name}{{feed="remediation"}}"#))
}

/// Failures for this reason.
#[track_caller]
pub fn failures(daemon: &Daemon, reason: &str) -> f64 {
    daemon.metric(&format!(
        r#"walcast_publish_failures_total{{feed="remediation",reason="{reason}"}}"#
    ))
}

/// A client of an edge, and up to where it has every row.
pub struct Listener {
    subscriber: Subscriber,
    reached: i64,
}

impl Listener {
    /// One of an edge that has no rows yet.
    pub fn of(edge: &Daemon) -> Listener {
        let subscriber = edge.subscribe_live();
        Listener {
            subscriber,
            reached: 0,
        }
    }

    /// Takes every row up to this one, each once and in order. It may take as long as it takes to elect another leader, and
    /// then some.
    #[track_caller]
    pub fn expect_all(&mut self, origin: &Daemon, last: i64) {
        for _ in 0..6 {
            while let Some(received) = self.subscriber.receive_within(crate::common::PATIENCE) {
                let Received::Text(text) = received else {
                    panic!("the edge closed the connection");
                };
                let frame = serde_json::from_str(&text).expect("a frame is JSON");
                let Some(row) = row_of(&frame) else {
                    assert_eq!(frame["type"], "heartbeat", "{frame}");
                    continue;
                };
                assert_eq!(crate::common::id(&row), self.reached + 1);
                self.reached += 1;
                if self.reached == last {
                    return;
                }
            }
        }
        let state = state(origin);
        panic!("row {last} did not come; the origin says {state}");
    }
}
