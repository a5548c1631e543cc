//! The tasks of the feed loop beside looking: keeping the right file open and watched, and what is done when it can't be.

use std::time::Instant;

use super::FeedLoop;
use crate::config::JournalMode;
use crate::source::file::{Database, Departure};
use crate::source::schedule::{Obstacle, Seen};
use crate::sqlite::error::Unavailable;

impl FeedLoop {
    /// Keeps watching the right directories.
    pub(super) fn watch(&mut self) {
        let (database, mode) = (&self.config.database, self.config.watch);
        let interval = self.config.limits.poll_interval;
        if self.source.events.watch(database, mode, interval) {
            self.schedule.watch_began(Instant::now());
        }
    }

    /// Is what is open still what the path leads to?
    pub(super) fn compare(&mut self, now: Instant) {
        let Some(departure) = self.source.compare() else {
            return;
        };
        if departure == Departure::Gone {
            self.lose(Unavailable::NoFile(self.config.database.clone()));
        }
        let apart = departure == Departure::Apart;
        self.schedule.file_left(apart, now);
    }

    /// Opens the file and follows its tables, if it is there and can be read.
    pub(super) fn open(&mut self) {
        if !self.source.prepare(|| self.tables.positions()) {
            return;
        }
        let path = &self.config.database;
        let opened = Database::open(&self.config, self.tables.len()).and_then(|database| {
            let followed = self.tables.open(&database);
            followed.map_err(|e| Unavailable::from_sqlite(&e, path))?;
            Ok(database)
        });
        match opened {
            Ok(database) => {
                self.schedule.opened(Instant::now());
                self.hub.set_journal_mode(&database.mode);
                self.source.opened(database);
                if let Some(captures) = &self.captures {
                    captures.look_again();
                }
                // A table that is missing, unfit or broken has been reported by its feed; the file itself is well.
                if self.tables.are_open() {
                    self.trouble.clear(path, &self.hub);
                }
            }
            Err(reason) => self.lose(reason),
        }
    }

    pub(super) fn switch_to_wal(&mut self) {
        // A file that holds no feed's table is not ours to change.
        let is_wanted = self.config.journal_mode == JournalMode::Wal && self.tables.are_served();
        let can_be = self.source.switch_to_wal(is_wanted);
        self.schedule.tried_to_switch(can_be, Instant::now());
        if let Some(database) = &self.source.database {
            self.hub.set_journal_mode(&database.mode);
        }
    }

    /// A statement failed. Locks pass by themselves; anything else means a new connection.
    pub(super) fn failed(&mut self, error: &rusqlite::Error) {
        self.tables.forget_look();
        let reason = Unavailable::from_sqlite(error, &self.config.database);
        let Unavailable::Busy(why) = &reason else {
            return self.lose(reason);
        };
        self.trouble.tell_locked(why, &self.config.database);
        if let Some(database) = &mut self.source.database {
            // Read again at the next look, which is not at once: the lock needs time to go.
            database.seen = Seen::Unknown;
        }
        self.trouble.report(reason, &self.hub, &self.metrics);
    }

    /// Reads the head rows through a fresh connection, which sees a file that was garbled in place.
    pub(super) fn read_afresh(&mut self) {
        if self.source.database.is_none() {
            return;
        }
        let path = &self.config.database;
        let read = self.source.connect_afresh().and_then(|connection| {
            let read = self.tables.read_head_rows(&connection);
            read.map_err(|e| Unavailable::from_sqlite(&e, path))
        });
        if let Err(reason @ Unavailable::Broken { .. }) = read {
            self.lose(reason);
        }
    }

    /// The file can't be read: nothing is open, and it is tried again when that makes sense.
    fn lose(&mut self, reason: Unavailable) {
        self.source.database = None;
        self.hub.set_journal_mode("");
        self.tables.close(&reason);
        let obstacle = match &reason {
            Unavailable::NoFile(_) | Unavailable::Empty(_) => Obstacle::Absent,
            Unavailable::Busy(why) => {
                let lasted = self.trouble.tell_locked(why, &self.config.database);
                Obstacle::Locked(lasted)
            }
            Unavailable::Broken { kind, .. } if kind.is_of_names() => Obstacle::Shared,
            Unavailable::NoTable(_)
            | Unavailable::Filling
            | Unavailable::OutOfReach
            | Unavailable::Upstream
            | Unavailable::Broken { .. } => Obstacle::Broken,
        };
        self.schedule.kept_from_opening(obstacle, Instant::now());
        self.trouble.report(reason, &self.hub, &self.metrics);
    }
}
