//! The feeds: what `[feeds.NAME]` says, completed by what a feed has where nothing is said.

use std::collections::BTreeMap;

use super::capture::{self, CaptureRules};
use super::layers::{Layers, ValueSource};
use super::modes::CompressionMode;
use super::scope::{self, FeedScope};
use super::setting::settings;
use super::written::WrittenValue;
use super::{kinds, parse};

const STOCK_NAME: &str = "remediation";
const STOCK_TABLE: &str = "remediation_events";

/// Names end up in URLs, metric labels and file names of the state directory.
pub const LONGEST_NAME: usize = 64;

/// What stands for a feed for each table of the file.
pub(super) const ALL_TABLES: &str = "*";

settings! {
    /// One feed: a table, the paths it is served on, and how its rows are worded. Each key stands in `[feeds.NAME]`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct FeedConfig(name: &str) {
        /// The table.
        "table" table: String = name.to_owned(), kinds::text();

        /// The cursor column.
        "key" key: Option<String> = None, kinds::text().optional("the integer primary key");

        /// WebSocket paths, at least one, each starting with `/`.
        "ws" ws: Vec<String> = vec![format!("/ws/{name}")], kinds::url_paths();

        /// Alias paths of the history.
        "history" history: Vec<String> = Vec::new(), kinds::alias_paths();

        /// The value of `type` in each message.
        "message.type" message_type: String = format!("{name}_event"), kinds::text();

        /// The name of the key that holds the row in each message.
        "message.body" message_body: String = "event".to_owned(), kinds::message_body();

        /// Only these columns are exposed, in table order.
        "columns" columns: Option<Vec<String>> = None, kinds::columns().optional("all");

        /// These columns are not exposed.
        "exclude" exclude: Vec<String> = Vec::new(), kinds::texts();

        /// Columns whose text is embedded as JSON where it is valid.
        "json" json: Vec<String> = Vec::new(), kinds::texts();

        /// Column and the number of code points its text is cut to, wherever rows leave.
        "truncate" truncate: Vec<(String, usize)> = Vec::new(), kinds::cuts();

        /// Whether `POST /api/feeds/<feed>/events` is served.
        "ingest" ingest: bool = false, kinds::boolean();

        /// Compression of its rows, where it is another than that of other feeds.
        "compression" compression: Option<CompressionMode> = None, kinds::compression().optional("as for all feeds");

        /// How it is told whose rows are whose.
        "scope" scope: FeedScope = FeedScope::default(), scope::scope();

        /// Whether the stock table is created at start, in a file that is missing or holds no table at all.
        "create" create: bool = false, kinds::boolean();
    }
    optional {
        /// How updates and deletes of the table are captured; `None`: the feed is of inserted rows.
        "capture" capture: CaptureRules,
    }
    others {
        /// What addresses, metrics and the log call it.
        name: String = name.to_owned();
        /// Columns that scopes compare, whether they are shown or not.
        scope_columns: Vec<String> = Vec::new();
    }
}

impl FeedConfig {
    /// The feed that is served where the configuration names none.
    pub fn stock() -> Self {
        Self {
            table: STOCK_TABLE.to_owned(),
            history: vec!["/ops/remediate/history".to_owned()],
            message_type: "remediation_event".to_owned(),
            truncate: vec![("details".to_owned(), 500)],
            create: true,
            ..Self::unset(STOCK_NAME)
        }
    }

    /// The feed `name` as it is where nothing else is said of it: of the stock name the stock feed, else of the table `name`.
    pub fn named(name: &str) -> Self {
        if name == STOCK_NAME {
            Self::stock()
        } else {
            Self::unset(name)
        }
    }

    /// The feed `name` of a table that is there already, as it is where nothing else is said of it.
    pub fn of_table(name: &str, table: &str) -> Self {
        let feed = match table.eq_ignore_ascii_case(STOCK_TABLE) {
            true => Self::stock(),
            false => Self::unset(name),
        };
        Self {
            table: table.to_owned(),
            create: false,
            ..feed
        }
    }

    /// The same feed, but of the changes of its table.
    pub fn of_changes(self) -> Self {
        Self {
            message_type: format!("{}_change", self.name),
            message_body: "change".to_owned(),
            ..self
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
        if !is_name(name) {
            let problem = format!(
                "[feeds.{name}]: is not a name for a feed; use {} (the table may be called as it likes: table = \"…\")",
                name_rule()
            );
            layers.problem(&ValueSource::File(node.line), &problem);
        } else if matches!(node.value, WrittenValue::Table(_)) {
            feeds.push(feed(layers, name, create));
        }
    }
    if entries.is_empty() && !all_tables {
        feeds.push(FeedConfig::stock());
    }
    check_paths(layers, &feeds);
    check_captures(layers, &feeds);
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

/// Returns whether a feed or a sink may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let fits = name.starts_with(letter) && name.chars().all(|c| letter(c) || c == '-');
    fits && name.len() <= LONGEST_NAME
}

/// How names are to be.
pub(super) fn name_rule() -> String {
    format!("a-z, 0-9, _ and -, not beginning with -, at most {LONGEST_NAME} characters")
}

fn feed(layers: &mut Layers<'_>, name: &str, create: bool) -> FeedConfig {
    let prefix = format!("feeds.{name}.");
    let named = FeedConfig::named(name);
    let table = layers.node(&format!("{prefix}table"));
    let table = table.and_then(|node| parse::text(&node.value).ok());
    // Of the stock feed's name but of another table: a feed of its own.
    let mut feed = match table.is_none_or(|table| table == named.table) {
        true => named,
        false => FeedConfig::unset(name),
    };
    feed.create &= create;
    if layers.node(&format!("{prefix}capture")).is_some() {
        feed = feed.of_changes();
    }
    for setting in FeedConfig::settings() {
        setting.resolve(layers, &prefix, &mut feed);
    }
    capture::check(layers, name);
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

/// A table has one log: feeds of one table must ask for the same.
fn check_captures(layers: &mut Layers<'_>, feeds: &[FeedConfig]) {
    for (index, feed) in feeds.iter().enumerate() {
        let Some(rules) = &feed.capture else { continue };
        let differs = |other: &&FeedConfig| {
            let same_table = other.table.eq_ignore_ascii_case(&feed.table);
            let asked = other.capture.as_ref();
            same_table
                && asked.is_some_and(|asked| {
                    (asked.mode, &asked.filters) != (rules.mode, &rules.filters)
                })
        };
        if let Some(other) = feeds[..index].iter().find(differs) {
            let key = format!("feeds.{}.capture", feed.name);
            let place = layers.place(&key);
            let problem = format!(
                "{key}: the table {} is captured otherwise for feeds.{}, and has one log; say the same capture and capture_filters",
                feed.table, other.name
            );
            layers.problem(&place, &problem);
        }
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
