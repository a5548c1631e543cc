//! The one thread that sees commits: wait for a wake, ask whether the database moved, read what is above the head,
//! publish, and go on looking for a while, because a write to the WAL is seen before the commit it belongs to.
//! It owns the read connection and the cursors, so nothing here needs a lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::config::{Config, JournalMode};
use crate::hub::Hub;
use crate::model::wakeup::{Waiter, Wakes};
use crate::source::commit_schedule::{CommitSchedule, Pause};
use crate::source::dense_commits::{self, DenseCommits};
use crate::source::table_follower::TableFollower;
use crate::sqlite::error::Unavailable;
use crate::sqlite::open::{Snapshot, schema_version};
use crate::sqlite::open_connections::OpenConnections;
use crate::sqlite::stock_table::StockTable;
use crate::sqlite::watcher::Watcher;
use crate::telemetry::metrics::Metrics;

mod database;
mod file;
mod listening;
mod tables;
mod troubles;

use tables::Tables;
use troubles::{Troubles, is_the_files};

use database::{Apart, Database, data_version, tops};

/// From so many feeds on, it is asked first which of them moved.
const PROBED: usize = 3;
/// Pages of each feed that one turn of the loop reads; a huge transaction takes many turns, and the watchdog, shutdown
/// and other wakes have theirs in between.
const ROUNDS: usize = 32;
/// How often the watched directories are compared with those the path leads to: a dozen lookups, for a rare event.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the path still names the open file while no file event would tell; that it does not
/// is to be noticed within a second.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How often a fresh connection reads the head row, to notice a file that was garbled in place.
const FRESH_READ_EVERY: Duration = Duration::from_secs(30);

/// The feed loop's state. [`run`](FeedLoop::run) it on a thread of its own.
pub struct FeedLoop {
    config: Arc<Config>,
    hub: Arc<Hub>,
    waiter: Waiter,
    metrics: Arc<Metrics>,
    open_connections: Arc<OpenConnections>,
    feeds: Vec<TableFollower>,
    /// The tables that become feeds as they come; `None` where the feeds are those of the configuration.
    tables: Option<Tables>,
    database: Option<Database>,
    /// Connections of this process may still use files that are no longer those beside the database.
    stale: bool,
    /// The stock table, as long as it may have to be made.
    creation: Option<StockTable>,
    /// Since when a lock keeps the file from being read, and whether that was said.
    locked: Option<(Instant, bool)>,
    /// What was open when something beside the file went away; told once it is clear whether the file goes, too.
    apart: Option<Apart>,
    watcher: Option<Watcher>,
    /// Whether the last attempt to watch failed, so that it is said once.
    unwatched: bool,
    schedule: CommitSchedule,
    dense_commits: DenseCommits,
    /// When the next look for a commit is due.
    next_look: Option<Instant>,
    /// Commits were seen that only some feeds were asked about.
    unprobed: bool,
    next_poll: Instant,
    next_watch: Instant,
    next_check: Instant,
    next_open: Instant,
    /// Not before this, whatever file events say: opening a broken file makes file events itself.
    may_open: Instant,
    backoff: Duration,
    next_fresh_read: Instant,
    /// What is wrong, as it was logged last.
    trouble: Option<Unavailable>,
    /// Called once per turn, so that a watchdog fed by it proves that the loop turns.
    alive: Box<dyn FnMut() + Send>,
}

/// What a look at the database brought.
enum Found {
    Nothing,
    Commits {
        /// More was written while these were read.
        writes: bool,
    },
}

impl FeedLoop {
    pub fn new(
        config: Arc<Config>,
        hub: Arc<Hub>,
        waiter: Waiter,
        metrics: Arc<Metrics>,
        open_connections: Arc<OpenConnections>,
        alive: Box<dyn FnMut() + Send>,
    ) -> FeedLoop {
        let now = Instant::now();
        let feeds = hub
            .feeds
            .iter()
            .map(|feed| TableFollower::new(Arc::clone(feed), &config, Arc::clone(&metrics)));
        FeedLoop {
            feeds: feeds.collect(),
            tables: config.all_tables.then(Tables::default),
            config,
            hub,
            waiter,
            metrics,
            open_connections,
            database: None,
            stale: false,
            apart: None,
            creation: None,
            locked: None,
            watcher: None,
            unwatched: false,
            schedule: CommitSchedule::default(),
            dense_commits: DenseCommits::default(),
            next_look: None,
            unprobed: false,
            next_poll: now,
            next_watch: now,
            next_check: now,
            next_open: now,
            may_open: now,
            backoff: Duration::ZERO,
            next_fresh_read: now + FRESH_READ_EVERY,
            trouble: None,
            alive,
        }
    }

