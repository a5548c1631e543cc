//! Which history a table holds: tells a table that went on from one that was replaced, restored or started over,
//! by rows sampled earlier.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};

use crate::filter::quote_identifier;
use crate::sqlite::open::FileId;
use crate::sqlite::reader::fingerprint;
use crate::sqlite::table::Table;

/// Rows sampled; enough that a chance agreement of a whole column is out of the question.
const SAMPLE_ROWS: usize = 16;
/// With fewer rows left, a single column that agrees proves nothing.
const ENOUGH_ROWS: usize = 8;

/// Bytes up to which a value is fingerprinted whole; of a larger one the type, the length and its ends.
const WHOLE: usize = 2 * END;
/// Bytes taken from each end of a large value.
const END: usize = 4096;
/// Bytes above which a value is looked into in the newest sampled row alone, and there only at its beginning: to look
/// into one SQLite reads it whole, a millisecond for each MiB. A history written past the old head differs in the newest.
const READ: usize = 256 * 1024;

/// Fingerprints of the newest rows of a table, column by column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Sample {
    /// All columns but the key.
    columns: Vec<String>,
    /// Ids and fingerprints, newest first.
    rows: Vec<(i64, Vec<u64>)>,
}

/// How much a difference weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// The file was replaced or the daemon was away: what can't be told apart is another history.
    Replaced,
    /// The same open file, whose schema changed: an ALTER or VACUUM, or a restore in place.
    Reshaped,
    /// The same open file, whose newest row looks different: most likely an update.
    Edited,
}

impl Sample {
    /// Number of rows sampled.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Samples the newest rows up to `head`.
    pub fn take(connection: &Connection, table: &Table, head: i64) -> rusqlite::Result<Sample> {
        let columns: Vec<String> = table
            .columns
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != table.key)
            .map(|(_, c)| c.name.clone())
            .collect();
        let (key, name) = (
            quote_identifier(table.key_name()),
            quote_identifier(&table.name),
        );
        let newest: Option<i64> = connection
            .prepare_cached(&format!(
                "SELECT max({key}) FROM {name} WHERE {key} <= ?{}",
                table.has_position()
            ))?
            .query_row([head], |row| row.get(0))?;
        let sql = format!(
            "SELECT {} FROM {name} WHERE {key} <= ?1{} ORDER BY {key} DESC LIMIT {SAMPLE_ROWS}",
            select_list(&key, &columns),
            table.has_position()
        );
        let rows = connection
            .prepare_cached(&sql)?
            // The newest row is given by its id, for that is what tells it when the same rows are looked at again.
            .query_map((newest, newest), |row| fingerprints(row, columns.len()))?
            .collect::<Result<_, _>>()?;
        Ok(Sample { columns, rows })
    }

    /// The sampled rows as they are now; rows and columns that are gone are left out.
    fn again(&self, connection: &Connection, table: &Table) -> rusqlite::Result<Sample> {
        let columns: Vec<String> = self
            .columns
            .iter()
            .filter(|name| table.columns.iter().any(|c| c.name == **name))
            .cloned()
            .collect();
        let key = quote_identifier(table.key_name());
        let sql = format!(
            "SELECT {} FROM {} WHERE {key} = ?1{}",
            select_list(&key, &columns),
            quote_identifier(&table.name),
            table.has_position()
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let newest = self.rows.first().map(|(id, _)| *id);
        let mut rows = Vec::new();
        for (id, _) in &self.rows {
            let mut found =
                statement.query_map((id, newest), |row| fingerprints(row, columns.len()))?;
            rows.extend(found.next().transpose()?);
        }
        Ok(Sample { columns, rows })
    }
}

/// The key, then each column: whole, or what stands for a large value. `?2` is the newest sampled id.
fn select_list(key: &str, columns: &[String]) -> String {
    let mut list = key.to_owned();
    for column in columns {
        let column = quote_identifier(column);
        // SQLite knows the length without reading the value; any other look at it reads it whole.
        list.push_str(&format!(
            ", CASE WHEN octet_length({column}) > {WHOLE} THEN typeof({column}) || octet_length({column}) ||
               CASE WHEN octet_length({column}) <= {READ}
               THEN substr(CAST({column} AS BLOB), 1, {END}) || substr(CAST({column} AS BLOB), -{END})
               WHEN {key} = ?2 THEN substr(CAST({column} AS BLOB), 1, {END}) ELSE '' END
             ELSE {column} END"
        ));
    }
    list
}

