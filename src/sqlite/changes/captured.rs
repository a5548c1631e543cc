//! A captured table as a feed.

use rusqlite::{Connection, OptionalExtension};

use super::ChangeLog;
use crate::config::{CaptureMode, CaptureRules, FeedConfig, SpooledLog};
use crate::model::filter::quote_identifier;
use crate::sqlite::capture::{Capture, CaptureState, look, public_install_command};
use crate::sqlite::table::{Column, TableError, columns_of, is_strict};

/// Returns what there is to read of the feed's changes, and the name of their log; `None` where the feed is of rows.
///
/// # Errors
/// There is no such table, its changes are not captured as the feed needs them (says how to have them so), or it can't be
/// read.
pub fn captured(
    connection: &Connection,
    feed: &FeedConfig,
) -> Result<Option<(String, ChangeLog)>, TableError> {
    let Some(rules) = &feed.capture else {
        return Ok(None);
    };
    let (table, columns) = columns_of(connection, &feed.table)?;
    if let Some(spooled) = &rules.spooled {
        let strict = is_strict(connection, &table)?;
        let log = of_spool((table, columns), rules, spooled);
        return Ok(Some((spooled.log.clone(), ChangeLog { strict, ..log })));
    }
    let capture = match look(connection, &table)? {
        CaptureState::Whole(capture) => capture,
        CaptureState::Absent => {
            return Err(TableError::Unfit(format!(
                "the changes of table {table} are not captured yet; {}",
                remedy(&table, rules)
            )));
        }
        CaptureState::Broken { reason } => {
            return Err(TableError::Unfit(format!(
                "changes of table {table} may be missing, for {reason}; {}",
                remedy(&table, rules)
            )));
        }
    };
    // Where nobody asked for anything, what there is is served.
    if let Some(lacks) = lacks(&capture, rules).filter(|_| rules.upkeep) {
        return Err(TableError::Unfit(format!(
            "the capture of table {table} {lacks}; {}",
            remedy(&table, rules)
        )));
    }
    let is_full = capture.mode == CaptureMode::Full;
    let names = |columns: &[crate::sqlite::capture::CapturedColumn]| -> Vec<String> {
        columns.iter().map(|column| column.name.clone()).collect()
    };
    let recorded = names(&capture.columns);
    let shown = columns.into_iter();
    let shown = shown.filter(|column| !is_full || recorded.contains(&column.name));
    let key = names(&capture.key);
    let (key_order, collations) = key_order(connection, &capture.table, &key)?;
    let strict = is_strict(connection, &capture.table)?;
    let log = ChangeLog::new(
        capture.table,
        shown.collect(),
        key,
        (&names(&capture.filters), is_full),
        capture.generation,
    );
    let log = ChangeLog {
        key_order,
        collations,
        strict,
        ..log
    };
    Ok(Some((capture.log, log)))
}

/// The changes that came from an origin: all that the rows of the spool have was recorded there, and their columns are
/// declared with the collations of the key.
fn of_spool(
    (table, columns): (String, Vec<Column>),
    rules: &CaptureRules,
    spooled: &SpooledLog,
) -> ChangeLog {
    let is_full = rules.mode == CaptureMode::Full;
    let (key, collations) = spooled.key.iter().cloned().unzip();
    let recorded = (rules.filters.as_slice(), is_full);
    ChangeLog {
        collations,
        ..ChangeLog::new(table, columns, key, recorded, String::new())
    }
}

/// SQL of the key's columns, each with the collation of the primary key where its own is another: only by that no two rows are
/// the same. And these collations.
fn key_order(
    connection: &Connection,
    table: &str,
    key: &[String],
) -> rusqlite::Result<(Vec<String>, Vec<String>)> {
    let mut collation = connection.prepare(
        "SELECT part.coll FROM pragma_index_list(?1) AS list JOIN pragma_index_xinfo(list.name) AS part
          WHERE list.origin = 'pk' AND part.key AND part.name = ?2 COLLATE NOCASE",
    )?;
    let mut ordered = |name: &String| {
        let column = quote_identifier(name);
        let of_key = collation.query_row([table, name], |row| row.get::<_, String>(0));
        let (_, own, ..) = connection.column_metadata(None, table, name)?;
        let own = own.map_or_else(
            || "BINARY".to_owned(),
            |own| own.to_string_lossy().into_owned(),
        );
        Ok(match of_key.optional()? {
            Some(of_key) if !own.eq_ignore_ascii_case(&of_key) => {
                let sql = format!("{column} COLLATE {}", quote_identifier(&of_key));
                (sql, of_key)
            }
            _ => (column, own),
        })
    };
    let ordered: Vec<(String, String)> = key
        .iter()
        .map(&mut ordered)
        .collect::<rusqlite::Result<_>>()?;
    Ok(ordered.into_iter().unzip())
}

/// What the capture lacks that is asked for, in words; `None` where it has all.
fn lacks(capture: &Capture, rules: &CaptureRules) -> Option<String> {
    if capture.mode != rules.mode {
        let (is, wanted) = (capture.mode.as_str(), rules.mode.as_str());
        return Some(format!("is \"{is}\", not \"{wanted}\""));
    }
    let is_recorded = |name: &&String| {
        let mut recorded = capture.filters.iter().chain(&capture.columns);
        recorded.any(|known| known.name.eq_ignore_ascii_case(name))
    };
    let missing = rules.filters.iter().find(|name| !is_recorded(name))?;
    Some(format!("does not record {missing}"))
}

/// Who captures a table in this way: the daemon, unless it only serves what it finds or may not write.
fn remedy(table: &str, rules: &CaptureRules) -> String {
    let command = public_install_command(table, rules);
    match rules.upkeep {
        true => format!(
            "walcast does that in a moment where it may write the file; where it may not, run `{command}`"
        ),
        false => format!("run `{command}`"),
    }
}
