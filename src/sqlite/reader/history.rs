//! Pages of history, newest first, as JSON.

use rusqlite::{Connection, params_from_iter};
use serde_json::value::RawValue;

use super::{Condition, END, RowReader, values};
use crate::change::Cursor;
use crate::filter::Filter;
use crate::sqlite::encode::id_label;

/// Above this many matching rows history says `total_is_capped` instead of counting on.
pub const TOTAL_CAP: i64 = 10_000;

/// What a history request asks for.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    pub limit: u32,
    pub before: Option<Cursor>,
    pub after: Option<Cursor>,
    pub filter: Filter,
    /// Bytes of JSON an item may have before its longest values are cut. The feed's own limit holds where it is smaller;
    /// `usize::MAX` leaves it at that.
    pub item_bytes: usize,
}

impl Default for HistoryQuery {
    fn default() -> HistoryQuery {
        HistoryQuery {
            limit: 0,
            before: None,
            after: None,
            filter: Filter::default(),
            item_bytes: usize::MAX,
        }
    }
}

/// Rows of history, newest first.
#[derive(Debug, Default)]
pub struct HistoryPage {
    pub items: Vec<Box<RawValue>>,
    /// Rows that match the filter, counted up to [`TOTAL_CAP`] + 1.
    pub total: i64,
    /// Id and cut columns of each row that was too large.
    pub truncated: Vec<(String, Vec<String>)>,
}

impl RowReader {
    /// A page of history. `None` where a column of the filter is gone.
    ///
    /// With a rare filter on a large table it takes a while, and who asked may leave: `cancelled` is asked between its
    /// short statements; once it says so, the page is left unfinished.
    pub fn history(
        &self,
        connection: &Connection,
        query: &HistoryQuery,
        cancelled: &dyn Fn() -> bool,
    ) -> rusqlite::Result<Option<HistoryPage>> {
        let Some(condition) = Condition::of(&query.filter, &self.schema) else {
            return Ok(None);
        };
        let oldest_first = query.after.is_some() && query.before.is_none();
        let mut after = query.after.unwrap_or(Cursor::MIN);
        let mut upto = query.before.map_or(END, |id| Cursor::before(id.0));
        let mut page = HistoryPage::default();
        while page.items.len() < query.limit as usize && after < upto && !cancelled() {
            let stretch = if oldest_first {
                let end = self.stretch_above(connection, &condition, after, upto)?;
                (std::mem::replace(&mut after, end), end, "ASC")
            } else {
                let start = self.stretch_below(connection, &condition, after, upto)?;
                (start, std::mem::replace(&mut upto, start), "DESC")
            };
            self.read_items(connection, query, &condition, stretch, &mut page)?;
        }
        if oldest_first {
            page.items.reverse();
        }
        // A page that was not filled from the whole table holds all there is.
        let whole = query.before.is_none() && query.after.is_none();
        page.total = match page.items.len() {
            found if whole && found < query.limit as usize => found as i64,
            _ => self.count(connection, &condition, cancelled)?,
        };
        Ok(Some(page))
    }

    /// Adds the rows of one stretch to a page of history, up to its limit.
    fn read_items(
        &self,
        connection: &Connection,
        query: &HistoryQuery,
        condition: &Condition,
        (after, upto, order): (Cursor, Cursor, &str),
        page: &mut HistoryPage,
    ) -> rusqlite::Result<()> {
        let sql = format!("{} LIMIT ?", self.select(&self.columns, condition, order));
        let left = i64::from(query.limit) - page.items.len() as i64;
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows =
            statement.query(params_from_iter(condition.within(after, upto, Some(left))))?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(self.schema.key_place)?;
            let mut item = Vec::new();
            let cut = self.encoder.item(&mut item, values(row), query.item_bytes);
            if !cut.is_empty() {
                page.truncated.push((id_label(id), cut));
            }
            page.items.push(raw_json(item));
        }
        Ok(())
    }

    /// Counts the rows that match, newest first, up to [`TOTAL_CAP`] + 1.
    fn count(
        &self,
        connection: &Connection,
        condition: &Condition,
        cancelled: &dyn Fn() -> bool,
    ) -> rusqlite::Result<i64> {
        let rows = self.select("1", condition, "DESC");
        let sql = format!("SELECT count(*) FROM ({rows} LIMIT ?)");
        let (mut total, mut upto) = (0, END);
        while total <= TOTAL_CAP && upto > Cursor::MIN && !cancelled() {
            let after = self.stretch_below(connection, condition, Cursor::MIN, upto)?;
            let bounds = condition.within(after, upto, Some(TOTAL_CAP + 1 - total));
            let found: i64 = connection
                .prepare_cached(&sql)?
                .query_row(params_from_iter(bounds), |row| row.get(0))?;
            total += found;
            upto = after;
        }
        Ok(total)
    }
}

