//! A table comes, goes, fails and is tried again; and what its feed is told of that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::TableFollower;
use super::open::OpenTable;
use crate::hub::{Cause, Hub, Presence};
use crate::sqlite::capture::{self, with_file_named};
use crate::sqlite::error::{BrokenKind, Unavailable};
use crate::sqlite::file::FileId;
use crate::sqlite::identity::Verdict;
use crate::sqlite::open::Snapshot;
use crate::sqlite::stock_table;
use crate::sqlite::table::{Schema, TableError};
use crate::text::nearest::did_you_mean;

/// How soon a table that can't be read is tried again, at first and at most. A changed schema tries at once.
const RETRY: Duration = Duration::from_millis(250);
const MAX_RETRY: Duration = Duration::from_secs(5);

/// How long the feed of a dropped table stays, where feeds come and go with their tables. A migration that makes the table
/// anew does so at once, or after a moment on a busy machine; who was told that the feed is gone would not come back.
const STAYS: Duration = Duration::from_secs(5);

/// What there is of the table.
pub(super) enum TableState {
    /// Nobody has looked yet.
    Unseen,
    Open(Box<OpenTable>),
    Away {
        reason: Unavailable,
        /// When it is tried again, where the trouble is the table's own. Else that comes with the file or its schema.
        retry: Option<Instant>,
        /// When its feed goes, unless the table, or the capture of its changes, is back by then.
        goes: Option<Instant>,
    },
    /// Another feed has the place of this one, and follows the table.
    Retired,
}

impl TableFollower {
    /// Why this table can't be a feed as it is.
    pub(crate) fn unfit(&self) -> Option<&str> {
        match &self.state {
            TableState::Away {
                reason: Unavailable::Broken { kind, reason },
                ..
            } if *kind == BrokenKind::UnfitTable => Some(reason),
            _ => None,
        }
    }

    /// Reads the table's shape, where there is one, and decides whether its history is the one known. `watched`: the file
    /// stayed open.
    ///
    /// # Errors
    /// The table can't be read.
    pub(crate) fn attach(
        &mut self,
        connection: &Connection,
        file: FileId,
        hub: &Hub,
        watched: bool,
    ) -> rusqlite::Result<()> {
        if self.is_retired() {
            return Ok(());
        }
        let _snapshot = Snapshot::begin(connection)?;
        if self.spooled.is_some() {
            return self.attach_spooled(connection, file, hub);
        }
        let schema = match Schema::of_feed(connection, &self.feed().config) {
            Ok(schema) => Arc::new(schema),
            Err(TableError::Sqlite(e)) => return Err(e),
            Err(error) => {
                let is_uncaptured = self.feed().config.capture.is_some()
                    && capture::is_absent(connection, self.table_name())?;
                self.close_unfit(connection, error, is_uncaptured, hub);
                return Ok(());
            }
        };
        let mut table = OpenTable::new(self.feed(), Arc::clone(&schema), file);
        // Before anybody is told that there is a table to read.
        table.try_reading(connection, self.position.head)?;
        let doubt = self.position.doubt(file, watched);
        let verdict = self.position.ask(connection, &table, doubt)?;
        self.position.filters.rebind(&schema);
        self.feed().opened(schema);
        let mut table = Box::new(table);
        let settled = match verdict {
            Verdict::Another => self.position.start_over(connection, &mut table, hub),
            Verdict::Same => self.position.go_on(connection, &mut table, self.is_awaited),
        };
        let is_key_unstable = table.table().is_key_unstable();
        let before = std::mem::replace(&mut self.state, TableState::Open(table));
        settled?;
        self.tell_opened(is_key_unstable, matches!(before, TableState::Away { .. }));
        self.is_awaited = true;
        self.has_waited = false;
        hub.announce(self.feed().index);
        Ok(())
    }

