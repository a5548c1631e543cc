//! Follows a table straight from its file, without a daemon: the daemon's own feed loop and session in this process.
//! Nothing is created or switched, and the connections are closed in order, so that a writer finds the file as it left it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rusqlite::Connection;

use super::message::Message;
use super::output::Output;
use super::{beginning, none_up_to, notice};
use crate::catchup::PAGE;
use crate::cli::{TailArgs, TailSince as Asked};
use crate::commands::BadUsage;
use crate::commands::named_file::existing;
use crate::config::{
    AccessRules, AuthRules, Config, FeedConfig, JournalMode, Limits, LogFormat, WatchMode,
};
use crate::hub::{Feed, Hub, Presence, TooManyValues, View};
use crate::model::filter::Filter;
use crate::model::position::Cursor;
use crate::model::wakeup::{Waiter, Wakes};
use crate::os::interrupt::on_interrupt;
use crate::session::table_bounds::TableBounds;
use crate::session::{Batch, BatchLimits, Request, Session, Since, Step};
use crate::source::follower::FeedLoop;
use crate::sqlite::deadline::Deadline;
use crate::sqlite::discovery::discover;
use crate::sqlite::error::Unavailable;
use crate::sqlite::file::FileId;
use crate::sqlite::open::open_reading;
use crate::sqlite::open_connections::{OpenConnection, OpenConnections};
use crate::sqlite::reader::{LastRows, RowReader};
use crate::telemetry::metrics::Metrics;
use crate::text::nearest::nearest;
use crate::wire::control::Control;
use crate::wire::frame::payload;

/// How long a read waits for locks.
const BUSY: Duration = Duration::from_secs(2);
/// How long until a read that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often it is looked whether the table came or went, and whether anybody still reads the output.
const LOOK: Duration = Duration::from_secs(1);
const BATCH: BatchLimits = BatchLimits {
    runs: 1024,
    bytes: 1 << 20,
};

/// Follows the table of `args.feed` in the file `path` until interrupted.
///
/// # Errors
/// The file is not a database or can't be read, the table can't be a feed, a filter names a column there isn't, or
/// stdout can't be written. A missing file or table is waited for.
pub(super) fn follow(
    path: &Path,
    args: &TailArgs,
    unasked: Option<u32>,
    output: Output,
) -> anyhow::Result<()> {
    let waiter = Waiter::new()?;
    let stop = Arc::clone(waiter.wake());
    on_interrupt(move || stop.signal(Wakes::STOP)).context("signals can't be waited for")?;
    refuse_unreadable(path)?;
    let feed = chosen(path, args)?;

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
    );
    feed_loop.start();
    if let Some(reason) = feed_loop.unfit() {
        bail!("{reason}");
    }
    let feed = &hub.feeds[0];
    let mut tail = Tail::new(path, feed, open_connections, request(args, unasked), output)?;
    tail.refuse_unknown_columns()?;
    tail.tell_plain_beginning();

    let feed_thread = std::thread::Builder::new()
        .name("walcast-feeds".into())
        .spawn(move || feed_loop.run())?;
    let result = tail.run(&waiter);
    // Before the feed loop's connection, which tidies up when it is the last.
    tail.reader = None;
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