fn raw_json(bytes: Vec<u8>) -> Box<RawValue> {
    let text = String::from_utf8(bytes).unwrap_or_default();
    // The encoder writes valid JSON; were it ever not, the row must not break the page it stands in.
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{ids, rare, shapes, table};
    use super::*;
    use std::cell::Cell;

    fn items(page: &HistoryPage) -> Vec<i64> {
        let json = |item: &RawValue| serde_json::from_str::<serde_json::Value>(item.get()).unwrap();
        page.items
            .iter()
            .map(|item| json(item)["id"].as_i64().unwrap())
            .collect()
    }

    #[test]
    fn history_of_a_rare_filter_is_paged_from_either_end() {
        for (db, reader) in shapes() {
            let rows = ids(&db, "kind = 'rare'");
            let query = HistoryQuery {
                limit: 3,
                filter: rare(),
                ..HistoryQuery::default()
            };
            let page = |before: Option<i64>, after: Option<i64>| {
                let query = HistoryQuery {
                    before: before.map(Cursor),
                    after: after.map(Cursor),
                    ..query.clone()
                };
                let page = reader.history(&db, &query, &|| false).unwrap().unwrap();
                assert_eq!(page.total, rows.len() as i64);
                items(&page)
            };
            let newest_first = |ids: &[i64]| ids.iter().rev().copied().collect::<Vec<_>>();
            assert_eq!(page(None, None), newest_first(&rows[4..]));
            assert_eq!(page(Some(rows[4]), None), newest_first(&rows[1..4]));
            assert_eq!(page(None, Some(rows[0])), newest_first(&rows[1..4]));
            assert_eq!(
                page(Some(rows[5]), Some(rows[3])),
                newest_first(&rows[4..5])
            );
            assert!(page(Some(rows[0]), None).is_empty());
        }
    }

    #[test]
    fn the_total_is_exact_up_to_its_cap() {
        let (db, reader) = table(50_000, 1, "id INTEGER PRIMARY KEY");
        for (modulo, expected) in [(5, 10_000), (4, TOTAL_CAP + 1)] {
            db.execute(
                &format!("UPDATE t SET kind = iif(n % {modulo} = 0, 'rare', 'common')"),
                [],
            )
            .unwrap();
            let query = HistoryQuery {
                limit: 1,
                filter: rare(),
                ..HistoryQuery::default()
            };
            let page = reader.history(&db, &query, &|| false).unwrap().unwrap();
            assert_eq!(page.total, expected);
        }
        let all = HistoryQuery {
            limit: 1,
            ..HistoryQuery::default()
        };
        let page = reader.history(&db, &all, &|| false).unwrap().unwrap();
        assert_eq!(page.total, TOTAL_CAP + 1);
    }

    #[test]
    fn history_stops_between_statements_when_nobody_waits() {
        let (db, reader) = table(100_000, 1, "id INTEGER PRIMARY KEY");
        let query = HistoryQuery {
            limit: 100,
            filter: rare(),
            ..HistoryQuery::default()
        };
        let asked = Cell::new(0);
        let page = reader.history(&db, &query, &|| {
            asked.set(asked.get() + 1);
            asked.get() > 1
        });
        let page = page.unwrap().unwrap();
        assert_eq!(items(&page).len(), 3, "those of the newest stretch");
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn items_of_history_are_cut_to_what_was_asked_for() {
        let (db, reader) = table(3, 1, "id INTEGER PRIMARY KEY");
        db.execute("UPDATE t SET kind = hex(zeroblob(500)) WHERE id = 2", [])
            .unwrap();
        let query = HistoryQuery {
            limit: 3,
            item_bytes: 200,
            ..HistoryQuery::default()
        };
        let page = reader.history(&db, &query, &|| false).unwrap().unwrap();
        assert_eq!(page.truncated, [("2".to_owned(), vec!["kind".to_owned()])]);
        assert!(page.items.iter().all(|item| item.get().len() <= 200));
        let whole = HistoryQuery {
            limit: 3,
            ..HistoryQuery::default()
        };
        let page = reader.history(&db, &whole, &|| false).unwrap().unwrap();
        assert!(page.truncated.is_empty() && page.items[1].get().len() > 1000);
    }
}
