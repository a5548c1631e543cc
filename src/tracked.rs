//! One feed as the feed loop follows it: its cursor, the filters to ask about each row, and the identity of its history.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{IntCounter, IntGauge};
use rusqlite::Connection;

use crate::change::{Block, Cursor, Epoch};
use crate::config::Config;
use crate::hub::{Cause, Feed, Hub, Presence};
use crate::metrics::Metrics;
use crate::sqlite::identity::{Sample, Suspicion, derived_epoch, new_epoch, same_history};
use crate::sqlite::open::{FileId, Snapshot, Unavailable};
use crate::sqlite::reader::{HeadPage, PageLimits, RowReader};
use crate::sqlite::table::{Schema, Table, TableError};

mod filters;
mod history;

use filters::Filters;
use history::History;

/// The first page after a wake is small, so that the first rows of a burst leave early; the next ones are larger.
const FIRST_PAGE: PageLimits = PageLimits {
    rows: 64,
    bytes: 64 * 1024,
};
const NEXT_PAGE: PageLimits = PageLimits {
    rows: 1024,
    bytes: 256 * 1024,
};

/// A feed and its place in the table.
pub struct Tracked {
    feed: Arc<Feed>,
    metrics: Arc<Metrics>,
    /// Of the metrics, those of this feed that every row moves.
    rows_read: IntCounter,
    head_gauge: IntGauge,
    database: std::path::PathBuf,
    reader: Option<RowReader>,
    /// The last page was full: the next one follows at once, and is larger.
    more: bool,
    /// It was read to its end.
    is_read: bool,
    /// Read, and not yet published.
    fetched: Option<HeadPage>,
    head: Cursor,
    head_row: HeadRow,
    /// The highest id as it was probed last.
    probed_top: Option<Option<i64>>,
    /// The highest id there was at the last look; only for tables without AUTOINCREMENT.
    top: Option<i64>,
    filters: Filters,
    history: History,
    /// File or table were missing at some time: what appears is new to those who were here.
    was_missing: bool,
    /// The table was read at least once.
    was_open: bool,
    unfit: Option<String>,
    presence: Option<Presence>,
}

/// What is known of the row at the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadRow {
    Unknown,
    Absent,
    Seen(u64),
}

/// Whether a table could be attached.
#[derive(Debug)]
pub enum Attached {
    Open,
    Not(Unavailable),
}

impl Tracked {
    pub fn new(feed: Arc<Feed>, config: &Config, metrics: Arc<Metrics>) -> Tracked {
        metrics.announce_feed(&feed.config.name);
        let history = History::load(config, &feed.config);
        let known = history.known();
        let head = Cursor(known.map_or(0, |identity| identity.head));
        let epoch = known.map_or_else(new_epoch, |identity| identity.epoch.clone());
        feed.begin(Epoch::new(epoch), head);
        let name: &[&str] = &[&feed.config.name];
        Tracked {
            rows_read: metrics.rows_read.with_label_values(name),
            head_gauge: metrics.feed_head.with_label_values(name),
            feed,
            metrics,
            database: config.database.clone(),
            reader: None,
            more: false,
            is_read: false,
            fetched: None,
            head,
            head_row: HeadRow::Unknown,
            probed_top: None,
            top: None,
            filters: Filters::default(),
            history,
            was_missing: false,
            was_open: false,
            unfit: None,
            presence: None,
        }
    }

    /// Why this table can never be a feed, as found at start.
    pub fn unfit(&self) -> Option<String> {
        self.unfit.clone()
    }

    /// The feed and its head, for the log.
    pub fn position(&self) -> String {
        format!("{} up to id {}", self.feed.config.name, self.head)
    }

