//! The resolved configuration: what flags, environment and file come to. The only validator.

mod access;
mod auth;
mod dump;
mod feeds;
mod jwt;
mod layers;
mod parse;
mod reload;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::ServeArgs;
use crate::text::harmless::harmless;
pub use access::{AccessRules, TrustedProxy};
pub use auth::{AnonymousPart, AuthRules, ClaimSource, FeedScope};
pub use feeds::LONGEST_NAME;
pub use jwt::{JwtKeys, JwtRules, ProxyRules};
use layers::{Layers, Node, ValueSource};
pub use reload::Reload;

/// Everything the daemon needs to know, resolved and validated. Read-only from here on.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The SQLite file that is served; it need not exist yet.
    pub database: PathBuf,
    /// Where to listen. Never empty.
    pub listen: Vec<Listen>,
    /// Where what is counted is served by itself, to whoever can connect.
    pub metrics_listen: Vec<Listen>,
    /// Whether a rollback-journal file is switched to WAL.
    pub journal_mode: JournalMode,
    /// How it is heard of writes to the file.
    pub watch: WatchMode,
    /// Where the identity of each feed's history is kept; `None`: nowhere writable was found or named.
    pub state_dir: Option<PathBuf>,
    /// Whether every table of the file that can be a feed is one.
    pub all_tables: bool,
    /// The feeds, in the order of the file. Empty only where they are those of the tables, and nobody has looked yet
    /// which there are.
    pub feeds: Vec<FeedConfig>,
    /// Who may come in with what.
    pub auth: AuthRules,
    /// Who may come in otherwise.
    pub access: AccessRules,
    pub limits: Limits,
    /// `tracing` filter directives, e.g. `info` or `walcast=debug`.
    pub log_level: String,
    pub log_format: LogFormat,
    /// Show the dashboard in a browser once it is served.
    pub open: bool,
}

/// A place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

/// What may be done to the file's journal mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalMode {
    /// Switch the file to WAL when possible; serve it as it is meanwhile.
    Wal,
    /// Never change the file's journal mode.
    Keep,
}

/// How the daemon hears of writes to the file. The safety poll lies under each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// By what serves best on this system: inotify read by the feed loop on Linux, `notify` on macOS, else the poll alone.
    Auto,
    /// By file events from a thread of the package `notify`.
    Notify,
    /// By the safety poll alone.
    Poll,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, journald-friendly (no time, no colours, `<N>` priority prefix) under systemd (`JOURNAL_STREAM` set).
    Auto,
    Text,
    Json,
}

/// One feed: a table, the paths it is served on, and how its rows are worded.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedConfig {
    pub name: String,
    pub table: String,
    /// The cursor column; `None`: the table's integer primary key.
    pub key: Option<String>,
    /// WebSocket paths, at least one, each starting with `/`.
    pub ws: Vec<String>,
    /// Alias paths of the history.
    pub history: Vec<String>,
    /// The value of `type` in each message.
    pub message_type: String,
    /// The name of the key that holds the row in each message.
    pub message_body: String,
    /// Only these columns are exposed, in table order; `None`: all.
    pub columns: Option<Vec<String>>,
    /// These columns are not exposed.
    pub exclude: Vec<String>,
    /// Columns whose text is embedded as JSON where it is valid.
    pub json: Vec<String>,
    /// Column and the number of code points its text is cut to, wherever rows leave.
    pub truncate: Vec<(String, usize)>,
    /// Whether `POST /api/feeds/<feed>/events` is served.
    pub ingest: bool,
    /// How it is told whose rows are whose.
    pub scope: FeedScope,
    /// Columns that scopes compare, whether they are shown or not.
    pub scope_columns: Vec<String>,
    /// Whether the stock table is created at start, in a file that is missing or holds no table at all.
    pub create: bool,
}

