//! The command line: which command, and the raw text of its flags and `WALCAST_*` variables.
//!
//! Nothing of the daemon's settings is judged here: [`crate::config`] does that, for flags, variables and file alike.

mod capture;
mod check;
mod client_tls;
mod client_token;
mod completions;
mod edge;
mod emit;
mod feeds;
mod init;
mod serve;
mod tail;
#[cfg(test)]
mod tests;
mod token;
mod two_words;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint};

use crate::config::Config;
pub use crate::config::ServeArgs;
pub use capture::{CaptureArgs, CaptureCommand, CaptureFileArgs};
pub use check::CheckArgs;
pub use client_tls::ClientTls;
pub use client_token::ClientToken;
pub use completions::completions;
pub use edge::EdgeArgs;
pub use emit::EmitArgs;
pub use feeds::FeedsArgs;
pub use init::InitArgs;
pub use tail::{TailArgs, TailSince, TailSource};
pub use token::{GrantArgs, TokenArgs, TokenCommand, TokenFileArgs};
use two_words::{behind_flags, explained};

/// The settings that say which tables there are; others come with the configuration, and change nothing of the rows.
const USED_BY_TYPES: &[&str] = &["db"];
/// These too say where a daemon is that is asked with `--ready`.
const USED_BY_FEEDS: &[&str] = &["db", "listen", "tls-cert", "tls-key"];

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
    /// Serve the feeds of another daemon.
    Edge(EdgeArgs),
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
    /// Log the changes of a table.
    Capture(CaptureArgs),
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
        if let Some(error) = behind_flags(&matches, &mut definition, &args) {
            return Err(error);
        }
        let arguments = Arguments::from_arg_matches(&matches)?;
        let command = match arguments.command {
            None => Command::Serve(arguments.serve),
            Some(Named::Serve(args)) => Command::Serve(args),
            Some(Named::Edge(args)) => Command::Edge(args),
            Some(Named::Check(args)) => Command::Check(args),
            Some(Named::Config(args)) => Command::Config(args),
            Some(Named::Feeds(args)) => Command::Feeds(args),
            Some(Named::Types(args)) => Command::Types(args),
            Some(Named::Init(args)) => Command::Init(args),
            Some(Named::Completions { shell }) => Command::Completions(shell),
            Some(Named::Version) => Command::Version,
            Some(Named::Capture(args)) => Command::Capture(args),
            Some(Named::Token(args)) => Command::Token(args),
            Some(Named::Tail(args)) => Command::Tail(args),
            Some(Named::Emit(args)) => Command::Emit(args),
        };
        Ok(Self { command })
    }

    /// The definition of the command line, from which man pages and shell completions are made.
    pub fn definition() -> clap::Command {
        let mut definition = without_idle_flags(without_file_names(Arguments::command()));
        definition = definition.mut_subcommand("types", |types| {
            types.mut_arg("file", |file| {
                file.help("SQLite file whose tables are to be described")
            })
        });
        for name in ["serve", "edge", "check", "config", "types"] {
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
        definition = definition.mut_subcommand("capture", |capture| {
            let names = ["install", "remove", "status", "prune"];
            names.into_iter().fold(capture, |capture, name| {
                capture.mut_subcommand(name, without_file_names)
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

/// The commands that take what `serve` takes, without a word of what has no effect there.
fn without_idle_flags(mut definition: clap::Command) -> clap::Command {
    // Refused: what an edge serves is its spool, which it makes as it needs it.
    for name in ["file", "db", "journal-mode"] {
        definition = without_mention(definition, "edge", name);
    }
    for command in ["check", "config", "feeds", "types"] {
        definition = without_mention(definition, command, "open");
    }
    for flag in Config::flags() {
        for (command, used) in [("feeds", USED_BY_FEEDS), ("types", USED_BY_TYPES)] {
            if !used.contains(&flag.name) {
                definition = without_mention(definition, command, flag.name);
            }
        }
    }
    definition
}

/// An argument that the command takes like `serve`, but has no use for.
fn without_mention(definition: clap::Command, command: &str, arg: &str) -> clap::Command {
    definition.mut_subcommand(command, |command| {
        command.mut_arg(arg, |arg| arg.hide(true))
    })
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
    /// Serve the feeds of another daemon on this machine too: the same paths, frames and positions
    ///
    /// The daemon is named by --upstream, or in the configuration by `edge.upstream`; by `edge.nats` its feeds come from NATS.
    Edge(EdgeArgs),
    /// Look at the database as `serve` would: print what was found, what is wrong and how to mend it
    ///
    /// Exit code 0 where everything would work, 1 where something would not, 2 where the configuration is wrong.
    Check(CheckArgs),
    /// Print the resolved configuration as TOML, each value with its source
    Config(ServeArgs),
    /// Log updates and deletes of a table too, in the file itself, so that they can be sent
    Capture(CaptureArgs),
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
