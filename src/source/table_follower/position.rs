//! A feed, how far it was sent and in which history: what stays while its table comes and goes.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{IntCounter, IntGauge};
use rusqlite::Connection;

use super::below::BelowHead;
use super::filters::BoundFilters;
use super::history::History;
use super::open::OpenTable;
use crate::config::Config;
use crate::hub::{Feed, Hub};
use crate::model::position::{Cursor, Epoch};
use crate::sqlite::file::FileId;
use crate::sqlite::identity::{Doubt, Verdict, derived_epoch, new_epoch};
use crate::sqlite::reader::HeadPage;
use crate::telemetry::metrics::Metrics;
use crate::wire::block::Block;
use crate::wire::control::ResetReason;

/// A feed, how far it was sent and in which history.
pub(super) struct FeedPosition {
    pub feed: Arc<Feed>,
    pub metrics: Arc<Metrics>,
    /// Of the metrics, those of this feed that every row moves.
    rows_read: IntCounter,
    head_gauge: IntGauge,
    /// The highest id given; below every id where none was.
    pub head: Cursor,
    pub filters: BoundFilters,
    pub history: History,
    below: BelowHead,
}

impl FeedPosition {
    /// The feed begins where the state directory remembers it to have been.
    pub(super) fn new(feed: Arc<Feed>, config: &Config, metrics: Arc<Metrics>) -> FeedPosition {
        let name = feed.config.name.as_str();
        metrics.announce_feed(name);
        let history = History::load(config, &feed.config);
        let known = history.known();
        let head = known.map_or(Cursor::MIN, |identity| Cursor(identity.head));
        let epoch = known.map_or_else(new_epoch, |identity| identity.epoch.clone());
        feed.begin(Epoch::new(epoch), head);
        FeedPosition {
            rows_read: metrics.rows_read.with_label_values(&[name]),
            head_gauge: metrics.feed_head.with_label_values(&[name]),
            below: BelowHead::new(name, &metrics),
            feed,
            metrics,
            head,
            filters: BoundFilters::default(),
            history,
        }
    }

    /// What there is to doubt of a table that is opened. `watched`: the file stayed open.
    pub(super) fn doubt(&self, file: FileId, watched: bool) -> Doubt {
        let known = self.history.known().and_then(|identity| identity.file);
        match (watched, known == Some(file)) {
            (true, true) => Doubt::Reshaped,
            (false, true) => Doubt::Unwatched,
            (_, false) => Doubt::OtherFile,
        }
    }

    /// Asks whether the table still holds the history that is known; the same where none is.
    pub(super) fn ask(
        &self,
        connection: &Connection,
        table: &OpenTable,
        doubt: Doubt,
    ) -> rusqlite::Result<Verdict> {
        if self.history.is_interrupted(table.schema()) {
            return Ok(Verdict::Another);
        }
        let question = self.history.question(table.table(), self.head.0, doubt);
        question.answer(connection)
    }

    /// The table holds the history that is known, or the first one. `awaited`: somebody may have been here before it.
    pub(super) fn go_on(
        &mut self,
        connection: &Connection,
        table: &mut OpenTable,
        awaited: bool,
    ) -> rusqlite::Result<()> {
        let highest = Cursor(table.table().highest(connection)?.unwrap_or(i64::MIN));
        // Who was here before the table gets all of it: the loop reads on from the head. Else it is served from the
        // first, and what is there is history.
        if !awaited {
            if self.feed.subscribers() > 0 {
                // They came while the file could not be opened, and can't know what they missed.
                let epoch = self.feed.standing().epoch;
                self.feed.replace(epoch, highest, ResetReason::default());
            }
            self.feed.skip_to(highest);
            self.head = self.head.max(highest);
            if self.history.known().is_none() && !self.history.is_kept() {
                let epoch = derived_epoch(table.file, &table.schema().history_name());
                self.feed.begin(Epoch::new(epoch), self.head);
            }
        }
        self.settle(connection, table)
    }

    /// The table holds another history: a new epoch, and everyone is told.
    pub(super) fn start_over(
        &mut self,
        connection: &Connection,
        table: &mut OpenTable,
        hub: &Hub,
    ) -> rusqlite::Result<()> {
        let reason = match self.history.is_interrupted(table.schema()) {
            true => ResetReason::CaptureInterrupted,
            false => ResetReason::DatabaseReplaced,
        };
        self.start_over_for(reason, connection, table, hub)
    }