/// Bounds on what clients and bursts may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections served at once, WebSocket and HTTP together; `None`: the descriptor limit less 64.
    pub max_connections: Option<usize>,
    /// Connections from one IPv4 address or IPv6 /64; loopback is exempt.
    pub max_connections_per_ip: usize,
    /// How long a client may accept no byte before it is closed with 4008.
    pub write_timeout: Duration,
    /// How long a drain waits for clients at shutdown.
    pub drain_timeout: Duration,
    /// The safety poll under the file events.
    pub poll_interval: Duration,
    /// Rows kept ready in memory for each feed.
    pub ring_rows: usize,
    /// Bytes kept ready in memory for each feed.
    pub ring_bytes: usize,
    /// Page reads for replays running at once.
    pub replays: usize,
    /// JSON bytes above which a message is cut.
    pub max_row_bytes: usize,
    /// What histories may cost.
    pub history: HistoryLimits,
}

/// Bounds on requests for history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryLimits {
    /// Requests that may wait for their rows at once.
    pub waiting: usize,
    /// The same, of one client.
    pub waiting_per_client: usize,
    /// How long one may wait until its rows are looked for.
    pub wait: Duration,
    /// How long rows may be looked for.
    pub time: Duration,
    /// Bytes of answers that may be held for clients that take their time.
    pub answers: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            waiting: 32,
            waiting_per_client: 4,
            wait: Duration::from_secs(10),
            time: Duration::from_secs(5),
            answers: 64 << 20,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_connections_per_ip: 1000,
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            poll_interval: Duration::from_millis(250),
            ring_rows: 16_384,
            ring_bytes: 8 << 20,
            replays: 8,
            max_row_bytes: 1 << 20,
            history: HistoryLimits::default(),
        }
    }
}

/// Everything that is wrong with the configuration, a line each: place, value, remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// A key may hold whatever TOML can write. What would move a terminal's cursor or begin another line is shown as an
    /// escape.
    fn new(problems: Vec<String>) -> Self {
        let problems = problems.iter();
        Self {
            problems: problems.map(|p| harmless(p).into_owned()).collect(),
        }
    }

    /// The problems, each a sentence of its own. Never empty.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// The known keys of each table of the file; the first is its top level.
const SECTIONS: [(&str, &[&str]); 10] = [
    (
        "",
        &[
            "database",
            "listen",
            "journal_mode",
            "state_dir",
            "origins",
            "hosts",
            "trusted_proxies",
            "frame_ancestors",
            "max_connections",
            "max_connections_per_ip",
            "write_timeout",
            "drain_timeout",
            "watch",
            "poll_interval",
            "replays",
            "max_row_bytes",
            "ring",
            "history",
            "auth",
            "metrics",
            "log",
            "feeds",
        ],
    ),
    ("ring", &["rows", "bytes"]),
    (
        "history",
        &["waiting", "waiting_per_client", "wait", "time", "answers"],
    ),
    (
        "auth",
        &[
            "anonymous",
            "tokens",
            "query_token",
            "cookie",
            "jwt",
            "proxy",
        ],
    ),
    (
        "auth.jwt",
        &[
            "algorithms",
            "key_file",
            "jwks_file",
            "issuer",
            "audience",
            "leeway",
            "revoked_file",
        ],
    ),
    ("auth.proxy", &["user"]),
    ("metrics", &["listen"]),
    ("log", &["level", "format"]),
    (
        "feeds.NAME",
        &[
            "table", "key", "ws", "history", "message", "columns", "exclude", "json", "truncate",
            "ingest", "scope", "create",
        ],
    ),
    ("feeds.NAME.message", &["type", "body"]),
];

/// The process's environment, or a test's.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A configuration and where each of its values came from, by dotted key.
struct Resolved {
    config: Config,
    file: Option<String>,
    places: BTreeMap<String, ValueSource>,
}

impl Config {
    /// Resolves flags, `WALCAST_*` variables, the file named by `--config`, and defaults, in this order of precedence.
    ///
    /// # Errors
    /// The file can't be read or is not TOML, or any layer holds an unknown key or an invalid value, also where a
    /// stronger layer overrules it.
    pub fn load(args: &ServeArgs) -> Result<Self, ConfigError> {
        Resolved::load(args, &|name| std::env::var_os(name)).map(|resolved| resolved.config)
    }

