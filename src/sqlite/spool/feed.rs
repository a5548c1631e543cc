//! What is here of a feed: its tables, and what is said of them beside. All of it is written in the transaction of a batch.

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::changes::{self, SpooledChange, Taken};
use super::writer::{Imported, RowShape};
use super::{STATES, SpoolState, ddl, prune};
use crate::model::filter::quote_identifier;
use crate::sqlite::whole_row::TableDescription;
use crate::wire::control::ResetReason;

pub(super) fn described(
    connection: &Connection,
    feed: &str,
) -> rusqlite::Result<Option<TableDescription>> {
    let sql = format!("SELECT description FROM {STATES} WHERE feed = ?1");
    let text: Option<String> = connection
        .prepare_cached(&sql)?
        .query_row([feed], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Makes or alters the table so that it takes rows as they are described. Returns whether it holds what it held.
pub(super) fn describe(
    transaction: &Transaction<'_>,
    (feed, known): (&str, Option<&SpoolState>),
    table: &TableDescription,
    imported: &mut Imported,
) -> rusqlite::Result<bool> {
    let is_there = known.is_some_and(|state| !state.is_removed);
    let before = described(transaction, feed)?.filter(|_| is_there);
    if before.as_ref() == Some(table) {
        return Ok(true);
    }
    let added = before
        .as_ref()
        .and_then(|before| table.columns_added_to(before));
    let is_added = added.is_some();
    match (&before, added) {
        (Some(_), Some(added)) => {
            for column in added {
                transaction.execute_batch(&ddl::add_column(table, column))?;
            }
        }
        (before, _) => {
            if let Some(before) = before {
                drop_table(transaction, before)?;
                imported.refill.push(feed.to_owned());
            }
            drop_table(transaction, table)?;
            transaction.execute_batch(&ddl::create(table))?;
            let sql = format!(
                "UPDATE {STATES} SET is_whole = 0, head = NULL, epoch = '' WHERE feed = ?1"
            );
            transaction.execute(&sql, [feed])?;
        }
    }
    if before
        .as_ref()
        .is_some_and(|before| !before.is_served_as(table))
    {
        imported.reworded.push(feed.to_owned());
    }
    let sql = format!(
        "INSERT INTO {STATES} (feed, description, epoch, generation, is_whole) VALUES (?1, ?2, '', 0, 0)
            ON CONFLICT (feed) DO UPDATE SET description = excluded.description, is_removed = 0"
    );
    transaction.execute(&sql, (feed, table.json()))?;
    Ok(is_added)
}

pub(super) fn drop_table(
    transaction: &Transaction<'_>,
    table: &TableDescription,
) -> rusqlite::Result<()> {
    for name in tables_of(table) {
        transaction.execute_batch(&format!("DROP TABLE IF EXISTS {name}"))?;
    }
    Ok(())
}

/// The tables that a feed has here, quoted.
pub(super) fn tables_of(table: &TableDescription) -> impl Iterator<Item = String> {
    let names = std::iter::once(table.table.clone()).chain(table.log_table());
    names.map(|name| quote_identifier(&name))
}

pub(super) fn keeps_changes(table: &TableDescription) -> bool {
    let changes = table.changes.as_ref();
    changes.is_some_and(|changes| changes.keep.is_some())
}

/// Takes a change in, where none is missing before it.
pub(super) fn take_change(
    transaction: &Transaction<'_>,
    (feed, known): (&str, Option<&SpoolState>),
    shape: &RowShape,
    change: &SpooledChange,
) -> rusqlite::Result<Taken> {
    let (Some((log, changes)), Some(seq)) = (&shape.log, change.seq()) else {
        return Ok(Taken::Followed);
    };
    let taken = changes::follows(transaction, (feed, known), log, seq)?;
    if taken == Taken::Followed {
        changes.take(transaction, &shape.insert, change)?;
    }
    Ok(taken)
}

/// Empties the table for a history that is taken in from its first row on. Who was served the same one before, in a file that
/// is gone, does not start over.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    (feed, known): (&str, Option<&SpoolState>),
    served: Option<&(String, i64)>,
    (epoch, reason): (&str, ResetReason),
) -> rusqlite::Result<SpoolState> {
    let table = described(transaction, feed)?;
    for name in table.iter().flat_map(tables_of) {
        transaction.execute_batch(&format!("DELETE FROM {name}"))?;
    }
    forget_marks(transaction, feed)?;
    let was_served = known.filter(|state| !state.epoch.is_empty());
    // What had begun was served to nobody; and who was given a table whose log was empty goes on with its first change.
    let is_change = table.is_some_and(|table| table.changes.is_some());
    let is_same = |state: &SpoolState| {
        let is_at_start = is_change && state.head.is_none_or(|head| head <= 0);
        state.epoch == epoch && (!state.is_whole || is_at_start)
    };
    let generation = match (was_served, served) {
        (Some(state), _) if is_same(state) => state.generation,
        (Some(state), _) => state.generation + 1,
        (None, Some((before, generation))) if before == epoch => *generation,
        (None, Some((_, generation))) => generation + 1,
        (None, None) => 0,
    };
    let sql = format!(
        "UPDATE {STATES} SET epoch = ?2, generation = ?3, head = NULL, is_whole = 0, is_removed = 0, reason = ?4 WHERE feed = ?1"
    );
    transaction.execute(&sql, (feed, epoch, generation, reason.as_str()))?;
    Ok(SpoolState {
        epoch: epoch.to_owned(),
        head: None,
        generation,
        is_whole: false,
        is_removed: false,
        reason,
    })
}

/// Everything up to this id is here.
pub(super) fn reach(
    transaction: &Transaction<'_>,
    feed: &str,
    state: &mut SpoolState,
    id: i64,
) -> rusqlite::Result<()> {
    if state.epoch.is_empty() || state.is_whole && state.head >= Some(id) {
        return Ok(());
    }
    if !state.is_whole
        && let Some(log) = described(transaction, feed)?.and_then(|table| table.log_table())
        && changes::last(transaction, &log)?.is_some_and(|last| last < id)
    {
        // Those between were pruned before they came: nobody could go on over that.
        transaction.execute_batch(&format!("DELETE FROM {}", quote_identifier(&log)))?;
    }
    (state.is_whole, state.head) = (true, state.head.max(Some(id)));
    let sql = format!("UPDATE {STATES} SET is_whole = 1, head = ?2 WHERE feed = ?1");
    let mut update = transaction.prepare_cached(&sql)?;
    update.execute((feed, state.head)).map(drop)
}

/// How far the feed had come when says nothing of another history.
pub(super) fn forget_marks(transaction: &Transaction<'_>, feed: &str) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM {} WHERE feed = ?1", prune::MARKS);
    transaction.execute(&sql, [feed]).map(drop)
}

pub(super) fn remove_feed(transaction: &Transaction<'_>, feed: &str) -> rusqlite::Result<()> {
    if let Some(table) = described(transaction, feed)? {
        drop_table(transaction, &table)?;
    }
    let sql = format!(
        "UPDATE {STATES} SET is_removed = 1, is_whole = 0, head = NULL, epoch = '' WHERE feed = ?1"
    );
    transaction.execute(&sql, [feed]).map(drop)
}
