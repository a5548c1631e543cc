use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::types::Value;
use tempfile::TempDir;

use super::*;
use crate::config::FeedConfig;
use crate::sqlite::table::Schema;
use crate::sqlite::whole_row::WholeValue;

pub(super) struct Spool {
    pub(super) writer: SpoolWriter,
    path: PathBuf,
    _directory: TempDir,
}

impl Spool {
    pub(super) fn new() -> Spool {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new").join("spool.db");
        let writer = SpoolWriter::open(&path).unwrap();
        Spool {
            writer,
            path,
            _directory: directory,
        }
    }

    pub(super) fn take(&mut self, items: &[SpoolItem]) -> Imported {
        let batch = items.iter().map(|item| ("orders", item));
        self.writer.import(batch).unwrap()
    }

    pub(super) fn state(&self) -> SpoolState {
        state(&self.reading(), "orders").unwrap().unwrap()
    }

    pub(super) fn reading(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    pub(super) fn ids(&self) -> Vec<i64> {
        let db = self.reading();
        let mut statement = db.prepare("SELECT id FROM orders ORDER BY id").unwrap();
        let ids = statement.query_map([], |row| row.get(0)).unwrap();
        ids.collect::<Result<_, _>>().unwrap()
    }
}

fn described(columns: &str) -> Arc<TableDescription> {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(&format!("CREATE TABLE orders({columns})"))
        .unwrap();
    let feed = FeedConfig::named("orders");
    let schema = Schema::of_feed(&db, &feed).unwrap();
    Arc::new(TableDescription::of(&feed, &schema))
}

fn rows(table: &Arc<TableDescription>, ids: impl IntoIterator<Item = i64>) -> Vec<SpoolItem> {
    let shape = Arc::new(RowShape::of(table));
    let row = |id| {
        let mut values = vec![WholeValue::Value(Value::Integer(id))];
        values.resize(shape.columns(), WholeValue::Value(Value::Null));
        SpoolItem::Row {
            shape: Arc::clone(&shape),
            values,
        }
    };
    ids.into_iter().map(row).collect()
}

pub(super) fn begin(epoch: &str, goes_on: bool) -> SpoolItem {
    SpoolItem::Begin {
        epoch: epoch.to_owned(),
        goes_on,
        reason: ResetReason::default(),
    }
}

#[test]
fn a_history_is_whole_once_all_of_it_came_and_goes_on_from_there() {
    let table = described("id INTEGER PRIMARY KEY, note TEXT");
    let mut spool = Spool::new();
    assert_eq!(spool.writer.position("orders").unwrap(), None);
    spool.take(&[SpoolItem::Table(Arc::clone(&table)), begin("e1", true)]);
    spool.take(&rows(&table, 1..=3));
    assert!(!spool.state().is_whole);
    let position = |id| {
        let epoch = "e1".to_owned();
        Some(SpoolPosition {
            epoch,
            id: Some(id),
            is_of_changes: false,
        })
    };
    assert_eq!(spool.writer.position("orders").unwrap(), position(3));
    spool.take(&[SpoolItem::UpTo(5)]);
    assert!(spool.state().is_whole);
    assert_eq!(spool.writer.position("orders").unwrap(), position(5));
    spool.take(&[SpoolItem::Table(Arc::clone(&table)), begin("e1", true)]);
    assert_eq!((spool.ids(), spool.state().generation), (vec![1, 2, 3], 0));
    assert_eq!(descriptions(&spool.reading()).unwrap(), [(*table).clone()]);
}

#[test]
fn another_history_or_a_gap_empties_the_table_and_counts() {
    let table = described("id INTEGER PRIMARY KEY");
    let mut spool = Spool::new();
    spool.take(&[SpoolItem::Table(Arc::clone(&table)), begin("e1", true)]);
    spool.take(&rows(&table, 1..=3));
    spool.take(&[SpoolItem::UpTo(3)]);
    let began = spool.take(&[begin("e2", true)]);
    assert_eq!(began.begun, ["orders"]);
    assert_eq!((spool.ids(), spool.state().generation), (vec![], 1));
    spool.take(&[SpoolItem::UpTo(0), begin("e2", false)]);
    assert_eq!(
        (spool.state().generation, spool.state().is_whole),
        (2, false)
    );
}

#[test]
fn a_file_that_is_deleted_goes_on_with_the_history_it_had() {
    let table = described("id INTEGER PRIMARY KEY");
    let mut spool = Spool::new();
    spool.take(&[
        SpoolItem::Table(Arc::clone(&table)),
        begin("e1", true),
        begin("e2", true),
    ]);
    assert_eq!(spool.state().generation, 1);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(crate::sqlite::file::companion(&spool.path, suffix));
    }
    assert!(!spool.writer.is_there());
    spool.writer.open_anew().unwrap();
    assert!(spool.writer.is_there());
    assert_eq!(spool.writer.position("orders").unwrap(), None);
    spool.take(&[SpoolItem::Table(Arc::clone(&table)), begin("e2", true)]);
    assert_eq!(spool.state().generation, 1);
}