fn fingerprints(row: &rusqlite::Row<'_>, columns: usize) -> rusqlite::Result<(i64, Vec<u64>)> {
    let values = (1..=columns).map(|place| row.get_ref(place).map(value_fingerprint));
    Ok((row.get(0)?, values.collect::<Result<_, _>>()?))
}

fn value_fingerprint(value: ValueRef<'_>) -> u64 {
    // The first byte keeps 5, 5.0 and '5' apart.
    let tagged =
        |tag: u8, bytes: &[u8]| fingerprint(bytes) ^ (u64::from(tag) << 56 | u64::from(tag));
    match value {
        ValueRef::Null => 0,
        ValueRef::Integer(i) => tagged(1, &i.to_le_bytes()),
        ValueRef::Real(r) => tagged(2, &r.to_le_bytes()),
        ValueRef::Text(text) => tagged(3, text),
        ValueRef::Blob(blob) => tagged(4, blob),
    }
}

/// Whether the table still holds the history that `sample` and `head` were taken from.
pub fn same_history(
    connection: &Connection,
    table: &Table,
    sample: &Sample,
    head: i64,
    suspicion: Suspicion,
) -> rusqlite::Result<bool> {
    if head_fell(connection, table, sample, head)? {
        return Ok(false);
    }
    let now = sample.again(connection, table)?;
    if now.rows.is_empty() {
        // Nothing to compare: everything sampled was deleted, or there never was a row.
        return Ok(match suspicion {
            Suspicion::Edited => true,
            // Ids go on above those given: rows were pruned. A dropped table's sequence goes with it, and a restored
            // one would have to have pruned the very rows sampled here.
            Suspicion::Reshaped if table.sequence(connection)? >= Some(head.max(1)) => true,
            Suspicion::Reshaped | Suspicion::Replaced => {
                (sample.rows.is_empty() && head == 0) || only_deleted(connection, table, head)?
            }
        });
    }
    Ok(agrees(sample, &now, suspicion))
}

/// All sampled rows are gone, yet SQLite remembers having given the head: rows were deleted.
fn only_deleted(connection: &Connection, table: &Table, head: i64) -> rusqlite::Result<bool> {
    Ok(head > 0
        && table.max_key(connection)?.is_none()
        && table.sequence(connection)? >= Some(head))
}

/// Ids below the head are being given again, or will be.
fn head_fell(
    connection: &Connection,
    table: &Table,
    sample: &Sample,
    head: i64,
) -> rusqlite::Result<bool> {
    let max = table.max_key(connection)?;
    if table.autoincrement {
        return Ok(max.max(table.sequence(connection)?).unwrap_or(0) < head);
    }
    // Without AUTOINCREMENT a deleted newest row looks like this too. Ids were given again where the highest row is
    // not one of those that were there.
    Ok(match max {
        Some(max) if max < head => !sample.rows.iter().any(|(id, _)| *id == max),
        Some(_) => false,
        None => false,
    })
}

/// Compares the rows that still exist on the columns that still exist.
fn agrees(before: &Sample, now: &Sample, suspicion: Suspicion) -> bool {
    let rows = Compared::new(before, now);
    let columns = 0..now.columns.len();
    let unchanged: Vec<usize> = columns
        .filter(|&column| rows.all(|row| row.agrees_on(column)))
        .collect();
    if unchanged.len() == now.columns.len() {
        return true;
    }
    match suspicion {
        Suspicion::Replaced | Suspicion::Reshaped => {
            // A column of few values (a status) agrees by chance. One whose values are mostly its rows' own does not,
            // and neither do several columns that tell most rows apart together.
            let count = now.rows.len();
            let telling = |column: &usize| rows.distinct(&[*column]) * 2 >= count.max(4);
            count >= ENOUGH_ROWS
                && (unchanged.iter().any(telling) || rows.distinct(&unchanged) * 4 >= count * 3)
        }
        Suspicion::Edited => {
            let varied = |column: &usize| rows.distinct(&[*column]) >= 2 || now.rows.len() == 1;
            rows.any_whole() || unchanged.iter().any(varied)
        }
    }
}

