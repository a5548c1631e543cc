//! `walcast tail`: prints the rows of a feed as they are committed, from a running daemon or straight from the file.

mod connection;
mod file;
mod message;
mod output;
mod remote;
mod url;

use std::io;

use crate::cli::{TailArgs, TailSource};
use crate::text::harmless::harmless;
use output::Output;

/// Prints rows until it is interrupted, or until nobody reads its output any more; both are a good end.
///
/// # Errors
/// The daemon can't be reached at first, refuses the subscription, or the file holds no table that can be a feed.
/// A daemon that goes away later is waited for.
pub fn tail(args: &TailArgs) -> anyhow::Result<()> {
    let output = Output::to_stdout(args.json);
    let result = match args.source() {
        TailSource::Url(url) => remote::follow(&url, args, output),
        TailSource::File(path) => file::follow(&path, args, output),
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

/// Tells the person at the terminal what happens. Goes to stderr, so that stdout holds rows and nothing else.
fn notice(text: impl std::fmt::Display) {
    use std::io::Write as _;
    // Where even stderr is closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "walcast: {}", harmless(&text.to_string()));
}
