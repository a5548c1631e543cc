//! The arguments of `tail`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::{ArgGroup, Args, ValueHint};

use super::serve::Suggested;
use super::{ClientTls, ClientToken};
use crate::address::{DaemonUrl, DaemonUrlError};
use crate::model::filter::RESERVED;

/// What to follow, and from where on.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("followed").required(true).args(["url", "db"])))]
pub struct TailArgs {
    /// Feed of a running daemon, e.g. ws://127.0.0.1:8010/ws/remediation, or a SQLite file to follow without a daemon
    ///
    /// A URL without a path is enough where the daemon has one feed; the feeds of another are listed.
    #[arg(value_name = "URL|FILE", value_parser = tail_source, value_hint = ValueHint::FilePath)]
    url: Option<TailSource>,

    /// SQLite file to follow without a daemon; it need not exist yet, nor its table
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

    /// Only rows with this value; one column repeated means "or", several columns mean "and"
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = column_filter)]
    pub filter: Vec<(String, String)>,

    /// Print JSON lines on a terminal too
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub token: ClientToken,
    #[command(flatten)]
    pub tls: ClientTls,
}

/// What `tail` follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailSource {
    /// A feed of a running daemon.
    Url(DaemonUrl),
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
        true => {
            let url = text.parse().map_err(|e: DaemonUrlError| e.to_string())?;
            Ok(TailSource::Url(url))
        }
        false => Ok(TailSource::File(text.into())),
    }
}
