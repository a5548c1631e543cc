//! The sinks: what `[sinks.NAME]` says.

use std::path::PathBuf;

use super::Config;
use super::declaration::Declaration;
use super::feeds::{is_name, name_rule};
use super::kinds;
use super::layers::{Layers, ValueSource};
use super::parse;
use super::setting::settings;
use super::written::{Node, WrittenValue};
use crate::address::WebhookUrl;
use crate::model::filter::{Filter, MAX_VALUES};
use crate::model::position::Cursor;
use crate::text::nearest::did_you_mean;

settings! {
    /// One sink: a feed whose rows are posted to a webhook. Each key stands in `[sinks.NAME]`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SinkConfig(name: &str) {
        /// The feed.
        "feed" feed: String = String::new(),
            kinds::text().required("feed = \"orders\"");

        /// The address its rows are posted to.
        "webhook" webhook: WebhookUrl = WebhookUrl::of_this_machine(),
            webhook().required("webhook = \"https://billing.example.com/walcast\"");

        /// The file of the secret they are signed with.
        "secret_file" secret_file: PathBuf = PathBuf::new(),
            kinds::path().required("secret_file = \"/etc/walcast/billing.secret\"");

        /// Where it begins at its first start; later, where it was.
        "since" since: SinkStart = SinkStart::Now, since();

        /// Columns and the values a row must have there.
        "where" filter: Filter = Filter::default(), filter();

        /// The PEM file of the authorities that vouch for the receiver.
        "ca" ca: Option<PathBuf> = None,
            kinds::path().optional("those of the system");
    }
    others {
        /// What metrics and the log call it.
        name: String = name.to_owned();
    }
}

/// Where a sink begins at its first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkStart {
    /// With the rows that are committed from then on.
    Now,
    /// With the first row there is.
    Earliest,
    /// With the row after this id.
    After(Cursor),
}

/// All sinks, in the order of the file.
pub(super) fn resolve(layers: &mut Layers<'_>, config: &Config) -> Vec<SinkConfig> {
    let Some(node) = layers.node("sinks") else {
        return Vec::new();
    };
    if !matches!(node.value, WrittenValue::Table(_)) {
        let problem = format!(
            "sinks = {}: is not a table of sinks; write [sinks.NAME] with one key a line, with one pair of brackets",
            node.value
        );
        layers.problem(&ValueSource::File(node.line), &problem);
    }
    let mut sinks = Vec::new();
    for (name, node) in node.entries() {
        if !is_name(name) {
            let rule = name_rule();
            let problem = format!("[sinks.{name}]: is not a name for a sink; use {rule}");
            layers.problem(&ValueSource::File(node.line), &problem);
        } else if matches!(node.value, WrittenValue::Table(_)) {
            sinks.push(sink(layers, name, config));
        }
    }
    sinks
}

fn sink(layers: &mut Layers<'_>, name: &str, config: &Config) -> SinkConfig {
    let prefix = format!("sinks.{name}.");
    let mut sink = SinkConfig::unset(name);
    for setting in SinkConfig::settings() {
        setting.resolve(layers, &prefix, &mut sink);
    }
    // Which tables there are to be feeds, nobody has looked yet.
    let is_there = config.all_tables || config.feeds.iter().any(|feed| feed.name == sink.feed);
    if !sink.feed.is_empty() && !is_there {
        let names: Vec<&str> = config.feeds.iter().map(|feed| feed.name.as_str()).collect();
        let hint = did_you_mean(&sink.feed, names.iter().copied());
        let key = format!("{prefix}feed");
        let place = layers.place(&key);
        let problem = format!("is not a feed{hint}; there are {}", names.join(", "));
        layers.refuse(&key, &place, &format!("{:?}", sink.feed), &problem);
    }
    sink
}

fn webhook() -> Declaration<WebhookUrl> {
    let read = |value: &_| WebhookUrl::parse(&parse::text(value)?);
    Declaration::new("URL", read, |url: &WebhookUrl| {
        WrittenValue::Text(url.uri().to_string())
    })
}

fn since() -> Declaration<SinkStart> {
    let read = |value: &_| {
        match value {
        WrittenValue::Text(text) if text == "now" => Ok(SinkStart::Now),
        WrittenValue::Text(text) if text == "earliest" => Ok(SinkStart::Earliest),
        WrittenValue::Integer(id) => Ok(SinkStart::After(Cursor(*id))),
        _ => Err(
            "is not where a sink can begin; write \"now\", \"earliest\", or the id after which to begin, without quotes"
                .to_owned(),
        ),
    }
    };
    Declaration::new("SINCE", read, |since: &SinkStart| match since {
        SinkStart::Now => WrittenValue::Text("now".to_owned()),
        SinkStart::Earliest => WrittenValue::Text("earliest".to_owned()),
        SinkStart::After(Cursor(id)) => WrittenValue::Integer(*id),
    })
}

fn filter() -> Declaration<Filter> {
    Declaration::new("TABLE", read_filter, |filter: &Filter| {
        WrittenValue::columns(
            filter
                .terms()
                .map(|(column, values)| (column, WrittenValue::texts(values))),
        )
    })
}

fn read_filter(value: &WrittenValue) -> Result<Filter, String> {
    let WrittenValue::Table(entries) = value else {
        return Err(
            "is not a table of columns; write { column = \"value\" }, or { column = [\"one\", \"other\"] }"
                .to_owned(),
        );
    };
    let mut filter = Filter::default();
    for (column, Node { value, .. }) in entries {
        let items = match value {
            WrittenValue::List(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        if items.is_empty() {
            return Err(format!(
                "{column} names no value; leave the column out to have all"
            ));
        }
        for item in items {
            let text = match item {
                WrittenValue::Integer(integer) => integer.to_string(),
                WrittenValue::Text(text) => text.clone(),
                _ => return Err(format!("{column} = {item} is not text; put it in quotes")),
            };
            filter.accept(column, &text);
        }
    }
    match filter.value_count() {
        0..=MAX_VALUES => Ok(filter),
        many => Err(format!("has {many} values; at most {MAX_VALUES}")),
    }
}
