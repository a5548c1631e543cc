//! Removes old changes from a log in steps so short that a writer beside hardly waits.

use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use crate::model::filter::quote_identifier;
use crate::sqlite::capture::PENDING;
use crate::sqlite::capture::look::has_table;

/// How long one step should hold the lock. A writer that meets it looks again after 1, 2 and 5 ms (SQLite's busy handler).
const STEP: Duration = Duration::from_millis(2);
/// The least pause between two steps, and how many times a step's own length it is at least.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSES: u32 = 4;
/// Bounds of the changes that one step removes.
const FEWEST: usize = 8;
const MOST: usize = 4096;

/// Which changes are removed. The newest one never is: its number would be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Those older than this.
    Older(Duration),
    /// All but the newest.
    All,
}

/// The steps of pruning one log.
pub struct Pruning {
    log: String,
    prune: Prune,
    /// How many changes the next step removes.
    rows: usize,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub removed: usize,
    /// How long to leave the file to others before the next step; `None` where nothing is left to be removed.
    pub pause: Option<Duration>,
}

impl Pruning {
    pub fn new(log: &str, prune: Prune) -> Self {
        Self {
            log: log.to_owned(),
            prune,
            rows: 64,
        }
    }

    /// Removes the oldest changes, and notes that nobody took, as many as one short transaction can.
    ///
    /// # Errors
    /// As SQLite has them; nothing was removed then.
    pub fn step(&mut self, connection: &mut Connection) -> rusqlite::Result<Step> {
        if self.oldest(connection, 1)?.is_none() && !self.has_notes(connection)? {
            return Ok(Step {
                removed: 0,
                pause: None,
            });
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let locked = Instant::now();
        let notes = self.remove_notes(&transaction)?;
        let last = self.oldest(&transaction, self.rows)?;
        let removed = match last {
            Some(last) => transaction.execute(
                &format!(
                    "DELETE FROM {} WHERE seq <= ?1",
                    quote_identifier(&self.log)
                ),
                [last],
            )?,
            None => 0,
        };
        transaction.commit()?;
        let held = locked.elapsed();
        let is_over = removed.max(notes) < self.rows;
        self.rows = match held {
            held if held > STEP => self.rows / 2,
            held if held < STEP / 2 => self.rows * 2,
            _ => self.rows,
        };
        self.rows = self.rows.clamp(FEWEST, MOST);
        Ok(Step {
            removed,
            pause: (!is_over).then_some((held * PAUSES).max(PAUSE)),
        })
    }

    /// Removes what statements that changed nothing left noted, such as `INSERT OR IGNORE`. Whoever holds the lock knows that no
    /// other statement is using its notes. Returns how many those were.
    fn remove_notes(&self, connection: &Connection) -> rusqlite::Result<usize> {
        if !has_table(connection, PENDING)? {
            return Ok(0);
        }
        let notes = format!("SELECT rowid FROM \"{PENDING}\" WHERE log = ?1 LIMIT ?2");
        let sql = format!("DELETE FROM \"{PENDING}\" WHERE rowid IN ({notes})");
        connection.execute(&sql, (&self.log, limit(self.rows)))
    }

    fn has_notes(&self, connection: &Connection) -> rusqlite::Result<bool> {
        if !has_table(connection, PENDING)? {
            return Ok(false);
        }
        let sql = format!("SELECT EXISTS (SELECT 1 FROM \"{PENDING}\" WHERE log = ?1)");
        connection.query_row(&sql, [&self.log], |row| row.get(0))
    }

    /// The number of the last of the oldest `rows` changes that may go; `None` where none may.
    fn oldest(&self, connection: &Connection, rows: usize) -> rusqlite::Result<Option<i64>> {
        let log = quote_identifier(&self.log);
        let sql = format!(
            "SELECT seq, at < julianday('now') - ?1 FROM {log} WHERE seq < (SELECT max(seq) FROM {log}) ORDER BY seq LIMIT ?2"
        );
        let (age, all) = match self.prune {
            Prune::Older(age) => (age.as_secs_f64() / 86_400.0, false),
            Prune::All => (0.0, true),
        };
        let mut statement = connection.prepare_cached(&sql)?;
        let mut found = statement.query((age, limit(rows)))?;
        let mut last = None;
        while let Some(row) = found.next()? {
            // What somebody wrote there as a time may be no number.
            if !all && row.get::<_, Option<bool>>(1)? == Some(false) {
                break;
            }
            last = Some(row.get(0)?);
        }
        Ok(last)
    }
}

/// As SQLite takes it.
fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Makes commits of this connection cheap: a change that was removed and is there again after a loss of power is removed again.
///
/// # Errors
/// As SQLite has them.
pub fn prepare_for_pruning(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous = NORMAL")
}