    /// Reads the table's shape and decides whether its history is the one known.
    pub fn attach(
        &mut self,
        connection: &Connection,
        file: FileId,
        hub: &Hub,
        suspicion: Suspicion,
    ) -> rusqlite::Result<Attached> {
        let snapshot = Snapshot::begin(connection)?;
        let attached = match Schema::of_feed(connection, &self.feed.config) {
            Ok(schema) => {
                self.use_schema(Arc::new(schema));
                self.settle_history(connection, file, hub, suspicion)?;
                // At start the opening line says it for all feeds.
                if self
                    .presence
                    .replace(Presence::Open)
                    .is_some_and(|before| before != Presence::Open)
                {
                    tracing::info!(
                        "feed {} is open at head {}",
                        self.feed.config.name,
                        self.head
                    );
                }
                self.was_open = true;
                Attached::Open
            }
            Err(TableError::Sqlite(e)) => return Err(e),
            Err(error) => {
                if let TableError::Unfit(reason) = &error {
                    self.unfit = Some(reason.clone());
                }
                let reason = error.unavailable(&self.feed.config.table, &self.database);
                if self.close(&reason) {
                    tracing::warn!("feed {}: {reason}", self.feed.config.name);
                }
                Attached::Not(reason)
            }
        };
        drop(snapshot);
        hub.announce(self.feed.index);
        Ok(attached)
    }

    /// The table can't be read for now. Says whether that is news.
    pub fn close(&mut self, reason: &Unavailable) -> bool {
        self.reader = None;
        (self.fetched, self.more) = (None, false);
        self.head_row = HeadRow::Unknown;
        let cause = match reason {
            Unavailable::NoFile(_) | Unavailable::Empty(_) => Cause::NoDatabase,
            Unavailable::NoTable(_) => Cause::NoTable,
            Unavailable::Broken {
                kind: "unfit_table",
                ..
            } => Cause::Unfit,
            Unavailable::Busy(_) | Unavailable::Broken { .. } => Cause::Unreadable,
        };
        self.was_missing |= cause.is_unmade();
        let presence = Presence::away(cause, reason.public_message());
        let news = self.presence.as_ref() != Some(&presence);
        if news {
            self.feed.closed(presence.clone());
            self.presence = Some(presence);
        }
        news
    }

    fn use_schema(&mut self, schema: Arc<Schema>) {
        self.unfit = None;
        self.filters.rebind(&schema);
        self.probed_top = None;
        self.feed.opened(Arc::clone(&schema));
        self.reader = Some(RowReader::new(
            &self.feed.config,
            schema,
            self.feed.max_row_bytes,
        ));
        self.head_row = HeadRow::Unknown;
    }

    /// Is this the history whose identity is known? Called whenever that is in doubt.
    fn settle_history(
        &mut self,
        connection: &Connection,
        file: FileId,
        hub: &Hub,
        suspicion: Suspicion,
    ) -> rusqlite::Result<()> {
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        let table = reader.schema.table.clone();
        let highest = Cursor(table.highest(connection)?.unwrap_or(0).max(0));
        let known = match self.history.known() {
            Some(identity) => Some(same_history(
                connection,
                &table,
                &identity.sample,
                self.head.0,
                suspicion,
            )?),
            None => None,
        };
        match known {
            Some(false) => self.start_over(connection, file, hub)?,
            // Somebody may have been here before the table; it gets all of it. The loop reads on from the head.
            _ if self.was_open || self.was_missing => {}
            // Served from the first: what is there is history.
            _ => {
                if self.feed.subscribers() > 0 {
                    // They came while the file could not be opened, and can't know what they missed.
                    self.feed.replace(self.feed.standing().epoch, highest);
                }
                self.feed.skip_to(highest);
                self.head = self.head.max(highest);
            }
        }
        if known.is_none() && !self.history.is_kept() && !self.was_open && !self.was_missing {
            self.feed
                .begin(Epoch::new(derived_epoch(file, &table.name)), self.head);
        }
        self.top = table.max_key(connection)?;
        self.update_gauges();
        self.keep_history(connection)
    }

