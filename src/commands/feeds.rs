//! `walcast feeds`: which feeds a file has, or a running daemon serves.

use std::io::{self, Write as _};

use anyhow::bail;
use serde_json::Value;

use super::BadUsage;
use super::running_daemon::{Door, feeds_of, not_ready, remote};
use super::shapes::shapes;
use crate::address::{DaemonUrl, DaemonUrlError};
use crate::cli::{ClientTls, ClientToken};
use crate::commands::named_file::existing;
use crate::config::Config;
use crate::net::remote_daemon::RemoteDaemon;
use crate::text::columns::{padded, width};
use crate::text::harmless::harmless;

/// Prints the feeds of the daemon at `target` where it is a URL, else those of the configured file, and what can't be
/// one. `false` where some feed can't be read.
///
/// # Errors
/// There is no daemon, or no database that can be read.
pub fn feeds(
    target: Option<&str>,
    config: &Config,
    token: &ClientToken,
    tls: &ClientTls,
) -> anyhow::Result<bool> {
    match target.filter(|target| target.contains("://")) {
        Some(url) => of_daemon(&daemon_at(url, tls)?, token.read()?.as_deref()),
        None => of_file(target.is_some(), config),
    }
}

/// Asks whether the daemon at `target`, else the one that listens where the configuration says, can serve rows.
///
/// # Errors
/// It can't, there is none, or `target` is a file.
pub fn ready(target: Option<&str>, config: &Config, tls: &ClientTls) -> anyhow::Result<()> {
    let door = match (target, config.listen.first()) {
        (Some(url), _) if url.contains("://") => Door::Url(daemon_at(url, tls)?),
        (Some(file), _) => bail!(BadUsage(format!(
            "--ready asks a running daemon, and {file} is none; give its address, e.g. http://127.0.0.1:8010"
        ))),
        (None, Some(listen)) => Door::of_listener(listen, config.tls.is_on()),
        (None, None) => bail!(BadUsage(
            "--ready needs the daemon's address, e.g. http://127.0.0.1:8010".to_owned()
        )),
    };
    match not_ready(&door)? {
        None => Ok(()),
        Some(reason) => bail!("not ready: {reason}"),
    }
}

fn daemon_at(text: &str, tls: &ClientTls) -> anyhow::Result<RemoteDaemon> {
    let url: DaemonUrl = text
        .parse()
        .map_err(|e: DaemonUrlError| BadUsage(format!("{text}: {e}")))?;
    Ok(remote(&url, tls)?)
}

/// Lines of cells.
type TextTable = Vec<Vec<String>>;

fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn of_file(named: bool, config: &Config) -> anyhow::Result<bool> {
    if named {
        existing(&config.database)?;
    }
    let found = shapes(config)?;
    let mut table = vec![heading(&["FEED", "TABLE", "KEY", "HEAD", "PATH"])];
    for shape in &found.feeds {
        table.push(vec![
            shape.feed.name.clone(),
            shape.schema.shown().0.to_owned(),
            shape.schema.table.key_name().to_owned(),
            shape.head.to_string(),
            shape.feed.ws.join(" "),
        ]);
    }
    print(&table)?;
    for unfit in &found.unfit {
        eprintln!("walcast: {}", harmless(&unfit.to_string()));
    }
    Ok(!found.feeds.is_empty())
}

fn of_daemon(daemon: &RemoteDaemon, token: Option<&str>) -> anyhow::Result<bool> {
    let feeds = feeds_of(daemon, token)?;
    let mut table = vec![heading(&[
        "FEED",
        "TABLE",
        "KEY",
        "HEAD",
        "SUBSCRIBERS",
        "PATH",
        "STATUS",
    ])];
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mut sound = true;
    for feed in &feeds {
        let status = match &feed["reason"] {
            Value::String(reason) => format!("{}: {reason}", text(&feed["status"])),
            _ => text(&feed["status"]),
        };
        sound &= feed["status"] != "error";
        let mut line: Vec<String> = ["name", "table", "key", "head", "subscribers"]
            .iter()
            .map(|key| text(&feed[*key]))
            .collect();
        line.extend([text(&feed["ws"][0]), status]);
        table.push(line);
    }
    print(&table)?;
    Ok(sound)
}

/// Prints lines with their cells in columns. Where nobody reads it any more, nobody needs the rest.
fn print(table: &TextTable) -> io::Result<()> {
    let columns = table.iter().map(Vec::len).max().unwrap_or_default();
    let cell = |line: &[String], column: usize| harmless(&line[column]).into_owned();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            table
                .iter()
                .map(|line| width(&cell(line, column)))
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for line in table {
        let cells: Vec<String> = (0..line.len())
            .map(|column| padded(&cell(line, column), widths[column]))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
