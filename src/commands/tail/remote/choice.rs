//! Which feed of a daemon is followed, where its URL names none.

use anyhow::bail;
use serde_json::Value;

use super::url::FeedUrl;
use crate::cli::TailArgs;
use crate::commands::BadUsage;
use crate::commands::running_daemon::feeds_of;
use crate::commands::tail::commands;
use crate::net::remote_daemon::RemoteDaemon;
use crate::text::nearest::did_you_mean;

/// Returns the path of the feed to follow: the one in the URL, the one that `--feed` names, or that of the only one.
///
/// # Errors
/// The daemon can't be asked, or it has not just one feed that was meant; then those it has are named.
pub(super) fn path_of(
    daemon: &RemoteDaemon,
    target: &FeedUrl,
    args: &TailArgs,
) -> anyhow::Result<String> {
    if !target.path.is_empty() {
        if args.feed.is_some() {
            bail!(BadUsage(format!(
                "--feed names a feed, and so does the path of {}; leave one of them out",
                target.shown()
            )));
        }
        return Ok(target.path.clone());
    }
    let token = args.token.read()?;
    let feeds = feeds_of(daemon, token.as_deref())?;
    let feeds: Vec<Listed> = feeds.iter().filter_map(Listed::new).collect();
    choose(&feeds, target, args.feed.as_deref()).map(str::to_owned)
}

/// A feed as the daemon lists it.
struct Listed<'a> {
    name: &'a str,
    table: &'a str,
    path: &'a str,
}

impl Listed<'_> {
    fn new(feed: &Value) -> Option<Listed<'_>> {
        Some(Listed {
            name: feed["name"].as_str()?,
            table: feed["table"].as_str().unwrap_or_default(),
            path: feed["ws"][0].as_str()?,
        })
    }
}

fn choose<'a>(
    feeds: &[Listed<'a>],
    target: &FeedUrl,
    wanted: Option<&str>,
) -> anyhow::Result<&'a str> {
    let place = target.shown();
    let is_wanted = |feed: &&Listed<'_>| {
        wanted.is_some_and(|name| feed.name == name || feed.table.eq_ignore_ascii_case(name))
    };
    match (feeds.iter().find(is_wanted), wanted, feeds) {
        (Some(feed), ..) | (None, None, [feed]) => Ok(feed.path),
        (None, _, []) => bail!(
            "{place} has no feed yet; a table with an integer primary key becomes one where the daemon serves every table"
        ),
        (None, Some(name), _) => bail!(BadUsage(format!(
            "{place} has no feed {name}{}; {}",
            did_you_mean(name, feeds.iter().map(|feed| feed.name)),
            each(feeds, &place)
        ))),
        (None, None, _) => bail!(BadUsage(format!(
            "{place} has several feeds; {}",
            each(feeds, &place)
        ))),
    }
}

/// The commands that follow each feed.
fn each(feeds: &[Listed<'_>], place: &str) -> String {
    let followed = feeds.iter().map(|feed| format!("{place}{}", feed.path));
    format!("name one:{}", commands(followed, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_feed_or_the_named_one_is_meant() {
        let feed = |name, table, path| Listed { name, table, path };
        let orders = || feed("orders", "Orders", "/ws/orders");
        let notes = || feed("notes", "notes", "/live/notes");
        let target = FeedUrl::of(&"ws://h:1".parse().unwrap());
        let chosen = |feeds: &[Listed<'static>], wanted| choose(feeds, &target, wanted);
        assert_eq!(chosen(&[orders()], None).unwrap(), "/ws/orders");
        let both = [orders(), notes()];
        assert_eq!(chosen(&both, Some("notes")).unwrap(), "/live/notes");
        assert_eq!(chosen(&both, Some("ORDERS")).unwrap(), "/ws/orders");
        let why = |wanted| chosen(&both, wanted).unwrap_err();
        assert!(why(None).is::<BadUsage>());
        let listed = "walcast tail ws://h:1/ws/orders\n  walcast tail ws://h:1/live/notes";
        assert!(why(None).to_string().contains(listed));
        assert!(why(Some("order")).to_string().contains("\"orders\"?"));
        assert!(
            chosen(&[], None)
                .unwrap_err()
                .to_string()
                .contains("no feed yet")
        );
    }
}
