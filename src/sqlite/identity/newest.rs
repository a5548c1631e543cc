//! What the newest row and the highest id of a table told at the last look, and what it gives to doubt that they tell
//! something else now.

use rusqlite::Connection;

use super::Doubt;
use crate::model::position::Cursor;
use crate::sqlite::reader::HeadPage;
use crate::sqlite::table::Table;

/// What the newest row and the highest id of a table told at the last look.
#[derive(Debug)]
pub struct Newest {
    row: NewestRow,
    ids: Ids,
}

/// What is known of the row at the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NewestRow {
    Unknown,
    Absent,
    Seen(u64),
}

/// Whether an id that was deleted can be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// SQLite remembers the highest one given, and gives higher ones.
    Remembered,
    /// It gives the one above the highest there is, which was this at the last look.
    AboveTop(Option<i64>),
}

impl NewestRow {
    fn of(page: &HeadPage) -> NewestRow {
        page.head_row.map_or(NewestRow::Absent, NewestRow::Seen)
    }
}

impl Newest {
    /// Nothing was looked at.
    pub fn unknown() -> Newest {
        Newest {
            row: NewestRow::Unknown,
            ids: Ids::AboveTop(None),
        }
    }

    /// Returns whether the row at the head was looked at.
    pub fn is_known(&self) -> bool {
        self.row != NewestRow::Unknown
    }

    /// Takes the history up to `head` for the one to go on with. What its newest row is the next look tells.
    ///
    /// # Errors
    /// The table can't be read.
    pub fn begin(
        &mut self,
        connection: &Connection,
        table: &Table,
        head: Cursor,
    ) -> rusqlite::Result<()> {
        let remembered = head.0 > 0 && given(connection, table)? >= head;
        self.ids = match remembered {
            true => Ids::Remembered,
            // No AUTOINCREMENT, or the sequence went with a table that was made anew.
            false => Ids::AboveTop(table.max_key(connection)?),
        };
        Ok(())
    }

    /// Another history begins.
    pub fn forget(&mut self) {
        self.row = NewestRow::Unknown;
    }

    /// What a page that was read above `head` gives to doubt; `None` where rows only came.
    ///
    /// # Errors
    /// The table can't be read.
    pub fn doubt(
        &mut self,
        connection: &Connection,
        table: &Table,
        page: &HeadPage,
        head: Cursor,
    ) -> rusqlite::Result<Option<Doubt>> {
        if self.are_given_again(connection, table, page, head)? {
            return Ok(Some(Doubt::GivenAgain));
        }
        let is_edited = self.is_known() && self.row != NewestRow::of(page);
        Ok(is_edited.then_some(Doubt::Edited))
    }

    /// Returns whether ids up to the head are being given again, as far as they tell.
    fn are_given_again(
        &mut self,
        connection: &Connection,
        table: &Table,
        page: &HeadPage,
        head: Cursor,
    ) -> rusqlite::Result<bool> {
        if head == Cursor::MIN {
            return Ok(false);
        }
        let Ids::AboveTop(before) = self.ids else {
            let fell = page.block.entries.is_empty() && given(connection, table)? < head;
            return Ok(fell && table.max_key(connection)? < Some(head.0));
        };
        let top = table.max_key(connection)?;
        self.ids = Ids::AboveTop(top);
        // A row appeared below the head, above all others: a deleted id was given again.
        let again = top.is_some_and(|top| top < head.0) && top > before;
        Ok(again || (self.row == NewestRow::Absent && page.head_row.is_some()))
    }

    /// The page is published: its last row is at the head, which was at `head`.
    pub fn passed(&mut self, table: &Table, page: &HeadPage, head: Cursor) {
        let block = &page.block;
        self.row = match page.newest {
            Some(newest) if newest.id == block.last.0 => NewestRow::Seen(newest.fingerprint),
            None if block.last == head => NewestRow::of(page),
            _ => NewestRow::Absent,
        };
        // From the first id that it gives, AUTOINCREMENT remembers.
        if table.autoincrement && block.last > head && block.last.0 > 0 {
            self.ids = Ids::Remembered;
        }
    }
}

