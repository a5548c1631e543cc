//! One look: has the database moved, and what is above the heads?

use std::time::Instant;

use rusqlite::Connection;

use super::tables::Tables;
use super::troubles::{Troubles, is_the_files};
use crate::source::file::{Database, Events, data_version};
use crate::source::max_ids::MaxIds;
use crate::source::schedule::{Found, Look, Seen};
use crate::sqlite::open::{Snapshot, schema_version};

/// From so many feeds on, it is asked first which of them moved.
const MANY: usize = 3;
/// Pages of each feed that one turn of the loop reads; a huge transaction takes many turns, and the watchdog, shutdown
/// and other wakes have theirs in between.
const ROUNDS: usize = 32;

/// A round in which a page of each table that may have moved is read.
struct Round {
    is_first: bool,
    /// All tables are read, whether or not their highest ids moved.
    is_thorough: bool,
    woken: Option<Instant>,
    now: Instant,
}

impl Tables {
    /// Reads what is above the heads if the database moved, a page of each feed in turn, and publishes it. When there is
    /// more than one turn's worth, the database is left [`Seen::Partly`].
    ///
    /// With many feeds, only those whose highest id moved are read at once; what can happen to the others (a newest row
    /// edited or deleted, ids starting over) waits for the next poll.
    ///
    /// # Errors
    /// No table can be read.
    pub(super) fn read(
        &mut self,
        database: &mut Database,
        events: &mut Events,
        look: Look,
        now: Instant,
    ) -> rusqlite::Result<Found> {
        if look.retries {
            self.retry(database, now)?;
        }
        let connection = &database.connection;
        let mut snapshot = Snapshot::begin(connection)?;
        let version = Seen::UpTo(data_version(connection)?);
        let mut round = Round {
            is_first: true,
            is_thorough: look.is_poll && std::mem::take(&mut self.is_owed),
            woken: look.woken,
            now,
        };
        let found = match version == database.seen {
            true => Found::Nothing,
            false => Found::Commits {
                writes: events.take_writes(),
            },
        };
        if found == Found::Nothing && !round.is_thorough {
            // Not while there are feeds that a commit may have changed and nobody looked at.
            if !self.is_owed {
                self.sample(connection, now)?;
            }
            return Ok(found);
        }
        for _ in 0..ROUNDS {
            let schema = schema_version(connection)?;
            if schema != database.schema_version {
                drop(snapshot);
                self.reshape(connection, database.file, now)?;
                database.schema_version = schema;
            } else {
                let (more, troubles) = self.read_round(connection, &round)?;
                drop(snapshot);
                if troubles.settle(&mut self.feeds, &self.hub, now)? {
                    self.max_ids = None;
                }
                if !more {
                    database.seen = version;
                    return Ok(found);
                }
                round.is_first = false;
            }
            snapshot = Snapshot::begin(connection)?;
        }
        // What is left is read at the next turn, which comes at once.
        database.seen = Seen::Partly;
        Ok(found)
    }

    /// Reads a page of each table that may have moved, or of which there was more, and publishes it. Returns whether there
    /// is more.
    fn read_round(
        &mut self,
        connection: &Connection,
        round: &Round,
    ) -> rusqlite::Result<(bool, Troubles)> {
        // Of a spool the ids do not tell all that can happen to a feed.
        let many = self.feeds.len() >= MANY && !self.config.edge.is_one();
        let max_ids = match round.is_first && !round.is_thorough && many {
            true => self.ask_max_ids(connection)?,
            false => None,
        };
        let mut troubles = Troubles::default();
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            let has_moved = |max_ids: &Vec<Option<i64>>| feed.has_moved(max_ids[index]);
            let is_asked = round.is_first && max_ids.as_ref().is_none_or(has_moved);
            if is_asked || feed.has_more() {
                troubles.note(index, feed.read(connection, &self.hub, round.woken))?;
            }
        }
        self.is_owed |= max_ids.is_some();
        let mut more = false;
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            let published = feed.publish(connection, &self.hub, round.now);
            more |= feed.has_more();
            troubles.note(index, published)?;
        }
        Ok((more, troubles))
    }

    /// The highest id of each table, as far as [`MaxIds`] tells; `None` where one of them can't be asked, and each is to be
    /// read for itself.
    fn ask_max_ids(
        &mut self,
        connection: &Connection,
    ) -> rusqlite::Result<Option<Vec<Option<i64>>>> {
        let asked = match &self.max_ids {
            Some(max_ids) => max_ids.tops(connection, self.feeds.len()),
            None => MaxIds::new(connection, &self.feeds).and_then(|max_ids| {
                let max_ids = self.max_ids.insert(max_ids);
                max_ids.tops(connection, self.feeds.len())
            }),
        };
        match asked {
            Err(e) if !is_the_files(&e) => Ok(None),
            asked => asked.map(Some),
        }
    }
}
