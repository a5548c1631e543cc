//! The resolved configuration as TOML, each value with its source.

use super::feeds::{ALL_TABLES, FeedConfig};
use super::layers::ValueSource;
use super::resolve::Resolved;
use super::setting::Setting;
use super::written::WrittenValue;
use super::{Config, SinkConfig};

impl Resolved {
    /// TOML that loads to the same configuration. What has no value is a comment that says what happens instead.
    pub(super) fn describe(&self) -> String {
        let (at_top, in_sections): (Vec<_>, Vec<_>) = Config::settings()
            .into_iter()
            .partition(|setting| !setting.key.contains('.'));
        let mut text = self.heading();
        for setting in at_top {
            text.push_str(&self.line("", setting.key, &setting, &self.config));
        }
        if self.config.all_tables {
            let all = WrittenValue::Text(ALL_TABLES.to_owned());
            text.push_str(&self.value("feeds", "feeds", &all));
        }
        let there = in_sections.into_iter();
        let mut section = "";
        for setting in there.filter(|setting| setting.is_there(&self.config)) {
            let (its, key) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
            if its != section {
                section = its;
                text.push_str(&format!("\n[{section}]\n"));
            }
            text.push_str(&self.line("", key, &setting, &self.config));
        }
        for feed in &self.config.feeds {
            text.push_str(&format!("\n[feeds.{}]\n", feed.name));
            let prefix = format!("feeds.{}.", feed.name);
            for setting in FeedConfig::settings() {
                text.push_str(&self.line(&prefix, setting.key, &setting, feed));
            }
        }
        for sink in &self.config.sinks {
            text.push_str(&format!("\n[sinks.{}]\n", sink.name));
            let prefix = format!("sinks.{}.", sink.name);
            for setting in SinkConfig::settings() {
                text.push_str(&self.line(&prefix, setting.key, &setting, sink));
            }
        }
        text
    }

    fn heading(&self) -> String {
        match &self.file {
            Some(file) => format!(
                "# The configuration of walcast, each value with its source. The file is {file:?}.\n"
            ),
            None => {
                "# The configuration of walcast, each value with its source. No file is read.\n"
                    .to_owned()
            }
        }
    }

    /// The line of a setting, whose key is called `key` where it stands.
    fn line<C: 'static>(
        &self,
        prefix: &str,
        key: &str,
        setting: &Setting<C>,
        values: &C,
    ) -> String {
        match (setting.written(values), setting.attributes.otherwise) {
            (Some(value), _) => self.value(&format!("{prefix}{}", setting.key), key, &value),
            (None, Some(otherwise)) => format!("# {key}: {otherwise}  # default\n"),
            (None, None) => String::new(),
        }
    }

    fn value(&self, full: &str, key: &str, value: &WrittenValue) -> String {
        let place = self.places.get(full).unwrap_or(&ValueSource::Default);
        format!("{key} = {}  # {place}\n", value.toml())
    }
}
