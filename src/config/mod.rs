//! The resolved configuration: what flags, environment and file come to. The only validator.

mod access;
mod arguments;
mod auth;
mod capture;
mod compression;
mod declaration;
mod dump;
mod edge;
mod error;
mod feeds;
mod flag;
mod jwt;
mod kinds;
mod known_keys;
mod layers;
mod limits;
mod listen;
mod log;
mod modes;
mod parse;
mod publish;
mod reload;
mod resolve;
mod scope;
mod setting;
mod sinks;
#[cfg(test)]
mod tests;
mod tls;
mod written;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use access::{AccessRules, TrustedProxy};
pub use arguments::ServeArgs;
pub use auth::{Anonymous, AnonymousPart, AuthRules};
pub use capture::{CaptureMode, CaptureRules, SpooledLog, parse_age, written_age};
pub use compression::CompressionRules;
use declaration::HelpDefault;
pub use declaration::Takes;
pub use edge::EdgeRules;
pub use error::ConfigError;
pub use feeds::{FeedConfig, LONGEST_NAME};
pub use flag::Flag;
pub use jwt::{JwtKeys, JwtRules, MtlsRules, ProxyRules};
pub use limits::{HistoryLimits, Limits};
pub use listen::{Listen, MetricsRules};
pub use log::{LogFormat, LogRules};
pub use modes::{CompressionMode, JournalMode, WatchMode};
pub use publish::{KeepRules, PublishRules};
pub use reload::Reload;
use resolve::Resolved;
pub use scope::{ClaimSource, FeedScope};
use setting::{Setting, settings};
pub use sinks::{SinkConfig, SinkStart};
pub use tls::TlsRules;

settings! {
    /// Everything the daemon needs to know, resolved and validated. Read-only from here on.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Config {
        /// SQLite file to serve; it need not exist yet.
        "database" database: PathBuf = PathBuf::from("./walcast.db"),
            kinds::path().flag("--db");

        /// Address to listen on: IP:PORT, PORT or :PORT (on loopback), or unix:/PATH; may be repeated.
        ///
        /// In the variable several are separated by commas. An address beyond loopback needs `[auth]` in the
        /// configuration, or --anonymous.
        "listen" listen: Vec<Listen> = vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8010)))],
            kinds::listen().flag("--listen");

        /// Journal mode: `wal` switches the file to WAL when possible, `keep` never changes it.
        "journal_mode" journal_mode: JournalMode = JournalMode::Wal,
            kinds::journal_mode()
                .flag("--journal-mode")
                .help_default(HelpDefault::Beside("wal; with FILE, keep"));

        /// Directory that keeps the identity of each feed's history.
        "state_dir" state_dir: Option<PathBuf> = None,
            kinds::path()
                .optional("no place for it was found")
                .takes(Takes::Directory)
                .flag("--state-dir")
                .called("DIR")
                .help_default(HelpDefault::Below(
                    "$STATE_DIRECTORY, else $XDG_STATE_HOME/walcast, else ~/.local/state/walcast",
                ));

        /// How to hear of writes: `notify` by file events through the library of that name, `poll` by looking every poll
        /// interval, `auto` by what serves best on this system.
        "watch" watch: WatchMode = WatchMode::Auto,
            kinds::watch().flag("--watch");
    }
    parts {
        /// Who may come in, whatever he presents.
        access: AccessRules,
        /// With what TLS is spoken.
        tls: TlsRules,
        /// Bounds on what clients and bursts may cost.
        limits: Limits,
        /// What is compressed for clients that take it so.
        compression: CompressionRules,
        /// Who may come in with what.
        auth: AuthRules,
        /// What is counted, served by itself.
        metrics: MetricsRules,
        /// What is logged, and how.
        log: LogRules,
        /// Whose feeds are served, where they are another daemon's.
        edge: EdgeRules,
    }
    optional {
        /// Where feeds are published; `None`: nowhere.
        "publish" publish: PublishRules,
    }
    others {
        /// Whether every table of the file that can be a feed is one.
        all_tables: bool = false;
        /// The feeds, in the order of the file. Empty only where they are those of the tables, and nobody has looked yet
        /// which there are.
        feeds: Vec<FeedConfig> = Vec::new();
        /// The sinks, in the order of the file.
        sinks: Vec<SinkConfig> = Vec::new();
        /// Show the dashboard in a browser once it is served.
        open: bool = false;
    }
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

    /// The flags of all settings that have one.
    pub fn flags() -> Vec<Flag> {
        let unset = Self::unset();
        let settings = Self::settings();
        let flags = settings.iter().map(|setting| Flag::of(setting, &unset));
        flags.flatten().collect()
    }

    /// A configuration that serves `database` as it is, for those who read it without a daemon.
    pub fn of_file(database: PathBuf, feed: FeedConfig) -> Self {
        Self {
            database,
            journal_mode: JournalMode::Keep,
            listen: Vec::new(),
            feeds: vec![feed],
            ..Self::unset()
        }
    }

    /// The settings as a file has them: those without a section first.
    fn settings_in_file_order() -> Vec<Setting<Self>> {
        let mut settings = Self::settings();
        settings.sort_by_key(|setting| setting.key.contains('.'));
        settings
    }
}
