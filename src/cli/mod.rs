//! The command line: which command, and the raw text of its flags and `WALCAST_*` variables.
//!
//! Nothing of the daemon's settings is judged here: [`crate::config`] does that, for flags, variables and file alike.

mod client_token;
mod token;
mod two_words;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{
    ArgGroup, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint,
};

pub use client_token::ClientToken;
use two_words::explained;

pub use token::{GrantArgs, TokenArgs, TokenCommand, TokenFileArgs};

/// What to look at as `serve` would.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
    #[command(flatten)]
    pub token: ClientToken,
}

/// Which feeds to list.
#[derive(Debug, Clone, Args)]
pub struct FeedsArgs {
    #[command(flatten)]
    pub serve: ServeArgs,

    /// List nothing: exit code 0 where a running daemon can serve rows, else 1, saying why not
    ///
    /// Without a URL the daemon is asked that listens where flags, variables and configuration say. No token is needed.
    #[arg(long)]
    pub ready: bool,

    #[command(flatten)]
    pub token: ClientToken,
}

/// What was asked for on the command line.
#[derive(Debug, Clone)]
pub struct Cli {
    pub command: Command,
}

/// One command, with its flags.
#[derive(Debug, Clone)]
pub enum Command {
    /// Serve the feeds; what runs where no command is named.
    Serve(ServeArgs),
    /// Look at the file as `serve` with the same flags would, and say what would not work.
    Check(CheckArgs),
    /// Print the resolved configuration.
    Config(ServeArgs),
    /// Print rows as they arrive.
    Tail(TailArgs),
    /// Write sample events.
    Emit(EmitArgs),
    /// Write a configuration for the tables of a file.
    Init(InitArgs),
    /// List the feeds of a file, or of a running daemon.
    Feeds(FeedsArgs),
    /// Make, change, list and revoke tokens.
    Token(TokenArgs),
    /// Print TypeScript interfaces of the rows.
    Types(ServeArgs),
    /// Print a shell's completions.
    Completions(clap_complete::Shell),
    /// Print the version.
    Version,
}

impl Cli {
    /// Parses the process's arguments. Prints help (exit code 0) or a usage error (exit code 2) and exits where it must.
    pub fn parse_normalised() -> Self {
        Self::try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// Parses `args`, the program's name first. The error is also how clap hands out `--help` and `--version`.
    pub fn try_parse_from<I, T>(args: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let mut definition = Self::definition();
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let matches = definition
            .try_get_matches_from_mut(&args)
            .map_err(|error| explained(error, &mut definition, &args))?;
        let arguments = Arguments::from_arg_matches(&matches)?;
        let own = matches.subcommand().map_or(&matches, |(_, own)| own);
        let command = match arguments.command {
            None => Command::Serve(arguments.serve.sourced(own)?),
            Some(Named::Serve(args)) => Command::Serve(args.sourced(own)?),
            Some(Named::Check(args)) => Command::Check(CheckArgs {
                serve: args.serve.sourced(own)?,
                ..args
            }),
            Some(Named::Config(args)) => Command::Config(args.sourced(own)?),
            Some(Named::Feeds(args)) => Command::Feeds(FeedsArgs {
                serve: args.serve.sourced(own)?,
                ..args
            }),
            Some(Named::Types(args)) => Command::Types(args.sourced(own)?),
            Some(Named::Init(args)) => Command::Init(args),
            Some(Named::Completions { shell }) => Command::Completions(shell),
            Some(Named::Version) => Command::Version,
            Some(Named::Token(args)) => Command::Token(args),
            Some(Named::Tail(args)) => Command::Tail(args),
            Some(Named::Emit(args)) => Command::Emit(args),
        };
        Ok(Self { command })
    }

    /// The definition of the command line, from which man pages and shell completions are made.
    pub fn definition() -> clap::Command {
        let mut definition = without_file_names(Arguments::command());
        for name in ["serve", "check", "config", "types"] {
            definition = definition.mut_subcommand(name, without_file_names);
        }
        for name in ["tail", "emit", "init", "completions"] {
            definition = definition.mut_subcommand(name, without_file_names);
        }
        definition = definition.mut_subcommand("token", |token| {
            let names = ["add", "set", "list", "revoke", "show"];
            names.into_iter().fold(token, |token, name| {
                token.mut_subcommand(name, without_file_names)
            })
        });
        definition.mut_subcommand("feeds", |feeds| {
            without_file_names(feeds).mut_arg("file", |file| {
                file.value_name("FILE|URL")
                    .help("SQLite file, or a running daemon, e.g. http://127.0.0.1:8010")
            })
        })
    }
}

/// Where nothing is said of an argument's values, a shell would complete names of files.
fn without_file_names(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| match arg.get_value_hint() {
        ValueHint::Unknown if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
        _ => arg,
    })
}

