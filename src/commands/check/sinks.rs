//! `[sinks]`: whether what sinks name can be used. Nothing is posted to any receiver.

use super::report::Report;
use crate::access::Owners;
use crate::config::{Config, FeedConfig, SinkConfig};
use crate::sinks::{PreparedSink, missing_column};
use crate::sqlite::capture::with_file_named;
use crate::sqlite::table::Schema;

/// Reports whether rows could be posted, and where to.
pub(super) fn look(config: &Config, report: &mut Report) {
    for sink in &config.sinks {
        let label = format!("sink {}", sink.name);
        if config.all_tables && config.feeds.iter().all(|feed| feed.name != sink.feed) {
            let text = format!(
                "waits for the feed {}: no table is one of that name",
                sink.feed
            );
            report.warn(&label, text, &[]);
        }
        match PreparedSink::new(sink, Owners::Administered) {
            Ok(_) => report.ok(&label, told(sink)),
            Err(error) => report.problem(&label, error.to_string(), &[]),
        }
    }
    if !config.sinks.is_empty() && config.state_dir.is_none() {
        let text = "their positions can't be kept: what is committed while walcast is down is not delivered";
        let remedy = "name a directory with --state-dir or `state_dir`";
        report.warn("sinks", text, &[remedy.to_owned()]);
    }
}

/// Reports where sinks of `feed` compare columns that it does not show, or that are not recorded.
pub(super) fn columns(config: &Config, feed: &FeedConfig, schema: &Schema, report: &mut Report) {
    for sink in config.sinks.iter().filter(|sink| sink.feed == feed.name) {
        if let Some(trouble) = missing_column(feed, schema, &sink.filter) {
            let trouble = with_file_named(&trouble, &config.database);
            report.problem(&format!("sink {}", sink.name), trouble, &[]);
        }
    }
}

fn told(sink: &SinkConfig) -> String {
    let rows = match sink.filter.is_empty() {
        true => "rows".to_owned(),
        false => {
            let columns = sink.filter.columns().map(|column| column.name());
            format!("rows chosen by {}", columns.collect::<Vec<_>>().join(", "))
        }
    };
    let feed = &sink.feed;
    format!(
        "{rows} of {feed} go to {}, signed; it was not tried",
        sink.webhook
    )
}
