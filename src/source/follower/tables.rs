//! The tables that the feed loop follows, taken together: each one's errors stay its own.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;

use super::troubles::Troubles;
use crate::config::Config;
use crate::hub::Hub;
use crate::source::file::{Database, data_version, keep_statements};
use crate::source::max_ids::MaxIds;
use crate::source::schedule::{Due, Seen};
use crate::source::table_follower::TableFollower;
use crate::sqlite::discovery::Unfit;
use crate::sqlite::error::Unavailable;
use crate::sqlite::file::FileId;
use crate::sqlite::open::Snapshot;
use crate::telemetry::metrics::Metrics;

/// The tables followed, one a feed.
pub(super) struct Tables {
    pub(super) feeds: Vec<TableFollower>,
    /// The tables that can't be feeds, as the log has told of them; `None` where no table becomes a feed by itself.
    pub(super) reported_unfit: Option<Vec<Unfit>>,
    /// Tells which of many feeds moved; `None` until it is needed under this schema.
    pub(super) max_ids: Option<MaxIds>,
    /// Commits were seen that only some feeds were asked about.
    pub(super) is_owed: bool,
    pub(super) config: Arc<Config>,
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: Arc<Metrics>,
}

impl Tables {
    pub(super) fn new(config: Arc<Config>, hub: Arc<Hub>, metrics: Arc<Metrics>) -> Tables {
        let follower = |feed| TableFollower::new(Arc::clone(feed), &config, Arc::clone(&metrics));
        Tables {
            feeds: hub.feeds.iter().map(follower).collect(),
            reported_unfit: config.all_tables.then(Vec::new),
            max_ids: None,
            is_owed: false,
            config,
            hub,
            metrics,
        }
    }

    /// Returns the number of feeds.
    pub(super) fn len(&self) -> usize {
        self.feeds.len()
    }

    /// Why a table can't be a feed, of the first that can't.
    pub(super) fn unfit(&self) -> Option<&str> {
        self.feeds.iter().find_map(TableFollower::unfit)
    }

    /// Returns whether all tables can be read.
    pub(super) fn are_open(&self) -> bool {
        let mut followed = self.feeds.iter().filter(|feed| !feed.is_retired());
        followed.all(TableFollower::is_open)
    }

    /// Returns whether any table of the file is a feed.
    pub(super) fn are_served(&self) -> bool {
        self.feeds.iter().any(TableFollower::is_open)
    }

    /// How far each feed was sent, for the log.
    pub(super) fn positions(&self) -> String {
        let positions = self.feeds.iter().map(TableFollower::sent_up_to);
        positions.collect::<Vec<_>>().join(", ")
    }

    /// When something is due for the first of them.
    pub(super) fn due(&self) -> Due {
        let due = |feed: &TableFollower| Due {
            save: feed.next_save(),
            retry: feed.next_retry(),
            goodbye: feed.next_goodbye(),
        };
        let due = self.feeds.iter().map(due);
        due.fold(Due::default(), Due::or_earlier)
    }

    /// Follows the tables of a file that was just opened.
    pub(super) fn open(&mut self, database: &Database) -> rusqlite::Result<()> {
        let connection = &database.connection;
        self.discover(connection)?;
        keep_statements(connection, self.len());
        self.attach(connection, database.file, false, Instant::now())
    }

    /// Follows the tables as they are under another schema.
    pub(super) fn reshape(
        &mut self,
        connection: &Connection,
        file: FileId,
        now: Instant,
    ) -> rusqlite::Result<()> {
        let known = self.len();
        let unfit_before = self.reported_unfit.clone().unwrap_or_default();
        self.discover(connection)?;
        keep_statements(connection, self.len());
        let (before, come) = self.feeds.split_at(known);
        for feed in come {
            let (table, place) = (feed.table_name(), feed.served_at());
            let is_table = |name: &str| name.eq_ignore_ascii_case(table);
            let had_another = before
                .iter()
                .any(|before| before.is_retired() && is_table(before.table_name()));
            let was_unfit = unfit_before.iter().any(|unfit| is_table(&unfit.table));
            match (had_another, was_unfit) {
                (true, _) => tracing::info!("{}", feed.told_of_capture()),
                (false, true) if feed.is_of_changes() => {
                    tracing::info!("{}", feed.told_of_capture());
                }
                (false, true) => tracing::info!("the table {table} can be a feed now: {place}"),
                (false, false) => tracing::info!("the table {table} is new: {place}"),
            }
        }
        self.attach(connection, file, true, now)
    }

