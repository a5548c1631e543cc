//! What a configuration comes to.

mod changes;
mod documents;
mod errors;
mod feeds;
mod layers;
mod values;

use std::fs;
use std::path::PathBuf;

use super::resolve::Resolved;
use super::*;

/// Loads `toml` as the file `walcast.toml` below the flags in `args`, in an empty environment.
fn load_with(toml: &str, mut args: ServeArgs) -> Result<Resolved, String> {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("walcast.toml");
    fs::write(&file, toml).expect("write the file");
    args.config = Some(file.to_str().expect("UTF-8").to_owned());
    let prefix = format!("{}/", directory.path().display());
    Resolved::load(&args, &|_| None).map_err(|error| error.to_string().replace(&prefix, ""))
}

fn load(toml: &str) -> Result<Config, String> {
    load_with(toml, ServeArgs::default()).map(|resolved| resolved.config)
}

fn ok(toml: &str) -> Config {
    load(toml).unwrap_or_else(|error| panic!("{toml}\n{error}"))
}

/// Asserts that `toml` is refused with one problem, which holds all of `parts`.
fn refused(toml: &str, parts: &[&str]) {
    let error = load(toml).expect_err(toml);
    assert_eq!(error.lines().count(), 1, "{toml}\n{error}");
    for part in parts {
        assert!(error.contains(part), "{toml}\nlacks {part:?}: {error}");
    }
}

fn defaults() -> Config {
    Resolved::load(&ServeArgs::default(), &|_| None)
        .expect("defaults are valid")
        .config
}

#[test]
fn nothing_said_is_the_stock_feed_on_loopback() {
    let config = defaults();
    assert_eq!(config.database, PathBuf::from("./walcast.db"));
    assert_eq!(
        config.listen,
        [Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8010)))]
    );
    assert_eq!(config.feeds, [FeedConfig::stock()]);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(
        (
            &config.auth.anonymous,
            config.log.level.as_str(),
            config.state_dir.as_ref()
        ),
        (&Anonymous::Nothing, "info", None)
    );
    let stock = &config.feeds[0];
    assert_eq!(stock.ws, ["/ws/remediation"]);
    assert_eq!(stock.history, ["/ops/remediate/history"]);
    assert_eq!(
        (stock.message_type.as_str(), stock.message_body.as_str()),
        ("remediation_event", "event")
    );
    assert_eq!(stock.truncate, [("details".to_owned(), 500)]);
    assert!(stock.create && !stock.ingest);
    assert_eq!(ok(""), config);
}
