//! The directory in which the identity of each history is kept across restarts.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use crate::config::Config;

/// The configuration with a state directory that can be written, or none.
pub(super) fn usable(mut config: Config) -> Config {
    let Some(directory) = &config.state_dir else {
        tracing::warn!("{}", no_state("none is configured"));
        return config;
    };
    if let Err(e) = writable(directory) {
        tracing::warn!(
            "{}",
            no_state(&format!("{} can't be written: {e}", directory.display()))
        );
        config.state_dir = None;
    }
    config
}

fn no_state(why: &str) -> String {
    format!(
        "no state directory ({why}): the identity of each history is derived from the file, so a restore in place \
         while the daemon is down goes unnoticed; set `state_dir` to a directory the daemon may write"
    )
}

fn writable(directory: &PathBuf) -> std::io::Result<()> {
    let mut made = std::fs::DirBuilder::new();
    made.recursive(true).mode(0o700).create(directory)?;
    let probe = directory.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(&probe)
}
