//! The feed loop's file: opening what the path leads to, noticing that it leads elsewhere, and switching it to WAL.

use std::time::{Duration, Instant};

use super::database::{Apart, BUSY, Database, PathState, keep_statements};
use super::troubles::Troubles;
use super::{FeedLoop, WATCH_EVERY};
use crate::config::JournalMode;
use crate::source::table_follower::TableFollower;
use crate::sqlite::error::Unavailable;
use crate::sqlite::lock_holder;
use crate::sqlite::open::{journal_mode, open_reading, schema_version};
use crate::sqlite::stock_table::{Attempt, STOCK_TABLE};

/// From the removal of a database's companions until another file is in its place, where that is being moved there.
const REPLACING: Duration = Duration::from_millis(200);
/// How long all other connections of the process may take to close. Reads are short; where one is not, it is waited for
/// again.
const CLOSE_PATIENCE: Duration = Duration::from_millis(100);
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

impl FeedLoop {
    pub(super) fn back_off(&mut self) {
        self.may_open = Instant::now() + REOPEN;
        let least = self.config.limits.poll_interval.min(MAX_BACKOFF);
        self.backoff = (self.backoff * 2).clamp(least, MAX_BACKOFF);
        self.next_open = Instant::now() + self.backoff;
    }

    /// Is what is open still what the path leads to?
    pub(super) fn check_file(&mut self) {
        let Some(database) = &self.database else {
            return;
        };
        let standing = database.standing();
        if standing == PathState::Same {
            return;
        }
        self.database = None;
        self.next_open = Instant::now();
        let path = self.config.database.display();
        match standing {
            PathState::Same => {}
            PathState::Gone => {
                let reason = Unavailable::NoFile(self.config.database.clone());
                self.close_feeds(&reason);
                self.report(reason);
            }
            PathState::Renamed => {
                tracing::info!(
                    "{path} has other names than it had, or is in another mode: opened anew"
                );
                self.stale = true;
            }
            PathState::Replaced => tracing::info!("{path} was replaced by another file"),
            PathState::Apart(apart) => {
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
        let positions = self.feeds.iter().map(TableFollower::position);
        positions.collect::<Vec<_>>().join(", ")
    }

    /// Returns whether a connection opened now would be fresh: all those of before are closed.
    fn is_fresh(&mut self) -> bool {
        self.stale = self.stale && !self.open_connections.close_all(CLOSE_PATIENCE);
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
            Attempt::OthersTables => tracing::info!(
                "{path} is not walcast's own, so the table {STOCK_TABLE} is not created in it, but waited for"
            ),
            Attempt::Failed(reason) => {
                tracing::warn!("the stock table was not created: {reason}");
            }
        }
        self.creation = None;
    }

    /// Says, once it has lasted for a while, who keeps the file locked. Returns for how long that has been.
    pub(super) fn tell_locked(&mut self, reason: &str) -> Duration {
        let (since, told) = self.locked.get_or_insert((Instant::now(), false));
        let waited = since.elapsed();
        if waited >= LOCKED_FOR_LONG && !std::mem::replace(told, true) {
            let holder = lock_holder::of(&self.config.database);
            let holder = holder.map_or_else(String::new, |holder| format!(", held by {holder}"));
            tracing::warn!("{reason}{holder}; rows are read as soon as the lock is gone");
        }
        waited
    }

    pub(super) fn open(&mut self) {
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
        match Database::open(&self.config, self.feeds.len()) {
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
                if self.feeds.iter().all(TableFollower::is_open) {
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
                    Unavailable::Broken { kind, .. } if kind.is_of_names() => {
                        self.next_open = Instant::now() + WATCH_EVERY;
                    }
                    _ => self.back_off(),
                }
                self.report(reason);
            }
        }
    }

    fn attach_feeds(&mut self, database: &Database) -> rusqlite::Result<()> {
        if let Some(tables) = &mut self.tables {
            tables.follow(
                &database.connection,
                &mut self.feeds,
                &self.hub,
                &self.config,
                &self.metrics,
            )?;
            keep_statements(&database.connection, self.feeds.len());
        }
        let mut troubles = Troubles::default();
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            let attached = feed.attach(&database.connection, database.file, &self.hub, false);
            troubles.note(index, attached)?;
        }
        troubles
            .settle(&mut self.feeds, &self.hub, Instant::now())
            .map(drop)
    }

    pub(super) fn try_wal(&mut self, now: Instant) {
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

    /// The held connection may go on reading its cache for ever; a fresh one sees the file as it is.
    pub(super) fn fresh_read(&mut self) {
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