    /// Says in the log that the table can be read, and what to beware of. `was_away`: there was none to read; at start the
    /// opening line says it for all feeds.
    pub(super) fn tell_opened(&self, is_key_unstable: bool, was_away: bool) {
        let config = &self.feed().config;
        if is_key_unstable && !self.is_awaited {
            tracing::warn!(
                "feed {}: the rowid of table {} is no column of it, so VACUUM may give every row another id; declare an \
                 INTEGER PRIMARY KEY where somebody may run it",
                config.name,
                config.table
            );
        }
        if was_away {
            tracing::info!(
                "feed {} is open at head {}",
                config.name,
                self.position.head
            );
        }
    }

    /// There is no table, or none that can be a feed.
    pub(super) fn close_unfit(
        &mut self,
        connection: &Connection,
        error: TableError,
        is_uncaptured: bool,
        hub: &Hub,
    ) {
        let reason = error.unavailable(&self.feed().config.table, &self.database);
        let was_gone = self.feed().is_gone();
        let cause = match self.cause(&reason) {
            Cause::Unfit if is_uncaptured && self.comes_and_goes => Cause::Uncaptured,
            cause => cause,
        };
        if self.put_away(&reason, cause, None) && !was_gone {
            self.tell_closed(connection, &reason, cause);
        }
        hub.announce(self.feed().index);
    }

    /// Says in the log why there is no table to read.
    pub(super) fn tell_closed(&self, connection: &Connection, reason: &Unavailable, cause: Cause) {
        let name = &self.feed().config.name;
        match reason {
            _ if cause == Cause::Uncaptured => {
                let stays = STAYS.as_secs();
                tracing::info!(
                    "feed {name}: its table is not captured any more; the feed is of inserted rows in {stays} s, or gone where \
                     they have no integer key, unless the table is captured again by then"
                );
            }
            Unavailable::NoTable(_) if self.comes_and_goes => {
                let stays = STAYS.as_secs();
                tracing::info!(
                    "feed {name}: its table was dropped; the feed goes in {stays} s unless the table is back by then"
                );
            }
            Unavailable::Filling => tracing::info!("feed {name}: {reason}"),
            Unavailable::NoTable(table) => {
                let hint = tables_there(connection, table);
                tracing::warn!("feed {name}: {reason}{hint}");
            }
            _ => {
                let reason = with_file_named(&reason.to_string(), &self.database);
                tracing::warn!("feed {name}: {reason}");
            }
        }
    }

    /// The table can't be read for now. Returns whether that is news.
    pub(crate) fn close(&mut self, reason: &Unavailable) -> bool {
        self.put_away(reason, self.cause(reason), None)
    }

    /// The table alone can't be read; it is tried again after a while.
    pub(crate) fn fail(&mut self, error: &rusqlite::Error, hub: &Hub, now: Instant) {
        let reason = Unavailable::of_table(error, &self.feed().config.table);
        self.pause = (self.pause * 2).clamp(RETRY, MAX_RETRY);
        if let Some(kind) = reason.error_kind() {
            let errors = &self.position.metrics.database_errors;
            errors.with_label_values(&[kind]).inc();
        }
        let cause = self.cause(&reason);
        if self.put_away(&reason, cause, Some(now + self.pause)) {
            tracing::error!("feed {}: {reason}", self.feed().config.name);
            hub.announce(self.feed().index);
        }
    }

    /// What keeps the table from being read, for this reason.
    pub(super) fn cause(&self, reason: &Unavailable) -> Cause {
        match reason {
            Unavailable::NoFile(_) | Unavailable::Empty(_) => Cause::NoDatabase,
            _ if self.feed().is_gone() => Cause::Gone,
            Unavailable::NoTable(_) if self.comes_and_goes => Cause::Dropped,
            Unavailable::NoTable(_) => Cause::NoTable,
            Unavailable::Broken { kind, .. } if *kind == BrokenKind::UnfitTable => Cause::Unfit,
            Unavailable::OutOfReach => Cause::OutOfReach,
            Unavailable::Busy(_)
            | Unavailable::Filling
            | Unavailable::Upstream
            | Unavailable::Broken { .. } => Cause::Unreadable,
        }
    }