/// Turn the tables of a SQLite file into live WebSocket feeds.
///
/// `walcast FILE` serves the file as it is: a feed for every table that can be one, and nothing in it is changed.
/// Without a file, `walcast` serves ./walcast.db on 127.0.0.1:8010 with the stock feed, created when missing.
#[derive(Debug, Parser)]
#[command(name = "walcast", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Named>,
}

#[derive(Debug, Subcommand)]
enum Named {
    /// Serve the feeds (the default command)
    Serve(ServeArgs),
    /// Look at the database as `serve` would: print what was found, what is wrong and how to mend it
    ///
    /// Exit code 0 where everything would work, 1 where something would not, 2 where the configuration is wrong.
    Check(CheckArgs),
    /// Print the resolved configuration as TOML, each value with its source
    Config(ServeArgs),
    /// Make tokens for those who may read, change what they may do, list and revoke them
    Token(TokenArgs),
    /// Print the rows of a feed as they arrive: columns on a terminal, JSON lines in a pipe
    Tail(TailArgs),
    /// Write sample events into the stock table
    Emit(EmitArgs),
    /// Write a commented walcast.toml for the tables of a file
    Init(InitArgs),
    /// List the feeds of a file, and its tables that can't be feeds, with the reason; or the feeds of a running daemon
    ///
    /// Exit code 0 where every feed can be read, else 1. With --ready it is fit for a container's health check.
    Feeds(FeedsArgs),
    /// Print TypeScript interfaces of the rows of each feed
    Types(ServeArgs),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// The file to look at, and where to write what it comes to.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// SQLite file whose tables are to be served
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,

    /// Where to write the configuration; `-` prints it
    #[arg(long, value_name = "FILE", default_value = "walcast.toml", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,

    /// Replace a configuration that is there already
    #[arg(long)]
    pub force: bool,
}