/// The highest id that SQLite remembers having given; below every id where it remembers none.
///
/// # Errors
/// The table can't be read.
pub fn given(connection: &Connection, table: &Table) -> rusqlite::Result<Cursor> {
    let sequence = table.sequence(connection)?;
    Ok(sequence.map_or(Cursor::MIN, Cursor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FeedConfig;
    use crate::model::filter::{FilterId, FilterIndex};
    use crate::sqlite::reader::PageLimits;
    use crate::sqlite::reader::RowReader;
    use crate::sqlite::table::Schema;
    use std::sync::Arc;

    const ALL: PageLimits = PageLimits {
        rows: 1_000,
        bytes: 1 << 20,
    };

    /// A table that is looked at after each change to it.
    struct Looked {
        db: Connection,
        reader: RowReader,
        newest: Newest,
        head: Cursor,
    }

    impl Looked {
        /// A table of three rows, with an id that is declared like this.
        fn at(key: &str) -> Looked {
            let db = Connection::open_in_memory().unwrap();
            let create =
                format!("CREATE TABLE t(id {key}, x); INSERT INTO t(x) VALUES (1), (2), (3)");
            db.execute_batch(&create).unwrap();
            let feed = FeedConfig {
                table: "t".into(),
                ..FeedConfig::stock()
            };
            let schema = Schema::of_feed(&db, &feed).unwrap();
            let reader = RowReader::new(&feed, Arc::new(schema), 1 << 20);
            let mut newest = Newest::unknown();
            let head = Cursor(3);
            newest.begin(&db, &reader.schema.table, head).unwrap();
            let mut looked = Looked {
                db,
                reader,
                newest,
                head,
            };
            assert!(!looked.newest.is_known());
            assert_eq!(looked.after(""), None);
            assert!(looked.newest.is_known());
            looked
        }

        /// What a look gives to doubt after this change.
        fn after(&mut self, change: &str) -> Option<Doubt> {
            self.db.execute_batch(change).unwrap();
            let (db, head) = (&self.db, self.head);
            let filters = FilterIndex::default();
            let page = self
                .reader
                .above_head(db, head, ALL, &filters, FilterId::NONE)
                .unwrap();
            let table = &self.reader.schema.table;
            let doubt = self.newest.doubt(db, table, &page, head).unwrap();
            self.newest.passed(table, &page, head);
            self.head = page.block.last;
            doubt
        }
    }

    const KEYS: [&str; 2] = ["INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER PRIMARY KEY"];

    #[test]
    fn rows_that_come_and_changes_to_older_ones_give_nothing_to_doubt() {
        for key in KEYS {
            let mut looked = Looked::at(key);
            for change in [
                "",
                "INSERT INTO t(x) VALUES (4), (5)",
                "UPDATE t SET x = 9 WHERE id < 5",
                "DELETE FROM t WHERE id < 4",
                "INSERT INTO t(id, x) VALUES (2, 7)",
            ] {
                assert_eq!(looked.after(change), None, "{key}: {change}");
            }
            assert_eq!(looked.head, Cursor(5));
        }
    }

    #[test]
    fn a_newest_row_that_was_edited_or_deleted_is_in_doubt_once() {
        for change in [
            "UPDATE t SET x = 9 WHERE id = 3",
            "DELETE FROM t WHERE id = 3",
        ] {
            for key in KEYS {
                let mut looked = Looked::at(key);
                assert_eq!(looked.after(change), Some(Doubt::Edited), "{key}: {change}");
                assert_eq!(looked.after(""), None, "{key}: {change}");
            }
        }
    }

    #[test]
    fn ids_given_again_are_in_doubt_where_sqlite_does_not_remember_them() {
        for deleted in ["id = 3", "id > 1"] {
            let delete = format!("DELETE FROM t WHERE {deleted}");
            let again = "INSERT INTO t(x) VALUES (8)";
            let mut looked = Looked::at(KEYS[1]);
            looked.after(&delete);
            assert_eq!(looked.after(again), Some(Doubt::GivenAgain), "{deleted}");
            let mut looked = Looked::at(KEYS[0]);
            looked.after(&delete);
            assert_eq!(looked.after(again), None, "{deleted}");
            assert_eq!(looked.head, Cursor(4));
        }
    }

    #[test]
    fn a_sequence_that_fell_is_in_doubt() {
        let mut looked = Looked::at(KEYS[0]);
        let restored = "DELETE FROM t WHERE id > 1; UPDATE sqlite_sequence SET seq = 1";
        assert_eq!(looked.after(restored), Some(Doubt::GivenAgain));
    }

    #[test]
    fn after_another_history_began_its_newest_row_is_not_held_against_the_old_one() {
        let mut looked = Looked::at(KEYS[1]);
        looked.newest.forget();
        assert_eq!(looked.after("UPDATE t SET x = 9 WHERE id = 3"), None);
    }
}
