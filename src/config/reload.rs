//! What a reload may change while the daemon runs.

use super::{Config, FeedConfig, SinkConfig};

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

/// Told by its name when any of its keys changed: they are bounds on one thing.
const WHOLE: &str = "history";

impl Config {
    /// Takes over from `new` what can change while running. Everything else is built into sockets, threads and memory at
    /// start.
    pub fn reloaded_from(&self, new: &Self) -> Reload {
        let mut config = self.clone();
        let (mut applied, mut refused) = (Vec::new(), Vec::new());
        let settings = Self::settings_in_file_order().into_iter();
        for setting in settings.filter(|setting| setting.differs(self, new)) {
            if setting.attributes.live {
                setting.copy(new, &mut config);
                applied.push(setting.key.to_owned());
                continue;
            }
            let told = match setting.key.split_once('.') {
                Some((WHOLE, _)) => WHOLE,
                _ => setting.needs.unwrap_or(setting.key),
            };
            if refused.last().is_none_or(|last| last != told) {
                refused.push(told.to_owned());
            }
        }
        refused.extend(self.feeds_changed(new));
        refused.extend(sink_differences(&self.sinks, &new.sinks));
        Reload {
            config,
            applied,
            refused,
        }
    }

    fn feeds_changed(&self, new: &Self) -> Vec<String> {
        // What tables there are, the file says itself.
        match (self.all_tables, new.all_tables) {
            (false, false) => feed_differences(&self.feeds, &new.feeds),
            (true, true) => Vec::new(),
            _ => vec!["feeds".to_owned()],
        }
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

/// The sinks that were added, removed or changed.
fn sink_differences(running: &[SinkConfig], new: &[SinkConfig]) -> Vec<String> {
    let added = new
        .iter()
        .filter(|sink| running.iter().all(|other| other.name != sink.name));
    let changed = running.iter().filter(|sink| !new.contains(sink));
    changed
        .chain(added)
        .map(|sink| format!("sinks.{}", sink.name))
        .collect()
}