/// The raw settings of the daemon. Each is a flag, a `WALCAST_*` variable, a key of the file or a default, in this order.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// SQLite file to serve as it is: every table that can be a feed is one, nothing in the file is created or changed
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<String>,

    /// SQLite file to serve; it need not exist yet [default: ./walcast.db]
    #[arg(long, value_name = "FILE", env = "WALCAST_DB", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub db: Option<String>,

    /// Address to listen on: IP:PORT, PORT or :PORT (on loopback), or unix:/PATH; may be repeated [default: 127.0.0.1:8010]
    ///
    /// In the variable several are separated by commas. An address beyond loopback needs --anonymous.
    #[arg(
        long,
        value_name = "ADDR",
        env = "WALCAST_LISTEN",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub listen: Vec<String>,

    /// Configuration file (TOML) [default: none is read]
    #[arg(
        long,
        value_name = "FILE",
        env = "WALCAST_CONFIG",
        hide_env_values = true,
        value_hint = ValueHint::FilePath
    )]
    pub config: Option<String>,

    /// Journal mode: `wal` switches the file to WAL when possible, `keep` never changes it [default: wal; with FILE, keep]
    #[arg(
        long,
        value_name = "MODE",
        env = "WALCAST_JOURNAL_MODE",
        hide_env_values = true,
        value_parser = one_of(&["wal", "keep"])
    )]
    pub journal_mode: Option<String>,

    /// Directory that keeps the identity of each feed's history
    ///
    /// [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/walcast, else ~/.local/state/walcast]
    #[arg(
        long,
        value_name = "DIR",
        env = "WALCAST_STATE_DIR",
        hide_env_values = true,
        value_hint = ValueHint::DirPath
    )]
    pub state_dir: Option<String>,

    /// Browser origin allowed besides same origin and loopback, or * for all; may be repeated [default: none]
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "WALCAST_ORIGIN",
        hide_env_values = true,
        value_delimiter = ',',
        help_heading = ACCESS
    )]
    pub origin: Vec<String>,

    /// Name this daemon is reached by, besides IP addresses, localhost and the hosts of the origins; may be repeated
    /// [default: none]
    ///
    /// Requests for any other name are refused (421): a page whose own name was pointed at this address gets nothing.
    #[arg(
        long,
        value_name = "NAME",
        env = "WALCAST_ALLOW_HOST",
        hide_env_values = true,
        value_delimiter = ',',
        help_heading = ACCESS
    )]
    pub allow_host: Vec<String>,

    /// Address or network of proxies whose X-Forwarded-For or Forwarded tells the client's address, or `unix`; may be
    /// repeated [default: none]
    #[arg(
        long,
        value_name = "NETWORK",
        env = "WALCAST_TRUSTED_PROXY",
        hide_env_values = true,
        value_delimiter = ',',
        help_heading = ACCESS
    )]
    pub trusted_proxy: Vec<String>,

    /// Serve anyone who can connect, also beyond loopback [default: false]
    #[arg(
        long,
        value_name = "true|false",
        env = "WALCAST_ANONYMOUS",
        hide_env_values = true,
        value_parser = Suggested(&["true", "false"]),
        hide_possible_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = ACCESS
    )]
    pub anonymous: Option<String>,

    /// Connections served at once, WebSocket and HTTP together [default: the descriptor limit less 64]
    #[arg(
        long,
        value_name = "N",
        env = "WALCAST_MAX_CONNECTIONS",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub max_connections: Option<String>,

    /// Connections from one IPv4 address or IPv6 /64; loopback is exempt [default: 1000]
    #[arg(
        long,
        value_name = "N",
        env = "WALCAST_MAX_CONNECTIONS_PER_IP",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub max_connections_per_ip: Option<String>,

    /// How long a client may accept no byte before it is closed: 250ms, 30s, 1m, or seconds [default: 30s]
    #[arg(
        long,
        value_name = "TIME",
        env = "WALCAST_WRITE_TIMEOUT",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub write_timeout: Option<String>,

    /// How long a shutdown waits for clients [default: 10s]
    #[arg(
        long,
        value_name = "TIME",
        env = "WALCAST_DRAIN_TIMEOUT",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub drain_timeout: Option<String>,

    /// How to hear of writes: `notify` by file events from the package of that name, `poll` by looking every poll interval,
    /// `auto` by what serves best on this system [default: auto]
    #[arg(
        long,
        value_name = "HOW",
        env = "WALCAST_WATCH",
        hide_env_values = true,
        value_parser = one_of(&["auto", "notify", "poll"])
    )]
    pub watch: Option<String>,

    /// How often the database is looked at when no file event tells of a commit [default: 250ms]
    #[arg(
        long,
        value_name = "TIME",
        env = "WALCAST_POLL_INTERVAL",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub poll_interval: Option<String>,

    /// Rows of each feed kept ready in memory [default: 16384]
    #[arg(
        long,
        value_name = "N",
        env = "WALCAST_RING_ROWS",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub ring_rows: Option<String>,

    /// Bytes of each feed kept ready in memory [default: 8388608]
    #[arg(
        long,
        value_name = "BYTES",
        env = "WALCAST_RING_BYTES",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub ring_bytes: Option<String>,

    /// Replays that read from the table at once [default: 8]
    #[arg(
        long,
        value_name = "N",
        env = "WALCAST_REPLAYS",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub replays: Option<String>,

    /// Size of a message in bytes of JSON above which its longest values are cut [default: 1048576]
    #[arg(
        long,
        value_name = "BYTES",
        env = "WALCAST_MAX_ROW_BYTES",
        hide_env_values = true,
        help_heading = LIMITS
    )]
    pub max_row_bytes: Option<String>,

    /// What is logged: off, error, warn, info, debug, trace, or target=level, separated by commas [default: info]
    #[arg(
        long,
        value_name = "LEVEL",
        env = "WALCAST_LOG_LEVEL",
        hide_env_values = true,
        value_parser = Suggested(&["off", "error", "warn", "info", "debug", "trace"]),
        hide_possible_values = true,
        help_heading = LOGS
    )]
    pub log_level: Option<String>,

    /// Log format; `auto` is text on a terminal and journald-friendly under systemd [default: auto]
    #[arg(
        long,
        value_name = "FORMAT",
        env = "WALCAST_LOG_FORMAT",
        hide_env_values = true,
        value_parser = one_of(&["auto", "text", "json"]),
        help_heading = LOGS
    )]
    pub log_format: Option<String>,

    /// Open the dashboard in a browser once it is served
    #[arg(long)]
    pub open: bool,

    /// The fields above whose value came from the environment, by name.
    #[arg(skip)]
    pub from_environment: BTreeSet<String>,
}

