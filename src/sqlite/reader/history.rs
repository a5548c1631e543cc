//! Pages of history, newest first, as JSON.

use rusqlite::{Connection, Row};
use serde_json::value::RawValue;

use super::changes::ToldOne;
use super::walk::{Order, Range, Walk, WalkColumns};
use super::{Condition, END, Kind, RowReader, values};
use crate::model::filter::Filter;
use crate::model::position::Cursor;
use crate::sqlite::row_json::id_label;

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

/// How far a page of history is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Done,
    More,
    /// There was no room for a further item.
    NoRoom,
    /// A column of the filter is gone.
    FilterGone,
}

/// The read of a page of history, done in steps: with a rare filter it may go through the whole table twice, once for
/// the rows and once for their number.
#[derive(Debug)]
pub struct HistoryRead {
    query: HistoryQuery,
    range: Range,
    order: Order,
    page: HistoryPage,
    /// What is left to count; `None` while rows are still looked for.
    uncounted: Option<Range>,
}

impl HistoryRead {
    /// A read that has not begun; [`step`](Self::step) does it.
    pub fn new(query: HistoryQuery) -> HistoryRead {
        let range = Range {
            after: query.after.unwrap_or(Cursor::MIN),
            upto: query.before.map_or(END, |id| Cursor::before(id.0)),
        };
        let order = match query.after.is_some() && query.before.is_none() {
            true => Order::OldestFirst,
            false => Order::NewestFirst,
        };
        HistoryRead {
            query,
            range,
            order,
            page: HistoryPage::default(),
            uncounted: None,
        }
    }

    /// Which rows are looked for.
    pub fn filter(&self) -> &Filter {
        &self.query.filter
    }

    /// A step of a few milliseconds. `room` is asked for the bytes of each item before it is kept.
    pub fn step(
        &mut self,
        connection: &Connection,
        reader: &mut RowReader,
        room: &mut dyn FnMut(usize) -> bool,
    ) -> rusqlite::Result<Progress> {
        let Some(condition) = Condition::of(&self.query.filter, &reader.schema) else {
            return Ok(Progress::FilterGone);
        };
        let walk = Walk {
            connection,
            condition: &condition,
            what: WalkColumns::Columns,
            order: self.order,
        };
        match self.uncounted {
            None => self.find(walk, reader, room),
            Some(_) => self.count(walk, reader),
        }
    }

    /// Forgets what was read so far: the next step begins anew.
    pub fn start_over(&mut self) {
        *self = HistoryRead::new(self.query.clone());
    }

    /// Takes the page that was read, leaving an empty one.
    pub fn take(&mut self) -> HistoryPage {
        std::mem::take(&mut self.page)
    }

