//! What flags, variables, file and defaults come to, and the rules over several settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::arguments::ServeArgs;
use super::error::ConfigError;
use super::known_keys::KnownKeys;
use super::layers::{Layers, ValueSource};
use super::listen::Listen;
use super::modes::JournalMode;
use super::written::Node;
use super::{Config, edge, feeds, jwt, parse, publish, scope, sinks, tls};

/// The process's environment, or a test's.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A configuration and where each of its values came from, by dotted key.
pub(super) struct Resolved {
    pub config: Config,
    pub file: Option<String>,
    pub places: BTreeMap<String, ValueSource>,
}

impl Resolved {
    pub(super) fn load(
        args: &ServeArgs,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let file = args.config.as_deref();
        let root = match file {
            Some(file) => read(file).map_err(|problem| ConfigError::new(vec![problem]))?,
            None => Node::empty(),
        };
        let mut layers = Layers::new(args, file.unwrap_or_default(), &root);
        KnownKeys::declared().check(&mut layers);
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

/// The values that hold, and what settings mean together.
fn resolve(layers: &mut Layers<'_>, args: &ServeArgs, environment: Environment<'_>) -> Config {
    let all_in_file = feeds::all_tables(layers);
    let feeds_in_file = layers.node("feeds").map_or(&[][..], Node::entries);
    // A database that somebody has already is served as it is.
    let as_is = all_in_file || args.file.is_some();
    let mut config = Config {
        open: args.open,
        all_tables: all_in_file || args.file.is_some() && feeds_in_file.is_empty(),
        ..Config::unset()
    };
    if as_is {
        config.journal_mode = JournalMode::Keep;
    }
    for setting in Config::settings() {
        setting.resolve(layers, "", &mut config);
    }
    if config.state_dir.is_none() {
        config.state_dir = state_dir(layers, environment);
    }
    edge::apply(layers, &mut config);
    if config.edge.is_one() {
        config.all_tables = true;
        config.journal_mode = JournalMode::Keep;
    }
    jwt::check_keys(layers);
    tls::check(layers, &config.tls);
    config.feeds = feeds::resolve(layers, config.all_tables, !as_is);
    scope::apply(layers, &config.auth, &mut config.feeds, config.all_tables);
    config.sinks = sinks::resolve(layers, &config);
    publish::check(layers, &config);
    refuse_strangers(layers, &config);
    config
}

/// What systemd made for the unit, else the place the XDG directories give it.
fn state_dir(layers: &mut Layers<'_>, environment: Environment<'_>) -> Option<PathBuf> {
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
            "state_dir".to_owned(),
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
    let metrics = config.metrics.listen.iter();
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