    /// Another history: a new epoch, and everyone is told.
    fn start_over(
        &mut self,
        connection: &Connection,
        file: FileId,
        hub: &Hub,
    ) -> rusqlite::Result<()> {
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        let table = &reader.schema.table;
        let name = &self.feed.config.name;
        (self.fetched, self.more) = (None, false);
        self.head = Cursor(table.highest(connection)?.unwrap_or(0).max(0));
        self.top = table.max_key(connection)?;
        self.head_row = HeadRow::Unknown;
        let epoch = match self.history.is_kept() {
            true => new_epoch(),
            // Derived from the file where it can be, so that it survives a restart; a second history in the same file can't.
            false => Some(derived_epoch(file, &table.name))
                .filter(|epoch| *epoch != *self.feed.standing().epoch.0)
                .unwrap_or_else(new_epoch),
        };
        tracing::info!(
            "feed {name}: the table holds another history now; epoch {epoch}, head {}",
            self.head
        );
        self.metrics.epoch_changes.with_label_values(&[name]).inc();
        self.feed.replace(Epoch::new(epoch), self.head);
        self.update_gauges();
        hub.announce(self.feed.index);
        self.keep_history(connection)
    }

    fn keep_history(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.sample(connection)?;
        self.history.store();
        Ok(())
    }

    fn sample(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        let epoch = self.feed.standing().epoch.to_string();
        let table = &reader.schema.table;
        self.history.sample(connection, table, epoch, self.head.0)
    }

    /// Reads a page above the head, within the caller's snapshot; [`publish`](Self::publish) hands it on. `woken` is
    /// when the wake came, or the look was due, that made the loop look.
    pub fn read(
        &mut self,
        connection: &Connection,
        file: FileId,
        hub: &Hub,
        woken: Option<Instant>,
    ) -> rusqlite::Result<()> {
        // What another feed's failure left unpublished is read again.
        self.fetched = None;
        if self.reader.is_none() {
            return Ok(());
        }
        let limits = if self.more { NEXT_PAGE } else { FIRST_PAGE };
        let first = !std::mem::replace(&mut self.more, false);
        let Some(mut page) = self.next_page(connection, file, hub, limits)? else {
            return Ok(());
        };
        if page.block.entries.is_empty() {
            // Rows that came and went between two looks were given ids all the same.
            page.block.last = page.block.last.max(self.sequence(connection)?);
        } else if let Some(woken) = woken.filter(|_| first) {
            let detected = page.block.read_at.saturating_duration_since(woken);
            self.metrics.detect.observe(detected.as_secs_f64());
        }
        self.more = page.full;
        self.is_read = !page.full;
        self.fetched = Some(page);
        Ok(())
    }

    /// The table, while it can be read.
    pub fn table(&self) -> Option<&Table> {
        self.reader.as_ref().map(|reader| &reader.schema.table)
    }

    /// Whether the highest id, as it is now, is another than when this was asked last. Who is told so reads the table.
    pub fn has_moved(&mut self, top: Option<i64>) -> bool {
        let before = self.probed_top.replace(top);
        self.head_row == HeadRow::Unknown || before != Some(top)
    }

    /// Something went wrong before all tables were read: the next probe says that this one moved.
    pub fn forget_look(&mut self) {
        (self.probed_top, self.is_read) = (None, false);
    }

    /// Whether it was read to its end since this was asked last.
    pub fn take_is_read(&mut self) -> bool {
        std::mem::take(&mut self.is_read)
    }

    /// Whether the last page was full.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// The page above the head; `None` when the history turned out to be another one and the next look begins afresh.
    fn next_page(
        &mut self,
        connection: &Connection,
        file: FileId,
        hub: &Hub,
        limits: PageLimits,
    ) -> rusqlite::Result<Option<HeadPage>> {
        let known_below = self
            .filters
            .take_changes(&self.feed, self.reader.as_ref().map(|r| &*r.schema));
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let page = reader.above_head(
            connection,
            self.head,
            limits,
            &self.filters.index,
            known_below,
        )?;
        if self.is_another_history(connection, &page)? {
            self.start_over(connection, file, hub)?;
            return Ok(None);
        }
        Ok(Some(page))
    }

