//! The spool of an edge: a SQLite file of walcast's own, with the tables of another daemon's feeds as far as they are kept
//! here, and a table that says of each feed what it is and which history its rows are of. It can be deleted at any time,
//! and is filled again.
//!
//! Rows and what is said of them are written in the same transactions, so whoever reads both in one snapshot sees them agree.

mod changes;
#[cfg(test)]
mod changes_tests;
mod ddl;
mod feed;
mod fragment;
mod prune;
#[cfg(test)]
mod tests;
mod writer;

use rusqlite::{Connection, OptionalExtension, Row};

use super::whole_row::TableDescription;
use crate::wire::control::ResetReason;
pub use changes::{ChangeShape, SpooledChange};
pub use fragment::Fragment;
pub use prune::SpoolLimits;
pub use writer::{Imported, RowShape, SpoolItem, SpoolPosition, SpoolWriter};

/// The table that says what each feed is, and how far it came.
const STATES: &str = "_walcast_spool";

/// What the spool knows of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolState {
    /// The history its rows are of, by the origin's name for it.
    pub epoch: String,
    /// Everything up to this id was taken in, or is not there; `None` where only the rows tell.
    pub head: Option<i64>,
    /// Counts what subscribers have to start over for.
    pub generation: i64,
    /// Everything there was at the origin has been taken in once. Until then rows come that are news to nobody.
    pub is_whole: bool,
    /// The origin does not have the feed any more.
    pub is_removed: bool,
    /// Why the history began.
    pub reason: ResetReason,
}

impl SpoolState {
    /// Nothing of what was here is there any more.
    fn forget(&mut self) {
        self.epoch.clear();
        (self.head, self.is_whole, self.is_removed) = (None, false, false);
    }
}

/// Returns what the spool knows of a feed; `None` where it is not (yet) told of it.
///
/// # Errors
/// The file can't be read.
pub fn state(connection: &Connection, feed: &str) -> rusqlite::Result<Option<SpoolState>> {
    let sql = format!(
        "SELECT epoch, head, generation, is_whole, is_removed, reason FROM {STATES} WHERE feed = ?1"
    );
    let Some(mut statement) = there(connection.prepare_cached(&sql))? else {
        return Ok(None);
    };
    let read = |row: &Row<'_>| {
        Ok(SpoolState {
            epoch: row.get(0)?,
            head: row.get(1)?,
            generation: row.get(2)?,
            is_whole: row.get(3)?,
            is_removed: row.get(4)?,
            reason: ResetReason::of(&row.get::<_, Option<String>>(5)?.unwrap_or_default()),
        })
    };
    statement.query_row([feed], read).optional()
}

/// Returns the feeds that the spool holds, in the order of their names.
///
/// # Errors
/// The file can't be read.
pub fn descriptions(connection: &Connection) -> rusqlite::Result<Vec<TableDescription>> {
    let sql = format!("SELECT description FROM {STATES} WHERE NOT is_removed ORDER BY feed");
    let Some(mut statement) = there(connection.prepare(&sql))? else {
        return Ok(Vec::new());
    };
    let texts = statement.query_map([], |row| row.get::<_, String>(0))?;
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    // What can't be understood was written by another version: it is as if it were not there, and will be told again.
    let read = texts
        .iter()
        .filter_map(|text| serde_json::from_str(text).ok());
    Ok(read.collect())
}

/// `None` where the table is not there.
fn there<T>(prepared: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match prepared {
        Err(e) if is_missing_table(&e) => Ok(None),
        other => other.map(Some),
    }
}

fn is_missing_table(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(said)) => said.starts_with("no such table"),
        rusqlite::Error::SqlInputError { msg, .. } => msg.starts_with("no such table"),
        _ => false,
    }
}
