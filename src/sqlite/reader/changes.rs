//! Pages of changes: of a captured table's log, with the rows as they are where it names only keys.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::page::{Page, PageLimits};
use super::table_rows::{TablePage, TablePosition, TableReader};
use super::walk::{Range, Walk, Walker};
use super::{HeadPage, NewestRead, values};
use crate::config::FeedConfig;
use crate::model::filter::{Filter, FilterId, FilterIndex};
use crate::model::position::Cursor;
use crate::sqlite::changes::{Change, ChangeEncoder, ChangeLog, Layout, Wording};
use crate::sqlite::deadline::Deadline;
use crate::sqlite::table::Schema;
use crate::wire::block::{Block, Matches};

/// Of the filters of a page that is read for one subscriber, that one.
const ONLY: FilterId = FilterId(1);

/// Reads one captured table's changes.
#[derive(Debug)]
pub(super) struct ChangeReader {
    layout: Layout,
    encoder: ChangeEncoder,
    /// SQL for the change at the head and all above it.
    from_head: String,
    table: TableReader,
}

impl ChangeReader {
    pub(super) fn new(
        feed: &FeedConfig,
        (schema, log): (&Schema, &ChangeLog),
        max_row_bytes: usize,
    ) -> ChangeReader {
        let layout = Layout::new(log, &schema.exposed, max_row_bytes);
        let (columns, source) = (&layout.columns, log.source(&schema.table.name));
        let seq = log.seq();
        ChangeReader {
            from_head: format!("SELECT {columns} FROM {source} WHERE {seq} >= ? ORDER BY {seq}"),
            encoder: ChangeEncoder::new(feed, schema, log, max_row_bytes),
            table: TableReader::new(schema, log, max_row_bytes),
            layout,
        }
    }

    /// What walks along the log.
    pub(super) fn walker(&self, schema: &Schema, log: &ChangeLog) -> Walker {
        let source = log.source(&schema.table.name);
        let (columns, seq) = (self.layout.columns.clone(), log.seq());
        Walker::of_log(&schema.table, source, seq, (columns, self.layout.seq))
    }

    /// Reads the changes above `head`, as [`RowReader::above_head`](super::RowReader::above_head) does rows.
    pub(super) fn above_head(
        &self,
        message: &mut Vec<u8>,
        connection: &Connection,
        head: Cursor,
        limits: PageLimits,
        (filters, known_below): (&FilterIndex, FilterId),
    ) -> rusqlite::Result<HeadPage> {
        let mut statement = connection.prepare_cached(&self.from_head)?;
        let mut rows = statement.query([head.0])?;
        let mut page = ChangePage {
            page: Page::new(head, limits),
            matches: Matches {
                known_below,
                ..Matches::default()
            },
            unfiltered: Vec::new(),
        };
        let (mut head_row, mut newest, mut changes, mut full) = (None, None, 0, false);
        // Numbers are given without gaps, and begin with 1.
        let (mut before, mut has_gap) = (head.0.max(0), false);
        while let Some(row) = rows.next()? {
            let id = Change::seq(&self.layout, values(row))?;
            let fingerprint = self.fingerprint(row);
            if id == head.0 && head != Cursor::MIN {
                head_row = Some(fingerprint);
                continue;
            }
            has_gap |= id != before.saturating_add(1);
            before = id;
            newest = Some(NewestRead { id, fingerprint });
            changes += 1;
            self.put(&mut page, message, (id, row), filters);
            full = page.page.is_full() || changes >= limits.rows;
            if full {
                break;
            }
        }
        let upto = newest.map_or(head, |newest| Cursor(newest.id));
        Ok(HeadPage {
            block: page.finish(upto),
            rows: changes,
            full,
            head_row,
            has_gap,
            newest,
        })
    }