const ACCESS: &str = "Access";
const LIMITS: &str = "Limits";
const LOGS: &str = "Logs";

impl ServeArgs {
    /// Notes what came from the environment. A FILE goes before `WALCAST_DB`, but beside `--db` it is an error.
    fn sourced(mut self, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let from_environment =
            |id: &&str| matches.value_source(id) == Some(ValueSource::EnvVariable);
        self.from_environment = matches
            .ids()
            .map(|id| id.as_str())
            .filter(from_environment)
            .map(str::to_owned)
            .collect();
        if let Some(file) = &self.file {
            if self.db.is_some() && !self.from_environment.remove("db") {
                let text =
                    format!("--db names a file, and so does {file:?}; leave one of them out");
                return Err(Cli::definition().error(ErrorKind::ArgumentConflict, text));
            }
            self.db = Some(file.clone());
        }
        Ok(self)
    }
}

/// Takes any text, and offers these to completions.
#[derive(Clone)]
struct Suggested(&'static [&'static str]);

impl TypedValueParser for Suggested {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(
            self.0.iter().map(|value| PossibleValue::new(*value)),
        ))
    }
}

/// Known values for help and completions. The empty text passes, because an empty variable counts as unset.
fn one_of(values: &[&'static str]) -> PossibleValuesParser {
    let known = values.iter().map(|value| PossibleValue::new(*value));
    PossibleValuesParser::new(known.chain([PossibleValue::new("").hide(true)]))
}

/// What to follow, and from where on.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("followed").required(true).args(["url", "db"])))]
pub struct TailArgs {
    /// Feed of a running daemon, e.g. ws://127.0.0.1:8010/ws/remediation, or a SQLite file to follow without a daemon
    ///
    /// A URL without a path is enough where the daemon has one feed; the feeds of another are listed.
    #[arg(value_name = "URL|FILE", value_parser = tail_source, value_hint = ValueHint::FilePath)]
    url: Option<TailSource>,

    /// SQLite file to follow without a daemon; it need not exist yet
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    db: Option<PathBuf>,

    /// Feed to follow, or the name of its table [default: the only one there is; of a file with several, `remediation`]
    #[arg(long, value_name = "NAME")]
    pub feed: Option<String>,

    /// Start after this id; `earliest` starts with the whole table, `now` with the next row [default: now, but on a terminal
    /// --last 10]
    #[arg(
        long,
        value_name = "ID|earliest|now",
        conflicts_with = "last",
        value_parser = Suggested(&["earliest", "now"]).try_map(|text| text.parse::<TailSince>()),
        hide_possible_values = true
    )]
    pub since: Option<TailSince>,

    /// Start with the newest N rows, 1 to 10000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub last: Option<u32>,

    /// The history that the id of --since belongs to
    #[arg(long, value_name = "EPOCH", requires = "since")]
    pub epoch: Option<String>,

    /// Only rows with this value; one column repeated means or, several columns mean and
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = column_filter)]
    pub filter: Vec<(String, String)>,

    /// Print JSON lines on a terminal too
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub token: ClientToken,
}

