//! One feed as the feed loop follows it: its cursor, the filters to ask about each row, and the identity of its history.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};
use rusqlite::Connection;

use crate::config::Config;
use crate::hub::{Cause, Feed, Hub, Presence};
use crate::model::position::{Cursor, Epoch};
use crate::sqlite::error::{BrokenKind, Unavailable};
use crate::sqlite::file::FileId;
use crate::sqlite::identity::{Doubt, Verdict, derived_epoch, new_epoch};
use crate::sqlite::open::Snapshot;
use crate::sqlite::reader::{HeadPage, PageLimits};
use crate::sqlite::stock_table;
use crate::sqlite::table::{Schema, Table, TableError};
use crate::telemetry::metrics::Metrics;
use crate::text::nearest::did_you_mean;
use crate::wire::block::Block;

mod below;
mod filters;
mod history;
mod open;

use below::BelowHead;
use filters::BoundFilters;
use history::History;
use open::OpenTable;

/// The first page after a wake is small, so that the first rows of a burst leave early; the next ones are larger.
const FIRST_PAGE: PageLimits = PageLimits {
    rows: 64,
    bytes: 64 * 1024,
};
const NEXT_PAGE: PageLimits = PageLimits {
    rows: 1024,
    bytes: 256 * 1024,
};

/// How soon a table that can't be read is tried again, at first and at most. A changed schema tries at once.
const RETRY: Duration = Duration::from_millis(250);
const MAX_RETRY: Duration = Duration::from_secs(5);

/// How long the feed of a dropped table stays, where feeds come and go with their tables. A migration that makes the table
/// anew does so at once, or after a moment on a busy machine; who was told that the feed is gone would not come back.
const STAYS: Duration = Duration::from_secs(5);

/// A feed and its place in the table.
pub(crate) struct TableFollower {
    feed: Arc<Feed>,
    metrics: Arc<Metrics>,
    /// Of the metrics, those of this feed that every row moves.
    rows_read: IntCounter,
    head_gauge: IntGauge,
    database: std::path::PathBuf,
    /// The feed goes when its table does, for nobody named it.
    comes_and_goes: bool,
    state: TableState,
    /// The highest id given; below every id where none was.
    head: Cursor,
    filters: BoundFilters,
    history: History,
    below: BelowHead,
    /// Somebody may have been here before the table, or while it was away: what appears is new to them.
    awaited: bool,
    /// The pause before the last retry; zero once a read has worked.
    pause: Duration,
}

/// What there is of the table.
enum TableState {
    /// Nobody has looked yet.
    Unseen,
    Open(Box<OpenTable>),
    Away {
        reason: Unavailable,
        /// When it is tried again, where the trouble is the table's own. Else that comes with the file or its schema.
        retry: Option<Instant>,
        /// When its feed goes, unless the table is back by then.
        goes: Option<Instant>,
    },
}

impl TableFollower {
    pub(crate) fn new(feed: Arc<Feed>, config: &Config, metrics: Arc<Metrics>) -> TableFollower {
        let name = feed.config.name.as_str();
        metrics.announce_feed(name);
        let history = History::load(config, &feed.config);
        let known = history.known();
        let head = known.map_or(Cursor::MIN, |identity| Cursor(identity.head));
        let epoch = known.map_or_else(new_epoch, |identity| identity.epoch.clone());
        feed.begin(Epoch::new(epoch), head);
        TableFollower {
            rows_read: metrics.rows_read.with_label_values(&[name]),
            head_gauge: metrics.feed_head.with_label_values(&[name]),
            below: BelowHead::new(name, &metrics),
            feed,
            metrics,
            database: config.database.clone(),
            comes_and_goes: config.all_tables,
            state: TableState::Unseen,
            head,
            filters: BoundFilters::default(),
            history,
            awaited: false,
            pause: Duration::ZERO,
        }
    }

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

