//! A daemon with a sink.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::common::{Daemon, Settings, wait_until};

/// A secret of 32 bytes.
pub const SECRET: &str = "whsec_d2FsY2FzdCB0ZXN0cyBzaWduIHdpdGggdGhpcyEhISE=";

/// Writes a file of secrets as `walcast` wants them.
pub fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).expect("a secret can be written");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, mode).expect("a mode can be set");
}

/// A daemon's settings with a sink `billing` that posts the stock feed to `url`; `keys` are further keys of it.
pub fn with_sink(settings: Settings, url: &str, keys: &str) -> Settings {
    let secret = settings.directory().join("billing.secret");
    write_secret(&secret, SECRET);
    settings.toml(format!(
        "[feeds.remediation]\n[sinks.billing]\nfeed = \"remediation\"\nwebhook = {url:?}\nsecret_file = {:?}\n{keys}\n",
        secret.to_str().expect("the path is text")
    ))
}

/// The sink's state as the list of feeds has it.
pub fn state(daemon: &Daemon) -> Value {
    daemon.feed()["sinks"][0].clone()
}

#[track_caller]
pub fn wait_for_state(daemon: &Daemon, wanted: &str) {
    wait_until(&format!("the sink is {wanted}"), || {
        state(daemon)["state"] == wanted
    });
}

/// A metric of the sink.
#[track_caller]
pub fn counted(daemon: &Daemon, name: &str) -> f64 {
    daemon.metric(&format!(r#"walcast_sink_{name}{{sink="billing"}}"#))
}

/// Failures for this reason.
#[track_caller]
pub fn failures(daemon: &Daemon, reason: &str) -> f64 {
    // Labels stand in the order of their names.
    daemon.metric(&format!(
        r#"walcast_sink_failures_total{{reason="{reason}",sink="billing"}}"#
    ))
}