    /// The resolved configuration as TOML that loads again, with the source of each value in a comment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn describe(args: &ServeArgs) -> Result<String, ConfigError> {
        Resolved::load(args, &|name| std::env::var_os(name)).map(|resolved| resolved.describe())
    }
}

impl Resolved {
    fn load(args: &ServeArgs, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let file = args.config.as_deref();
        let cleared = |file: &&str| file.is_empty() && args.from_environment.contains("config");
        let file = file.filter(|file| !cleared(file));
        let root = match file {
            Some(file) => read(file).map_err(|problem| ConfigError::new(vec![problem]))?,
            None => Node::empty(),
        };
        let mut layers = Layers::new(args, file.unwrap_or_default(), &root);
        check_keys(&mut layers);
        let config = resolve(&mut layers, args, environment);
        match layers.problems.is_empty() {
            true => Ok(Self {
                config,
                file: file.map(str::to_owned),
                places: layers.places,
            }),
            false => Err(ConfigError::new(layers.problems)),
        }
    }
}

fn read(file: &str) -> Result<Node, String> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        format!("{file}: the configuration can't be read: {error}; mend that or name another with --config")
    })?;
    Node::parse(&text)
        .map_err(|(line, problem)| format!("{file}:{line}: not valid TOML: {problem}"))
}

fn check_keys(layers: &mut Layers<'_>) {
    let [
        top,
        ring,
        history,
        auth,
        jwt,
        proxy,
        metrics,
        log,
        feed,
        message,
    ] = SECTIONS;
    for (section, keys) in [top, ring, history, auth, jwt, proxy, metrics, log] {
        layers.known(section, keys, &SECTIONS);
    }
    let Some(feeds) = layers.node("feeds") else {
        return;
    };
    for name in feeds.names() {
        layers.known(&format!("feeds.{name}"), feed.1, &SECTIONS);
        layers.known(&format!("feeds.{name}.message"), message.1, &SECTIONS);
    }
}

fn resolve(layers: &mut Layers<'_>, args: &ServeArgs, environment: Environment<'_>) -> Config {
    let local = vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8010)))];
    let (path, info) = (PathBuf::from("./walcast.db"), "info".to_owned());
    let all_in_file = feeds::all_tables(layers);
    let named = layers
        .node("feeds")
        .is_some_and(|feeds| !feeds.names().is_empty());
    // A database that somebody has already is served as it is.
    let as_is = all_in_file || args.file.is_some();
    let all_tables = all_in_file || args.file.is_some() && !named;
    let mode = match as_is {
        true => JournalMode::Keep,
        false => JournalMode::Wal,
    };
    let auto = LogFormat::Auto;
    let mut config = Config {
        database: layers.setting("database", &args.db, parse::path, path),
        listen: layers.list_setting("listen", &args.listen, parse::listen, local),
        metrics_listen: layers.file_setting("metrics.listen", parse::listen, Vec::new()),
        journal_mode: layers.setting(
            "journal_mode",
            &args.journal_mode,
            parse::journal_mode,
            mode,
        ),
        watch: layers.setting("watch", &args.watch, parse::watch, WatchMode::Auto),
        state_dir: state_dir(layers, args, environment),
        auth: auth::resolve(layers, args),
        access: access::resolve(layers, args),
        limits: limits(layers, args),
        log_level: layers.setting("log.level", &args.log_level, parse::log_level, info),
        log_format: layers.setting("log.format", &args.log_format, parse::log_format, auto),
        open: args.open,
        all_tables,
        feeds: feeds::resolve(layers, all_tables, !as_is),
    };
    auth::apply(layers, &config.auth, &mut config.feeds, all_tables);
    refuse_strangers(layers, &config);
    config
}