    /// Opens what is there before anyone is served. A table that can't be a feed keeps none of the others from being one.
    pub fn start(&mut self) {
        if self.config.feeds.iter().any(|feed| feed.create) {
            let wal = self.config.journal_mode == JournalMode::Wal;
            self.creation = Some(StockTable::new(&self.config.database, wal));
        }
        self.watch();
        self.open();
    }

    /// Why a table can't be a feed, of the first that can't.
    pub fn unfit(&self) -> Option<&str> {
        self.feeds.iter().find_map(TableFollower::unfit)
    }

    /// Runs until [`Wakes::STOP`].
    pub fn run(mut self) {
        precise_sleeps();
        loop {
            let wakes = self.wait();
            if wakes.contains(Wakes::STOP) {
                break;
            }
            self.turn(wakes);
            (self.alive)();
        }
        if let Err(e) = self.sample_all() {
            tracing::debug!("no samples at the end: {e}");
        }
        self.feeds.iter_mut().for_each(TableFollower::save_at_end);
    }

    /// Samples every feed to be kept, unless there are commits that were not read.
    fn sample_all(&mut self) -> rusqlite::Result<()> {
        let Some(database) = &self.database else {
            return Ok(());
        };
        let _snapshot = Snapshot::begin(&database.connection)?;
        if Some(data_version(&database.connection)?) != database.data_version {
            return Ok(());
        }
        let mut feeds = self.feeds.iter_mut();
        feeds.try_for_each(|feed| feed.sample_to_keep(&database.connection, &self.hub))
    }

    /// Waits until something is to be done, and says what woke it.
    fn wait(&mut self) -> Wakes {
        let now = Instant::now();
        if !self.is_wal() && self.dense_commits.stop() {
            self.listen_again(now);
        }
        let pause = self.pause(now);
        self.next_look = pause.as_ref().map(|pause| pause.look_at);
        let next_turn = self.next_turn(now);
        if let Some(pause) = pause {
            let wakes = self
                .waiter
                .wait_until(pause.deaf_until.min(next_turn), None);
            if !wakes.is_empty() {
                return wakes;
            }
        }
        let watcher = self.watcher.as_ref();
        if let Some(deaf_until) = watcher.and_then(Watcher::deaf_until) {
            let wakes = self.waiter.wait_until(deaf_until.min(next_turn), None);
            if !wakes.is_empty() {
                return wakes;
            }
        }
        let events = watcher.and_then(Watcher::readable);
        self.waiter.wait_until(next_turn, events)
    }

    /// Returns whether commits can be asked for at short intervals: with a rollback journal every look takes a lock.
    fn is_wal(&self) -> bool {
        self.database.as_ref().is_some_and(|database| database.wal)
    }

    /// Until the next look for a commit, if one is expected.
    fn pause(&self, now: Instant) -> Option<Pause> {
        let wal = self.database.as_ref()?.wal;
        match self.dense_commits.is_asking() {
            true => Some(Pause::until(now + dense_commits::EVERY)),
            false => self.schedule.next(now, wal),
        }
    }

    fn next_turn(&self, now: Instant) -> Instant {
        let save = self.feeds.iter().filter_map(TableFollower::next_save).min();
        let retry = self
            .feeds
            .iter()
            .filter_map(TableFollower::next_retry)
            .min();
        let unfinished = self.is_unfinished().then_some(now);
        let open = self.database.is_none().then_some(self.next_open);
        let check = self.is_unheard().then_some(self.next_check);
        let retry = retry.filter(|_| self.database.is_some());
        let goodbye = self.next_goodbye();
        [
            save,
            retry,
            self.next_look,
            unfinished,
            open,
            check,
            goodbye,
        ]
        .into_iter()
        .flatten()
        .fold(self.next_poll, Instant::min)
    }

    /// When the feed of a dropped table goes next. While the file can't be read, nobody knows whether the table is back.
    fn next_goodbye(&self) -> Option<Instant> {
        let database = self.database.as_ref().filter(|_| self.tables.is_some())?;
        database.data_version?;
        let feeds = self.feeds.iter();
        feeds.filter_map(TableFollower::next_goodbye).min()
    }