#[test]
fn columns_that_come_are_added_and_any_other_change_has_the_table_filled_again() {
    let table = described("id INTEGER PRIMARY KEY, a TEXT");
    let mut spool = Spool::new();
    spool.take(&[SpoolItem::Table(Arc::clone(&table)), begin("e1", true)]);
    spool.take(&rows(&table, 1..=2));
    spool.take(&[SpoolItem::UpTo(2)]);
    let wider = described("id INTEGER PRIMARY KEY, a TEXT, b VARCHAR(9)");
    let imported = spool.take(&[SpoolItem::Table(Arc::clone(&wider))]);
    assert_eq!(imported, Imported::default());
    spool.take(&rows(&wider, 3..=3));
    // A row that was on its way as the table was.
    spool.take(&rows(&table, 4..=4));
    assert_eq!(
        (spool.ids(), spool.state().is_whole),
        (vec![1, 2, 3, 4], true)
    );
    let renamed = described("id INTEGER PRIMARY KEY, c TEXT, b VARCHAR(9)");
    let imported = spool.take(&[SpoolItem::Table(Arc::clone(&renamed))]);
    assert_eq!(imported.refill, ["orders"]);
    assert!(spool.ids().is_empty() && !spool.state().is_whole);
    assert!(imported.reworded.is_empty());
}

#[test]
fn a_batch_that_fails_leaves_nothing_behind() {
    let table = described("id INTEGER PRIMARY KEY");
    let mut spool = Spool::new();
    spool.take(&[SpoolItem::Table(Arc::clone(&table)), begin("e1", true)]);
    let mut items = rows(&table, 1..=2);
    let foreign = described("id INTEGER PRIMARY KEY, other TEXT");
    items.extend(rows(&foreign, 3..=3));
    let batch = items.iter().map(|item| ("orders", item));
    assert!(spool.writer.import(batch).is_err());
    assert!(spool.ids().is_empty());
    spool.take(&rows(&table, 1..=2));
    assert_eq!(spool.ids(), [1, 2]);
}

#[test]
fn a_file_that_is_no_spool_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let mut writer = SpoolWriter::open(&path).unwrap();
    assert_eq!(writer.position("orders").unwrap(), None);
}

#[test]
fn what_is_old_or_too_much_goes_but_the_newest_row_stays() {
    let table = described("id INTEGER PRIMARY KEY, note TEXT");
    let mut spool = Spool::new();
    spool.take(&[SpoolItem::Table(Arc::clone(&table)), begin("e1", true)]);
    spool.take(&rows(&table, 1..=10));
    let start = SystemTime::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let limits = SpoolLimits {
        age: Some(Duration::from_secs(60)),
        bytes: None,
    };
    assert_eq!(spool.writer.prune(limits, at(0)).unwrap(), 0);
    spool.take(&rows(&table, 11..=20));
    assert_eq!(spool.writer.prune(limits, at(30)).unwrap(), 0);
    assert_eq!(spool.writer.prune(limits, at(61)).unwrap(), 10);
    assert_eq!(spool.ids(), (11..=20).collect::<Vec<_>>());
    assert_eq!(spool.writer.prune(limits, at(1000)).unwrap(), 9);
    assert_eq!(spool.ids(), [20]);
    spool.take(&rows(&table, 21..=5000));
    let limits = SpoolLimits {
        age: None,
        bytes: Some(1),
    };
    while spool.writer.prune(limits, at(1000)).unwrap() > 0 {}
    assert_eq!(spool.ids(), [5000]);
}
