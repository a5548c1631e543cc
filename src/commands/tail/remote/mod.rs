//! Follows a feed of a running daemon: a resumable subscription that outlives its connections.

mod choice;
mod reconnect;
mod subscriber;
mod url;

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::Context as _;

use self::subscriber::Subscriber;
use crate::address::DaemonUrl;
use crate::cli::TailArgs;
use crate::commands::running_daemon::remote;
use crate::commands::tail::notice;
use crate::commands::tail::output::Output;
use crate::os::interrupt::on_interrupt;

/// Rows read ahead of the terminal or pipe; beyond it the connection waits, and the daemon with it.
const AHEAD: usize = 1024;

/// What the printing thread is told.
enum Told {
    Row(Box<str>),
    /// What comes are changes.
    OfChanges,
    Notice(String),
    Failed(anyhow::Error),
    Interrupted,
}

/// Follows `url` until interrupted.
///
/// # Errors
/// No connection at first, a refusal that will not pass by itself, or stdout can't be written. The URL names no feed, and
/// there is not just one.
pub(in crate::commands::tail) fn follow(
    url: &DaemonUrl,
    args: &TailArgs,
    unasked: Option<u32>,
    output: Output,
) -> anyhow::Result<()> {
    let (mut target, start) = url::parse(url, args, unasked);
    let daemon = remote(url, &args.tls)?;
    target.path = choice::path_of(&daemon, &target, args)?;
    let (sender, events) = sync_channel(AHEAD);
    let stop = sender.clone();
    on_interrupt(move || drop(stop.send(Told::Interrupted)))
        .context("signals can't be waited for")?;
    let subscriber = Subscriber::new(target, start, args.token.clone(), sender);
    std::thread::Builder::new()
        .name("walcast-tail".into())
        .spawn(move || subscriber.run(&daemon))?;
    print(&events, output)
}

fn print(events: &Receiver<Told>, mut output: Output) -> anyhow::Result<()> {
    loop {
        let event = match events.try_recv() {
            Ok(event) => event,
            Err(_) => {
                output.flush()?;
                match events.recv_timeout(Duration::from_secs(1)) {
                    Ok(event) => event,
                    Err(RecvTimeoutError::Timeout) if !output.reader_is_gone() => continue,
                    Err(_) => return Ok(()),
                }
            }
        };
        match event {
            Told::Row(row) => output.row(&row)?,
            Told::OfChanges => output.of_changes(),
            Told::Notice(text) => {
                output.flush()?;
                notice(text);
            }
            Told::Failed(error) => {
                output.flush()?;
                return Err(error);
            }
            Told::Interrupted => return Ok(output.flush()?),
        }
    }
}