    /// The same for this reason.
    pub(super) fn start_over_for(
        &mut self,
        reason: ResetReason,
        connection: &Connection,
        table: &mut OpenTable,
        hub: &Hub,
    ) -> rusqlite::Result<()> {
        table.begin_anew();
        self.head = Cursor(table.table().highest(connection)?.unwrap_or(i64::MIN));
        let epoch = match self.history.is_kept() {
            true => new_epoch(),
            // Derived from the file where it can be, so that it survives a restart; a second history in the same file can't.
            false => Some(derived_epoch(table.file, &table.schema().history_name()))
                .filter(|epoch| *epoch != *self.feed.standing().epoch.0)
                .unwrap_or_else(new_epoch),
        };
        let name = &self.feed.config.name;
        tracing::info!(
            "feed {name}: the table holds another history now; epoch {epoch}, head {}",
            self.head
        );
        self.metrics.epoch_changes.with_label_values(&[name]).inc();
        self.feed.replace(Epoch::new(epoch), self.head, reason);
        hub.announce(self.feed.index);
        self.settle(connection, table)
    }

    /// It is known which history this is, and up to where.
    fn settle(&mut self, connection: &Connection, table: &mut OpenTable) -> rusqlite::Result<()> {
        self.update_gauges();
        table.go_on(connection, self.head)?;
        self.below.begin(connection, table.table(), self.head)?;
        self.sample(connection, table)?;
        self.history.store();
        Ok(())
    }

    /// Reads the next page above the head, with the filters that subscribers have by now.
    pub(super) fn read_page(
        &mut self,
        connection: &Connection,
        table: &mut OpenTable,
    ) -> rusqlite::Result<HeadPage> {
        let known_below = self.filters.take_changes(&self.feed, Some(table.schema()));
        table.read_above(connection, self.head, &self.filters.index, known_below)
    }

    /// Moves the head to the end of the page, and tells everyone.
    pub(super) fn publish(&mut self, page: HeadPage, table: &mut OpenTable, hub: &Hub) {
        table.passed(&page, self.head);
        let (block, rows): (Block, usize) = (page.block, page.rows);
        self.history.grew(rows);
        if block.last == self.head {
            return;
        }
        self.head = block.last;
        self.feed.publish(block);
        hub.announce(self.feed.index);
        // The row is on its way before anything else is done about it.
        self.rows_read.inc_by(rows as u64);
        self.below.passed(rows);
        self.update_gauges();
    }

    /// Rows that came and went before they could be read were given ids all the same: the head passes those above the
    /// newest row. Asked in the snapshot the rows were read in, after they were sent.
    pub(super) fn pass_ids_given(
        &mut self,
        connection: &Connection,
        table: &mut OpenTable,
        hub: &Hub,
    ) -> rusqlite::Result<()> {
        if self.history.is_sampled() || table.has_more() {
            return Ok(());
        }
        let given = table.given(connection)?;
        if given > self.head {
            self.publish(HeadPage::passing(self.head, given), table, hub);
        }
        Ok(())
    }

    pub(super) fn update_gauges(&self) {
        let none = self.head == Cursor::MIN;
        self.head_gauge.set(if none { 0 } else { self.head.0 });
    }

    /// Returns whether the identity is due to be kept, or rows below the head are to be counted. The latter is worth no
    /// turn of the loop of its own.
    pub(super) fn wants_sample(&self, now: Instant) -> bool {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| now >= due);
        is_due(self.history.due()) || is_due(self.below.due())
    }

    /// Counts the rows that came below the head, and takes the sample that is to be kept, if one is due.
    pub(super) fn sample_to_keep(
        &mut self,
        connection: &Connection,
        table: &mut OpenTable,
        hub: &Hub,
    ) -> rusqlite::Result<()> {
        let came = self.below.look(connection, table.table(), self.head)?;
        if came > 0
            && self.head.0 == i64::MAX
            && self.ask(connection, table, Doubt::Exhausted)? == Verdict::Another
        {
            // What came can't be sent, but be told of.
            return self.start_over(connection, table, hub);
        }
        match self.history.due() {
            Some(_) => self.sample(connection, table),
            None => Ok(()),
        }
    }

    fn sample(&mut self, connection: &Connection, table: &OpenTable) -> rusqlite::Result<()> {
        let epoch = self.feed.standing().epoch.to_string();
        self.history
            .sample(connection, table.schema(), epoch, table.file, self.head.0)
    }
}
