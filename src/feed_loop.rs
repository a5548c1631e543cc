//! The one thread that sees commits: wait for a wake, ask whether the database moved, read what is above the head,
//! publish, and go on looking for a while, because a write to the WAL is seen before the commit it belongs to.
//! It owns the read connection and the cursors, so nothing here needs a lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::chase::{Chase, Pause};
use crate::config::{Config, JournalMode};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::moderation::{self, Moderation};
use crate::sqlite::creation::{Attempt, Creation, STOCK_TABLE};
use crate::sqlite::lock_holder;
use crate::sqlite::open::{Snapshot, Unavailable, journal_mode, open_reading, schema_version};
use crate::sqlite::openings::Openings;
use crate::sqlite::other_name;
use crate::sqlite::watcher::Watcher;
use crate::tracked::Tracked;
use crate::wake::{Waiter, Wakes};

mod database;
mod troubles;

use troubles::{Troubles, is_the_files};

use database::{Apart, BUSY, Database, Standing, data_version, tops};

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
/// From the removal of a database's companions until another file is in its place, where that is being moved there.
const REPLACING: Duration = Duration::from_millis(200);
/// How long all other connections of the process may take to close. Reads are short; where one is not, it is waited for
/// again.
const CLOSE_PATIENCE: Duration = Duration::from_millis(100);
/// How often a fresh connection reads the head row, to notice a file that was garbled in place.
const FRESH_READ_EVERY: Duration = Duration::from_secs(30);
/// A lock that lasts so long is worth a line in the log ...
const LOCKED_FOR_LONG: Duration = Duration::from_millis(250);
/// ... and after some time is asked for no more often than this.
const LONGEST_LOCKED: Duration = Duration::from_millis(100);
/// How often switching to WAL is tried while somebody keeps the file from it.
const WAL_RETRY: Duration = Duration::from_secs(1);
/// How soon a broken file is tried again after a file event.
const REOPEN: Duration = Duration::from_millis(250);
/// How often a file that can't be opened is tried again, at most. A file event tries at once.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The feed loop's state. [`run`](FeedLoop::run) it on a thread of its own.
pub struct FeedLoop {
    config: Arc<Config>,
    hub: Arc<Hub>,
    waiter: Waiter,
    metrics: Arc<Metrics>,
    openings: Arc<Openings>,
    feeds: Vec<Tracked>,
    database: Option<Database>,
    /// Connections of this process may still use files that are no longer those beside the database.
    stale: bool,
    /// The stock table, as long as it may have to be made.
    creation: Option<Creation>,
    /// Since when a lock keeps the file from being read, and whether that was said.
    locked: Option<(Instant, bool)>,
    /// What was open when something beside the file went away; told once it is clear whether the file goes, too.
    apart: Option<Apart>,
    watcher: Option<Watcher>,
    /// Whether the last attempt to watch failed, so that it is said once.
    unwatched: bool,
    chase: Chase,
    moderation: Moderation,
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
        openings: Arc<Openings>,
        alive: Box<dyn FnMut() + Send>,
    ) -> FeedLoop {
        let now = Instant::now();
        let feeds = hub
            .feeds
            .iter()
            .map(|feed| Tracked::new(Arc::clone(feed), &config, Arc::clone(&metrics)));
        FeedLoop {
            feeds: feeds.collect(),
            config,
            hub,
            waiter,
            metrics,
            openings,
            database: None,
            stale: false,
            apart: None,
            creation: None,
            locked: None,
            watcher: None,
            unwatched: false,
            chase: Chase::default(),
            moderation: Moderation::default(),
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

    /// Opens what is there before anyone is served. An error is one that a restart would not mend: a table that can't
    /// be a feed.
    pub fn start(&mut self) -> Result<(), String> {
        if self.config.feeds.iter().any(|feed| feed.create) {
            let wal = self.config.journal_mode == JournalMode::Wal;
            self.creation = Some(Creation::new(&self.config.database, wal));
        }
        self.watch();
        self.open();
        // One unfit table does not keep the others from being served.
        let unfit: Option<Vec<&str>> = self.feeds.iter().map(Tracked::unfit).collect();
        match unfit.and_then(|reasons| reasons.first().map(|reason| (*reason).to_owned())) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
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
        self.feeds.iter_mut().for_each(Tracked::save_at_end);
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
        if !self.is_wal() && self.moderation.stop() {
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

    /// Whether commits can be asked for at short intervals: with a rollback journal every look takes a lock.
    fn is_wal(&self) -> bool {
        self.database.as_ref().is_some_and(|database| database.wal)
    }

    /// Until the next look for a commit, if one is expected.
    fn pause(&self, now: Instant) -> Option<Pause> {
        let wal = self.database.as_ref()?.wal;
        match self.moderation.is_asking() {
            true => Some(Pause::until(now + moderation::EVERY)),
            false => self.chase.next(now, wal),
        }
    }

    fn next_turn(&self, now: Instant) -> Instant {
        let save = self.feeds.iter().filter_map(Tracked::next_save).min();
        let retry = self.feeds.iter().filter_map(Tracked::next_retry).min();
        let unfinished = self.is_unfinished().then_some(now);
        let open = self.database.is_none().then_some(self.next_open);
        let check = self.is_unheard().then_some(self.next_check);
        let retry = retry.filter(|_| self.database.is_some());
        [save, retry, self.next_look, unfinished, open, check]
            .into_iter()
            .flatten()
            .fold(self.next_poll, Instant::min)
    }

    fn turn(&mut self, wakes: Wakes) {
        let now = Instant::now();
        let waiting = self.hub.take_waiting();
        let events = self.watcher.as_mut().map(Watcher::take);
        let wakes = wakes | events.unwrap_or_default();
        self.count(wakes);
        if wakes.contains(Wakes::FILE) {
            self.chase.wrote(now);
        } else if wakes.contains(Wakes::NEARBY) {
            self.chase.look_around(now);
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
            .any(|feed| feed.is_due(now) || feed.is_retry_due(now));
        if poll || expected || due || self.is_unfinished() || self.is_time_to_look(wakes, now) {
            self.look(poll, expected || due, now);
        }
        if self.is_unfinished() {
            self.hub.keep_waiting(waiting);
        } else {
            // A look that failed has forgotten what it saw before.
            let database = self.database.as_ref();
            let seen = database.is_none_or(|database| database.data_version.is_some());
            if !waiting.is_empty() {
                self.feeds.iter_mut().for_each(Tracked::take_filters);
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

    /// Whether no event would tell of another file in place of this: none are to be had, or commits are asked for.
    fn is_unheard(&self) -> bool {
        self.moderation.is_asking() || self.watcher.is_none()
    }

    /// Whether the last look left rows unread.
    fn is_unfinished(&self) -> bool {
        self.database
            .as_ref()
            .is_some_and(|database| database.unfinished)
    }

    /// Whether a commit may be there. Events of other files in the directory say nothing, and there may be many of them.
    fn is_time_to_look(&self, wakes: Wakes, now: Instant) -> bool {
        let touched = wakes.contains(Wakes::FILE | Wakes::NEARBY | Wakes::REPLACED);
        let due = self.next_look.is_some_and(|look| now >= look);
        // Just opened, perhaps by a timer that no event led to; or the last look failed.
        let unseen = self
            .database
            .as_ref()
            .is_some_and(|database| database.data_version.is_none());
        (touched || due || unseen) && !self.chase.is_early(now)
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
                self.chase.looked();
                self.moderate(false, now);
            }
            Ok(Found::Commits { writes }) => {
                if poll && !self.chase.is_on() {
                    self.metrics.wakes.with_label_values(&["poll"]).inc();
                }
                self.chase.moved(Instant::now(), writes);
                self.moderate(true, now);
            }
            Err(e) => {
                self.feeds.iter_mut().for_each(Tracked::forget_look);
                self.moderate(false, now);
                return self.failed(e);
            }
        }
        self.recovered();
    }

    /// Chooses between hearing of writes and asking for commits.
    fn moderate(&mut self, found: bool, began: Instant) {
        if !self.is_wal() {
            return;
        }
        if found && self.moderation.is_asking() && self.watcher.is_some() {
            self.count(Wakes::FILE);
        }
        let ended = Instant::now();
        if self.moderation.looked(found, began, ended) {
            match self.moderation.is_asking() {
                true => self.stop_listening(),
                false => self.listen_again(ended),
            }
        }
    }

    fn stop_listening(&mut self) {
        tracing::debug!("commits come densely: asked for, no file events");
        if let Some(watcher) = &mut self.watcher {
            watcher.pause();
        }
    }

    fn listen_again(&mut self, now: Instant) {
        tracing::debug!("commits are told of by file events again");
        // Without its directory a watcher is no use; the next turn starts another.
        self.watcher.take_if(|watcher| watcher.resume().is_err());
        // What happened meanwhile brought no event: a commit that is not visible yet, another file in place of this.
        self.chase.look_soon(now);
        self.waiter.wake().signal(Wakes::REPLACED);
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
        let woken = match self.moderation.is_asking() {
            true => self.next_look,
            false => self.chase.begun(),
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
                let mut troubles = Troubles::default();
                for (index, feed) in self.feeds.iter_mut().enumerate() {
                    let attached = feed.attach(connection, file, &self.hub, true);
                    troubles.note(index, attached)?;
                }
                troubles.settle(&mut self.feeds, &self.hub, now)?;
                (database.schema_version, database.probe) = (version, None);
                continue;
            }
            let tops = match first && self.feeds.len() >= PROBED && !thorough {
                // Where one of them can't be asked, each is read for itself.
                true => match tops(connection, &mut database.probe, &self.feeds) {
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
                database.probe = None;
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
        (database.data_version, database.probe) = (None, None);
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
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            if feed.close(reason) {
                self.hub.announce(index);
            }
        }
    }

    fn back_off(&mut self) {
        self.may_open = Instant::now() + REOPEN;
        let least = self.config.limits.poll_interval.min(MAX_BACKOFF);
        self.backoff = (self.backoff * 2).clamp(least, MAX_BACKOFF);
        self.next_open = Instant::now() + self.backoff;
    }

    /// Is what is open still what the path leads to?
    fn check_file(&mut self) {
        let Some(database) = &self.database else {
            return;
        };
        let standing = database.standing();
        if standing == Standing::Same {
            return;
        }
        self.database = None;
        self.next_open = Instant::now();
        let path = self.config.database.display();
        match standing {
            Standing::Same => {}
            Standing::Gone => {
                let reason = Unavailable::NoFile(self.config.database.clone());
                self.close_feeds(&reason);
                self.report(reason);
            }
            Standing::Renamed => {
                tracing::info!(
                    "{path} has other names than it had, or is in another mode: opened anew"
                );
                self.stale = true;
            }
            Standing::Replaced => tracing::info!("{path} was replaced by another file"),
            Standing::Apart(apart) => {
                // Who moves another file into place removes these first: give him the time.
                self.next_open += REPLACING;
                self.may_open = self.next_open;
                self.apart = Some(apart);
                self.stale = true;
            }
        }
    }

    /// Says what it means that something beside the file went away.
    fn tell_apart(&self, apart: &Apart) {
        let path = self.config.database.display();
        if !apart.is_same_file(&self.config.database) {
            return tracing::info!("{path} was replaced by another file");
        }
        let suffixes = apart.suffixes();
        let lost = match suffixes.contains(&"-wal") {
            true => format!(
                "commits that were in it alone are lost (sent so far: {}); ",
                self.positions()
            ),
            false => String::new(),
        };
        tracing::warn!(
            "{} of {path} went away while the database was in use: it is opened anew; {lost}other programs that have it open \
             go on writing to files that nobody else sees: restart them",
            suffixes.join(" and "),
        );
    }

    /// How far each feed was sent, for the log.
    fn positions(&self) -> String {
        let positions = self.feeds.iter().map(Tracked::position);
        positions.collect::<Vec<_>>().join(", ")
    }

    /// Whether a connection opened now would be fresh: all those of before are closed.
    fn is_fresh(&mut self) -> bool {
        self.stale = self.stale && !self.openings.close_all(CLOSE_PATIENCE);
        !self.stale
    }

    /// Makes the stock table while that is still to be done.
    fn create(&mut self) {
        let Some(creation) = &self.creation else {
            return;
        };
        let path = self.config.database.display();
        match creation.attempt() {
            Attempt::Later => return,
            Attempt::NotOurs => {}
            Attempt::Made(what) => tracing::info!("{what}"),
            Attempt::OthersTables(tables) => tracing::info!(
                "{path} is not walcast's own, so the table {STOCK_TABLE} is not created in it, but waited for; tables there \
                 are: {}",
                tables.join(", ")
            ),
            Attempt::Failed(reason) => {
                tracing::warn!("the stock table was not created: {reason}");
            }
        }
        self.creation = None;
    }

    /// Says, once it has lasted for a while, who keeps the file locked. Gives for how long that has been.
    fn tell_locked(&mut self, reason: &str) -> Duration {
        let (since, told) = self.locked.get_or_insert((Instant::now(), false));
        let waited = since.elapsed();
        if waited >= LOCKED_FOR_LONG && !std::mem::replace(told, true) {
            let holder = lock_holder::of(&self.config.database);
            let holder = holder.map_or_else(String::new, |holder| format!(", held by {holder}"));
            tracing::warn!("{reason}{holder}; rows are read as soon as the lock is gone");
        }
        waited
    }

    fn open(&mut self) {
        if !self.is_fresh() {
            return;
        }
        self.create();
        if let Some(apart) = self.apart.take() {
            self.tell_apart(&apart);
        }
        if let Some(watcher) = &mut self.watcher {
            watcher.refresh();
        }
        match Database::open(&self.config) {
            Ok(database) => {
                if let Err(e) = self.attach_feeds(&database) {
                    let reason = Unavailable::from_sqlite(&e, &self.config.database);
                    self.close_feeds(&reason);
                    if let Unavailable::Busy(why) = &reason {
                        self.tell_locked(why);
                    }
                    self.report(reason);
                    return self.back_off();
                }
                self.backoff = Duration::ZERO;
                self.hub.set_journal_mode(&database.mode);
                self.database = Some(database);
                self.creation = None;
                self.try_wal(Instant::now());
                // A table that is missing, unfit or broken has been reported by its feed; the file itself is well.
                if self.feeds.iter().all(Tracked::is_open) {
                    self.recovered();
                }
            }
            Err(reason) => {
                self.close_feeds(&reason);
                match &reason {
                    // Waiting costs one `stat` a poll; backing off would only make the first row late.
                    Unavailable::NoFile(_) | Unavailable::Empty(_) => {
                        self.next_open = self.next_poll;
                    }
                    // A writer that creates the file, most likely; done in a moment.
                    Unavailable::Busy(reason) => {
                        let waited = self.tell_locked(reason);
                        self.next_open = Instant::now() + (waited / 8).clamp(BUSY, LONGEST_LOCKED);
                    }
                    // Looking costs a few system calls, and no file event tells of a link that is gone.
                    Unavailable::Broken { kind, .. }
                        if other_name::public_message(kind).is_some() =>
                    {
                        self.next_open = Instant::now() + WATCH_EVERY;
                    }
                    _ => self.back_off(),
                }
                self.report(reason);
            }
        }
    }

    fn attach_feeds(&mut self, database: &Database) -> rusqlite::Result<()> {
        let mut troubles = Troubles::default();
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            let attached = feed.attach(&database.connection, database.file, &self.hub, false);
            troubles.note(index, attached)?;
        }
        troubles
            .settle(&mut self.feeds, &self.hub, Instant::now())
            .map(drop)
    }

    /// Keeps watching the right directories.
    fn watch(&mut self) {
        if self
            .watcher
            .as_ref()
            .is_some_and(|watcher| watcher.is_current(&self.config.database))
        {
            return;
        }
        match Watcher::start(&self.config.database, Arc::clone(self.waiter.wake())) {
            Ok(mut watcher) => {
                if self.moderation.is_asking() {
                    watcher.pause();
                }
                if self.unwatched {
                    tracing::info!("file events are back");
                }
                self.watcher = Some(watcher);
                self.unwatched = false;
                // What happened before the watch began brought no event.
                self.chase.look_around(Instant::now());
            }
            Err(e) => {
                self.watcher = None;
                if !self.unwatched {
                    let interval = self.config.limits.poll_interval.as_millis();
                    tracing::warn!(
                        "no file events ({e}); rows are noticed by polling every {interval} ms"
                    );
                }
                self.unwatched = true;
            }
        }
    }

    fn try_wal(&mut self, now: Instant) {
        let Some(database) = &mut self.database else {
            return;
        };
        if database.wal || now < database.next_wal_attempt {
            return;
        }
        database.next_wal_attempt = now + WAL_RETRY;
        // A file that holds no feed's table is not ours to change.
        let is_served = self.feeds.iter().any(|feed| feed.table().is_some());
        if self.config.journal_mode == JournalMode::Wal && is_served {
            database.switch_to_wal();
        }
        // Somebody else may have switched, too.
        if let Ok(mode) =
            schema_version(&database.connection).and_then(|_| journal_mode(&database.connection))
        {
            if let Err(reason) = database.is_in(&mode) {
                tracing::debug!("not read right after the switch: {reason}");
            }
            self.hub.set_journal_mode(&mode);
        }
    }

    fn save(&mut self, now: Instant) {
        let due = self.feeds.iter_mut().filter(|feed| feed.is_due(now));
        due.for_each(Tracked::save);
    }

    /// The held connection may go on reading its cache for ever; a fresh one sees the file as it is.
    fn fresh_read(&mut self) {
        if self.database.is_none() {
            return;
        }
        if let Err(reason @ Unavailable::Broken { .. }) = self.read_head_rows() {
            self.database = None;
            self.close_feeds(&reason);
            self.report(reason);
            self.back_off();
        }
    }

    /// Reads each feed's head row through a connection of its own.
    fn read_head_rows(&mut self) -> Result<(), Unavailable> {
        let connection = open_reading(&self.config.database, BUSY)?;
        let mut troubles = Troubles::default();
        let mut feeds = self.feeds.iter().enumerate();
        let read = feeds
            .try_for_each(|(index, feed)| troubles.note(index, feed.read_head_row(&connection)))
            .and_then(|()| troubles.settle(&mut self.feeds, &self.hub, Instant::now()));
        read.map(drop)
            .map_err(|e| Unavailable::from_sqlite(&e, &self.config.database))
    }
}

/// Takes the samples that are due of feeds whose rows were all read.
fn sample(
    feeds: &mut [Tracked],
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
/// commits just seen, most likely; of one that is still to be seen, the chase that follows every commit takes care.
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