    /// Returns whether the table can be read.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, TableState::Open(_))
    }

    pub(crate) fn table_name(&self) -> &str {
        &self.feed.config.table
    }

    /// The feed and where clients find it, for the log.
    pub(crate) fn served_at(&self) -> String {
        let config = &self.feed.config;
        format!("feed {} at {}", config.name, config.ws.join(" "))
    }

    /// The feed and its head, for the log.
    pub(crate) fn position(&self) -> String {
        format!("{} up to id {}", self.feed.config.name, self.head)
    }

    /// Reads the table's shape, where there is one, and decides whether its history is the one known. `watched`: the file stayed open.
    ///
    /// # Errors
    /// The table can't be read; its state is what it was.
    pub(crate) fn attach(
        &mut self,
        connection: &Connection,
        file: FileId,
        hub: &Hub,
        watched: bool,
    ) -> rusqlite::Result<()> {
        let _snapshot = Snapshot::begin(connection)?;
        let schema = match Schema::of_feed(connection, &self.feed.config) {
            Ok(schema) => Arc::new(schema),
            Err(TableError::Sqlite(e)) => return Err(e),
            Err(error) => {
                let reason = error.unavailable(&self.feed.config.table, &self.database);
                let was_gone = self.feed.is_gone();
                if self.close(&reason) && !was_gone {
                    self.tell_closed(connection, &reason);
                }
                hub.announce(self.feed.index);
                return Ok(());
            }
        };
        let mut table = OpenTable::new(&self.feed, Arc::clone(&schema), file);
        // Before anybody is told that there is a table to read.
        table.try_reading(connection, self.head)?;
        let verdict = self.compare(connection, &table, watched)?;
        self.filters.rebind(&schema);
        let before = std::mem::replace(&mut self.state, TableState::Open(Box::new(table)));
        self.feed.opened(schema);
        self.settle_history(connection, hub, verdict)?;
        if let TableState::Open(open) = &self.state
            && open.table().is_key_unstable()
            && !self.awaited
        {
            tracing::warn!(
                "feed {}: the rowid of table {} is no column of it, so VACUUM may give every row another id; declare an \
                 INTEGER PRIMARY KEY where somebody may run it",
                self.feed.config.name,
                self.feed.config.table
            );
        }
        // At start the opening line says it for all feeds.
        if matches!(before, TableState::Away { .. }) {
            tracing::info!(
                "feed {} is open at head {}",
                self.feed.config.name,
                self.head
            );
        }
        self.awaited = true;
        hub.announce(self.feed.index);
        Ok(())
    }

    /// Says in the log why there is no table to read.
    fn tell_closed(&self, connection: &Connection, reason: &Unavailable) {
        let name = &self.feed.config.name;
        match reason {
            Unavailable::NoTable(_) if self.comes_and_goes => {
                let stays = STAYS.as_secs();
                tracing::info!(
                    "feed {name}: its table was dropped; the feed goes in {stays} s unless the table is back by then"
                );
            }
            Unavailable::NoTable(table) => {
                let hint = tables_there(connection, table);
                tracing::warn!("feed {name}: {reason}{hint}");
            }
            _ => tracing::warn!("feed {name}: {reason}"),
        }
    }

    /// The table can't be read for now. Returns whether that is news.
    pub(crate) fn close(&mut self, reason: &Unavailable) -> bool {
        self.put_away(reason, None)
    }

    /// The table alone can't be read; it is tried again after a while.
    pub(crate) fn fail(&mut self, error: &rusqlite::Error, hub: &Hub, now: Instant) {
        let reason = Unavailable::of_table(error, &self.feed.config.table);
        self.pause = (self.pause * 2).clamp(RETRY, MAX_RETRY);
        if let Some(kind) = reason.error_kind() {
            let errors = &self.metrics.database_errors;
            errors.with_label_values(&[kind]).inc();
        }
        if self.put_away(&reason, Some(now + self.pause)) {
            tracing::error!("feed {}: {reason}", self.feed.config.name);
            hub.announce(self.feed.index);
        }
    }

    fn put_away(&mut self, reason: &Unavailable, retry: Option<Instant>) -> bool {
        let cause = match reason {
            Unavailable::NoFile(_) | Unavailable::Empty(_) => Cause::NoDatabase,
            _ if self.feed.is_gone() => Cause::Gone,
            Unavailable::NoTable(_) if self.comes_and_goes => Cause::Dropped,
            Unavailable::NoTable(_) => Cause::NoTable,
            Unavailable::Broken { kind, .. } if *kind == BrokenKind::UnfitTable => Cause::Unfit,
            Unavailable::Busy(_) | Unavailable::Broken { .. } => Cause::Unreadable,
        };
        self.awaited |= cause.is_unmade();
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
            goes: goes.unwrap_or_else(|| (cause == Cause::Dropped).then(|| Instant::now() + STAYS)),
        };
        if news {
            let presence = Presence::away(cause, reason.public_message());
            self.feed.closed(presence);
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

    /// Its table stayed away: the feed is gone with it, and its subscribers are told.
    pub(crate) fn say_goodbye(&mut self, hub: &Hub, now: Instant) {
        if self.next_goodbye().is_none_or(|goes| now < goes) {
            return;
        }
        if let TableState::Away { reason, goes, .. } = &mut self.state {
            *goes = None;
            let presence = Presence::away(Cause::Gone, reason.public_message());
            self.feed.closed(presence);
        }
        let name = &self.feed.config.name;
        tracing::info!("feed {name} is gone: its table was dropped");
        hub.announce(self.feed.index);
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

    /// Whether the table, as it is now, holds the history that is known; `None` where none is.
    fn compare(
        &self,
        connection: &Connection,
        table: &OpenTable,
        watched: bool,
    ) -> rusqlite::Result<Option<Verdict>> {
        let Some(known) = self.history.known() else {
            return Ok(None);
        };
        let doubt = match (watched, known.file == Some(table.file)) {
            (true, true) => Doubt::Reshaped,
            (false, true) => Doubt::Unwatched,
            (_, false) => Doubt::OtherFile,
        };
        let question = self.history.question(table.table(), self.head.0, doubt);
        question
            .map(|question| question.answer(connection))
            .transpose()
    }

    /// Goes on with the history that is known, or begins with the one there is.
    fn settle_history(
        &mut self,
        connection: &Connection,
        hub: &Hub,
        verdict: Option<Verdict>,
    ) -> rusqlite::Result<()> {
        let TableState::Open(open) = &self.state else {
            return Ok(());
        };
        let (file, table) = (open.file, open.table());
        let highest = Cursor(table.highest(connection)?.unwrap_or(i64::MIN));
        match verdict {
            Some(Verdict::Another) => return self.start_over(connection, hub),
            // Somebody may have been here before the table; it gets all of it. The loop reads on from the head.
            _ if self.awaited => {}
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
        if verdict.is_none() && !self.history.is_kept() && !self.awaited {
            let epoch = Epoch::new(derived_epoch(file, &table.name));
            self.feed.begin(epoch, self.head);
        }
        self.settled(connection)
    }

    /// Another history: a new epoch, and everyone is told.
    fn start_over(&mut self, connection: &Connection, hub: &Hub) -> rusqlite::Result<()> {
        let TableState::Open(open) = &mut self.state else {
            return Ok(());
        };
        open.begin_anew();
        let table = open.table();
        self.head = Cursor(table.highest(connection)?.unwrap_or(i64::MIN));
        let epoch = match self.history.is_kept() {
            true => new_epoch(),
            // Derived from the file where it can be, so that it survives a restart; a second history in the same file can't.
            false => Some(derived_epoch(open.file, &table.name))
                .filter(|epoch| *epoch != *self.feed.standing().epoch.0)
                .unwrap_or_else(new_epoch),
        };
        let name = &self.feed.config.name;
        tracing::info!(
            "feed {name}: the table holds another history now; epoch {epoch}, head {}",
            self.head
        );
        self.metrics.epoch_changes.with_label_values(&[name]).inc();
        self.feed.replace(Epoch::new(epoch), self.head);
        hub.announce(self.feed.index);
        self.settled(connection)
    }

    /// It is known which history this is, and up to where.
    fn settled(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.update_gauges();
        if let TableState::Open(open) = &mut self.state {
            open.note_ids(connection, self.head)?;
            self.below.begin(connection, open.table(), self.head)?;
        }
        self.sample(connection)?;
        self.history.store();
        Ok(())
    }

    fn sample(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let TableState::Open(open) = &self.state else {
            return Ok(());
        };
        let epoch = self.feed.standing().epoch.to_string();
        self.history
            .sample(connection, open.table(), epoch, open.file, self.head.0)
    }

    /// Takes in filters that came and went. Done while somebody subscribes, so that of many that came not all are left to
    /// be taken in before the next row.
    pub(crate) fn take_filters(&mut self) {
        let schema = match &self.state {
            TableState::Open(open) => Some(Arc::clone(open.schema())),
            _ => None,
        };
        self.filters.take_changes(&self.feed, schema.as_deref());
    }

    /// Reads a page above the head, within the caller's snapshot; [`publish`](Self::publish) hands it on. `woken` is
    /// when the wake came, or the look was due, that made the loop look.
    pub(crate) fn read(
        &mut self,
        connection: &Connection,
        hub: &Hub,
        woken: Option<Instant>,
    ) -> rusqlite::Result<()> {
        let TableState::Open(open) = &mut self.state else {
            return Ok(());
        };
        // What another feed's failure left unpublished is read again.
        open.fetched = None;
        let limits = if open.more { NEXT_PAGE } else { FIRST_PAGE };
        let first = !std::mem::replace(&mut open.more, false);
        let schema = Arc::clone(open.schema());
        let known_below = self.filters.take_changes(&self.feed, Some(&schema));
        let mut page = open.read_above(
            connection,
            self.head,
            limits,
            &self.filters.index,
            known_below,
        )?;
        if open.ids_are_given_again(connection, &page, self.head)?
            || (open.head_row_changed(&page) && self.is_edited_beyond_belief(connection)?)
        {
            return self.start_over(connection, hub);
        }
        let TableState::Open(open) = &mut self.state else {
            return Ok(());
        };
        if page.block.entries.is_empty() {
            // Rows that came and went between two looks were given ids all the same.
            page.block.last = page.block.last.max(open.sequence(connection)?);
        } else if let Some(woken) = woken.filter(|_| first) {
            let detected = page.block.read_at.saturating_duration_since(woken);
            self.metrics.detect.observe(detected.as_secs_f64());
        }
        self.pause = Duration::ZERO;
        open.more = page.full;
        open.is_read = !page.full;
        open.fetched = Some(page);
        Ok(())
    }

    /// The row at the head is not what it was. Whether that was no update or deletion, but another history.
    fn is_edited_beyond_belief(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let TableState::Open(open) = &self.state else {
            return Ok(false);
        };
        let question = self
            .history
            .question(open.table(), self.head.0, Doubt::Edited);
        let verdict = question
            .map(|question| question.answer(connection))
            .transpose()?;
        Ok(verdict == Some(Verdict::Another))
    }

    /// The table, while it can be read.
    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.state {
            TableState::Open(open) => Some(open.table()),
            _ => None,
        }
    }

    /// Returns whether the highest id, as it is now, is another than when this was asked last. Who is told so reads the
    /// table.
    pub(crate) fn has_moved(&mut self, top: Option<i64>) -> bool {
        match &mut self.state {
            TableState::Open(open) => open.has_moved(top),
            _ => false,
        }
    }

    /// Something went wrong before all tables were read: the next probe says that this one moved.
    pub(crate) fn forget_look(&mut self) {
        if let TableState::Open(open) = &mut self.state {
            open.forget_look();
        }
    }

    /// Returns whether it was read to its end since this was asked last.
    fn take_is_read(&mut self) -> bool {
        match &mut self.state {
            TableState::Open(open) => std::mem::take(&mut open.is_read),
            _ => false,
        }
    }

    /// Returns whether the last page was full.
    pub(crate) fn has_more(&self) -> bool {
        matches!(&self.state, TableState::Open(open) if open.more)
    }

    /// Hands on what was read, and takes the samples that are due, in the snapshot it was read in.
    pub(crate) fn publish(
        &mut self,
        connection: &Connection,
        hub: &Hub,
        now: Instant,
    ) -> rusqlite::Result<()> {
        let TableState::Open(open) = &mut self.state else {
            return Ok(());
        };
        if let Some(page) = open.fetched.take() {
            self.publish_page(page, hub);
            if !self.has_more() {
                self.history.changed();
            }
        }
        self.pass_ids_given(connection, hub)?;
        if let TableState::Open(open) = &self.state {
            self.history
                .resample(connection, open.table(), self.head.0)?;
        }
        if self.take_is_read() && self.wants_sample(now) {
            self.sample_to_keep(connection, hub)?;
        }
        Ok(())
    }

    /// Rows that came and went before they could be read were given ids all the same: the head passes those above the
    /// newest row. Asked in the snapshot the rows were read in, after they were sent.
    fn pass_ids_given(&mut self, connection: &Connection, hub: &Hub) -> rusqlite::Result<()> {
        let TableState::Open(open) = &self.state else {
            return Ok(());
        };
        if self.history.is_sampled() || open.more {
            return Ok(());
        }
        let given = open.sequence(connection)?;
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

    fn publish_page(&mut self, page: HeadPage, hub: &Hub) {
        let TableState::Open(open) = &mut self.state else {
            return;
        };
        open.note_head_row(&page, self.head);
        let block: Block = page.block;
        let rows = block.entries.len();
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

    fn update_gauges(&self) {
        let none = self.head == Cursor::MIN;
        self.head_gauge.set(if none { 0 } else { self.head.0 });
    }

    /// When the identity of the history is due to be kept.
    pub(crate) fn next_save(&self) -> Option<Instant> {
        self.history.due().filter(|_| self.is_open())
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next_save().is_some_and(|due| now >= due)
    }

    /// Returns whether the identity is due to be kept, or rows below the head are to be counted. The latter is worth no
    /// turn of the loop of its own.
    pub(crate) fn wants_sample(&self, now: Instant) -> bool {
        let counting = || self.is_open() && self.below.due().is_some_and(|due| now >= due);
        self.is_due(now) || counting()
    }

    /// Takes the sample that [`save`](Self::save) is to keep. In a snapshot in which nothing above the head is unread: of
    /// a table that was restored meanwhile it would be a sample of another history.
    pub(crate) fn sample_to_keep(
        &mut self,
        connection: &Connection,
        hub: &Hub,
    ) -> rusqlite::Result<()> {
        if let TableState::Open(open) = &self.state {
            let came = self.below.look(connection, open.table(), self.head)?;
            // Above the largest id SQLite gives others at random, in no order: they can't be sent, but be told of.
            if came > 0 && self.head.0 == i64::MAX {
                return self.start_over(connection, hub);
            }
        }
        match self.history.due() {
            Some(_) => self.sample(connection),
            None => Ok(()),
        }
    }

    /// Keeps the identity, if it was sampled for that. What fails is logged; serving goes on.
    pub(crate) fn save(&mut self) {
        self.history.save();
    }

    /// Keeps what is known by now, also where a commit that was not read forbids another sample: the last one is of its
    /// own head, and that of a row that was sent must not be forgotten.
    pub(crate) fn save_at_end(&mut self) {
        self.history.store();
    }

    /// Reads the row at the head through another connection.
    pub(crate) fn read_head_row(&self, connection: &Connection) -> rusqlite::Result<()> {
        match &self.state {
            TableState::Open(open) => open.read_head_row(connection, self.head),
            _ => Ok(()),
        }
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
