//! `walcast tail`: prints the rows of a feed as they are committed, from a running daemon or straight from the file.

mod changes;
mod file;
mod message;
mod output;
mod remote;

use std::io::{self, IsTerminal as _};

use crate::cli::{TailArgs, TailSource};
use crate::text::harmless::harmless;
use output::Output;

/// Rows of before that are shown on a terminal where nothing was said of where to begin: enough to see what comes here.
const SHOWN_UNASKED: u32 = 10;

/// Feeds that are listed where one has to be chosen. What is said above them stays on the screen.
const LISTED: usize = 16;

/// Prints rows until it is interrupted, or until nobody reads its output any more; both are a good end.
///
/// # Errors
/// The daemon can't be reached at first, refuses the subscription, or the file holds no table that can be a feed.
/// A daemon that goes away later is waited for.
pub fn tail(args: &TailArgs) -> anyhow::Result<()> {
    let output = Output::to_stdout(args.json);
    let unasked = io::stdout().is_terminal().then_some(SHOWN_UNASKED);
    let result = match args.source() {
        TailSource::Url(url) => remote::follow(&url, args, unasked, output),
        TailSource::File(path) => file::follow(&path, args, unasked, output),
    };
    match result {
        Err(e)
            if e.downcast_ref::<io::Error>()
                .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// The commands that follow each feed, to be pasted; of many the first, and where the others are listed.
fn commands(followed: impl ExactSizeIterator<Item = String>, place: &str) -> String {
    let more = followed.len().saturating_sub(LISTED);
    let lines = followed.take(LISTED);
    let lines: String = lines.map(|one| format!("\n  walcast tail {one}")).collect();
    match more {
        0 => lines,
        more => format!("{lines}\n  and {more} more: walcast feeds {place}"),
    }
}

/// What is said where a subscription begins: where from, and that there is nothing to print yet where that is so.
fn beginning(feed: &str, after: impl std::fmt::Display, is_all: bool) -> String {
    let waits = if is_all { "; waiting for rows" } else { "" };
    format!("feed {feed} after id {after}{waits}")
}

/// What is said where none of the rows that were there had to be printed.
fn none_up_to(id: impl std::fmt::Display) -> String {
    format!("no row up to id {id} is asked for; waiting for rows")
}

/// Tells the person at the terminal what happens. Goes to stderr, so that stdout holds rows and nothing else.
fn notice(text: impl std::fmt::Display) {
    use std::io::Write as _;
    // Where even stderr is closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "walcast: {}", harmless(&text.to_string()));
}
