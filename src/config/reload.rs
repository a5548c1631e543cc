//! What a reload may change while the daemon runs.

use super::{Config, FeedConfig};

/// What comes of a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// The configuration from now on: the running one, with what was applied.
    pub config: Config,
    /// Keys of the file whose new value holds from now on.
    pub applied: Vec<String>,
    /// Keys of the file whose new value needs a restart.
    pub refused: Vec<String>,
}

impl Config {
    /// Takes over from `new` what can change while running: who may come in, connection limits, time limits of clients and log level.
    /// Everything else is built into sockets, threads and memory at start.
    pub fn reloaded_from(&self, new: &Self) -> Reload {
        let mut config = self.clone();
        let mut applied = Vec::new();
        let (access, next) = (&mut config.access, &new.access);
        apply("origins", &mut access.origins, &next.origins, &mut applied);
        apply("hosts", &mut access.hosts, &next.hosts, &mut applied);
        apply(
            "trusted_proxies",
            &mut access.trusted_proxies,
            &next.trusted_proxies,
            &mut applied,
        );
        apply(
            "frame_ancestors",
            &mut access.frame_ancestors,
            &next.frame_ancestors,
            &mut applied,
        );
        let (limits, next) = (&mut config.limits, &new.limits);
        apply(
            "max_connections",
            &mut limits.max_connections,
            &next.max_connections,
            &mut applied,
        );
        apply(
            "max_connections_per_ip",
            &mut limits.max_connections_per_ip,
            &next.max_connections_per_ip,
            &mut applied,
        );
        apply(
            "write_timeout",
            &mut limits.write_timeout,
            &next.write_timeout,
            &mut applied,
        );
        apply(
            "drain_timeout",
            &mut limits.drain_timeout,
            &next.drain_timeout,
            &mut applied,
        );
        apply(
            "log.level",
            &mut config.log_level,
            &new.log_level,
            &mut applied,
        );
        let refused = config.differences(new);
        Reload {
            config,
            applied,
            refused,
        }
    }

    /// The keys in which two configurations differ, of those that only a start reads.
    fn differences(&self, new: &Self) -> Vec<String> {
        let (limits, next) = (&self.limits, &new.limits);
        let (auth, new_auth) = (&self.auth, &new.auth);
        let fixed = [
            ("database", self.database != new.database),
            ("listen", self.listen != new.listen),
            ("metrics.listen", self.metrics_listen != new.metrics_listen),
            ("journal_mode", self.journal_mode != new.journal_mode),
            ("state_dir", self.state_dir != new.state_dir),
            ("watch", self.watch != new.watch),
            ("poll_interval", limits.poll_interval != next.poll_interval),
            ("replays", limits.replays != next.replays),
            ("max_row_bytes", limits.max_row_bytes != next.max_row_bytes),
            ("ring.rows", limits.ring_rows != next.ring_rows),
            ("ring.bytes", limits.ring_bytes != next.ring_bytes),
            ("history", limits.history != next.history),
            (
                "auth.anonymous",
                (auth.anonymous, &auth.anonymous_part)
                    != (new_auth.anonymous, &new_auth.anonymous_part),
            ),
            ("auth.tokens", auth.tokens != new_auth.tokens),
            ("auth.query_token", auth.query_token != new_auth.query_token),
            ("auth.cookie", auth.cookie != new_auth.cookie),
            ("auth.jwt", auth.jwt != new_auth.jwt),
            ("auth.proxy", auth.proxy != new_auth.proxy),
            ("log.format", self.log_format != new.log_format),
            ("feeds", self.all_tables != new.all_tables),
        ];
        let changed = fixed
            .iter()
            .filter(|(_, changed)| *changed)
            .map(|(key, _)| (*key).to_owned());
        // What tables there are, the file says itself.
        let feeds = match self.all_tables || new.all_tables {
            true => Vec::new(),
            false => feed_differences(&self.feeds, &new.feeds),
        };
        changed.chain(feeds).collect()
    }
}

fn apply<T: Clone + PartialEq>(key: &str, running: &mut T, new: &T, applied: &mut Vec<String>) {
    if running != new {
        running.clone_from(new);
        applied.push(key.to_owned());
    }
}

/// The feeds that were added, removed or changed. Their order means nothing.
fn feed_differences(running: &[FeedConfig], new: &[FeedConfig]) -> Vec<String> {
    let added = new
        .iter()
        .filter(|feed| running.iter().all(|other| other.name != feed.name));
    let changed = running.iter().filter(|feed| !new.contains(feed));
    changed
        .chain(added)
        .map(|feed| format!("feeds.{}", feed.name))
        .collect()
}
