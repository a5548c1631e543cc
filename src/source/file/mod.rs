//! The database file as the feed loop follows it: opening what the path leads to, noticing that it leads elsewhere, switching
//! it to WAL, and watching for writes to it.

mod database;
mod events;

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use crate::config::{Config, JournalMode};
use crate::model::wakeup::Waiter;
use crate::sqlite::error::Unavailable;
use crate::sqlite::open::open_reading;
use crate::sqlite::open_connections::OpenConnections;
use crate::sqlite::stock_table::{Attempt, STOCK_TABLE, StockTable};
use database::{Apart, PathState};
pub(super) use database::{BUSY, Database, data_version, keep_statements};
pub(super) use events::Events;

/// How long all other connections of the process may take to close. Reads are short; where one is not, it is waited for
/// again.
const CLOSE_PATIENCE: Duration = Duration::from_millis(100);

/// The database file, open or not.
pub(crate) struct SourceFile {
    config: Arc<Config>,
    open_connections: Arc<OpenConnections>,
    pub events: Events,
    pub database: Option<Database>,
    /// Connections of this process may still use files that are no longer those beside the database.
    is_stale: bool,
    /// The stock table, as long as it may have to be made.
    stock_table: Option<StockTable>,
    /// What was open when something beside the file went away; told once it is clear whether the file goes, too.
    apart: Option<Apart>,
}

/// How the path came not to lead to the open file any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// There is no file.
    Gone,
    /// There is another one, or it goes by another name.
    Replaced,
    /// The file is there, those beside it are not what they were.
    Apart,
}

impl SourceFile {
    pub(crate) fn new(
        config: Arc<Config>,
        open_connections: Arc<OpenConnections>,
        waiter: Waiter,
    ) -> SourceFile {
        let creates = config.feeds.iter().any(|feed| feed.create);
        let wal = config.journal_mode == JournalMode::Wal;
        SourceFile {
            stock_table: creates.then(|| StockTable::new(&config.database, wal)),
            config,
            open_connections,
            events: Events::new(waiter),
            database: None,
            is_stale: false,
            apart: None,
        }
    }

    /// Closes what is open if the path does not lead to it any more, and says how that came.
    pub(crate) fn compare(&mut self) -> Option<Departure> {
        let state = self.database.as_ref()?.path_state();
        let path = self.config.database.display();
        let departure = match state {
            PathState::Same => return None,
            PathState::Gone => Departure::Gone,
            PathState::Replaced => {
                tracing::info!("{path} was replaced by another file");
                Departure::Replaced
            }
            PathState::Renamed => {
                tracing::info!(
                    "{path} has other names than it had, or is in another mode: opened anew"
                );
                self.is_stale = true;
                Departure::Replaced
            }
            PathState::Apart(apart) => {
                self.apart = Some(apart);
                self.is_stale = true;
                Departure::Apart
            }
        };
        self.database = None;
        Some(departure)
    }

    /// Returns whether the file may be opened: a connection opened now would be fresh. Makes the stock table first, where
    /// that is still to be done. `positions` is how far each feed was sent, for the log.
    pub(crate) fn prepare(&mut self, positions: impl FnOnce() -> String) -> bool {
        self.is_stale = self.is_stale && !self.open_connections.close_all(CLOSE_PATIENCE);
        if self.is_stale {
            return false;
        }
        self.make_stock_table();
        if let Some(apart) = self.apart.take() {
            self.tell_apart(&apart, positions);
        }
        self.events.refresh();
        true
    }

    fn make_stock_table(&mut self) {
        let Some(stock_table) = &self.stock_table else {
            return;
        };
        let path = self.config.database.display();
        match stock_table.attempt() {
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
        self.stock_table = None;
    }

    /// Says what it means that something beside the file went away.
    fn tell_apart(&self, apart: &Apart, positions: impl FnOnce() -> String) {
        let path = self.config.database.display();
        if !apart.is_same_file(&self.config.database) {
            return tracing::info!("{path} was replaced by another file");
        }
        let suffixes = apart.suffixes();
        let lost = match suffixes.contains(&"-wal") {
            true => format!(
                "commits that were in it alone are lost (sent so far: {}); ",
                positions()
            ),
            false => String::new(),
        };
        tracing::warn!(
            "{} of {path} went away while the database was in use: it is opened anew; {lost}other programs that have it open \
             go on writing to files that nobody else sees: restart them",
            suffixes.join(" and "),
        );
    }

    /// The file is open and its tables are followed. There is no stock table to make any more.
    pub(crate) fn opened(&mut self, database: Database) {
        self.database = Some(database);
        self.stock_table = None;
    }

    /// Switches the file to WAL where that is wanted and can be done now, and finds out its mode, which somebody else may
    /// have changed. Returns whether it is in WAL mode, or may be some time soon.
    pub(crate) fn switch_to_wal(&mut self, is_wanted: bool) -> bool {
        let open = self.database.as_mut();
        let Some(database) = open.filter(|database| !database.situation().is_wal) else {
            return true;
        };
        let can_be = !is_wanted || database.switch_to_wal();
        if let Err(reason) = database.look_up_mode() {
            tracing::debug!("not read right after the switch: {reason}");
        }
        can_be
    }

    /// Opens another connection, which sees the file as it is: the held one may go on reading its cache for ever.
    pub(crate) fn connect_afresh(&self) -> Result<Connection, Unavailable> {
        open_reading(&self.config.database, BUSY)
    }
}
