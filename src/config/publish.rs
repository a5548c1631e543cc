//! `[publish]`: where feeds are published for other machines.

use std::path::PathBuf;
use std::time::Duration;

use super::layers::Layers;
use super::setting::settings;
use super::written::WrittenValue;
use super::{Config, kinds, parse};
use crate::address::NatsServer;

settings! {
    /// How feeds are published to NATS JetStream.
    #[derive(Debug, Clone, PartialEq)]
    pub struct PublishRules {
        /// Servers of one cluster.
        "publish.nats" servers: Vec<NatsServer> = Vec::new(),
            kinds::nats_servers().required("nats = [\"nats://127.0.0.1:4222\"]");

        /// The file of what is presented there.
        "publish.credentials" credentials: Option<PathBuf> = None,
            kinds::path().optional("nothing is presented");

        /// The PEM file of the authorities that vouch for the servers; with it TLS is demanded.
        "publish.tls_ca" tls_ca: Option<PathBuf> = None,
            kinds::path().optional("those of the system");

        /// What names of streams and subjects begin with.
        "publish.stream_prefix" stream_prefix: String = "walcast".to_owned(),
            kinds::text().read_by(stream_prefix);

        /// How many servers keep each stream.
        "publish.replicas" replicas: usize = 1,
            kinds::count().read_by(replicas);

        /// Whether an empty stream begins with the first row of the table, rather than with those that are committed from
        /// then on.
        "publish.backfill" backfill: bool = true,
            kinds::boolean();
    }
    parts {
        /// What each stream keeps.
        keep: KeepRules,
    }
}

settings! {
    /// How much a stream keeps: the oldest messages beyond either go.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeepRules {
        /// Most bytes.
        "publish.keep.bytes" bytes: u64 = 4 << 30,
            kinds::size().read_by(kept_bytes);

        /// Most time.
        "publish.keep.age" age: Duration = Duration::from_secs(7 * 24 * 60 * 60),
            kinds::age();
    }
}

/// Fewer would not hold a few full messages.
const LEAST_KEPT: u64 = 1 << 20;

fn kept_bytes(value: &WrittenValue) -> Result<u64, String> {
    match parse::size(value)? {
        bytes if bytes < LEAST_KEPT => Err("is too little for a stream; at least 1MiB".to_owned()),
        bytes => Ok(bytes),
    }
}

/// JetStream has up to five replicas, and an even number of them is no safer than one fewer.
fn replicas(value: &WrittenValue) -> Result<usize, String> {
    match parse::count(value)? {
        count @ (1 | 3 | 5) => Ok(count),
        _ => Err("is not a number of replicas; write 1, 3 or 5".to_owned()),
    }
}

pub(super) fn stream_prefix(value: &WrittenValue) -> Result<String, String> {
    let prefix = parse::text(value)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match prefix.len() <= 64 && prefix.chars().all(fits) {
        true => Ok(prefix),
        false => Err(
            "is not what names of streams can begin with; use letters, digits, _ and -, at most 64 of them"
                .to_owned(),
        ),
    }
}

/// Refuses what this program was built without.
pub(super) fn check(layers: &mut Layers<'_>, config: &Config) {
    if config.publish.is_some() && !cfg!(feature = "nats") {
        let place = layers.place("publish.nats");
        let problem = "publish: this walcast was built without NATS; build it with `--features nats`, or remove [publish]";
        layers.problem(&place, problem);
    }
}