    /// Returns whether that is news.
    fn put_away(&mut self, reason: &Unavailable, cause: Cause, retry: Option<Instant>) -> bool {
        if self.is_retired() {
            return false;
        }
        self.is_awaited |= cause.is_unmade();
        let goes = match &self.state {
            TableState::Away {
                reason: before,
                goes,
                ..
            } if before == reason => Some(*goes),
            _ => None,
        };
        let news = goes.is_none();
        self.state = TableState::Away {
            reason: reason.clone(),
            retry,
            goes: goes.unwrap_or_else(|| {
                let goes = matches!(cause, Cause::Dropped | Cause::Uncaptured);
                goes.then(|| Instant::now() + STAYS)
            }),
        };
        if news {
            let presence = Presence::away(cause, reason.public_message());
            self.feed().closed(presence);
        }
        news
    }

    /// When the feed goes, unless its table is back by then.
    pub(crate) fn next_goodbye(&self) -> Option<Instant> {
        match &self.state {
            TableState::Away { goes, .. } => *goes,
            _ => None,
        }
    }

    /// Its table stayed away: the feed is gone with it, and its subscribers are told. Returns whether it is the capture of the
    /// table that stayed away: then another feed may take its place.
    pub(crate) fn say_goodbye(&mut self, hub: &Hub, now: Instant) -> bool {
        if self.next_goodbye().is_none_or(|goes| now < goes) {
            return false;
        }
        let presence = self.feed().presence();
        let is_uncaptured =
            presence.absence().map(|absence| absence.cause) == Some(Cause::Uncaptured);
        if let TableState::Away { goes, .. } = &mut self.state
            && is_uncaptured
        {
            *goes = None;
            self.has_waited = true;
            return true;
        }
        if let TableState::Away { reason, goes, .. } = &mut self.state {
            *goes = None;
            let presence = Presence::away(Cause::Gone, reason.public_message());
            self.feed().closed(presence);
        }
        let name = &self.feed().config.name;
        tracing::info!("feed {name} is gone: its table was dropped");
        hub.announce(self.feed().index);
        false
    }

    /// Another feed takes its place: subscribers are sent away, and find that one when they come back.
    pub(crate) fn retire(&mut self, hub: &Hub) {
        self.state = TableState::Retired;
        let message =
            "whether the changes of its table are captured is another than before; come back";
        self.feed().closed(Presence::away(Cause::Replaced, message));
        hub.announce(self.feed().index);
    }

    pub(crate) fn is_retired(&self) -> bool {
        matches!(self.state, TableState::Retired)
    }

    /// Returns whether another feed is to take its place: the table is captured by now and the feed one of rows, or it is not
    /// any more.
    ///
    /// # Errors
    /// As SQLite has them.
    pub(crate) fn is_another(&self, connection: &Connection) -> rusqlite::Result<bool> {
        if !self.comes_and_goes || self.is_retired() {
            return Ok(false);
        }
        let is_absent = || capture::is_absent(connection, self.table_name());
        match self.feed().config.capture.is_some() {
            true => Ok(self.has_waited && is_absent()?),
            false => Ok(!is_absent()?),
        }
    }

    /// When a table that failed is tried again.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        match &self.state {
            TableState::Away { retry, .. } => *retry,
            _ => None,
        }
    }

    pub(crate) fn is_retry_due(&self, now: Instant) -> bool {
        self.next_retry().is_some_and(|retry| now >= retry)
    }
}

/// The tables to choose from, for the log: the one that is waited for, `name`, may have another name than the
/// configuration says.
fn tables_there(connection: &Connection, name: &str) -> String {
    // A hint: where it can't be given, the line says enough without.
    match &*stock_table::tables(connection).unwrap_or_default() {
        [] => String::new(),
        tables => format!(
            "{}; tables there are: {}",
            did_you_mean(name, tables.iter().map(String::as_str)),
            stock_table::listed(tables)
        ),
    }
}
