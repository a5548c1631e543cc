//! `[edge]`: the daemon serves the feeds of another one.

use std::path::PathBuf;
use std::time::Duration;

use super::declaration::Declaration;
use super::layers::Layers;
use super::setting::settings;
use super::written::WrittenValue;
use super::{Config, feeds, kinds, parse, publish};
use crate::address::{DaemonUrl, DaemonUrlError, NatsServer};

settings! {
    /// What a daemon is that serves the feeds of another one, its origin.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct EdgeRules {
        /// The origin: a daemon whose feeds this one serves, or another edge.
        "edge.upstream" upstream: Option<DaemonUrl> = None,
            url().optional("the feeds are of a database of one's own");

        /// NATS servers of one cluster, to which the origin publishes: the feeds are had from there, and of `upstream` is asked
        /// what the streams do not have: the table as it is, of a feed of changes.
        "edge.nats" nats: Vec<NatsServer> = Vec::new(),
            kinds::nats_servers().unless_empty("the feeds are had from edge.upstream, if that is named");

        /// The file of what is presented to NATS servers.
        "edge.credentials" credentials: Option<PathBuf> = None,
            kinds::path().optional("nothing is presented");

        /// What the origin's `publish.stream_prefix` is.
        "edge.stream_prefix" stream_prefix: String = "walcast".to_owned(),
            kinds::text().read_by(publish::stream_prefix);

        /// The file with the token that the origin asks for; without it the variable WALCAST_TOKEN is read.
        "edge.token_file" token_file: Option<PathBuf> = None,
            kinds::path().optional("the variable WALCAST_TOKEN, if it is set");

        /// The PEM file of the authorities that vouch for the origin.
        "edge.ca" ca: Option<PathBuf> = None,
            kinds::path().optional("those of the system");

        /// The file in which what came from the origin is kept. It can be deleted at any time.
        "edge.spool" spool: Option<PathBuf> = None,
            kinds::path().optional("a file named after the origin, in state_dir");

        /// How large the spool may become; the oldest rows go.
        "edge.keep.bytes" keep_bytes: Option<u64> = None,
            kinds::size().optional("as large as what comes");

        /// How long rows are kept after they came.
        "edge.keep.age" keep_age: Option<Duration> = None,
            kinds::age().optional("for ever");
    }
}

impl EdgeRules {
    /// Returns whether there is an origin.
    pub fn is_one(&self) -> bool {
        self.upstream.is_some() || !self.nats.is_empty()
    }
}

fn url() -> Declaration<DaemonUrl> {
    let read = |value: &_| {
        let text = parse::text(value)?;
        let url: DaemonUrl = text.parse().map_err(|e| match e {
            // Its own words name a feed's path as well, which is one too much here.
            DaemonUrlError::Scheme => {
                "give a URL of http, https, ws or wss, e.g. wss://feeds.example.com".to_owned()
            }
            e => e.to_string(),
        })?;
        let names_feed = ["/ws/", "/sse/", "/api/"];
        if names_feed.iter().any(|path| url.path().starts_with(path)) || !url.query().is_empty() {
            return Err(
                "names more than the daemon; write e.g. wss://feeds.example.com".to_owned(),
            );
        }
        Ok(url)
    };
    Declaration::new("URL", read, |url: &DaemonUrl| {
        WrittenValue::Text(url.to_string())
    })
}

/// What an edge is where nothing else is said: it serves what its spool holds, under its origin's names.
pub(super) fn apply(layers: &mut Layers<'_>, config: &mut Config) {
    let file = match (&config.edge.upstream, config.edge.nats.first()) {
        (_, Some(server)) => file_of_streams(server, &config.edge.stream_prefix),
        (Some(upstream), None) => file_of(upstream),
        (None, None) => return,
    };
    if !config.edge.nats.is_empty() && !cfg!(feature = "nats") {
        let place = layers.place("edge.nats");
        let problem = "edge.nats: this walcast was built without NATS; build it with `--features nats`, or use edge.upstream";
        layers.problem(&place, problem);
    }
    for (key, remedy) in [
        (
            "database",
            "an edge serves its spool; name that with edge.spool, or leave it out",
        ),
        (
            "feeds",
            "the feeds of an edge are its origin's; leave it out",
        ),
    ] {
        let is_said = match key {
            "feeds" => layers.node("feeds").is_some(),
            key => layers.is_said(key),
        };
        if is_said {
            let place = layers.place(key);
            layers.problem(&place, &format!("{key}: {remedy}"));
        }
    }
    config.database = match (&config.edge.spool, &config.state_dir) {
        (Some(spool), _) => spool.clone(),
        (None, Some(directory)) => directory.join(file),
        (None, None) => file.into(),
    };
}

/// The name of the spool of an origin.
fn file_of(upstream: &DaemonUrl) -> String {
    named(&format!("{}{}", upstream.address(), upstream.path()))
}

/// The name of the spool of streams.
fn file_of_streams(server: &NatsServer, prefix: &str) -> String {
    named(&format!("{}_{prefix}", server.authority()))
}

fn named(place: &str) -> String {
    let plain = |c: char| match c {
        c if feeds::is_name(&c.to_string()) || c == '.' || c == '-' => c,
        _ => '_',
    };
    format!("edge-{}.db", place.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_is_named_after_its_origin() {
        let file = |url: &str| file_of(&url.parse().unwrap());
        assert_eq!(
            file("wss://feeds.example.com/eu"),
            "edge-feeds.example.com_443_eu.db"
        );
        assert_eq!(file("ws://[::1]:8010"), "edge-___1__8010.db");
    }
}