    /// Signs that ids are being given again, or that rows already sent are not what they were.
    fn is_another_history(
        &mut self,
        connection: &Connection,
        page: &HeadPage,
    ) -> rusqlite::Result<bool> {
        let Some(reader) = &self.reader else {
            return Ok(false);
        };
        let table = &reader.schema.table;
        if page.block.entries.is_empty() && table.autoincrement {
            let highest = table.sequence(connection)?.unwrap_or(0);
            if highest < self.head.0 && table.max_key(connection)?.unwrap_or(0) < self.head.0 {
                return Ok(true);
            }
        }
        if !table.autoincrement {
            let top = table.max_key(connection)?;
            let before = std::mem::replace(&mut self.top, top);
            // A row appeared below the head, above all others: a deleted id was given again.
            if top.is_some_and(|top| top < self.head.0) && top > before {
                return Ok(true);
            }
            if self.head_row == HeadRow::Absent && page.head_row.is_some() {
                return Ok(true);
            }
        }
        let now = page.head_row.map_or(HeadRow::Absent, HeadRow::Seen);
        if self.head_row == HeadRow::Unknown || self.head_row == now {
            return Ok(false);
        }
        match self.history.known() {
            Some(identity) => {
                let sample = &identity.sample;
                Ok(!same_history(
                    connection,
                    table,
                    sample,
                    identity.head.min(self.head.0),
                    Suspicion::Edited,
                )?)
            }
            None => Ok(false),
        }
    }

    fn sequence(&self, connection: &Connection) -> rusqlite::Result<Cursor> {
        let sequence = match &self.reader {
            Some(reader) => reader.schema.table.sequence(connection)?,
            None => None,
        };
        Ok(sequence.map_or(Cursor::MIN, Cursor))
    }

    /// Samples the newest rows anew, in the snapshot they were read in, if the sample there is could soon tell nothing.
    pub fn resample(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        match &self.reader {
            Some(reader) => self
                .history
                .resample(connection, &reader.schema.table, self.head.0),
            None => Ok(()),
        }
    }

    /// Rows that came and went before they could be read were given ids all the same: the head passes those above the
    /// newest row. Asked in the snapshot the rows were read in, after they were sent.
    pub fn pass_ids_given(&mut self, connection: &Connection, hub: &Hub) -> rusqlite::Result<()> {
        if self.history.is_sampled() || self.more {
            return Ok(());
        }
        let given = self.sequence(connection)?;
        if given > self.head {
            let page = HeadPage {
                block: Block::passing(self.head, given),
                full: false,
                head_row: None,
            };
            self.publish_page(page, hub);
        }
        Ok(())
    }

    /// Hands on what was read. Says whether there may be more.
    pub fn publish(&mut self, hub: &Hub) -> bool {
        if let Some(page) = self.fetched.take() {
            self.publish_page(page, hub);
            if !self.more {
                self.history.changed();
            }
        }
        self.more
    }

    fn publish_page(&mut self, page: HeadPage, hub: &Hub) {
        let block: Block = page.block;
        let last_row = block.entries.len().checked_sub(1);
        let head_row = match last_row {
            Some(last) if block.entries[last].id == block.last.0 => {
                HeadRow::Seen(RowReader::fingerprint_of(&block.bytes[block.span(last)]))
            }
            None if block.last == self.head => page.head_row.map_or(HeadRow::Absent, HeadRow::Seen),
            _ => HeadRow::Absent,
        };
        self.history.grew(block.entries.len());
        self.head_row = head_row;
        if block.last == self.head {
            return;
        }
        self.head = block.last;
        let rows = block.entries.len();
        self.feed.publish(block);
        hub.announce(self.feed.index);
        // The row is on its way before anything else is done about it.
        self.rows_read.inc_by(rows as u64);
        self.update_gauges();
    }

    fn update_gauges(&self) {
        self.head_gauge.set(self.head.0);
    }

    /// When the identity of the history is due to be kept.
    pub fn next_save(&self) -> Option<Instant> {
        self.reader.as_ref()?;
        self.history.due()
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.next_save().is_some_and(|due| now >= due)
    }

    /// Takes the sample that [`save`](Self::save) is to keep. In a snapshot in which nothing above the head is unread: of
    /// a table that was restored meanwhile it would be a sample of another history.
    pub fn sample_to_keep(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.history.due().is_some() {
            self.sample(connection)?;
        }
        Ok(())
    }

    /// Keeps the identity, if it was sampled for that. What fails is logged; serving goes on.
    pub fn save(&mut self) {
        self.history.save();
    }

    /// Reads the row at the head through another connection.
    pub fn read_head_row(&self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        Sample::take(connection, &reader.schema.table, self.head.0).map(drop)
    }
}
