//! Fingerprints of the newest rows of a table, column by column, and what becomes of these rows.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};

use crate::model::filter::quote_identifier;
use crate::sqlite::fingerprint::fingerprint;
use crate::sqlite::table::Table;

/// Rows sampled; enough that a chance agreement of a whole column is out of the question.
pub const SAMPLE_ROWS: usize = 16;

/// Bytes up to which a value is fingerprinted whole; of a larger one the type, the length and its ends.
const WHOLE: usize = 2 * END;
/// Bytes taken from each end of a large value.
const END: usize = 4096;
/// Bytes above which a value is looked into in the newest sampled row alone, and there only at its beginning: to look
/// into one SQLite reads it whole, a millisecond for each MiB. A history written past the old head differs in the newest.
const READ: usize = 256 * 1024;
/// The fingerprint of NULL, and of nothing else but by a chance of one in 2^64.
const NULL: u64 = 0;
/// Bytes up to which a text may be a number or a label.
const LABEL: usize = 64;

/// Fingerprints of the newest rows of a table, column by column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Sample {
    /// All columns but the key and those computed from others, which tell nothing that the others don't, and which only
    /// the writer's process may be able to compute.
    pub(super) columns: Vec<String>,
    /// Ids and fingerprints, newest first.
    pub(super) rows: Vec<(i64, Vec<u64>)>,
}

/// The sampled rows as they are now. Rows and columns that are gone are left out, new columns are not.
#[derive(Debug)]
pub(super) struct Resampled {
    pub columns: Vec<String>,
    /// Newest first.
    pub rows: Vec<(i64, Vec<SampledValue>)>,
}

/// A value, as far as histories are told apart by it.
#[derive(Debug, Clone)]
pub(super) struct SampledValue {
    pub fingerprint: u64,
    pub plain: PlainValue,
}

/// What of a value might follow from its row's id.
#[derive(Debug, Clone)]
pub(super) enum PlainValue {
    Number(i64),
    Real(f64),
    Label(String),
    Other,
}

impl Sample {
    /// Returns the number of rows in the sample.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there was no row to sample.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Samples the newest rows up to `head`.
    pub fn take(connection: &Connection, table: &Table, head: i64) -> rusqlite::Result<Sample> {
        let columns = stored_columns(table);
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
            .query_map((newest, newest), |row| {
                let values =
                    (1..=columns.len()).map(|place| Ok(fingerprint_of(row.get_ref(place)?)));
                Ok((row.get(0)?, values.collect::<rusqlite::Result<_>>()?))
            })?
            .collect::<Result<_, _>>()?;
        Ok(Sample { columns, rows })
    }

    /// The sampled rows as they are now.
    pub(super) fn again(
        &self,
        connection: &Connection,
        table: &Table,
    ) -> rusqlite::Result<Resampled> {
        let columns = stored_columns(table);
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
            let mut found = statement.query_map((id, newest), |row| {
                let values =
                    (1..=columns.len()).map(|place| Ok(SampledValue::of(row.get_ref(place)?)));
                Ok((row.get(0)?, values.collect::<rusqlite::Result<_>>()?))
            })?;
            rows.extend(found.next().transpose()?);
        }
        Ok(Resampled { columns, rows })
    }

    /// The ids from which on every row was sampled.
    pub(super) fn covers_from(&self) -> i64 {
        match self.rows.last() {
            Some((oldest, _)) if self.rows.len() >= SAMPLE_ROWS => *oldest,
            _ => i64::MIN,
        }
    }

    /// Returns the highest id in the sample.
    pub(super) fn newest(&self) -> Option<i64> {
        self.rows.first().map(|(id, _)| *id)
    }
}

fn stored_columns(table: &Table) -> Vec<String> {
    let columns = table.columns.iter().enumerate();
    columns
        .filter(|(index, column)| *index != table.key && !column.generated)
        .map(|(_, column)| column.name.clone())
        .collect()
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
    // Named at least once, also of a table that has no column but its key: who asks gives both parameters.
    list + ", ?2"
}

impl SampledValue {
    pub(super) fn is_null(&self) -> bool {
        self.fingerprint == NULL
    }

    fn of(value: ValueRef<'_>) -> SampledValue {
        let plain = match value {
            ValueRef::Integer(number) => PlainValue::Number(number),
            ValueRef::Text(text) if text.len() <= LABEL => {
                PlainValue::Label(String::from_utf8_lossy(text).into_owned())
            }
            // A whole number that a column of another type made a real.
            ValueRef::Real(real) if real.fract() == 0.0 && real.abs() < 2f64.powi(53) => {
                PlainValue::Number(real as i64)
            }
            ValueRef::Real(real) => PlainValue::Real(real),
            _ => PlainValue::Other,
        };
        SampledValue {
            fingerprint: fingerprint_of(value),
            plain,
        }
    }
}

fn fingerprint_of(value: ValueRef<'_>) -> u64 {
    // The first byte keeps 5, 5.0 and '5' apart.
    let tagged =
        |tag: u8, bytes: &[u8]| fingerprint(bytes) ^ (u64::from(tag) << 56 | u64::from(tag));
    match value {
        ValueRef::Null => NULL,
        ValueRef::Integer(i) => tagged(1, &i.to_le_bytes()),
        ValueRef::Real(r) => tagged(2, &r.to_le_bytes()),
        ValueRef::Text(text) => tagged(3, text),
        ValueRef::Blob(blob) => tagged(4, blob),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: i64 = 20;

    #[test]
    fn large_values_are_told_apart_by_their_ends() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, ts TEXT, details TEXT)")
            .unwrap();
        for id in 1..=HEAD {
            db.execute("INSERT INTO t VALUES (?1, 'a' || ?1, 'b')", [id])
                .unwrap();
        }
        let table = Table::introspect(&db, "t", None).unwrap();
        let details = |id: i64, sql: &str| {
            db.execute_batch(&format!("UPDATE t SET details = {sql} WHERE id = {id}"))
                .unwrap();
            Sample::take(&db, &table, HEAD).unwrap()
        };
        let again = |sample: &Sample| -> Vec<Vec<u64>> {
            let again = sample.again(&db, &table).unwrap();
            let cells = again.rows.into_iter().map(|(_, cells)| cells);
            cells
                .map(|cells| cells.iter().map(|cell| cell.fingerprint).collect())
                .collect()
        };
        let last = |sample: &Sample, row: usize| sample.rows[row].1[1];
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
                let sampled: Vec<_> = sample.rows.iter().map(|(_, row)| row.clone()).collect();
                assert_eq!(again(&sample), sampled);
            }
        }
    }
}
