//! One feed as the feed loop follows it: its cursor, the filters to ask about each row, and the identity of its history.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::config::Config;
use crate::hub::{Feed, Hub};
use crate::sqlite::identity::Verdict;
use crate::sqlite::table::Table;
use crate::telemetry::metrics::Metrics;
use crate::wire::control::ResetReason;

mod below;
mod filters;
mod history;
mod open;
mod position;
mod presence;
mod spooled;

use position::FeedPosition;
use presence::TableState;
use spooled::Spooled;

/// A feed as it follows its table.
pub(crate) struct TableFollower {
    position: FeedPosition,
    state: TableState,
    database: PathBuf,
    /// The feed goes when its table does, for nobody named it.
    comes_and_goes: bool,
    /// Somebody may have been here before the table, or while it was away: what appears is new to them.
    is_awaited: bool,
    /// The table was captured, and nobody did it again in time.
    has_waited: bool,
    /// On an edge, what is known of the feed in its spool.
    spooled: Option<Spooled>,
    /// The pause before the last retry; zero once a read has worked.
    pause: Duration,
}

impl TableFollower {
    pub(crate) fn new(feed: Arc<Feed>, config: &Config, metrics: Arc<Metrics>) -> TableFollower {
        TableFollower {
            position: FeedPosition::new(feed, config, metrics),
            state: TableState::Unseen,
            database: config.database.clone(),
            comes_and_goes: config.all_tables,
            is_awaited: false,
            has_waited: false,
            spooled: config.edge.is_one().then(|| Spooled::of(&config.edge)),
            pause: Duration::ZERO,
        }
    }

    fn feed(&self) -> &Arc<Feed> {
        &self.position.feed
    }