    fn turn(&mut self, wakes: Wakes) {
        let now = Instant::now();
        let waiting = self.hub.take_waiting();
        let events = self.watcher.as_mut().map(Watcher::take);
        let wakes = wakes | events.unwrap_or_default();
        self.count(wakes);
        if wakes.contains(Wakes::FILE) {
            self.schedule.wrote(now);
        } else if wakes.contains(Wakes::NEARBY) {
            self.schedule.look_around(now);
        }
        let poll = now >= self.next_poll;
        if poll {
            self.next_poll = now + self.config.limits.poll_interval;
        }
        let unheard = self.is_unheard() && now >= self.next_check;
        if poll || unheard || wakes.contains(Wakes::REPLACED) {
            self.next_check = now + CHECK_EVERY;
            if now >= self.next_watch || wakes.contains(Wakes::REPLACED) {
                self.next_watch = now + WATCH_EVERY;
                self.watch();
            }
            self.check_file();
            self.try_wal(now);
        }
        if wakes.contains(Wakes::FILE | Wakes::NEARBY | Wakes::REPLACED) {
            self.next_open = self.next_open.min(self.may_open.max(now));
        }
        if self.database.is_none() && now >= self.next_open {
            self.open();
        }
        // The daemon's own commit is visible already.
        let expected = !waiting.is_empty() || wakes.contains(Wakes::HOOK);
        let due = self
            .feeds
            .iter()
            .any(|feed| feed.is_due(now) || feed.is_retry_due(now))
            || self.next_goodbye().is_some_and(|goes| now >= goes);
        if poll || expected || due || self.is_unfinished() || self.is_time_to_look(wakes, now) {
            self.look(poll, expected || due, now);
        }
        if self.next_goodbye().is_some_and(|goes| now >= goes) {
            let feeds = self.feeds.iter_mut();
            feeds.for_each(|feed| feed.say_goodbye(&self.hub, now));
        }
        if self.is_unfinished() {
            self.hub.keep_waiting(waiting);
        } else {
            // A look that failed has forgotten what it saw before.
            let database = self.database.as_ref();
            let seen = database.is_none_or(|database| database.data_version.is_some());
            if !waiting.is_empty() {
                self.feeds.iter_mut().for_each(TableFollower::take_filters);
            }
            for waiter in waiting {
                // Who asked may be gone.
                let _ = waiter.send(seen);
            }
        }
        self.save(now);
        if now >= self.next_fresh_read {
            self.next_fresh_read = now + FRESH_READ_EVERY;
            self.fresh_read();
        }
    }

    /// Returns whether no event would tell of another file in place of this: none are to be had, or commits are asked
    /// for.
    fn is_unheard(&self) -> bool {
        self.dense_commits.is_asking() || self.watcher.is_none()
    }

    /// Returns whether the last look left rows unread.
    fn is_unfinished(&self) -> bool {
        self.database
            .as_ref()
            .is_some_and(|database| database.unfinished)
    }

    /// Returns whether a commit may be there. Events of other files in the directory say nothing, and there may be many
    /// of them.
    fn is_time_to_look(&self, wakes: Wakes, now: Instant) -> bool {
        let touched = wakes.contains(Wakes::FILE | Wakes::NEARBY | Wakes::REPLACED);
        let due = self.next_look.is_some_and(|look| now >= look);
        // Just opened, perhaps by a timer that no event led to; or the last look failed.
        let unseen = self
            .database
            .as_ref()
            .is_some_and(|database| database.data_version.is_none());
        (touched || due || unseen) && !self.schedule.is_early(now)
    }

    fn count(&self, wakes: Wakes) {
        let files = Wakes::FILE | Wakes::NEARBY;
        for (wake, source) in [(files, "wal"), (Wakes::HOOK, "hook")] {
            if wakes.contains(wake) {
                self.metrics.wakes.with_label_values(&[source]).inc();
            }
        }
    }

