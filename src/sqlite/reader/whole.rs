//! Pages of rows, and of changes, as they travel to another walcast: nothing cut, with columns that only scopes compare.

use rusqlite::{Connection, Row};

use super::page::{Page, PageLimits};
use super::table_rows::{Encode, TablePage, TablePosition, TableReader};
use super::walk::{Order, Range, Walk, WalkColumns, Walker};
use super::{Condition, values};
use crate::config::FeedConfig;
use crate::model::filter::{Filter, quote_identifier};
use crate::model::position::Cursor;
use crate::sqlite::changes::{ChangeLog, logged, present};
use crate::sqlite::deadline::Deadline;
use crate::sqlite::table::Schema;
use crate::sqlite::whole_row::{LogColumns, TableDescription, WholeRowEncoder};
use crate::wire::block::Block;

/// Reads one table's rows whole, or one captured table's changes.
#[derive(Debug)]
pub(super) struct WholeReader {
    encoder: WholeRowEncoder,
    walker: Walker,
    /// `None` where the feed is of rows.
    changes: Option<WholeChanges>,
}

/// What is read of each change.
#[derive(Debug)]
struct WholeChanges {
    log: LogColumns,
    /// The rows as they are stand behind the log, and behind them whether there is one; `false`: the log has them itself.
    has_rows: bool,
    columns: usize,
    table: TableReader,
}

impl WholeReader {
    pub(super) fn new(feed: &FeedConfig, schema: &Schema, deadline: Deadline) -> WholeReader {
        let description = TableDescription::of(feed, schema);
        let names = description.column_names();
        let log = schema.changes.as_ref().zip(description.log_columns());
        let (mut walker, changes) = match log {
            Some((changes, columns)) => {
                let read = WholeChanges::new(&names, changes, columns);
                (read.walker(&names, schema, changes), Some(read))
            }
            None => {
                let columns: Vec<String> =
                    names.iter().map(|name| quote_identifier(name)).collect();
                let columns = columns.join(", ");
                (Walker::new(&schema.table, columns, schema.key_place), None)
            }
        };
        walker.limited_by(deadline);
        WholeReader {
            encoder: WholeRowEncoder::new(&description.fingerprint(), names),
            walker,
            changes,
        }
    }

    /// Reads rows, or changes, in `(after, upto]`, as [`RowReader::between`](super::RowReader::between) does.
    pub(super) fn page(
        &mut self,
        message: &mut Vec<u8>,
        connection: &Connection,
        (after, upto): (Cursor, Cursor),
        limits: PageLimits,
        condition: &Condition,
    ) -> rusqlite::Result<Block> {
        let walk = Walk {
            connection,
            condition,
            what: WalkColumns::Columns,
            order: Order::OldestFirst,
        };
        let mut range = Range { after, upto };
        let mut page = Page::new(after, limits);
        let (encoder, changes) = (&self.encoder, &self.changes);
        self.walker.step(walk, &mut range, &mut |id, row| {
            message.clear();
            match changes {
                Some(changes) => {
                    changes.encode(encoder, message, row);
                    page.count(message.len());
                }
                None => encoder.message(message, page.counted(values(row))),
            }
            page.push(id, message);
            Ok(!page.is_full())
        })?;
        Ok(page.finish(range.after, None))
    }

    /// Reads rows of the captured table as it is. `None` where the feed is not one of changes.
    pub(super) fn table_page(
        &mut self,
        message: &mut Vec<u8>,
        connection: &Connection,
        from: &TablePosition,
        limits: PageLimits,
    ) -> rusqlite::Result<Option<TablePage>> {
        let (encoder, deadline) = (&self.encoder, self.walker.deadline().clone());
        let Some(changes) = &mut self.changes else {
            return Ok(None);
        };
        let encode = |out: &mut Vec<u8>, row: &Row<'_>| encoder.message(out, values(row));
        let (all, to) = (Filter::default(), (&encode as &Encode<'_>, message));
        let page = changes
            .table
            .page(connection, from, limits, (&all, &deadline), to);
        page.map(Some)
    }
}

impl WholeChanges {
    fn new(columns: &[String], changes: &ChangeLog, log: LogColumns) -> WholeChanges {
        let names: Vec<String> = columns.iter().map(|name| quote_identifier(name)).collect();
        WholeChanges {
            log,
            has_rows: !changes.is_full,
            columns: columns.len(),
            table: TableReader::of_columns(&names.join(", "), columns.len(), changes),
        }
    }

    /// What walks along the log.
    fn walker(&self, columns: &[String], schema: &Schema, changes: &ChangeLog) -> Walker {
        let log = self.log.names.iter().map(|name| logged(name));
        let rows = columns.iter().map(|name| present(name));
        let rows = rows.chain([changes.is_there()]);
        let selected: Vec<String> = log.chain(rows.filter(|_| self.has_rows)).collect();
        let source = changes.source(&schema.table.name);
        // The log begins with its own key.
        let columns = (selected.join(", "), 0);
        Walker::of_log(&schema.table, source, changes.seq(), columns)
    }

    fn encode(&self, encoder: &WholeRowEncoder, message: &mut Vec<u8>, row: &Row<'_>) {
        let (value, first) = (values(row), self.log.names.len());
        let is_there =
            self.has_rows && value(first + self.columns) == rusqlite::types::ValueRef::Integer(1);
        let present = is_there.then_some(move |place: usize| value(first + place));
        encoder.change(message, (value, &self.log), present);
    }
}
