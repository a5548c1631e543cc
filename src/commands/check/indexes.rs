//! Indexes that would help those who filter.

use rusqlite::Connection;

use super::report::{Mark, Report};
use crate::model::filter::quote_identifier;
use crate::sqlite::reader::create_index;
use crate::sqlite::table::Schema;

/// In a table of fewer ids a filter's rows are found in no time.
const LARGE: i64 = 100_000;
/// The newest rows, which tell what a column holds.
const LOOKED_AT: i64 = 1_000;

/// Suggests an index for each column of a large table that looks like one to filter by, and has none. Which ones
/// subscribers do filter by only they know.
pub(super) fn suggest(
    label: &str,
    connection: &Connection,
    schema: &Schema,
    report: &mut Report,
) -> rusqlite::Result<()> {
    let table = &schema.table;
    let ids = table.min_key(connection)?.zip(table.max_key(connection)?);
    if ids.is_none_or(|(lowest, highest)| highest.saturating_sub(lowest) < LARGE) {
        return Ok(());
    }
    let mut missing = Vec::new();
    for column in schema.column_names() {
        if column != table.key_name()
            && !is_indexed(connection, &table.name, column)?
            && groups_rows(connection, schema, column)?
        {
            missing.push(create_index(&table.name, &[column]));
        }
    }
    if !missing.is_empty() {
        let text = "no index knows these columns, so for a subscriber that filters by one of them and matches few rows the \
                    whole table is searched; create one for each that is filtered by";
        report.add(Mark::Note, label, text, &missing);
    }
    Ok(())
}

/// Whether some index of all rows is sorted by this column first.
fn is_indexed(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1) AS list JOIN pragma_index_info(list.name) AS info
               WHERE NOT list.partial AND info.seqno = 0 AND info.name = ?2)",
        )?
        .query_row([table, column], |row| row.get(0))
}

/// Whether the newest rows share the column's values, as those of one tenant or kind do.
fn groups_rows(connection: &Connection, schema: &Schema, column: &str) -> rusqlite::Result<bool> {
    let table = quote_identifier(&schema.table.name);
    let (key, column) = (
        quote_identifier(schema.table.key_name()),
        quote_identifier(column),
    );
    // Long texts are nothing to filter by, and costly to look at.
    let (rows, values, short): (i64, i64, bool) = connection.query_row(
        &format!(
            "SELECT count(*), count(DISTINCT value), ifnull(max(length) <= 100, 0) FROM (
               SELECT iif(octet_length({column}) <= 100, {column}, NULL) AS value, octet_length({column}) AS length
               FROM {table} ORDER BY {key} DESC LIMIT {LOOKED_AT})"
        ),
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    Ok(short && values > 1 && values <= rows / 4)
}