/// Rows as they were sampled beside the same rows as they are now, on the columns of now.
struct Compared(Vec<ComparedRow>);

struct ComparedRow {
    before: Vec<Option<u64>>,
    now: Vec<u64>,
}

impl ComparedRow {
    /// A column that was not sampled before says nothing against a row.
    fn agrees_on(&self, column: usize) -> bool {
        self.before[column].is_none_or(|before| before == self.now[column])
    }
}

impl Compared {
    fn new(before: &Sample, now: &Sample) -> Compared {
        let old: HashMap<i64, &Vec<u64>> = before
            .rows
            .iter()
            .map(|(id, values)| (*id, values))
            .collect();
        let places: Vec<Option<usize>> = now
            .columns
            .iter()
            .map(|name| before.columns.iter().position(|c| c == name))
            .collect();
        let rows = now.rows.iter().filter_map(|(id, values)| {
            let old = old.get(id)?;
            let before = places
                .iter()
                .map(|place| place.map(|place| old[place]))
                .collect();
            Some(ComparedRow {
                before,
                now: values.clone(),
            })
        });
        Compared(rows.collect())
    }

    fn all(&self, holds: impl Fn(&ComparedRow) -> bool) -> bool {
        self.0.iter().all(holds)
    }

    /// Whether some row is in every column what it was.
    fn any_whole(&self) -> bool {
        self.0
            .iter()
            .any(|row| (0..row.now.len()).all(|column| row.agrees_on(column)))
    }

    /// How many rows differ on these columns, taken together.
    fn distinct(&self, columns: &[usize]) -> usize {
        let values = |row: &ComparedRow| columns.iter().map(|&c| row.now[c]).collect::<Vec<u64>>();
        self.0.iter().map(values).collect::<HashSet<_>>().len()
    }
}

/// A name for a new history: unguessable enough never to collide.
pub fn new_epoch() -> String {
    use std::hash::{BuildHasher, RandomState};
    // RandomState is seeded by the system's randomness once a thread and counts on from there; time and process id
    // keep apart what the seed might not.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let random = RandomState::new().hash_one((now.as_nanos(), std::process::id()));
    format!("{:x}-{random:016x}", now.as_secs())
}

