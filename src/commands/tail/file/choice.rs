//! Which feed of a file is followed, where several could be meant.

use std::path::Path;

use anyhow::bail;

use super::BUSY;
use crate::cli::TailArgs;
use crate::commands::BadUsage;
use crate::commands::named_file::existing;
use crate::commands::tail::commands;
use crate::config::FeedConfig;
use crate::sqlite::discovery::{Discovered, discover};
use crate::sqlite::open::open_reading;
use crate::text::nearest::did_you_mean;
use crate::text::shell::typed;

/// A feed to follow.
pub(super) struct Chosen {
    pub feed: FeedConfig,
    /// What is said where its table is not there when it is followed.
    pub missing: Option<String>,
}

impl From<FeedConfig> for Chosen {
    fn from(feed: FeedConfig) -> Chosen {
        Chosen {
            feed,
            missing: None,
        }
    }
}

/// The feed that was asked for, or else the one there is.
pub(super) fn chosen(path: &Path, args: &TailArgs) -> anyhow::Result<Chosen> {
    if args.must_exist() {
        existing(path)?;
    }
    // Where it can't be looked into yet, it is waited for.
    let found = open_reading(path, BUSY).ok();
    let found = found.and_then(|connection| discover(&connection, []).ok());
    let Discovered { mut feeds, unfit } = found.unwrap_or_default();
    let stock = FeedConfig::stock().name;
    let name = args.feed.as_deref();
    let wanted = |feed: &FeedConfig| {
        let name = name.unwrap_or(&stock);
        feed.name == name || feed.table.eq_ignore_ascii_case(name)
    };
    if let Some(place) = feeds.iter().position(wanted) {
        return Ok(feeds.swap_remove(place).into());
    }
    match (name, feeds.as_slice()) {
        (Some(name), others) => {
            // Why such a table is no feed is said where it is followed.
            let is_table = unfit.iter().any(|u| u.table.eq_ignore_ascii_case(name));
            named(path, args, name, others, is_table)
        }
        (None, []) => Ok(FeedConfig::stock().into()),
        (None, [only]) => Ok(only.clone().into()),
        (None, several) => bail!(BadUsage(format!(
            "{} has several feeds; name one:{}",
            path.display(),
            each(path, several)
        ))),
    }
}

/// A feed of this name, which is none of `others`: one that may come, where that was said or nothing else is there.
fn named(
    path: &Path,
    args: &TailArgs,
    name: &str,
    others: &[FeedConfig],
    is_table: bool,
) -> anyhow::Result<Chosen> {
    let near = did_you_mean(name, others.iter().map(|feed| &*feed.name));
    if args.must_exist() && !others.is_empty() && !is_table {
        bail!(BadUsage(format!(
            "{} has no feed {name}{near}; name one:{}\nTo wait for a table of that name:\n  walcast tail --db {} --feed {}",
            path.display(),
            each(path, others),
            typed(&path.to_string_lossy()),
            typed(name),
        )));
    }
    let missing = format!("there is no feed {name} yet{near}; waiting for a table of that name");
    Ok(Chosen {
        feed: FeedConfig::named(name),
        missing: Some(missing),
    })
}

/// The commands that follow each feed.
fn each(path: &Path, feeds: &[FeedConfig]) -> String {
    let path = path.to_string_lossy();
    let file = typed(&path);
    let followed = feeds
        .iter()
        .map(|feed| format!("{file} --feed {}", feed.name));
    commands(followed, &file)
}