    /// Reads the tables' shapes, and whose histories they hold. `watched`: the file stayed open.
    fn attach(
        &mut self,
        connection: &Connection,
        file: FileId,
        watched: bool,
        now: Instant,
    ) -> rusqlite::Result<()> {
        self.max_ids = None;
        self.try_each(now, |feed, hub| feed.attach(connection, file, hub, watched))
    }

    /// Tries to read the tables again that failed for themselves and whose time has come.
    pub(super) fn retry(&mut self, database: &mut Database, now: Instant) -> rusqlite::Result<()> {
        let connection = &database.connection;
        // A page that is garbled on the disk may stand well in the cache, and the other way round.
        connection.execute_batch("PRAGMA shrink_memory")?;
        // What came meanwhile is to be read.
        if let Seen::UpTo(_) = database.seen {
            database.seen = Seen::Unknown;
        }
        self.max_ids = None;
        self.try_each(now, |feed, hub| match feed.is_retry_due(now) {
            true => feed.attach(connection, database.file, hub, false),
            false => Ok(()),
        })
    }

    /// Takes the samples that are due of feeds whose rows were all read.
    pub(super) fn sample(&mut self, connection: &Connection, now: Instant) -> rusqlite::Result<()> {
        self.try_each(now, |feed, hub| match feed.wants_sample(now) {
            true => feed.sample_to_keep(connection, hub),
            false => Ok(()),
        })
    }

    /// Reads each feed's head row through another connection.
    pub(super) fn read_head_rows(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.try_each(Instant::now(), |feed, _| feed.read_head_row(connection))
    }

    /// Does the same with each table. One that fails by itself is closed, and tried again after a while.
    ///
    /// # Errors
    /// It is the file that fails.
    fn try_each(
        &mut self,
        now: Instant,
        mut task: impl FnMut(&mut TableFollower, &Hub) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut troubles = Troubles::default();
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            troubles.note(index, task(feed, &self.hub))?;
        }
        troubles.settle(&mut self.feeds, &self.hub, now).map(drop)
    }

    /// The file can't be read for now.
    pub(super) fn close(&mut self, reason: &Unavailable) {
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            if feed.close(reason) {
                self.hub.announce(index);
            }
        }
    }

    /// A look failed before all tables were read.
    pub(super) fn forget_look(&mut self) {
        self.feeds.iter_mut().for_each(TableFollower::forget_look);
    }

    /// Takes in the filters of those who subscribed.
    pub(super) fn take_filters(&mut self) {
        self.feeds.iter_mut().for_each(TableFollower::take_filters);
    }

    /// Lets the feeds of tables go that were dropped, or not captured any more, and stayed so. Returns whether a table may be
    /// another feed now.
    pub(super) fn say_goodbye(&mut self, now: Instant) -> bool {
        let mut may_be_another = false;
        for feed in &mut self.feeds {
            may_be_another |= feed.say_goodbye(&self.hub, now);
        }
        may_be_another
    }

    /// Keeps the identities that are due.
    pub(super) fn save(&mut self, now: Instant) {
        let due = self.feeds.iter_mut().filter(|feed| feed.is_due(now));
        due.for_each(TableFollower::save);
    }

    /// Keeps every identity, sampled anew unless there are commits that were not read.
    pub(super) fn save_at_end(&mut self, database: Option<&Database>) {
        if let Some(database) = database
            && let Err(e) = self.sample_all(database)
        {
            tracing::debug!("no samples at the end: {e}");
        }
        self.feeds.iter_mut().for_each(TableFollower::save_at_end);
    }

    fn sample_all(&mut self, database: &Database) -> rusqlite::Result<()> {
        let connection = &database.connection;
        let _snapshot = Snapshot::begin(connection)?;
        if Seen::UpTo(data_version(connection)?) != database.seen {
            return Ok(());
        }
        let mut feeds = self.feeds.iter_mut();
        feeds.try_for_each(|feed| feed.sample_to_keep(connection, &self.hub))
    }
}