/// The feed that was asked for, or else the one there is.
fn chosen(path: &Path, args: &TailArgs) -> anyhow::Result<FeedConfig> {
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

fn config(path: &Path, feed: FeedConfig) -> Config {
    Config {
        database: path.to_owned(),
        listen: Vec::new(),
        metrics_listen: Vec::new(),
        journal_mode: JournalMode::Keep,
        watch: WatchMode::Auto,
        state_dir: None,
        all_tables: false,
        feeds: vec![FeedConfig {
            create: false,
            ..feed
        }],
        auth: AuthRules::default(),
        access: AccessRules::default(),
        limits: Limits::default(),
        log_level: String::new(),
        log_format: LogFormat::Auto,
        open: false,
    }
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

/// The one subscriber that `tail FILE` serves.
struct Tail<'a> {
    path: &'a Path,
    feed: &'a Arc<Feed>,
    open_connections: Arc<OpenConnections>,
    filter: Filter,
    session: Session,
    view: View,
    reader: Option<Reader>,
    presence: Presence,
    /// Rows were announced, and none has come so far.
    nothing_yet: bool,
    output: Output,
}

/// A connection for rows that are no longer, or not yet, in memory.
struct Reader {
    file: FileId,
    connection: Connection,
    rows: RowReader,
    /// Dropped after the connection.
    open_connection: OpenConnection,
}

impl<'a> Tail<'a> {
    fn new(
        path: &'a Path,
        feed: &'a Arc<Feed>,
        open_connections: Arc<OpenConnections>,
        request: Request,
        output: Output,
    ) -> Result<Tail<'a>, TooManyValues> {
        let filter = request.filter.clone();
        let session = Session::begin(feed, request)?;
        Ok(Tail {
            path,
            feed,
            open_connections,
            filter,
            session,
            view: feed.view(),
            reader: None,
            presence: Presence::Open,
            nothing_yet: false,
            output,
        })
    }

    fn refuse_unknown_columns(&self) -> anyhow::Result<()> {
        let Some(schema) = self.feed.schema() else {
            return Ok(());
        };
        let known: Vec<&str> = schema
            .exposed
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let mut columns = self.filter.terms().map(|(column, _)| column);
        match columns.find(|column| schema.place(column).is_none()) {
            Some(unknown) => bail!(
                "--filter: table {} has no column {unknown}; it has {}",
                schema.table.name,
                known.join(", ")
            ),
            None => Ok(()),
        }
    }

    /// Says where a subscription begins that is told nothing itself. Where there is no table yet, that is said instead.
    fn tell_plain_beginning(&self) {
        if !self.session.is_resumable() && self.feed.presence() == Presence::Open {
            self.tell_beginning(&self.feed.config.name, self.session.position(), true);
        }
    }

    fn tell_beginning(&self, feed: &str, after: Cursor, is_all: bool) {
        let path = self.path.display();
        notice(format_args!(
            "reading {path}, {}",
            beginning(feed, after, is_all)
        ));
    }

    fn run(&mut self, waiter: &Waiter) -> anyhow::Result<()> {
        loop {
            if waiter.take().contains(Wakes::STOP) {
                return Ok(self.output.flush()?);
            }
            self.feed.refresh(&mut self.view);
            self.tell_presence()?;
            let pause = match self.session.next(&self.view) {
                Step::Say(said) => self.tell_live(&said)?,
                Step::TakeRows => self.take_rows()?,
                Step::ReadPage => self.read_page()?,
                Step::AskBounds => self.ask_bounds()?,
                Step::Wait | Step::WaitForTable | Step::WaitForHead => {
                    // An idle connection would only keep a writer from being the last to close.
                    self.reader = None;
                    Some(LOOK)
                }
                Step::Close(_) => self.start_over()?,
            };
            if let Some(pause) = pause {
                self.output.flush()?;
                if waiter.wait(pause).contains(Wakes::STOP) || self.output.reader_is_gone() {
                    return Ok(());
                }
            }
        }
    }

    /// Where all there was is through and nothing of it was printed, that is said.
    fn tell_live(&mut self, said: &Control) -> anyhow::Result<Option<Duration>> {
        if let Control::Live { id } = said
            && std::mem::take(&mut self.nothing_yet)
        {
            self.output.flush()?;
            notice(none_up_to(id));
        }
        Ok(None)
    }

    /// Says once what keeps rows from coming, and once that they come again.
    fn tell_presence(&mut self) -> anyhow::Result<()> {
        let presence = self.feed.presence();
        if presence == self.presence {
            return Ok(());
        }
        self.output.flush()?;
        match &presence {
            Presence::Open => notice(format_args!("{} is open", self.path.display())),
            Presence::Away(absence) => notice(&absence.message),
        }
        self.presence = presence;
        self.refuse_unknown_columns()
    }

    /// The history changed under a subscription that can't be told: all of the new one is new.
    fn start_over(&mut self) -> anyhow::Result<Option<Duration>> {
        self.tell_replaced()?;
        let request = Request {
            since: Some(Since::Earliest),
            filter: self.filter.clone(),
        };
        self.session = Session::begin(self.feed, request)?;
        Ok(None)
    }

    fn tell_replaced(&mut self) -> anyhow::Result<()> {
        self.output.flush()?;
        notice("the history was replaced; starting over with its first row");
        Ok(())
    }

    fn take_rows(&mut self) -> anyhow::Result<Option<Duration>> {
        let (filter, position) = (self.session.filter_id(), self.session.position());
        let batch = Batch::gather(self.view.after(position), filter, position, BATCH);
        for (_, frame) in batch.runs.iter().flat_map(|run| run.frames()) {
            self.nothing_yet = false;
            print(&mut self.output, frame)?;
        }
        if let Some(reached) = batch.reaches {
            self.session.advance(reached);
        }
        Ok(None)
    }

    fn read_page(&mut self) -> anyhow::Result<Option<Duration>> {
        let standing = self.feed.standing();
        let (generation, position) = (self.session.generation(), self.session.position());
        if standing.generation != generation {
            return Ok(None);
        }
        let filter = Arc::clone(self.session.filter());
        let page = self.with_reader(|reader| {
            reader
                .rows
                .between(&reader.connection, position, standing.head, PAGE, &filter)
        });
        // A page of a history that was replaced meanwhile would be printed again with the new one.
        let Some(page) = page.filter(|_| self.is_current(generation)) else {
            return Ok(Some(RETRY));
        };
        let Some(page) = page else {
            bail!(
                "a column that --filter names is gone from the table {}",
                self.feed.config.table
            );
        };
        self.nothing_yet &= page.entries.is_empty();
        for index in 0..page.entries.len() {
            print(&mut self.output, &page.bytes[page.span(index)])?;
        }
        self.session.advance(page.last);
        Ok(None)
    }

    /// Returns whether what was read last is of the file that is there now, and of this history.
    fn is_current(&self, generation: u64) -> bool {
        let same_file = self
            .reader
            .as_ref()
            .is_some_and(|reader| FileId::of(self.path) == Some(reader.file));
        same_file && self.feed.standing().generation == generation
    }

    fn ask_bounds(&mut self) -> anyhow::Result<Option<Duration>> {
        let Some(bounds) = self.bounds() else {
            return Ok(Some(RETRY));
        };
        match self.session.opened(&bounds) {
            Some(Control::Reset { .. }) => self.tell_replaced()?,
            Some(Control::Hello {
                recovered: false,
                since,
                ..
            }) => {
                notice(format_args!(
                    "the id of --since can't be gone on from; starting over after id {since}"
                ));
            }
            Some(Control::Hello {
                feed, since, head, ..
            }) => {
                self.nothing_yet = since < head;
                self.tell_beginning(&feed, since, since >= head);
            }
            _ => {}
        }
        Ok(None)
    }

    /// Where the table begins; `None` where it can't be read right now.
    fn bounds(&mut self) -> Option<TableBounds> {
        let standing = self.feed.standing();
        let (filter, last) = (Arc::clone(self.session.filter()), self.session.last());
        let mut bounds = TableBounds::of(self.feed, standing);
        self.with_reader(|reader| {
            let Reader {
                connection, rows, ..
            } = reader;
            bounds.read(connection, rows)?;
            let Some(n) = last else { return Ok(()) };
            let mut newest = LastRows::new(n, bounds.head);
            while !newest.step(connection, rows, &filter)? {}
            bounds.start_of_last = newest.start();
            Ok(())
        })?;
        Some(bounds)
    }

    /// Reads with a connection to the file as it is now. `None` where that does not work at the moment; the feed loop
    /// finds out why, and its word on it is printed.
    fn with_reader<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> rusqlite::Result<T>,
    ) -> Option<T> {
        self.reader
            .take_if(|reader| !reader.open_connection.is_current());
        let schema = self.feed.schema()?;
        let file = FileId::of(self.path)?;
        let fits =
            |reader: &Reader| reader.file == file && Arc::ptr_eq(&reader.rows.schema, &schema);
        if !self.reader.as_ref().is_some_and(fits) {
            self.reader = None;
            let open_connection = self.open_connections.enter();
            let mut connection = open_reading(self.path, BUSY).ok()?;
            let deadline = Deadline::default();
            deadline.install(&mut connection).ok()?;
            let rows = RowReader::new(&self.feed.config, schema, self.feed.max_row_bytes)
                .limited_by(deadline);
            self.reader = Some(Reader {
                file,
                connection,
                rows,
                open_connection,
            });
        }
        let reader = self.reader.as_mut()?;
        let result = read(reader);
        // The feed loop soon has the table as it is now.
        let is_good = result.is_ok() && reader.rows.is_current(&reader.connection).ok()?;
        if !is_good {
            self.reader = None;
        }
        result.ok().filter(|_| is_good)
    }
}

fn print(output: &mut Output, frame: &[u8]) -> anyhow::Result<()> {
    let text = std::str::from_utf8(payload(frame))?;
    if let Message::Row { row, truncated } = Message::parse(text)? {
        output.row(row)?;
        if !truncated.is_empty() {
            output.flush()?;
            notice(format_args!(
                "too large to be printed whole, cut in the row above: {}",
                truncated.join(", ")
            ));
        }
    }
    Ok(())
}
