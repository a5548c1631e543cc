//! What a log holds, in figures.

use rusqlite::Connection;

use crate::model::filter::quote_identifier;

/// The extent of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogExtent {
    /// The numbers of the oldest and the newest change; `None` where the log is empty.
    pub numbers: Option<(i64, i64)>,
    /// When the oldest change was made, as text in UTC.
    pub oldest_at: Option<String>,
    /// Its age in seconds.
    pub oldest_age: Option<f64>,
}

impl LogExtent {
    /// Looks at both ends of the log, and at nothing between.
    ///
    /// # Errors
    /// As SQLite has them.
    pub fn of(connection: &Connection, log: &str) -> rusqlite::Result<Self> {
        let log = quote_identifier(log);
        let (first, last): (Option<i64>, Option<i64>) = connection.query_row(
            &format!("SELECT (SELECT min(seq) FROM {log}), (SELECT max(seq) FROM {log})"),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let (oldest_at, oldest_age) = connection.query_row(
            &format!(
                "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', at), (julianday('now') - at) * 86400.0 FROM (SELECT at FROM {log} ORDER BY seq \
                 LIMIT 1) UNION ALL SELECT NULL, NULL LIMIT 1"
            ),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(Self {
            numbers: first.zip(last),
            oldest_at,
            oldest_age,
        })
    }

    /// Returns how many changes there are at most.
    pub fn count(&self) -> u64 {
        self.numbers
            .map_or(0, |(first, last)| last.abs_diff(first).saturating_add(1))
    }
}