/// A name derived from the file, for when no state can be kept: survives restarts, tells a replaced file, but not one
/// restored in place while the daemon was down.
pub fn derived_epoch(file: FileId, table: &str) -> String {
    let FileId {
        device,
        inode,
        born,
    } = file;
    format!(
        "f-{:016x}",
        fingerprint(format!("{device}:{inode}:{born}:{table}").as_bytes())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: i64 = 20;

    fn events(autoincrement: bool) -> (Connection, Table) {
        let db = Connection::open_in_memory().unwrap();
        let auto = if autoincrement { "AUTOINCREMENT" } else { "" };
        db.execute_batch(&format!(
            "CREATE TABLE t(id INTEGER PRIMARY KEY {auto}, ts TEXT, status TEXT, details TEXT)"
        ))
        .unwrap();
        fill(&db, 1, HEAD, "a");
        let table = Table::introspect(&db, "t", None).unwrap();
        (db, table)
    }

    fn fill(db: &Connection, from: i64, to: i64, mark: &str) {
        for id in from..=to {
            let status = if id % 4 == 0 { "error" } else { "success" };
            db.execute(
                "INSERT INTO t VALUES (?1, ?2 || ?1, ?3, ?2 || 'd' || ?1)",
                (id, mark, status),
            )
            .unwrap();
        }
    }

    /// Whether the history counts as the same after `change`.
    fn after(autoincrement: bool, suspicion: Suspicion, change: &str) -> bool {
        let (db, table) = events(autoincrement);
        let sample = Sample::take(&db, &table, HEAD).unwrap();
        db.execute_batch(change).unwrap();
        let table = Table::introspect(&db, "t", None).unwrap();
        same_history(&db, &table, &sample, HEAD, suspicion).unwrap()
    }

    #[test]
    fn updates_deletions_and_new_columns_are_the_same_history() {
        for change in [
            "",
            "UPDATE t SET status = 'done'",
            "UPDATE t SET details = 'x' WHERE id = 20",
            "DELETE FROM t WHERE id < 10",
            "DELETE FROM t WHERE id = 20",
            "ALTER TABLE t ADD COLUMN extra TEXT DEFAULT 'x'",
            "ALTER TABLE t DROP COLUMN details",
            "INSERT INTO t(ts) VALUES ('later')",
            "VACUUM",
        ] {
            for suspicion in [Suspicion::Replaced, Suspicion::Edited] {
                assert!(after(true, suspicion, change), "{change} {suspicion:?}");
                assert!(
                    after(false, suspicion, change),
                    "{change} {suspicion:?} without AUTOINCREMENT"
                );
            }
        }
        assert!(after(true, Suspicion::Replaced, "DELETE FROM t"));
        assert!(after(false, Suspicion::Edited, "DELETE FROM t"));
    }

    #[test]
    fn a_restore_is_another_history_also_when_written_past_the_old_head() {
        let restored = "DELETE FROM t WHERE id > 18; UPDATE sqlite_sequence SET seq = 18;";
        let written = "INSERT INTO t(ts, status, details) VALUES ('b19', 'success', 'x'), ('b20', 'error', 'y'), ('b21', 'success', 'z')";
        for suspicion in [Suspicion::Replaced, Suspicion::Edited] {
            assert!(!after(true, suspicion, restored));
        }
        assert!(!after(
            true,
            Suspicion::Replaced,
            &format!("{restored}{written}")
        ));
        assert!(!after(
            false,
            Suspicion::Replaced,
            &format!("DELETE FROM t WHERE id > 18; {written}")
        ));
    }

    #[test]
    fn large_values_are_told_apart_by_their_ends() {
        let (db, table) = events(true);
        let details = |id: i64, sql: &str| {
            db.execute_batch(&format!("UPDATE t SET details = {sql} WHERE id = {id}"))
                .unwrap();
            Sample::take(&db, &table, HEAD).unwrap()
        };
        let last = |sample: &Sample, row: usize| sample.rows[row].1[2];
        for (row, size) in [(0, 10_000), (5, 10_000), (0, 2_000_000), (5, 2_000_000)] {
            let id = HEAD - row as i64;
            let zeroes = last(&details(id, &format!("zeroblob({size})")), row);
            let longer = format!("zeroblob({})", size + 1);
            let text = format!("CAST(zeroblob({size}) AS TEXT)");
            let begun = format!("CAST(x'01' || zeroblob({}) AS BLOB)", size - 1);
            let ended = format!("CAST(zeroblob({}) || x'01' AS BLOB)", size - 1);
            let looked_into = size <= READ;
            for (sql, told) in [
                (longer, true),
                (text, true),
                (begun, looked_into || row == 0),
                (ended, looked_into),
            ] {
                let sample = details(id, &sql);
                assert_eq!(last(&sample, row) != zeroes, told, "row {row}: {sql}");
                assert_eq!(sample.again(&db, &table).unwrap(), sample);
            }
        }
    }

    #[test]
    fn ids_that_start_over_are_another_history() {
        let over = "DELETE FROM t; DELETE FROM sqlite_sequence;
            INSERT INTO t(ts, status, details) SELECT 'n' || value, 'ok', 'm' || value FROM generate_series(1, 30)";
        let recursive = over.replace(
            "SELECT 'n' || value, 'ok', 'm' || value FROM generate_series(1, 30)",
            "WITH RECURSIVE s(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM s WHERE value < 30) SELECT 'n' || value, 'ok', 'm' || value FROM s",
        );
        assert!(!after(true, Suspicion::Edited, &recursive));
        let without = recursive.replace("DELETE FROM sqlite_sequence;", "");
        assert!(!after(false, Suspicion::Edited, &without));
        assert!(!after(
            false,
            Suspicion::Replaced,
            "DELETE FROM t; INSERT INTO t(ts) VALUES ('x')"
        ));
    }

    #[test]
    fn few_rows_must_agree_whole_when_the_file_was_replaced() {
        let few = "DELETE FROM t WHERE id < 18;";
        assert!(after(true, Suspicion::Replaced, few));
        let updated = format!("{few} UPDATE t SET status = 'done' WHERE id = 20");
        assert!(!after(true, Suspicion::Replaced, &updated));
        assert!(after(true, Suspicion::Edited, &updated));
    }
}
