//! Follows a table straight from its file, without a daemon: the daemon's own feed loop and session in this process.
//! Nothing is created or switched, and the connections are closed in order, so that a writer finds the file as it left it.

mod choice;
mod subscriber;
mod table_reader;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};

use self::choice::{Chosen, chosen};
use self::subscriber::Subscriber;
use crate::cli::{TailArgs, TailSince as Asked};
use crate::commands::tail::output::Output;
use crate::config::{Config, FeedConfig};
use crate::hub::Hub;
use crate::model::filter::Filter;
use crate::model::position::Cursor;
use crate::model::wakeup::{Waiter, Wakes};
use crate::os::interrupt::on_interrupt;
use crate::session::{Request, Since};
use crate::source::follower::FeedLoop;
use crate::sqlite::capture::with_file_named;
use crate::sqlite::error::Unavailable;
use crate::sqlite::open::open_reading;
use crate::sqlite::open_connections::OpenConnections;
use crate::telemetry::metrics::Metrics;

/// How long a read waits for locks.
const BUSY: Duration = Duration::from_secs(2);

/// Follows the table of `args.feed` in the file `path` until interrupted.
///
/// # Errors
/// The file is not a database or can't be read, the table can't be a feed, a filter names a column there isn't, or
/// stdout can't be written. A missing file or table is waited for.
pub(in crate::commands::tail) fn follow(
    path: &Path,
    args: &TailArgs,
    unasked: Option<u32>,
    output: Output,
) -> anyhow::Result<()> {
    let waiter = Waiter::new()?;
    let stop = Arc::clone(waiter.wake());
    on_interrupt(move || stop.signal(Wakes::STOP)).context("signals can't be waited for")?;
    refuse_unreadable(path)?;
    let Chosen { feed, missing } = chosen(path, args)?;

    let config = Arc::new(config(path, feed));
    let loop_waiter = Waiter::new()?;
    let loop_wake = Arc::clone(loop_waiter.wake());
    let hub = Arc::new(Hub::new(
        config.feeds.clone(),
        0,
        &config.limits,
        Arc::clone(&loop_wake),
    ));
    let moved = Arc::clone(waiter.wake());
    hub.set_listeners(vec![Box::new(move |_| moved.signal(Wakes::FILE))]);
    let metrics = Metrics::new()?;
    let open_connections = Arc::new(OpenConnections::default());
    let mut feed_loop = FeedLoop::new(
        Arc::clone(&config),
        Arc::clone(&hub),
        loop_waiter,
        metrics,
        Arc::clone(&open_connections),
        Box::new(|| {}),
        None,
    );
    feed_loop.start();
    if let Some(reason) = feed_loop.unfit() {
        bail!(with_file_named(reason, path));
    }
    let feed = &hub.feeds[0];
    let request = request(args, unasked);
    let mut subscriber = Subscriber::new(path, feed, open_connections, request, output)?;
    subscriber.refuse_unknown_columns()?;
    subscriber.tell_plain_beginning();
    subscriber.tell_missing(missing);

    let feed_thread = std::thread::Builder::new()
        .name("walcast-feeds".into())
        .spawn(move || feed_loop.run())?;
    let result = subscriber.run(&waiter);
    // Before the feed loop's connection, which tidies up when it is the last.
    drop(subscriber);
    loop_wake.signal(Wakes::STOP);
    let ended = feed_thread.join();
    result.and(ended.map_err(|_| {
        anyhow!(
            "the thread that reads {} ended with a panic",
            path.display()
        )
    }))
}

/// What waiting would not mend is said at once.
fn refuse_unreadable(path: &Path) -> anyhow::Result<()> {
    let looked = open_reading(path, BUSY).and_then(|connection| {
        let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        read.map_err(|e| Unavailable::from_sqlite(&e, path))
    });
    match looked {
        Err(Unavailable::Broken { reason, .. }) => bail!(reason),
        _ => Ok(()),
    }
}

fn config(path: &Path, feed: FeedConfig) -> Config {
    let feed = FeedConfig {
        create: false,
        ..feed
    };
    Config::of_file(path.to_owned(), feed)
}

fn request(args: &TailArgs, unasked: Option<u32>) -> Request {
    let since = match (args.since, args.last.or(unasked)) {
        (Some(Asked::Id(id)), _) => Some(Since::Id {
            id: Cursor(id),
            epoch: args.epoch.clone(),
        }),
        (Some(Asked::Earliest), _) => Some(Since::Earliest),
        (None, Some(n)) => Some(Since::Last(n)),
        (Some(Asked::Now), _) | (None, None) => None,
    };
    let mut filter = Filter::default();
    for (column, value) in &args.filter {
        filter.accept(column, value);
    }
    Request { since, filter }
}
