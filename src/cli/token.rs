//! The arguments of `walcast token`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// What to do with the tokens of a file.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// Which file of tokens.
#[derive(Debug, Clone, Args)]
pub struct TokenFileArgs {
    /// TOML configuration file, whose `auth.tokens` names the file of tokens; without it --tokens is needed
    #[arg(long, value_name = "FILE", env = "WALCAST_CONFIG", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,

    /// The file of tokens itself, in place of --config. What changes it keeps its owner, group and mode; one that root makes belongs to the
    /// owner and the group of its directory
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tokens: Option<PathBuf>,
}

/// What is done.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, once
    Add {
        /// Who holds it, as logs and lists call it
        name: String,
        #[command(flatten)]
        grant: GrantArgs,
        /// Print a link to the dashboard at this address that carries the token, instead of the token alone
        #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
        link: Option<String>,
        #[command(flatten)]
        file: TokenFileArgs,
    },
    /// Replace what a token may do; its connections come back and resume
    Set {
        /// Who holds it
        name: String,
        #[command(flatten)]
        grant: GrantArgs,
        #[command(flatten)]
        file: TokenFileArgs,
    },
    /// List the tokens and what each may do
    List {
        #[command(flatten)]
        file: TokenFileArgs,
    },
    /// Revoke a token; its connections are closed within a second
    Revoke {
        /// Who holds it
        name: String,
        #[command(flatten)]
        file: TokenFileArgs,
    },
    /// Say what a token or a JWT may do, or why it is not good
    Show {
        /// The token or JWT, or `-` to read it from stdin, which keeps it out of the shell's history
        token: String,
        #[command(flatten)]
        file: TokenFileArgs,
    },
}

/// What a token may do.
#[derive(Debug, Clone, Args)]
pub struct GrantArgs {
    /// A feed it may read; give it once for each
    #[arg(long = "feed", value_name = "FEED")]
    pub feeds: Vec<String>,

    /// Only rows with this value in this column; several values of one column mean "or", several columns "and"
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = column_and_value)]
    pub columns: Vec<(String, String)>,

    /// It may also write rows, to feeds that take any
    #[arg(long)]
    pub ingest: bool,

    /// It may also read /metrics, which tells of all feeds
    #[arg(long)]
    pub metrics: bool,

    /// It is for `walcast edge`: it takes the rows of its feeds whole, all of them where no --where says which
    #[arg(long)]
    pub edge: bool,

    /// For how long it is good, e.g. 90d, 12h or 30m [default: until it is revoked]
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
}

fn column_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column.to_owned(), value.to_owned())),
        _ => Err("write COLUMN=VALUE, e.g. customer=acme".to_owned()),
    }
}
