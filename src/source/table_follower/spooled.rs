//! A feed of an edge: which history its rows are of, up to where they have come, and whether they are all there is said in
//! the spool beside them, so nothing is to be found out by looking at rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::TableFollower;
use super::open::OpenTable;
use super::position::FeedPosition;
use super::presence::TableState;
use crate::config::EdgeRules;
use crate::hub::Hub;
use crate::model::position::{Cursor, Epoch};
use crate::sqlite::error::Unavailable;
use crate::sqlite::file::FileId;
use crate::sqlite::reader::HeadPage;
use crate::sqlite::spool::{self, SpoolState};
use crate::sqlite::table::{Schema, TableError};
use crate::wire::control::ResetReason;

/// Later than any goodbye is due.
const GONE_AT_ONCE: Duration = Duration::from_secs(60);

/// What is known of a feed in the spool.
#[derive(Debug, Default)]
pub(super) struct Spooled {
    file: Option<FileId>,
    /// The history that is served, by the origin's name for it and how often the spool began anew.
    served: Option<(String, i64)>,
    /// Everything up to here has come, or is not there.
    reached: Cursor,
    /// There are streams to have it from, and no daemon.
    of_streams_alone: bool,
}

impl Spooled {
    /// Nothing is known yet of a feed of this edge.
    pub(super) fn of(edge: &EdgeRules) -> Spooled {
        Spooled {
            of_streams_alone: edge.upstream.is_none(),
            ..Spooled::default()
        }
    }
}

impl TableFollower {
    /// Opens the table if all of its rows have come. Within the caller's snapshot.
    pub(super) fn attach_spooled(
        &mut self,
        connection: &Connection,
        file: FileId,
        hub: &Hub,
    ) -> rusqlite::Result<()> {
        if let Some(spooled) = &mut self.spooled {
            spooled.file = Some(file);
        }
        let state = match spool::state(connection, &self.feed().config.name)? {
            Some(state) if state.is_removed => {
                let table = self.feed().config.table.clone();
                self.close(&Unavailable::NoTable(table));
                // The origin has waited for it already.
                self.say_goodbye(hub, Instant::now() + GONE_AT_ONCE);
                return Ok(());
            }
            Some(state) if state.is_whole => state,
            // A spool that was deleted under it, or another history, of which not all has come.
            _ => {
                self.put_off(connection, hub);
                return Ok(());
            }
        };
        let schema = match Schema::of_feed(connection, &self.feed().config) {
            Ok(schema) => Arc::new(schema),
            Err(TableError::Sqlite(e)) => return Err(e),
            Err(error) => {
                self.close_unfit(connection, error, false, hub);
                return Ok(());
            }
        };
        let mut table = Box::new(OpenTable::new(self.feed(), Arc::clone(&schema), file));
        table.try_reading(connection, self.position.head)?;
        self.position.filters.rebind(&schema);
        self.feed().opened(schema);
        self.take_up(connection, &mut table, state)?;
        let before = std::mem::replace(&mut self.state, TableState::Open(table));
        self.tell_opened(false, matches!(before, TableState::Away { .. }));
        self.is_awaited = true;
        hub.announce(self.feed().index);
        Ok(())
    }

    /// Goes on with the history that was served, or begins with this one.
    fn take_up(
        &mut self,
        connection: &Connection,
        table: &mut OpenTable,
        state: SpoolState,
    ) -> rusqlite::Result<()> {
        let Some(spooled) = &mut self.spooled else {
            return Ok(());
        };
        let reached = Cursor(state.head.unwrap_or(i64::MIN));
        let highest = table.table().max_key(connection)?;
        let head = reached.max(Cursor(highest.unwrap_or(i64::MIN)));
        let served = (state.epoch, state.generation);
        let before = spooled.served.replace(served.clone());
        spooled.reached = reached;
        let position = &mut self.position;
        let is_captured = position.feed.config.capture.is_some();
        let reason = match &before {
            // Changes of this very history are gone, here and wherever they were asked for.
            Some((epoch, _)) if is_captured && *epoch == served.0 => {
                ResetReason::CaptureInterrupted
            }
            _ => state.reason,
        };
        match before {
            // Rows above the head are news.
            Some(before) if before == served => {}
            None => position.begin(&served.0, head),
            Some(_) => position.begin_anew((&served.0, reason), head, table),
        }
        position.update_gauges();
        table.go_on(connection, position.head)
    }

