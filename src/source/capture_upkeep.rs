//! Keeps captured tables captured: installs what is missing, mends what was lost, and prunes what is older than is kept.
//!
//! All of it is done by a thread of its own, for it writes, and so waits for other writers. It looks when it is told to, by
//! the feed loop, which sees the file opened and its schema move; between that it holds no connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use crate::config::{CaptureRules, Config};
use crate::sqlite::capture::{
    CaptureState, Installed, Prune, Pruning, Subject, install, install_command, look,
    prepare_for_pruning, remove_command,
};
use crate::sqlite::error::Unavailable;
use crate::sqlite::open::{leave_on_close, open_reading, open_writing};
use crate::sqlite::open_connections::OpenConnections;
use crate::sqlite::table::TableError;

/// How long one statement waits for other writers. Longer than most transactions; after it, it is tried again.
const BUSY: Duration = Duration::from_secs(5);
/// The first and the longest pause until what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A log is pruned so often within the time that its changes are kept, but no oftener and no more seldom than this.
const PRUNES: u32 = 20;
const OFTENEST: Duration = Duration::from_secs(1);
const MOST_SELDOM: Duration = Duration::from_secs(60);

/// What the thread was told.
#[derive(Default)]
struct Told {
    /// The file was opened, or its schema moved.
    look: bool,
    stop: bool,
}

/// The upkeep of a file's captured tables.
pub struct CaptureUpkeep {
    config: Arc<Config>,
    open_connections: Arc<OpenConnections>,
    told: Mutex<Told>,
    moved: Condvar,
    /// What was last said of each table, so that it is said once.
    said: Mutex<Vec<(String, String)>>,
}

impl CaptureUpkeep {
    /// Returns the upkeep of what the configuration captures; `None` where that is nothing.
    pub fn of(config: &Arc<Config>, open_connections: &Arc<OpenConnections>) -> Option<Arc<Self>> {
        let upkeep = Self {
            config: Arc::clone(config),
            open_connections: Arc::clone(open_connections),
            told: Mutex::default(),
            moved: Condvar::new(),
            said: Mutex::default(),
        };
        let is_wanted = upkeep.tables().next().is_some();
        is_wanted.then(|| Arc::new(upkeep))
    }

    /// Has the thread look whether all is in place.
    pub fn look_again(&self) {
        self.told.lock().look = true;
        self.moved.notify_all();
    }

    /// Ends [`run`](Self::run), at the latest after the statement that is running.
    pub fn stop(&self) {
        self.told.lock().stop = true;
        self.moved.notify_all();
    }

    /// Looks and prunes until it is told to stop.
    pub fn run(&self) {
        let pause = self.pause();
        let mut prune_at = Instant::now() + pause;
        let mut retry = None;
        let mut wait = RETRY;
        while let Some(is_told) = self.wait(retry.map_or(prune_at, |at: Instant| at.min(prune_at)))
        {
            if is_told || retry.is_some_and(|at| at <= Instant::now()) {
                let is_done = self.look();
                wait = if is_done {
                    RETRY
                } else {
                    (wait * 2).min(LONGEST_RETRY)
                };
                retry = (!is_done).then(|| Instant::now() + wait);
            }
            if prune_at <= Instant::now() {
                self.prune();
                prune_at = Instant::now() + pause;
            }
        }
    }

    /// Waits until it is told something, or `until`. Returns whether it was told to look; `None` where it is to stop.
    fn wait(&self, until: Instant) -> Option<bool> {
        let mut told = self.told.lock();
        while !told.look && !told.stop {
            if self.moved.wait_until(&mut told, until).timed_out() {
                break;
            }
        }
        let look = std::mem::take(&mut told.look);
        (!told.stop).then_some(look)
    }

    /// How often logs are pruned.
    fn pause(&self) -> Duration {
        let keeps = self.tables().map(|(_, rules)| rules.keep / PRUNES);
        let shortest = keeps.min().unwrap_or(MOST_SELDOM);
        shortest.clamp(OFTENEST, MOST_SELDOM)
    }

    /// The tables, each once, with what is asked for; of feeds that keep changes for different times, the longest.
    fn tables(&self) -> impl Iterator<Item = (&str, CaptureRules)> {
        let mut tables: Vec<(&str, CaptureRules)> = Vec::new();
        for feed in &self.config.feeds {
            let Some(rules) = feed.capture.as_ref().filter(|rules| rules.upkeep) else {
                continue;
            };
            let mut known = tables.iter_mut();
            match known.find(|(table, _)| table.eq_ignore_ascii_case(&feed.table)) {
                Some((_, known)) => known.keep = known.keep.max(rules.keep),
                None => tables.push((&feed.table, rules.clone())),
            }
        }
        tables.into_iter()
    }

    /// Installs what is missing and mends what is broken. Returns whether there is nothing to be tried again.
    pub fn look(&self) -> bool {
        let missing = self.with_connection(false, |connection| self.missing(connection));
        match missing {
            Ok(missing) if missing.is_empty() => true,
            Ok(missing) => self.install(&missing),
            Err(reason) => self.is_left(&reason),
        }
    }