    /// Looks for commits and publishes what they brought.
    fn look(&mut self, poll: bool, asked: bool, now: Instant) {
        let Some(database) = &mut self.database else {
            self.hub.beat(None);
            return;
        };
        // With a rollback journal every look takes a lock that a committing writer has to wait for; what is asked or due
        // is worth it.
        let may_wait = !poll && !asked && !database.unfinished;
        if may_wait && database.is_being_written(now) {
            return;
        }
        let thorough = poll && std::mem::take(&mut self.unprobed);
        let read = self
            .retry_feeds(now)
            .and_then(|()| self.read_feeds(thorough, now));
        match read {
            Ok(Found::Nothing) => {
                self.schedule.looked();
                self.moderate(false, now);
            }
            Ok(Found::Commits { writes }) => {
                if poll && !self.schedule.is_on() {
                    self.metrics.wakes.with_label_values(&["poll"]).inc();
                }
                self.schedule.moved(Instant::now(), writes);
                self.moderate(true, now);
            }
            Err(e) => {
                self.feeds.iter_mut().for_each(TableFollower::forget_look);
                self.moderate(false, now);
                return self.failed(e);
            }
        }
        self.recovered();
    }

    /// Reads what is above the heads if the database moved, a page of each feed in turn; when there is more than one
    /// turn's worth, the database is left `unfinished`.
    ///
    /// With many feeds, only those whose highest id moved are read at once; what can happen to the others (a newest row
    /// edited or deleted, ids starting over) waits for a `thorough` look at the next poll.
    fn read_feeds(&mut self, thorough: bool, now: Instant) -> rusqlite::Result<Found> {
        let Some(database) = &mut self.database else {
            return Ok(Found::Nothing);
        };
        let (connection, file) = (&database.connection, database.file);
        let woken = match self.dense_commits.is_asking() {
            true => self.next_look,
            false => self.schedule.begun(),
        };
        let mut first = true;
        let (mut found, mut moved_to) = (Found::Nothing, None);
        for _ in 0..ROUNDS {
            let snapshot = Snapshot::begin(connection)?;
            if moved_to.is_none() {
                let version = Some(data_version(connection)?);
                moved_to = version;
                if version != database.data_version || database.unfinished {
                    let writes = take_writes(&mut self.watcher, &self.waiter);
                    found = Found::Commits { writes };
                } else if !thorough {
                    // Not while there are feeds that a commit may have changed and nobody looked at.
                    if !self.unprobed {
                        sample(&mut self.feeds, connection, &self.hub, now)?;
                    }
                    return Ok(found);
                }
            }
            let version = schema_version(connection)?;
            if version != database.schema_version {
                drop(snapshot);
                if let Some(tables) = &mut self.tables {
                    let known = self.feeds.len();
                    tables.follow(
                        connection,
                        &mut self.feeds,
                        &self.hub,
                        &self.config,
                        &self.metrics,
                    )?;
                    database::keep_statements(connection, self.feeds.len());
                    for feed in &self.feeds[known..] {
                        tracing::info!(
                            "the table {} is new: {}",
                            feed.table_name(),
                            feed.served_at()
                        );
                    }
                }
                let mut troubles = Troubles::default();
                for (index, feed) in self.feeds.iter_mut().enumerate() {
                    let attached = feed.attach(connection, file, &self.hub, true);
                    troubles.note(index, attached)?;
                }
                troubles.settle(&mut self.feeds, &self.hub, now)?;
                (database.schema_version, database.max_ids) = (version, None);
                continue;
            }
            let tops = match first && self.feeds.len() >= PROBED && !thorough {
                // Where one of them can't be asked, each is read for itself.
                true => match tops(connection, &mut database.max_ids, &self.feeds) {
                    Err(e) if !is_the_files(&e) => None,
                    tops => Some(tops?),
                },
                false => None,
            };
            let mut troubles = Troubles::default();
            for (index, feed) in self.feeds.iter_mut().enumerate() {
                let moved = tops.as_ref().is_none_or(|tops| feed.has_moved(tops[index]));
                if (first && moved) || feed.has_more() {
                    troubles.note(index, feed.read(connection, &self.hub, woken))?;
                }
            }
            self.unprobed |= first && tops.is_some();
            first = false;
            let mut more = false;
            for (index, feed) in self.feeds.iter_mut().enumerate() {
                let published = feed.publish(connection, &self.hub, now);
                more |= feed.has_more();
                troubles.note(index, published)?;
            }
            drop(snapshot);
            if troubles.settle(&mut self.feeds, &self.hub, now)? {
                database.max_ids = None;
            }
            if !more {
                (database.unfinished, database.data_version) = (false, moved_to);
                return Ok(found);
            }
        }
        // What is left is read at the next turn, which comes at once.
        database.unfinished = true;
        Ok(found)
    }