    /// Not all of the feed's rows are here.
    fn put_off(&mut self, connection: &Connection, hub: &Hub) {
        let of_streams = self.spooled.as_ref().is_some_and(|s| s.of_streams_alone);
        let reason = match of_streams && self.feed().config.capture.is_some() {
            true => Unavailable::OutOfReach,
            false => Unavailable::Filling,
        };
        if self.close(&reason) {
            self.tell_closed(connection, &reason, self.cause(&reason));
            hub.announce(self.feed().index);
        }
    }

    /// As [`read`](Self::read) does, once it is known that the history is the one that is served.
    pub(super) fn read_spooled(
        &mut self,
        connection: &Connection,
        hub: &Hub,
        woken: Option<Instant>,
    ) -> rusqlite::Result<()> {
        let state = spool::state(connection, &self.feed().config.name)?;
        let state = state.filter(|state| state.is_whole && !state.is_removed);
        let file = self.spooled.as_ref().and_then(|spooled| spooled.file);
        match state {
            Some(state) if self.is_open() => self.follow_state(connection, state, hub)?,
            // The table came, went, or is being filled.
            _ => match file {
                Some(file) => self.attach_spooled(connection, file, hub)?,
                None => return Ok(()),
            },
        }
        let TableState::Open(table) = &mut self.state else {
            return Ok(());
        };
        let is_first = !table.has_more();
        let mut page = self.position.read_page(connection, table)?;
        if page.has_gap {
            // The spool was filled anew meanwhile, or pruned faster than it was read.
            let epoch = self.position.feed.standing().epoch.to_string();
            let head = table.table().max_key(connection)?;
            let head = self.position.head.max(Cursor(head.unwrap_or(i64::MIN)));
            self.position
                .begin_anew((&epoch, ResetReason::CaptureInterrupted), head, table);
            hub.announce(self.position.feed.index);
            page = self.position.read_page(connection, table)?;
        }
        if let Some(woken) = woken.filter(|_| is_first && !page.block.entries.is_empty()) {
            let detected = page.block.read_at.saturating_duration_since(woken);
            self.position.metrics.detect.observe(detected.as_secs_f64());
        }
        self.pause = Duration::ZERO;
        table.fetched(page);
        Ok(())
    }

    /// Heeds what the spool says beside the rows of a table that is open.
    fn follow_state(
        &mut self,
        connection: &Connection,
        state: SpoolState,
        hub: &Hub,
    ) -> rusqlite::Result<()> {
        let Some(spooled) = &mut self.spooled else {
            return Ok(());
        };
        spooled.reached = Cursor(state.head.unwrap_or(i64::MIN));
        let is_served = |(epoch, generation): &(String, i64)| {
            *epoch == state.epoch && *generation == state.generation
        };
        if spooled.served.as_ref().is_some_and(is_served) {
            return Ok(());
        }
        let TableState::Open(mut table) = std::mem::replace(&mut self.state, TableState::Unseen)
        else {
            return Ok(());
        };
        let taken = self.take_up(connection, &mut table, state);
        self.state = TableState::Open(table);
        hub.announce(self.feed().index);
        taken
    }

    /// Hands on what was read, and moves the head over ids that have no rows.
    pub(super) fn publish_spooled(&mut self, hub: &Hub) {
        let (Some(spooled), TableState::Open(table)) = (&self.spooled, &mut self.state) else {
            return;
        };
        let Some(page) = table.take_fetched() else {
            return;
        };
        let is_last = !page.full;
        let position = &mut self.position;
        position.publish(page, table, hub);
        if is_last && spooled.reached > position.head {
            position.publish(
                HeadPage::passing(position.head, spooled.reached),
                table,
                hub,
            );
        }
    }
}

impl FeedPosition {
    /// The first history that is served in this process.
    fn begin(&mut self, epoch: &str, head: Cursor) {
        let epoch = Epoch::new(epoch);
        self.head = head;
        match self.feed.subscribers() {
            0 => self.feed.begin(epoch, head),
            // They came before anything was known, and can't know what they missed.
            _ => self.feed.replace(epoch, head, ResetReason::default()),
        }
    }

    /// Another history, or the same with a gap that nobody can be given: everyone is told.
    fn begin_anew(
        &mut self,
        (epoch, reason): (&str, ResetReason),
        head: Cursor,
        table: &mut OpenTable,
    ) {
        table.begin_anew();
        self.head = head;
        let name = &self.feed.config.name;
        tracing::info!(
            "feed {name}: another history came from the origin; epoch {epoch}, head {head}"
        );
        self.metrics.epoch_changes.with_label_values(&[name]).inc();
        self.feed.replace(Epoch::new(epoch), head, reason);
    }
}