/// What `tail` follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailSource {
    /// A feed of a running daemon; the scheme is `ws`.
    Url(String),
    /// A file, read without a daemon.
    File(PathBuf),
}

impl TailArgs {
    /// Returns whether the file has to be there: one named by `--db` may come later.
    pub fn must_exist(&self) -> bool {
        self.url.is_some()
    }

    /// The URL or the file; exactly one of them was given.
    pub fn source(&self) -> TailSource {
        match (&self.url, &self.db) {
            (Some(source), _) => source.clone(),
            (None, Some(file)) => TailSource::File(file.clone()),
            (None, None) => unreachable!("the group `followed` is required"),
        }
    }
}

/// Where a tail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailSince {
    /// After this id.
    Id(i64),
    /// With the first row there is.
    Earliest,
    /// With the next row that is committed.
    Now,
}

impl FromStr for TailSince {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "now" => Ok(Self::Now),
            id => match id.parse() {
                Ok(id) if id >= 0 => Ok(Self::Id(id)),
                _ => Err("give an id (0 or above), `earliest` or `now`".to_owned()),
            },
        }
    }
}

/// Words of the query string that win over a column's name, so a filter on them would mean something else.
const RESERVED: [&str; 7] = [
    "since", "last", "epoch", "limit", "before", "after", "token",
];

fn column_filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, _)) if RESERVED.contains(&column) => Err(format!(
            "`{column}` is a reserved word and can't be filtered on"
        )),
        Some((column, value)) if !column.is_empty() => Ok((column.to_owned(), value.to_owned())),
        _ => Err("give COLUMN=VALUE, e.g. tenant=acme".to_owned()),
    }
}

fn tail_source(text: &str) -> Result<TailSource, String> {
    match text.contains("://") {
        true => websocket_url(text).map(TailSource::Url),
        false => Ok(TailSource::File(text.into())),
    }
}

fn websocket_url(text: &str) -> Result<String, String> {
    let rest = match text.split_once("://") {
        Some(("ws" | "http", rest)) if !rest.is_empty() && !rest.starts_with('/') => rest,
        Some(("wss" | "https", _)) => {
            return Err(
                "TLS is not spoken here; give the daemon's own address, e.g. \
                        ws://127.0.0.1:8010/ws/remediation"
                    .to_owned(),
            );
        }
        _ => {
            return Err(
                "give a URL such as ws://127.0.0.1:8010/ws/remediation, or a file with --db"
                    .to_owned(),
            );
        }
    };
    Ok(format!("ws://{rest}"))
}

/// How many sample events to write, and how fast.
#[derive(Debug, Clone, Args)]
pub struct EmitArgs {
    /// SQLite file to write to; file and stock table are created when missing [default: ./walcast.db]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<String>,

    /// Events to write, each in a transaction of its own [default: 1]
    #[arg(value_name = "N")]
    count: Option<u64>,

    /// The same as FILE
    #[arg(long, value_name = "FILE", env = "WALCAST_DB", hide_env_values = true, value_hint = ValueHint::FilePath)]
    db: Option<PathBuf>,

    /// Pause between two events, in milliseconds
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    pub interval: Duration,
}

impl EmitArgs {
    /// The number where no file was named: the only argument may be either.
    fn lone_count(&self) -> Option<u64> {
        let only = self.file.as_ref().filter(|_| self.count.is_none());
        only.and_then(|text| text.parse().ok())
    }

    /// How many events to write.
    pub fn count(&self) -> u64 {
        self.count.or(self.lone_count()).unwrap_or(1)
    }

    /// The file to write to.
    pub fn database(&self) -> PathBuf {
        let named = self.file.as_ref().filter(|_| self.lone_count().is_none());
        let db = self.db.as_ref().filter(|db| !db.as_os_str().is_empty());
        named
            .map(PathBuf::from)
            .or_else(|| db.cloned())
            .unwrap_or_else(|| "./walcast.db".into())
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let millis = text
        .parse::<u32>()
        .map_err(|_| "give whole milliseconds, e.g. 100".to_owned())?;
    Ok(Duration::from_millis(millis.into()))
}

#[cfg(test)]
mod tests;