    /// The tables that are there and not captured as they are to be, and why they are not any more.
    fn missing(&self, connection: &mut Connection) -> Result<Vec<Missing>, rusqlite::Error> {
        let mut missing = Vec::new();
        for (table, rules) in self.tables() {
            let lost = match look(connection, table)? {
                CaptureState::Whole(capture) if capture.is_as(&rules) => continue,
                CaptureState::Whole(_) => Some("it is to be captured otherwise".to_owned()),
                CaptureState::Broken { reason } => Some(reason),
                CaptureState::Absent => None,
            };
            missing.push(Missing {
                table: table.to_owned(),
                rules,
                lost,
            });
        }
        Ok(missing)
    }

    fn install(&self, missing: &[Missing]) -> bool {
        let installed = self.with_connection(true, |connection| {
            let mut is_done = true;
            for missing in missing {
                is_done &= self.install_one(connection, missing);
            }
            Ok(is_done)
        });
        match installed {
            Ok(is_done) => is_done,
            Err(reason) => {
                for missing in missing {
                    let remedy = self.remedy(missing);
                    self.say(
                        &missing.table,
                        &format!("can't be captured: {reason}; {remedy}"),
                    );
                }
                self.is_left(&reason)
            }
        }
    }

    /// Returns whether there is nothing to be tried again.
    fn install_one(&self, connection: &mut Connection, missing: &Missing) -> bool {
        let Missing { table, rules, lost } = missing;
        let installed = install(connection, &|connection| {
            Subject::of(connection, table, rules.mode, &rules.filters)
        });
        let database = self.config.database.display();
        match installed {
            Ok(Installed::Already) => {}
            Ok(_) => {
                let back = remove_command(&self.config.database, table);
                match lost {
                    None => tracing::info!(
                        "table {table}: changes are captured from now on (triggers and tables named _walcast_… were added to {database}); \
                         back with: {back}"
                    ),
                    Some(reason) => tracing::warn!(
                        "table {table}: changes may have been missed ({reason}); captured anew, and subscribers start over"
                    ),
                }
                self.said.lock().retain(|(said, _)| said != table);
            }
            // It is waited for, as the feed says.
            Err(TableError::Missing) => {}
            Err(TableError::Unfit(reason)) => {
                self.say(table, &format!("can't be captured: {reason}"));
            }
            Err(TableError::Sqlite(error)) => {
                let reason = Unavailable::from_sqlite(&error, &self.config.database);
                if !matches!(reason, Unavailable::Busy(_)) {
                    let remedy = self.remedy(missing);
                    self.say(table, &format!("can't be captured: {reason}; {remedy}"));
                }
                return self.is_left(&reason);
            }
        }
        true
    }

    fn remedy(&self, missing: &Missing) -> String {
        let Missing { table, rules, .. } = missing;
        format!(
            "let the daemon's user write, or run as one who may: {}",
            install_command(&self.config.database, table, rules)
        )
    }

    /// Whether what failed for this reason is left until the file is opened again, or its schema moves.
    fn is_left(&self, reason: &Unavailable) -> bool {
        !matches!(reason, Unavailable::Busy(_))
    }

    /// Logs a line of a table, where it is another than before.
    fn say(&self, table: &str, line: &str) {
        let mut said = self.said.lock();
        match said.iter_mut().find(|(known, _)| known == table) {
            Some((_, known)) if known == line => return,
            Some((_, known)) => line.clone_into(known),
            None => said.push((table.to_owned(), line.to_owned())),
        }
        tracing::warn!("table {table} {line}");
    }

    /// Removes what is older than is kept, unless it is told to stop.
    fn prune(&self) {
        for (table, rules) in self.tables() {
            let pruned = self.with_connection(true, |connection| {
                let CaptureState::Whole(capture) = look(connection, table)? else {
                    return Ok(());
                };
                prepare_for_pruning(connection)?;
                let mut pruning = Pruning::new(&capture.log, Prune::Older(rules.keep));
                while let Some(pause) = pruning.step(connection)?.pause {
                    if self.wait_for_stop(pause) {
                        break;
                    }
                }
                Ok(())
            });
            // Missing, locked or not to be written: what matters of that the feeds say, and the next time is soon.
            if let Err(reason) = pruned {
                tracing::debug!("the changes of table {table} were not pruned: {reason}");
            }
        }
    }

    /// Returns whether it was told to stop, or to look.
    fn wait_for_stop(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut told = self.told.lock();
        while !told.stop && !told.look {
            if self.moved.wait_until(&mut told, until).timed_out() {
                break;
            }
        }
        told.stop || told.look
    }

    fn with_connection<T>(
        &self,
        writes: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Unavailable> {
        let path = &self.config.database;
        let unavailable = |e: rusqlite::Error| Unavailable::from_sqlite(&e, path);
        if std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0) {
            return Err(Unavailable::Empty(path.clone()));
        }
        let open_connection = self.open_connections.enter();
        let mut connection = match writes {
            true => open_writing(path, BUSY, false)?,
            false => open_reading(path, BUSY)?,
        };
        // The feed loop outlives it, and tidies up.
        leave_on_close(&connection, true).map_err(unavailable)?;
        let done = work(&mut connection).map_err(unavailable);
        drop(connection);
        drop(open_connection);
        done
    }
}

/// A table that is not captured as it is to be.
struct Missing {
    table: String,
    rules: CaptureRules,
    /// Why it is not captured any more.
    lost: Option<String>,
}
