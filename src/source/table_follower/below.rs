//! Rows that were inserted below the head: they can't be sent, for whoever asks is past them. They are counted.

use std::time::{Duration, Instant};

use prometheus::IntCounter;
use rusqlite::Connection;

use crate::model::filter::quote_identifier;
use crate::model::position::Cursor;
use crate::sqlite::table::Table;
use crate::telemetry::metrics::Metrics;

/// So many of the newest rows are counted again, and what is below the lowest id there was. Of a table with fewer rows
/// that is all; it takes some 50 µs.
const COUNTED: i64 = 1024;
/// How often they are counted while rows are coming above the head. A commit that brought none is looked into at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is said in the log.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Counts rows that came below the head.
pub(super) struct BelowHead {
    feed: String,
    counter: IntCounter,
    known: Option<CountedRows>,
    /// Rows that the head has passed since the count.
    passed: i64,
    /// Of these, those since the last look.
    passed_lately: bool,
    looked_at: Option<Instant>,
    /// A look was left out, and is to be made up for.
    owed: bool,
    /// Counted, and not yet said in the log.
    unsaid: u64,
    said_at: Option<Instant>,
}

/// Rows as they were counted.
#[derive(Debug)]
struct CountedRows {
    from: i64,
    upto: i64,
    rows: i64,
    /// The lowest id, where that is not among them.
    lowest: Option<i64>,
}

impl BelowHead {
    pub(super) fn new(feed: &str, metrics: &Metrics) -> BelowHead {
        BelowHead {
            feed: feed.to_owned(),
            counter: metrics.rows_below_head.with_label_values(&[feed]),
            known: None,
            passed: 0,
            passed_lately: false,
            looked_at: None,
            owed: false,
            unsaid: 0,
            said_at: None,
        }
    }

    /// What is there now is known.
    pub(super) fn begin(
        &mut self,
        connection: &Connection,
        table: &Table,
        head: Cursor,
    ) -> rusqlite::Result<()> {
        self.known = Some(CountedRows::count(connection, table, head)?);
        (self.passed, self.passed_lately, self.owed) = (0, false, false);
        Ok(())
    }

    /// The head passed these rows, which were sent.
    pub(super) fn passed(&mut self, rows: usize) {
        self.passed += rows as i64;
        self.passed_lately = true;
    }

    /// When a look is to be made up for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.looked_at
            .filter(|_| self.owed)
            .map(|looked| looked + LOOK_EVERY)
    }

    /// Counts again where there may be something to find, and says how many rows came. In a snapshot in which nothing
    /// above the head is unread.
    pub(super) fn look(
        &mut self,
        connection: &Connection,
        table: &Table,
        head: Cursor,
    ) -> rusqlite::Result<u64> {
        let now = Instant::now();
        let lately = std::mem::take(&mut self.passed_lately);
        let early = self
            .looked_at
            .is_some_and(|looked| now < looked + LOOK_EVERY);
        let mut came = 0;
        self.owed = lately && early;
        if !self.owed {
            self.looked_at = Some(now);
            if let Some(known) = &self.known {
                came = known.came(connection, table, head, self.passed)?;
            }
            self.known = Some(CountedRows::count(connection, table, head)?);
            self.passed = 0;
        }
        self.say(came, head, now);
        Ok(came)
    }

    fn say(&mut self, came: u64, head: Cursor, now: Instant) {
        self.counter.inc_by(came);
        self.unsaid += came;
        let early = self.said_at.is_some_and(|said| now < said + SAY_EVERY);
        if self.unsaid == 0 || early {
            return;
        }
        let (feed, rows) = (&self.feed, self.unsaid);
        let (were, they) = if rows == 1 {
            ("row was", "it is")
        } else {
            ("rows were", "they are")
        };
        tracing::warn!(
            "feed {feed}: {rows} {were} inserted below the head ({head}); {they} in replays and history, but not sent \
             to who is past them: only ids that ascend can be followed"
        );
        (self.unsaid, self.said_at) = (0, Some(now));
    }
}

impl CountedRows {
    fn count(
        connection: &Connection,
        table: &Table,
        head: Cursor,
    ) -> rusqlite::Result<CountedRows> {
        let (key, name) = (
            quote_identifier(table.key_name()),
            quote_identifier(&table.name),
        );
        let sql = format!(
            "SELECT min(id), count(*) FROM
               (SELECT {key} AS id FROM {name} WHERE {key} <= ?{} ORDER BY {key} DESC LIMIT {COUNTED})",
            table.has_position()
        );
        let (first, rows): (Option<i64>, i64) = connection
            .prepare_cached(&sql)?
            .query_row([head.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let whole = rows < COUNTED;
        Ok(CountedRows {
            from: first.filter(|_| !whole).unwrap_or(i64::MIN),
            upto: head.0,
            rows,
            lowest: if whole {
                None
            } else {
                table.min_key(connection)?
            },
        })
    }

    /// How many more there are, the head having `passed` so many above them.
    fn came(
        &self,
        connection: &Connection,
        table: &Table,
        head: Cursor,
        passed: i64,
    ) -> rusqlite::Result<u64> {
        let (upto, passed) = match passed <= COUNTED {
            true => (head.0, passed),
            false => (self.upto, 0),
        };
        // Up to so many that a count does not last.
        let count = |range| table.count_within(connection, range, 4 * COUNTED);
        let more = count((self.from, upto))? - self.rows - passed;
        let lower = match self.lowest {
            Some(lowest) => count((i64::MIN, lowest.saturating_sub(1)))?,
            None => 0,
        };
        // Deletions may hide insertions.
        Ok(more.max(0).unsigned_abs() + lower.unsigned_abs())
    }
}