    /// Adds a change to a page, in as many wordings as its subscribers need.
    fn put(
        &self,
        to: &mut ChangePage,
        message: &mut Vec<u8>,
        (id, row): (i64, &Row<'_>),
        filters: &FilterIndex,
    ) {
        let Some(change) = Change::of(&self.layout, values(row)) else {
            return;
        };
        let ChangePage {
            page,
            matches,
            unfiltered,
        } = to;
        let mut worded = [None; 3];
        let mut index_of = |wording: Wording| {
            *worded[wording as usize].get_or_insert_with(|| {
                message.clear();
                self.encoder.message(message, &change, wording);
                page.count(message.len());
                page.push(id, message)
            })
        };
        unfiltered.push(index_of(Wording::Whole));
        change.each_match(filters, |filter, wording| {
            let index = index_of(wording);
            matches.rows.entry(filter).or_default().push(index);
        });
    }

    /// Reads changes that concern `filter` in a range, as [`RowReader::between`](super::RowReader::between) does rows.
    pub(super) fn between(
        &self,
        message: &mut Vec<u8>,
        walker: &mut Walker,
        (walk, range): (Walk<'_>, &mut Range),
        limits: PageLimits,
        told: &ToldOne,
    ) -> rusqlite::Result<Block> {
        let mut page = Page::new(range.after, limits);
        walker.step(walk, range, &mut |id, row| {
            if let Some((change, wording)) = told.change(&self.layout, values(row)) {
                message.clear();
                self.encoder.message(message, &change, wording);
                page.count(message.len());
                page.push(id, message);
            }
            Ok(!page.is_full())
        })?;
        Ok(page.finish(range.after, None))
    }

    /// A change as an item of history; `None` where it is none of the subscriber's.
    pub(super) fn item(
        &self,
        out: &mut Vec<u8>,
        row: &Row<'_>,
        told: &ToldOne,
        limit: usize,
    ) -> Option<Vec<String>> {
        let (change, wording) = told.change(&self.layout, values(row))?;
        Some(self.encoder.item(out, &change, wording, limit))
    }

    /// Reads the table as it is, as [`RowReader::table_page`](super::RowReader::table_page) does.
    pub(super) fn table_page(
        &mut self,
        message: &mut Vec<u8>,
        connection: &Connection,
        from: &TablePosition,
        limits: PageLimits,
        filter: (&Filter, &Deadline),
    ) -> rusqlite::Result<TablePage> {
        let (encoder, key) = (&self.encoder, self.table.key_places.clone());
        let encode = |out: &mut Vec<u8>, row: &Row<'_>| encoder.present_row(out, values(row), &key);
        self.table
            .page(connection, from, limits, filter, (&encode, message))
    }

    /// Of what the log has of a change; the row it is about may be another by now.
    fn fingerprint(&self, row: &Row<'_>) -> u64 {
        Change::fingerprint(&self.layout, values(row))
    }
}

/// A page of changes in the making, in several wordings.
struct ChangePage {
    page: Page,
    matches: Matches,
    /// The entries of those that get every change.
    unfiltered: Vec<u32>,
}

impl ChangePage {
    fn finish(self, upto: Cursor) -> Block {
        let ChangePage {
            page,
            mut matches,
            unfiltered,
        } = self;
        if unfiltered.len() < page.rows() {
            matches.unfiltered = Some(unfiltered);
        }
        page.finish(upto, Some(matches))
    }
}

/// How one subscriber is told of changes.
#[derive(Debug, Default)]
pub(super) struct ToldOne {
    /// `None`: of all, whole.
    filter: Option<FilterIndex>,
}

impl ToldOne {
    /// Of what a filter takes.
    pub(super) fn by(filter: &Filter, schema: &Schema) -> ToldOne {
        if filter.is_empty() {
            return ToldOne::default();
        }
        let mut index = FilterIndex::default();
        let filter = std::sync::Arc::new(filter.clone());
        index.insert(ONLY, &filter, |column| schema.place_of(column));
        ToldOne {
            filter: Some(index),
        }
    }

    fn change<'l, 'r, R: Fn(usize) -> ValueRef<'r> + Copy>(
        &self,
        layout: &'l Layout,
        row: R,
    ) -> Option<(Change<'l, R>, Wording)> {
        let change = Change::of(layout, row)?;
        let mut told = Some(Wording::Whole);
        if let Some(filter) = &self.filter {
            told = None;
            change.each_match(filter, |_, wording| told = Some(wording));
        }
        Some((change, told?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{CaptureMode, CaptureRules};
    use crate::sqlite::capture::{Subject, install};
    use crate::sqlite::reader::{Kind, RowReader};

    /// A reader of the changes of a table that is declared so.
    fn reader(declared: &str, mode: CaptureMode) -> (Connection, RowReader) {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(&format!(
            "CREATE TABLE t({declared}; CREATE INDEX other ON t(n)"
        ))
        .unwrap();
        let filters = vec!["n".to_owned()];
        install(&mut db, &|db| Subject::of(db, "t", mode, &filters)).unwrap();
        let feed = FeedConfig {
            table: "t".into(),
            capture: Some(CaptureRules::found(mode, filters.clone())),
            ..FeedConfig::stock()
        };
        let schema = Arc::new(Schema::of_feed(&db, &feed).unwrap());
        let reader = RowReader::new(&feed, schema, 1 << 20);
        (db, reader)
    }

    fn plan(db: &Connection, sql: &str) -> Vec<String> {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.query_map([0], |row| row.get(3));
        lines.unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_page_asks_log_and_table_by_their_keys_alone() {
        for declared in [
            "id INTEGER PRIMARY KEY, n)",
            "id TEXT COLLATE NOCASE PRIMARY KEY, n)",
            "a TEXT, b INT, n, PRIMARY KEY(b, a))",
            "a TEXT, b INT, n, PRIMARY KEY(a DESC, b)) WITHOUT ROWID",
        ] {
            for mode in [CaptureMode::Keys, CaptureMode::Full] {
                let (db, reader) = reader(declared, mode);
                let Kind::Changes(changes) = &reader.kind else {
                    panic!("a feed of changes")
                };
                let plan = plan(&db, &changes.from_head);
                let tables = if mode == CaptureMode::Keys { 2 } else { 1 };
                assert_eq!(plan.len(), tables, "{declared}: {plan:?}");
                assert!(
                    plan[0].starts_with("SEARCH l USING INTEGER PRIMARY KEY"),
                    "{plan:?}"
                );
                assert!(
                    plan[1..]
                        .iter()
                        .all(|line| line.starts_with("SEARCH t USING")),
                    "{plan:?}"
                );
                assert!(
                    plan[1..].iter().all(|line| !line.contains("AUTOMATIC")),
                    "{plan:?}"
                );
            }
        }
    }
}
