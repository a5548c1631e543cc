//! The feeds: what `[feeds.NAME]` says, completed by what a feed has where nothing is said.

use std::collections::BTreeMap;

use super::auth;
use super::layers::{Layers, ValueSource, WrittenValue};
use super::parse;
use super::{FeedConfig, FeedScope};

const STOCK_NAME: &str = "remediation";
const STOCK_TABLE: &str = "remediation_events";

/// Names end up in URLs, metric labels and file names of the state directory.
pub const LONGEST_NAME: usize = 64;

/// What stands for a feed for each table of the file.
pub(super) const ALL_TABLES: &str = "*";

impl FeedConfig {
    /// The feed that is served where the configuration names none.
    pub fn stock() -> Self {
        Self {
            table: STOCK_TABLE.to_owned(),
            history: vec!["/ops/remediate/history".to_owned()],
            message_type: "remediation_event".to_owned(),
            truncate: vec![("details".to_owned(), 500)],
            create: true,
            ..Self::own(STOCK_NAME)
        }
    }

    /// The feed `name` as it is where nothing else is said of it: of the stock name the stock feed, else of the table `name`.
    pub fn named(name: &str) -> Self {
        if name == STOCK_NAME {
            Self::stock()
        } else {
            Self::own(name)
        }
    }

    /// The feed `name` of a table that is there already, as it is where nothing else is said of it.
    pub fn of_table(name: &str, table: &str) -> Self {
        let feed = match table.eq_ignore_ascii_case(STOCK_TABLE) {
            true => Self::stock(),
            false => Self::own(name),
        };
        Self {
            table: table.to_owned(),
            create: false,
            ..feed
        }
    }

    fn own(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            table: name.to_owned(),
            key: None,
            ws: vec![format!("/ws/{name}")],
            history: Vec::new(),
            message_type: format!("{name}_event"),
            message_body: "event".to_owned(),
            columns: None,
            exclude: Vec::new(),
            json: Vec::new(),
            truncate: Vec::new(),
            ingest: false,
            scope: FeedScope::default(),
            scope_columns: Vec::new(),
            create: false,
        }
    }
}

/// All feeds, in the order of the file; the stock feed where it has none. None yet where there is to be one for each
/// table.
pub(super) fn resolve(layers: &mut Layers<'_>, all_tables: bool, create: bool) -> Vec<FeedConfig> {
    let entries = layers
        .node("feeds")
        .map_or(&[][..], |feeds| feeds.entries());
    let mut feeds = Vec::new();
    for (name, node) in entries {
        if let Err(problem) = check_name(name) {
            layers.problem(
                &ValueSource::File(node.line),
                &format!("[feeds.{name}]: {problem}"),
            );
        } else if matches!(node.value, WrittenValue::Table(_)) {
            feeds.push(feed(layers, name, create));
        }
    }
    if entries.is_empty() && !all_tables {
        feeds.push(FeedConfig::stock());
    }
    check_paths(layers, &feeds);
    feeds
}

/// Returns whether the file says `feeds = "*"`. Anything else that is no table of feeds is refused.
pub(super) fn all_tables(layers: &mut Layers<'_>) -> bool {
    let Some(node) = layers.node("feeds") else {
        return false;
    };
    let all = matches!(&node.value, WrittenValue::Text(text) if text == ALL_TABLES);
    if !all && !matches!(node.value, WrittenValue::Table(_)) {
        let problem = format!(
            "feeds = {}: is not a table of feeds; write [feeds.NAME] with one key a line, with one pair of brackets, or \
             feeds = \"*\" for every table of the database that can be a feed",
            node.value
        );
        layers.problem(&ValueSource::File(node.line), &problem);
    }
    all
}

fn check_name(name: &str) -> Result<(), String> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let fits = name.starts_with(letter) && name.chars().all(|c| letter(c) || c == '-');
    match fits && name.len() <= LONGEST_NAME {
        true => Ok(()),
        false => Err(format!(
            "is not a name for a feed; use a-z, 0-9, _ and -, not beginning with -, at most {LONGEST_NAME} \
             characters (the table may be called as it likes: table = \"…\")"
        )),
    }
}

fn feed(layers: &mut Layers<'_>, name: &str, create: bool) -> FeedConfig {
    let key = |field: &str| format!("feeds.{name}.{field}");
    let named = FeedConfig::named(name);
    let table = layers.file_setting(&key("table"), parse::text, named.table.clone());
    // Of the stock feed's name but of another table: a feed of its own.
    let stock = if table == named.table {
        named
    } else {
        FeedConfig::own(name)
    };
    let feed = FeedConfig {
        name: name.to_owned(),
        table,
        key: layers.file_setting(&key("key"), |value| parse::text(value).map(Some), stock.key),
        ws: layers.file_setting(&key("ws"), parse::url_paths, stock.ws),
        history: layers.file_setting(&key("history"), parse::alias_paths, stock.history),
        message_type: layers.file_setting(&key("message.type"), parse::text, stock.message_type),
        message_body: layers.file_setting(
            &key("message.body"),
            parse::message_body,
            stock.message_body,
        ),
        columns: layers.file_setting(
            &key("columns"),
            |value| parse::columns(value).map(Some),
            stock.columns,
        ),
        exclude: layers.file_setting(&key("exclude"), parse::texts, stock.exclude),
        json: layers.file_setting(&key("json"), parse::texts, stock.json),
        truncate: layers.file_setting(&key("truncate"), parse::truncate, stock.truncate),
        ingest: layers.file_setting(&key("ingest"), parse::boolean, stock.ingest),
        scope: layers.file_setting(&key("scope"), auth::feed_scope, stock.scope),
        scope_columns: Vec::new(),
        create: layers.file_setting(&key("create"), parse::boolean, stock.create && create),
    };
    check_columns(layers, &feed);
    check_create(layers, &feed);
    feed
}

fn check_columns(layers: &mut Layers<'_>, feed: &FeedConfig) {
    let columns = feed.columns.as_deref().unwrap_or_default();
    for column in columns
        .iter()
        .filter(|column| feed.exclude.contains(column))
    {
        let key = format!("feeds.{}.exclude", feed.name);
        let place = layers.place(&key);
        layers.problem(
            &place,
            &format!("{key}: \"{column}\" is named by `columns` too; leave it out of one of them"),
        );
    }
}

fn check_create(layers: &mut Layers<'_>, feed: &FeedConfig) {
    if feed.create && feed.table != STOCK_TABLE {
        let key = format!("feeds.{}.create", feed.name);
        let place = layers.place(&key);
        let problem = format!(
            "only the table {STOCK_TABLE} can be created, of {:?} the columns are not known; remove the line and let the \
             writer create its table",
            feed.table
        );
        layers.refuse(&key, &place, "true", &problem);
    }
}

/// Each path must lead to one feed.
fn check_paths(layers: &mut Layers<'_>, feeds: &[FeedConfig]) {
    let mut owners = BTreeMap::new();
    for feed in feeds {
        let ws = feed.ws.iter().map(|path| (path, "ws"));
        for (path, field) in ws.chain(feed.history.iter().map(|path| (path, "history"))) {
            let key = format!("feeds.{}.{field}", feed.name);
            if let Some(owner) = owners.insert(path, key.clone()) {
                let place = layers.place(&key);
                layers.problem(
                    &place,
                    &format!("{key}: the path {path} is taken by {owner}; give each its own"),
                );
            }
        }
    }
}
