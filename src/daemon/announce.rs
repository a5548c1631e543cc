//! What is said when the daemon begins to serve: a page for somebody at a terminal, one line for a log.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::sync::Arc;

use super::browser;
use crate::config::{Config, LogFormat};
use crate::hub::{Feed, Hub, Presence};
use crate::net::listener::Listener;
use crate::text::harmless::harmless;

/// Feeds that are named in the log's line; a file may have hundreds.
const NAMED_IN_LINE: usize = 12;
/// Feeds that are listed on a terminal.
const LISTED: usize = 24;

/// Says what is served and where, and opens the dashboard where that was asked for.
pub(crate) fn announce(config: &Config, hub: &Hub, listeners: &[Listener]) {
    let for_people = std::io::stderr().is_terminal() && config.log.format != LogFormat::Json;
    match for_people {
        // Where stderr is gone there is nobody left to tell.
        true => drop(
            std::io::stderr()
                .lock()
                .write_all(page(config, hub, listeners).as_bytes()),
        ),
        false => line(config, hub, listeners),
    }
    if config.open {
        match dashboard(listeners) {
            Some(url) => browser::show(url),
            None => {
                tracing::warn!("a browser can't be shown what is served on a Unix socket alone")
            }
        }
    }
}

fn line(config: &Config, hub: &Hub, listeners: &[Listener]) {
    let urls: Vec<String> = listeners.iter().map(Listener::url).collect();
    let listed: Vec<&Arc<Feed>> = hub.feeds.listed().collect();
    let mut feeds: Vec<String> = listed
        .iter()
        .take(NAMED_IN_LINE)
        .map(|feed| format!("{} at {} ({})", feed.config.name, path(feed), state(feed)))
        .collect();
    match listed.len() {
        0 => feeds.push("none yet".to_owned()),
        all if all > NAMED_IN_LINE => feeds.push(format!("and {} more", all - NAMED_IN_LINE)),
        _ => {}
    }
    let (version, urls) = (env!("CARGO_PKG_VERSION"), urls.join(" "));
    let (file, feeds) = (file_status(config, hub), feeds.join(", "));
    match file {
        FileStatus::Open(file) => {
            tracing::info!("walcast {version} serves {file} on {urls}; feeds: {feeds}");
        }
        FileStatus::Closed(why) => {
            tracing::info!("walcast {version} listens on {urls}, but {why}; feeds: {feeds}");
        }
    }
}

/// What is said of the file.
enum FileStatus {
    /// Its name and journal mode.
    Open(String),
    /// Its name, and that it serves nothing yet.
    Closed(String),
}

fn file_status(config: &Config, hub: &Hub) -> FileStatus {
    let file = config.database.display();
    if let Some(mode) = hub.journal_mode() {
        return FileStatus::Open(format!("{file} (journal mode {mode})"));
    }
    let meta = std::fs::metadata(&config.database);
    FileStatus::Closed(match meta {
        Ok(meta) if meta.is_file() && meta.len() == 0 => format!("{file} is empty so far"),
        Err(e) if e.kind() == ErrorKind::NotFound => format!("there is no {file} yet"),
        // The log has said why.
        _ => format!("{file} can't be read"),
    })
}

fn state(feed: &Feed) -> String {
    match feed.presence() {
        Presence::Open => format!("head {}", feed.head()),
        Presence::Away(absence) if absence.cause.is_unmade() => "waiting for its table".to_owned(),
        Presence::Away(_) => "not readable yet".to_owned(),
    }
}

fn path(feed: &Feed) -> &str {
    feed.config
        .ws
        .first()
        .map(String::as_str)
        .unwrap_or_default()
}

/// The dashboard's URL: a browser on this machine reaches a listener on every address by loopback.
fn dashboard(listeners: &[Listener]) -> Option<String> {
    let mut urls = listeners.iter().map(Listener::url_here);
    Some(urls.find(|url| url.starts_with("http"))? + "/")
}

fn page(config: &Config, hub: &Hub, listeners: &[Listener]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = match file_status(config, hub) {
        FileStatus::Open(file) => format!("\n  walcast {version} serves {}\n", harmless(&file)),
        FileStatus::Closed(why) => {
            format!("\n  walcast {version} listens, but {}\n", harmless(&why))
        }
    };
    let base = dashboard(listeners);
    let base = base.as_deref().map(|url| url.trim_end_matches('/'));
    for listener in listeners {
        let url = listener.url();
        let what = if url.starts_with("http") {
            "dashboard"
        } else {
            "socket"
        };
        let url = base
            .filter(|_| what == "dashboard")
            .map_or(url, |base| format!("{base}/"));
        text.push_str(&format!("  {what:<10} {url}\n"));
    }
    let feeds: Vec<&Arc<Feed>> = hub.feeds.listed().collect();
    let socket = base.map_or_else(String::new, |base| base.replacen("http", "ws", 1));
    let wide = feeds
        .iter()
        .map(|feed| feed.config.name.len())
        .max()
        .unwrap_or_default();
    let long = feeds
        .iter()
        .map(|feed| path(feed).len())
        .max()
        .unwrap_or_default()
        + socket.len();
    for feed in feeds.iter().take(LISTED) {
        let url = format!("{socket}{}", path(feed));
        text.push_str(&format!(
            "  feed       {:<wide$}  {url:<long$}  {}\n",
            feed.config.name,
            state(feed)
        ));
    }
    match (feeds.len(), feeds.first(), base) {
        (0, ..) => {
            text.push_str("  no table can be a feed yet; one that comes is served at once\n")
        }
        (_, Some(feed), Some(base)) => {
            if feeds.len() > LISTED {
                text.push_str(&format!(
                    "  and {} more: walcast feeds {base}\n",
                    feeds.len() - LISTED
                ));
            }
            let (name, path) = (&feed.config.name, path(feed));
            text.push_str(&format!(
                "\n  curl -N {base}/sse/{name}\n  walcast tail {socket}{path}\n"
            ));
        }
        _ => {}
    }
    text + "\n"
}
