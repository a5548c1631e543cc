//! Which of many feeds have new rows, asked of all at once: reading each costs twenty times as much.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::source::table_follower::TableFollower;
use crate::sqlite::table::Table;

/// `sqlite_sequence` is one page as long as few tables are in it; the scan stops paying where it holds many more rows
/// than there are feeds.
const STRANGERS: i64 = 8;

/// The question that tells which of many feeds moved, prepared for one schema.
#[derive(Debug, Default)]
pub(crate) struct MaxIds {
    /// Feeds whose highest id SQLite writes down with every insert, by their tables' names.
    sequences: HashMap<String, Vec<usize>>,
    /// One statement with the highest id of each of these feeds, about 1 µs each.
    others: Vec<usize>,
    highest: String,
}

impl MaxIds {
    /// For the feeds as they are now; one without a table is never said to move.
    pub(crate) fn new(
        connection: &Connection,
        feeds: &[TableFollower],
    ) -> rusqlite::Result<MaxIds> {
        let tables: Vec<Option<&Table>> = feeds.iter().map(TableFollower::table).collect();
        MaxIds::of(connection, &tables)
    }

    fn of(connection: &Connection, tables: &[Option<&Table>]) -> rusqlite::Result<MaxIds> {
        let sequences = tables.iter().flatten().any(|table| table.autoincrement);
        let rows: i64 = match sequences {
            true => connection
                .query_row("SELECT count(*) FROM sqlite_sequence", [], |row| row.get(0))?,
            false => 0,
        };
        let few = rows <= tables.len() as i64 * STRANGERS;
        let mut max_ids = MaxIds::default();
        let mut queries = Vec::new();
        for (feed, table) in tables.iter().enumerate() {
            let Some(table) = table else { continue };
            if table.autoincrement && few {
                let feeds = max_ids.sequences.entry(table.name.clone()).or_default();
                feeds.push(feed);
            } else {
                queries.push(format!("({})", table.extreme_query("max")));
                max_ids.others.push(feed);
            }
        }
        max_ids.highest = format!("SELECT {}", queries.join(", "));
        Ok(max_ids)
    }

    /// The highest id of each of `feeds` feeds as it is now; of an AUTOINCREMENT table the highest ever given.
    pub(crate) fn tops(
        &self,
        connection: &Connection,
        feeds: usize,
    ) -> rusqlite::Result<Vec<Option<i64>>> {
        let mut tops = vec![None; feeds];
        if !self.sequences.is_empty() {
            let mut statement = connection
                .prepare_cached("SELECT name, CAST(seq AS INTEGER) FROM sqlite_sequence")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                // Anybody may write anything into this table.
                let known = row.get_ref(0)?.as_str().ok();
                let known = known.and_then(|name| self.sequences.get(name));
                let top: Option<i64> = row.get(1)?;
                for &feed in known.into_iter().flatten() {
                    tops[feed] = tops[feed].or(top);
                }
            }
        }
        if !self.others.is_empty() {
            connection
                .prepare_cached(&self.highest)?
                .query_row([], |row| {
                    for (place, &feed) in self.others.iter().enumerate() {
                        tops[feed] = row.get(place)?;
                    }
                    Ok(())
                })?;
        }
        Ok(tops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: &str = "
        CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, x);
        CREATE TABLE b(id INTEGER PRIMARY KEY, x);
        CREATE TABLE c(id INTEGER PRIMARY KEY AUTOINCREMENT, x);
        INSERT INTO a(x) VALUES (1), (2);
        INSERT INTO b(x) VALUES (1);";

    fn tops(db: &Connection) -> Vec<Option<i64>> {
        let table = |name| Table::introspect(db, name, None).unwrap();
        let (a, b, c) = (table("a"), table("b"), table("c"));
        let max_ids = MaxIds::of(db, &[Some(&a), None, Some(&b), Some(&c)]).unwrap();
        max_ids.tops(db, 4).unwrap()
    }

    #[test]
    fn each_table_has_its_highest_id_whatever_keeps_it() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(CREATE).unwrap();
        assert_eq!(tops(&db), [Some(2), None, Some(1), None]);
        db.execute_batch("INSERT INTO c(x) VALUES (1); DELETE FROM a WHERE id = 2")
            .unwrap();
        assert_eq!(tops(&db), [Some(2), None, Some(1), Some(1)]);
        db.execute_batch("INSERT INTO a(x) VALUES (1)").unwrap();
        assert_eq!(tops(&db)[0], Some(3));
    }

    #[test]
    fn many_other_tables_or_a_strange_sequence_change_nothing() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(CREATE).unwrap();
        db.execute_batch("INSERT INTO sqlite_sequence VALUES (NULL, 1), (x'ff', 'x')")
            .unwrap();
        assert_eq!(tops(&db)[0], Some(2));
        db.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100)
             INSERT INTO sqlite_sequence SELECT 'other' || i, i FROM n",
        )
        .unwrap();
        assert_eq!(tops(&db), [Some(2), None, Some(1), None]);
    }
}