    /// Returns whether the table can be read.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, TableState::Open(_))
    }

    pub(crate) fn table_name(&self) -> &str {
        &self.feed().config.table
    }

    /// The feed and where clients find it, for the log.
    pub(crate) fn served_at(&self) -> String {
        let config = &self.feed().config;
        format!("feed {} at {}", config.name, config.ws.join(" "))
    }

    pub(crate) fn is_of_changes(&self) -> bool {
        self.feed().config.capture.is_some()
    }

    /// What the feed is of since its table was captured, or was no more, for the log.
    pub(crate) fn told_of_capture(&self) -> String {
        let config = &self.feed().config;
        let (name, place) = (&config.name, config.ws.join(" "));
        match self.is_of_changes() {
            true => {
                format!("feed {name}: its table is captured now; it is one of changes, at {place}")
            }
            false => format!("feed {name} is one of inserted rows, at {place}"),
        }
    }

    /// The feed and its head, for the log.
    pub(crate) fn sent_up_to(&self) -> String {
        format!(
            "{} up to id {}",
            self.feed().config.name,
            self.position.head
        )
    }

    /// Takes in filters that came and went. Done while somebody subscribes, so that of many that came not all are left to
    /// be taken in before the next row.
    pub(crate) fn take_filters(&mut self) {
        let schema = match &self.state {
            TableState::Open(table) => Some(&**table.schema()),
            _ => None,
        };
        let position = &mut self.position;
        position.filters.take_changes(&position.feed, schema);
    }

    /// Reads a page above the head, within the caller's snapshot; [`publish`](Self::publish) hands it on. `woken` is
    /// when the wake came, or the look was due, that made the loop look.
    pub(crate) fn read(
        &mut self,
        connection: &Connection,
        hub: &Hub,
        woken: Option<Instant>,
    ) -> rusqlite::Result<()> {
        if self.spooled.is_some() {
            return self.read_spooled(connection, hub, woken);
        }
        let TableState::Open(table) = &mut self.state else {
            return Ok(());
        };
        let position = &mut self.position;
        let is_first = !table.has_more();
        let mut page = position.read_page(connection, table)?;
        if page.has_gap {
            // Nobody can be told what is not there any more: the table as it is takes its place.
            let reason = ResetReason::CaptureInterrupted;
            return position.start_over_for(reason, connection, table, hub);
        }
        if let Some(doubt) = table.doubt(connection, &page, position.head)? {
            match position.ask(connection, table, doubt)? {
                Verdict::Another => return position.start_over(connection, table, hub),
                Verdict::Same => position.history.edited(),
            }
        }
        if page.block.entries.is_empty() {
            // Rows that came and went between two looks were given ids all the same.
            page.block.last = page.block.last.max(table.given(connection)?);
        } else if let Some(woken) = woken.filter(|_| is_first) {
            let detected = page.block.read_at.saturating_duration_since(woken);
            position.metrics.detect.observe(detected.as_secs_f64());
        }
        self.pause = Duration::ZERO;
        table.fetched(page);
        Ok(())
    }

    /// Hands on what was read, and takes the samples that are due, in the snapshot it was read in.
    pub(crate) fn publish(
        &mut self,
        connection: &Connection,
        hub: &Hub,
        now: Instant,
    ) -> rusqlite::Result<()> {
        if self.spooled.is_some() {
            self.publish_spooled(hub);
            return Ok(());
        }
        let TableState::Open(table) = &mut self.state else {
            return Ok(());
        };
        let position = &mut self.position;
        let page = table.take_fetched();
        let is_read = page.as_ref().is_some_and(|page| !page.full);
        if let Some(page) = page {
            position.publish(page, table, hub);
        }
        if is_read {
            position.history.changed();
        }
        position.pass_ids_given(connection, table, hub)?;
        position
            .history
            .resample(connection, table.table(), position.head.0)?;
        if is_read && position.wants_sample(now) {
            position.sample_to_keep(connection, table, hub)?;
        }
        Ok(())
    }

    /// The table, while it can be read.
    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.state {
            TableState::Open(table) => Some(table.table()),
            _ => None,
        }
    }

    /// Returns whether the highest id, as it is now, is another than when this was asked last. Who is told so reads the
    /// table.
    pub(crate) fn has_moved(&mut self, max_id: Option<i64>) -> bool {
        match &mut self.state {
            TableState::Open(table) => table.has_moved(max_id),
            _ => false,
        }
    }

    /// Something went wrong before all tables were read: the next time it is asked, this one moved.
    pub(crate) fn forget_look(&mut self) {
        if let TableState::Open(table) = &mut self.state {
            table.forget_look();
        }
    }

    /// Returns whether the last page was full.
    pub(crate) fn has_more(&self) -> bool {
        matches!(&self.state, TableState::Open(table) if table.has_more())
    }

    /// When the identity of the history is due to be kept.
    pub(crate) fn next_save(&self) -> Option<Instant> {
        self.position.history.due().filter(|_| self.is_open())
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next_save().is_some_and(|due| now >= due)
    }

    /// Returns whether a sample is to be taken: the identity is due to be kept, or rows below the head to be counted.
    pub(crate) fn wants_sample(&self, now: Instant) -> bool {
        self.is_open() && self.position.wants_sample(now)
    }

    /// Takes the sample that [`save`](Self::save) is to keep. In a snapshot in which nothing above the head is unread: of
    /// a table that was restored meanwhile it would be a sample of another history.
    pub(crate) fn sample_to_keep(
        &mut self,
        connection: &Connection,
        hub: &Hub,
    ) -> rusqlite::Result<()> {
        match &mut self.state {
            TableState::Open(table) => self.position.sample_to_keep(connection, table, hub),
            _ => Ok(()),
        }
    }

    /// Keeps the identity, if it was sampled for that. What fails is logged; serving goes on.
    pub(crate) fn save(&mut self) {
        self.position.history.save();
    }

    /// Keeps what is known by now, also where a commit that was not read forbids another sample: the last one is of its
    /// own head, and that of a row that was sent must not be forgotten.
    pub(crate) fn save_at_end(&mut self) {
        // Where another feed has its place, so it has in what is kept.
        if !self.is_retired() {
            self.position.history.store();
        }
    }

    /// Reads the row at the head through another connection.
    pub(crate) fn read_head_row(&self, connection: &Connection) -> rusqlite::Result<()> {
        match &self.state {
            TableState::Open(table) => table.read_head_row(connection, self.position.head),
            _ => Ok(()),
        }
    }
}
