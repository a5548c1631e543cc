//! Which feed of a file is followed, where several could be meant.

use std::path::Path;

use anyhow::bail;

use super::BUSY;
use crate::cli::TailArgs;
use crate::commands::BadUsage;
use crate::commands::named_file::existing;
use crate::commands::tail::notice;
use crate::config::FeedConfig;
use crate::sqlite::discovery::discover;
use crate::sqlite::open::open_reading;
use crate::text::nearest::nearest;

/// The feed that was asked for, or else the one there is.
pub(super) fn chosen(path: &Path, args: &TailArgs) -> anyhow::Result<FeedConfig> {
    if args.must_exist() {
        existing(path)?;
    }
    // Where it can't be looked into yet, it is waited for.
    let found = open_reading(path, BUSY).ok();
    let found = found.and_then(|connection| discover(&connection, []).ok());
    let mut feeds = found.map(|found| found.feeds).unwrap_or_default();
    let stock = FeedConfig::stock().name;
    let name = args.feed.as_deref();
    let wanted = |feed: &FeedConfig| {
        let name = name.unwrap_or(&stock);
        feed.name == name || feed.table.eq_ignore_ascii_case(name)
    };
    if let Some(place) = feeds.iter().position(wanted) {
        return Ok(feeds.swap_remove(place));
    }
    match (name, feeds.as_slice()) {
        (Some(name), _) => {
            if let Some(near) = nearest(name, feeds.iter().map(|feed| &*feed.name)) {
                notice(format_args!(
                    "there is no feed {name}; did you mean {near}?"
                ));
            }
            Ok(FeedConfig::named(name))
        }
        (None, []) => Ok(FeedConfig::stock()),
        (None, [only]) => Ok(only.clone()),
        (None, several) => {
            let file = path.display();
            let lines = several
                .iter()
                .map(|feed| format!("\n  walcast tail {file} --feed {}", feed.name));
            bail!(BadUsage(format!(
                "{file} has several feeds; name one:{}",
                lines.collect::<String>()
            )))
        }
    }
}