    fn find(
        &mut self,
        walk: Walk<'_>,
        reader: &mut RowReader,
        room: &mut dyn FnMut(usize) -> bool,
    ) -> rusqlite::Result<Progress> {
        let limit = self.query.limit as usize;
        let (page, item_bytes) = (&mut self.page, self.query.item_bytes);
        let (kind, told) = (
            &reader.kind,
            ToldOne::by(&self.query.filter, &reader.schema),
        );
        let mut has_room = true;
        let mut take = |id: i64, row: &Row<'_>| {
            let mut item = Vec::new();
            let cut = match kind {
                Kind::Rows { encoder, .. } => encoder.item(&mut item, values(row), item_bytes),
                Kind::Changes(changes) => match changes.item(&mut item, row, &told, item_bytes) {
                    Some(cut) => cut,
                    None => return Ok(true),
                },
            };
            has_room = room(item.len());
            if !has_room {
                return Ok(false);
            }
            if !cut.is_empty() {
                page.truncated.push((id_label(id), cut));
            }
            page.items.push(raw_json(item));
            Ok(page.items.len() < limit)
        };
        reader.walker.step(walk, &mut self.range, &mut take)?;
        if !has_room {
            return Ok(Progress::NoRoom);
        }
        let found = self.page.items.len();
        if found < limit && !self.range.is_empty() {
            return Ok(Progress::More);
        }
        if self.order == Order::OldestFirst {
            self.page.items.reverse();
        }
        if found < limit && self.query.before.is_none() && self.query.after.is_none() {
            // A page that was not filled from the whole table holds all there is.
            self.page.total = found as i64;
            return Ok(Progress::Done);
        }
        self.uncounted = Some(Range {
            after: Cursor::MIN,
            upto: END,
        });
        Ok(Progress::More)
    }

    /// Counts the rows that match, newest first, up to [`TOTAL_CAP`] + 1.
    fn count(&mut self, walk: Walk<'_>, reader: &mut RowReader) -> rusqlite::Result<Progress> {
        let Some(range) = &mut self.uncounted else {
            return Ok(Progress::Done);
        };
        let walk = Walk {
            what: WalkColumns::Key,
            order: Order::NewestFirst,
            ..walk
        };
        let total = &mut self.page.total;
        reader.walker.step(walk, range, &mut |_, _| {
            *total += 1;
            Ok(*total <= TOTAL_CAP)
        })?;
        match *total > TOTAL_CAP || range.is_empty() {
            true => Ok(Progress::Done),
            false => Ok(Progress::More),
        }
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

    fn items(page: &HistoryPage) -> Vec<i64> {
        let json = |item: &RawValue| serde_json::from_str::<serde_json::Value>(item.get()).unwrap();
        page.items
            .iter()
            .map(|item| json(item)["id"].as_i64().unwrap())
            .collect()
    }

    fn history(db: &Connection, reader: &mut RowReader, query: &HistoryQuery) -> HistoryPage {
        let mut read = HistoryRead::new(query.clone());
        while read.step(db, reader, &mut |_| true).unwrap() == Progress::More {}
        read.take()
    }

    #[test]
    fn history_of_a_rare_filter_is_paged_from_either_end() {
        for (db, mut reader) in shapes() {
            let rows = ids(&db, "kind = 'rare'");
            let query = HistoryQuery {
                limit: 3,
                filter: rare(),
                ..HistoryQuery::default()
            };
            let mut page = |before: Option<i64>, after: Option<i64>| {
                let query = HistoryQuery {
                    before: before.map(Cursor),
                    after: after.map(Cursor),
                    ..query.clone()
                };
                let page = history(&db, &mut reader, &query);
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
        let (db, mut reader) = table(50_000, 1, "id INTEGER PRIMARY KEY");
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
            let page = history(&db, &mut reader, &query);
            assert_eq!(page.total, expected);
        }
        let all = HistoryQuery {
            limit: 1,
            ..HistoryQuery::default()
        };
        let page = history(&db, &mut reader, &all);
        assert_eq!(page.total, TOTAL_CAP + 1);
    }

    #[test]
    fn a_page_without_room_for_its_next_item_is_given_up() {
        let (db, mut reader) = table(10, 1, "id INTEGER PRIMARY KEY");
        let query = HistoryQuery {
            limit: 10,
            ..HistoryQuery::default()
        };
        let mut left = 100;
        let mut room = |bytes: usize| {
            left -= bytes as i64;
            left >= 0
        };
        let progress = HistoryRead::new(query).step(&db, &mut reader, &mut room);
        assert_eq!(progress.unwrap(), Progress::NoRoom);
        assert!(
            left < 0 && left > -100,
            "asked once more than there is: {left}"
        );
    }

    #[test]
    fn items_of_history_are_cut_to_what_was_asked_for() {
        let (db, mut reader) = table(3, 1, "id INTEGER PRIMARY KEY");
        db.execute("UPDATE t SET kind = hex(zeroblob(500)) WHERE id = 2", [])
            .unwrap();
        let query = HistoryQuery {
            limit: 3,
            item_bytes: 200,
            ..HistoryQuery::default()
        };
        let page = history(&db, &mut reader, &query);
        assert_eq!(page.truncated, [("2".to_owned(), vec!["kind".to_owned()])]);
        assert!(page.items.iter().all(|item| item.get().len() <= 200));
        let whole = HistoryQuery {
            limit: 3,
            ..HistoryQuery::default()
        };
        let page = history(&db, &mut reader, &whole);
        assert!(page.truncated.is_empty() && page.items[1].get().len() > 1000);
    }
}