fn limits(layers: &mut Layers<'_>, args: &ServeArgs) -> Limits {
    use parse::{count, duration, duration_or_zero};
    let mut limits = Limits::default();
    let optional = |value: &_| count(value).map(Some);
    limits.max_connections =
        layers.setting("max_connections", &args.max_connections, optional, None);

    let mut over =
        |key, given, limit: &mut usize| *limit = layers.setting(key, given, count, *limit);
    over(
        "max_connections_per_ip",
        &args.max_connections_per_ip,
        &mut limits.max_connections_per_ip,
    );
    over("ring.rows", &args.ring_rows, &mut limits.ring_rows);
    over("ring.bytes", &args.ring_bytes, &mut limits.ring_bytes);
    over("replays", &args.replays, &mut limits.replays);
    over(
        "max_row_bytes",
        &args.max_row_bytes,
        &mut limits.max_row_bytes,
    );

    let mut over =
        |key, given, meaning, limit: &mut _| *limit = layers.setting(key, given, meaning, *limit);
    over(
        "write_timeout",
        &args.write_timeout,
        duration,
        &mut limits.write_timeout,
    );
    // Not to wait at all is a choice somebody may make; a client or a poll that is never waited for is not.
    over(
        "drain_timeout",
        &args.drain_timeout,
        duration_or_zero,
        &mut limits.drain_timeout,
    );
    over(
        "poll_interval",
        &args.poll_interval,
        duration,
        &mut limits.poll_interval,
    );
    limits.history = history(layers);
    limits
}

fn history(layers: &mut Layers<'_>) -> HistoryLimits {
    let HistoryLimits {
        waiting,
        waiting_per_client,
        wait,
        time,
        answers,
    } = HistoryLimits::default();
    HistoryLimits {
        waiting: layers.file_setting("history.waiting", parse::count, waiting),
        waiting_per_client: layers.file_setting(
            "history.waiting_per_client",
            parse::count,
            waiting_per_client,
        ),
        wait: layers.file_setting("history.wait", parse::duration, wait),
        time: layers.file_setting("history.time", parse::duration, time),
        answers: layers.file_setting("history.answers", parse::count, answers),
    }
}

/// What was named, else what systemd made for the unit, else the place the XDG directories give it.
fn state_dir(
    layers: &mut Layers<'_>,
    args: &ServeArgs,
    environment: Environment<'_>,
) -> Option<PathBuf> {
    const KEY: &str = "state_dir";
    let named = layers.setting(
        KEY,
        &args.state_dir,
        |value| parse::path(value).map(Some),
        None,
    );
    if named.is_some() {
        return named;
    }
    // The XDG rules have relative paths ignored; systemd sets several directories separated by colons.
    let absolute = |name: &str| {
        environment(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let systemd = environment("STATE_DIRECTORY")
        .and_then(|list| list.to_str()?.split(':').next().map(PathBuf::from))
        .filter(|path| path.is_absolute());
    if systemd.is_some() {
        layers.places.insert(
            KEY.to_owned(),
            ValueSource::Environment("STATE_DIRECTORY".to_owned()),
        );
        return systemd;
    }
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("walcast"))
}

/// Without authentication whoever can connect reads every row: beyond this machine that must have been asked for.
fn refuse_strangers(layers: &mut Layers<'_>, config: &Config) {
    if config.auth.may_be_reached() {
        return;
    }
    let listen = config.listen.iter().map(|address| ("listen", address));
    let metrics = config.metrics_listen.iter();
    for (key, listen) in listen.chain(metrics.map(|address| ("metrics.listen", address))) {
        match listen {
            Listen::Tcp(address) if !parse::is_loopback(address.ip()) => {
                let place = layers.place(key);
                layers.refuse(
                    key,
                    &place,
                    &address.to_string(),
                    "is reachable from other machines, and no authentication is configured, so anyone there could read \
                     every row; ask for tokens ([auth] tokens = \"…\", made by `walcast token add`), or serve anyone with \
                     auth.anonymous = true (--anonymous)",
                );
            }
            Listen::Tcp(_) | Listen::Unix(_) => {}
        }
    }
}
