//! What is kept of a spool: by bytes, and by how long ago rows were taken in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension};

use crate::model::filter::quote_identifier;
use crate::sqlite::whole_row::TableDescription;

/// The table that says when each feed had come how far.
pub(super) const MARKS: &str = "_walcast_spool_marks";
/// Between two of its entries for a feed: how exactly an age is kept.
const MARK_EVERY: Duration = Duration::from_secs(10);
/// Of the rows of each feed one in so many goes where the file is too large.
const SHARE: i64 = 16;
/// Rows that one transaction deletes: a few milliseconds' worth.
const AT_ONCE: i64 = 4096;

/// How much a spool keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolLimits {
    /// Bytes of the file; `None`: as many as come.
    pub bytes: Option<u64>,
    /// For how long a row is kept after it was taken in; `None`: for ever.
    pub age: Option<Duration>,
}

/// Deletes what is beyond the limits, a part of it at a time. The newest row of a feed always stays. Returns how many rows
/// went; 0 where nothing is left to do.
pub(super) fn prune(
    connection: &mut Connection,
    tables: &[TableDescription],
    limits: SpoolLimits,
    now: SystemTime,
) -> rusqlite::Result<usize> {
    let mut gone = 0;
    let now = seconds(now);
    for table in tables {
        let Some(age) = age_of(table, limits) else {
            continue;
        };
        mark(connection, table, now)?;
        if let Some(upto) = reached_by(connection, table, now - seconds_of(age))? {
            gone += delete_up_to(connection, table, upto)?;
        }
    }
    if limits
        .bytes
        .is_some_and(|most| used(connection).is_ok_and(|used| used > most))
    {
        for table in tables {
            if let Some(upto) = oldest_share(connection, table)? {
                gone += delete_up_to(connection, table, upto)?;
            }
        }
    }
    if gone > 0 {
        // Gives pages back to the file system; what can't be given back is used again.
        connection.execute_batch("PRAGMA incremental_vacuum(4096)")?;
    }
    Ok(gone)
}

/// For how long rows of a feed are kept, and changes for no longer than at the origin; `None`: for ever.
fn age_of(table: &TableDescription, limits: SpoolLimits) -> Option<Duration> {
    let kept = table.changes.as_ref().and_then(|changes| changes.keep);
    let kept = kept.map(Duration::from_secs);
    limits.age.into_iter().chain(kept).min()
}

/// Bytes of the file that hold something.
fn used(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row(
        "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
        [],
        |row| row.get::<_, i64>(0).map(i64::unsigned_abs),
    )
}

/// Notes how far the feed has come by now.
fn mark(connection: &Connection, table: &TableDescription, now: i64) -> rusqlite::Result<()> {
    let latest: Option<i64> = connection
        .prepare_cached(&format!("SELECT max(at) FROM {MARKS} WHERE feed = ?1"))?
        .query_row([&table.feed], |row| row.get(0))?;
    let every = seconds_of(MARK_EVERY);
    if latest.is_some_and(|latest| now < latest + every) {
        return Ok(());
    }
    let Some(head) = extreme(connection, table, "max")? else {
        return Ok(());
    };
    connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO {MARKS} (feed, at, head) VALUES (?1, ?2, ?3)"
        ))?
        .execute((&table.feed, now, head))
        .map(drop)
}

/// How far the feed had come at a time; forgets what is said of earlier ones.
fn reached_by(
    connection: &Connection,
    table: &TableDescription,
    time: i64,
) -> rusqlite::Result<Option<i64>> {
    let found: Option<(i64, i64)> = connection
        .prepare_cached(&format!(
            "SELECT at, head FROM {MARKS} WHERE feed = ?1 AND at <= ?2 ORDER BY at DESC LIMIT 1"
        ))?
        .query_row((&table.feed, time), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((at, head)) = found else {
        return Ok(None);
    };
    connection
        .prepare_cached(&format!("DELETE FROM {MARKS} WHERE feed = ?1 AND at < ?2"))?
        .execute((&table.feed, at))?;
    Ok(Some(head))
}

/// The id below which the oldest rows of the feed are, as many as are to go at once.
fn oldest_share(
    connection: &Connection,
    table: &TableDescription,
) -> rusqlite::Result<Option<i64>> {
    let (Some(first), Some(last)) = (
        extreme(connection, table, "min")?,
        extreme(connection, table, "max")?,
    ) else {
        return Ok(None);
    };
    let span = last.saturating_sub(first);
    Ok(Some(first.saturating_add(span / SHARE)))
}

fn extreme(
    connection: &Connection,
    table: &TableDescription,
    which: &str,
) -> rusqlite::Result<Option<i64>> {
    let (key, table) = names(table);
    connection
        .prepare_cached(&format!("SELECT {which}({key}) FROM {table}"))?
        .query_row([], |row| row.get(0))
}

/// Deletes rows up to an id, the oldest first, but the newest of all.
fn delete_up_to(
    connection: &Connection,
    table: &TableDescription,
    upto: i64,
) -> rusqlite::Result<usize> {
    let (key, table) = names(table);
    connection
        .prepare_cached(&format!(
            "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {key} <= ?1 ORDER BY {key} LIMIT {AT_ONCE})
                AND {key} < (SELECT max({key}) FROM {table})"
        ))?
        .execute([upto])
}

fn names(table: &TableDescription) -> (String, String) {
    let name = table.positions_table();
    (quote_identifier(&table.key), quote_identifier(&name))
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, seconds_of)
}

fn seconds_of(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