    /// Tries to read the tables again that failed for themselves and whose time has come.
    fn retry_feeds(&mut self, now: Instant) -> rusqlite::Result<()> {
        let Some(database) = &mut self.database else {
            return Ok(());
        };
        if !self.feeds.iter().any(|feed| feed.is_retry_due(now)) {
            return Ok(());
        }
        // A page that is garbled on the disk may stand well in the cache, and the other way round.
        database.connection.execute_batch("PRAGMA shrink_memory")?;
        // What came meanwhile is to be read.
        (database.data_version, database.max_ids) = (None, None);
        let mut troubles = Troubles::default();
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            if feed.is_retry_due(now) {
                let attached = feed.attach(&database.connection, database.file, &self.hub, false);
                troubles.note(index, attached)?;
            }
        }
        troubles.settle(&mut self.feeds, &self.hub, now).map(drop)
    }

    fn recovered(&mut self) {
        self.hub.beat(None);
        // A lock that passed at once was not told of either.
        let was_locked = self.locked.take().is_some_and(|(_, told)| told);
        let was_broken = self.trouble.take().is_some_and(|trouble| {
            !matches!(trouble, Unavailable::Busy(_)) && trouble.error_kind().is_some()
        });
        if was_locked || was_broken {
            tracing::info!("{} can be read again", self.config.database.display());
        }
    }

    /// A statement failed. Locks pass by themselves; anything else means a new connection.
    fn failed(&mut self, error: rusqlite::Error) {
        let reason = Unavailable::from_sqlite(&error, &self.config.database);
        if let Unavailable::Busy(why) = &reason {
            self.tell_locked(why);
            if let Some(database) = &mut self.database {
                // Read again at the next look, which is not at once: the lock needs time to go.
                database.unfinished = false;
                database.data_version = None;
            }
        } else {
            self.database = None;
            self.close_feeds(&reason);
            self.back_off();
        }
        self.report(reason);
    }

    /// Logs what is wrong when it changes, and tells `/readyz` and the metrics.
    fn report(&mut self, reason: Unavailable) {
        if let Some(kind) = reason.error_kind() {
            self.metrics
                .database_errors
                .with_label_values(&[kind])
                .inc();
            self.hub.beat(Some(reason.public_message()));
        } else {
            self.hub.beat(None);
        }
        if self.trouble.as_ref() != Some(&reason) {
            match reason {
                // Common and short; `/readyz` and the metric tell when it is not.
                Unavailable::Busy(_) => tracing::debug!("{reason}"),
                Unavailable::NoFile(_) | Unavailable::Empty(_) | Unavailable::NoTable(_) => {
                    tracing::warn!("{reason}");
                }
                Unavailable::Broken { .. } => tracing::error!("{reason}"),
            }
            self.trouble = Some(reason);
        }
    }

    fn close_feeds(&mut self, reason: &Unavailable) {
        self.hub.set_journal_mode("");
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            if feed.close(reason) {
                self.hub.announce(index);
            }
        }
    }

    fn save(&mut self, now: Instant) {
        let due = self.feeds.iter_mut().filter(|feed| feed.is_due(now));
        due.for_each(TableFollower::save);
    }
}

/// Takes the samples that are due of feeds whose rows were all read.
fn sample(
    feeds: &mut [TableFollower],
    connection: &Connection,
    hub: &Hub,
    now: Instant,
) -> rusqlite::Result<()> {
    let mut troubles = Troubles::default();
    for (index, feed) in feeds.iter_mut().enumerate() {
        if feed.wants_sample(now) {
            troubles.note(index, feed.sample_to_keep(connection, hub))?;
        }
    }
    troubles.settle(feeds, hub, now).map(drop)
}

/// Takes the events there are, and says whether there was a write among them. What was written up to now is of the
/// commits just seen, most likely; of one that is still to be seen, the schedule that follows every commit takes care.
fn take_writes(watcher: &mut Option<Watcher>, waiter: &Waiter) -> bool {
    let events = watcher.as_mut().map(Watcher::take).unwrap_or_default();
    if events.contains(Wakes::REPLACED) {
        waiter.wake().signal(Wakes::REPLACED);
    }
    events.contains(Wakes::FILE)
}

/// Makes sleeps of 20 µs last about that long: the kernel's default slack of 50 µs would more than double them.
fn precise_sleeps() {
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1_000)) {
        tracing::debug!("timers stay coarse: {e}");
    }
}
