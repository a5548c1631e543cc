use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::tests::{Spool, begin};
use super::*;
use crate::config::{CaptureMode, CaptureRules, FeedConfig};
use crate::sqlite::capture::{Subject, install};
use crate::sqlite::table::Schema;
use crate::sqlite::whole_row::WholeValue;

/// A table `orders(id, n)` that is captured so.
fn described(mode: CaptureMode, key: &str) -> Arc<TableDescription> {
    let mut db = Connection::open_in_memory().unwrap();
    let sql = format!("CREATE TABLE orders(id {key} PRIMARY KEY, n)");
    db.execute_batch(&sql).unwrap();
    install(&mut db, &|db| Subject::of(db, "orders", mode, &[])).unwrap();
    let feed = FeedConfig {
        capture: Some(CaptureRules::found(mode, Vec::new())),
        ..FeedConfig::named("orders")
    };
    let schema = Schema::of_feed(&db, &feed).unwrap();
    Arc::new(TableDescription::of(&feed, &schema))
}

fn integers(values: &[i64]) -> Vec<WholeValue> {
    let value = |value: &i64| WholeValue::Value(Value::Integer(*value));
    values.iter().map(value).collect()
}

/// The change `seq` of the row `id`, which has `n` now, where there is one.
fn change(table: &TableDescription, seq: i64, op: &str, id: i64, n: Option<i64>) -> SpoolItem {
    let null = || WholeValue::Value(Value::Null);
    let op = WholeValue::Value(Value::Text(op.to_owned()));
    let mut log = integers(&[seq]);
    log.extend([op, null(), WholeValue::Value(Value::Integer(0))]);
    log.extend(integers(&[id]));
    log.push(null());
    SpoolItem::Change {
        shape: Arc::new(RowShape::of(table)),
        change: SpooledChange {
            log,
            row: n.map(|n| integers(&[id, n])),
        },
    }
}

fn row(table: &TableDescription, id: i64, n: i64) -> SpoolItem {
    SpoolItem::Row {
        shape: Arc::new(RowShape::of(table)),
        values: integers(&[id, n]),
    }
}

impl Spool {
    fn numbers(&self, sql: &str) -> Vec<i64> {
        let db = self.reading();
        let mut statement = db.prepare(sql).unwrap();
        let found = statement.query_map([], |row| row.get(0)).unwrap();
        found.collect::<Result<_, _>>().unwrap()
    }

    fn log(&self) -> Vec<i64> {
        self.numbers("SELECT seq FROM _walcast_changes_orders ORDER BY seq")
    }

    fn filled(table: &Arc<TableDescription>) -> Spool {
        let mut spool = Spool::new();
        let described = SpoolItem::Table(Arc::clone(table));
        spool.take(&[
            described,
            begin("e", false),
            row(table, 1, 10),
            row(table, 2, 20),
        ]);
        spool.take(&[
            change(table, 4, "c", 1, Some(10)),
            change(table, 5, "c", 2, Some(20)),
            SpoolItem::UpTo(5),
        ]);
        spool
    }
}

#[test]
fn a_change_is_in_the_log_and_in_the_table() {
    for key in ["INTEGER", "TEXT COLLATE NOCASE", ""] {
        let table = described(CaptureMode::Keys, key);
        let mut spool = Spool::filled(&table);
        spool.take(&[
            change(&table, 6, "u", 1, Some(11)),
            change(&table, 7, "d", 2, None),
            change(&table, 8, "c", 3, Some(30)),
            // Gone by the time it was read.
            change(&table, 9, "c", 4, None),
        ]);
        assert_eq!(spool.numbers("SELECT n FROM orders ORDER BY n"), [11, 30]);
        assert_eq!(spool.log(), [4, 5, 6, 7, 8, 9]);
        let position = spool.writer.position("orders").unwrap().unwrap();
        assert_eq!(position.id, Some(9));
    }
}

#[test]
fn nobody_can_go_on_over_changes_that_are_missing() {
    let table = described(CaptureMode::Keys, "INTEGER");
    let mut spool = Spool::new();
    let described = SpoolItem::Table(Arc::clone(&table));
    spool.take(&[described, begin("e", false), row(&table, 1, 10)]);
    spool.take(&[
        change(&table, 4, "c", 1, Some(10)),
        change(&table, 6, "u", 1, Some(12)),
    ]);
    assert_eq!(spool.log(), [6], "what is before the gap is let go of");
    assert_eq!(
        spool.writer.position("orders").unwrap(),
        None,
        "the table is not whole"
    );
    spool.take(&[SpoolItem::UpTo(9)]);
    assert_eq!((spool.log(), spool.state().head), (vec![], Some(9)));
    spool.take(&[change(&table, 10, "u", 1, Some(13))]);
    assert_eq!((spool.log(), spool.state().is_whole), (vec![10], true));
    let imported = spool.take(&[change(&table, 12, "u", 1, Some(14))]);
    assert_eq!(imported.refill, ["orders"]);
    assert!(!spool.state().is_whole);
    let generation = spool.state().generation;
    spool.take(&[begin("e", false), row(&table, 1, 14), SpoolItem::UpTo(12)]);
    assert_eq!(
        (spool.state().generation, spool.state().is_whole),
        (generation, true)
    );
}

#[test]
fn who_was_served_starts_over_where_changes_are_gone_and_not_where_a_table_comes_again() {
    let table = described(CaptureMode::Keys, "INTEGER");
    let mut spool = Spool::filled(&table);
    spool.take(&[begin("e", false)]);
    assert_eq!(
        spool.state().generation,
        1,
        "they would miss what was pruned"
    );
    spool.take(&[begin("e", false), SpoolItem::UpTo(0)]);
    assert_eq!(spool.state().generation, 1, "it was served to nobody");
    spool.take(&[begin("e", false), SpoolItem::UpTo(0)]);
    assert_eq!(spool.state().generation, 1, "no change has come yet");
    spool.take(&[begin("f", false)]);
    assert_eq!(spool.state().generation, 2);
}

#[test]
fn what_follows_on_a_table_that_is_to_come_again_is_not_taken_for_the_table() {
    let table = described(CaptureMode::Keys, "INTEGER");
    let mut spool = Spool::filled(&table);
    let mut other = (*table).clone();
    other.columns[1].name = "m".to_owned();
    let other = Arc::new(other);
    let imported = spool.take(&[
        SpoolItem::Table(Arc::clone(&other)),
        begin("e", true),
        change(&other, 6, "u", 1, Some(11)),
        SpoolItem::UpTo(6),
    ]);
    assert_eq!(imported.refill, ["orders"]);
    assert_eq!((spool.ids(), spool.log()), (vec![], vec![]));
    assert_eq!(spool.writer.position("orders").unwrap(), None);
    assert!(!spool.state().is_whole);
}

#[test]
fn changes_are_kept_for_no_longer_than_at_the_origin() {
    let table = described(CaptureMode::Keys, "INTEGER");
    let mut kept = (*table).clone();
    kept.changes.as_mut().unwrap().keep = Some(60);
    let mut spool = Spool::filled(&Arc::new(kept));
    let start = std::time::SystemTime::now();
    let mut prune = |seconds| {
        let at = start + std::time::Duration::from_secs(seconds);
        spool.writer.prune(SpoolLimits::default(), at).unwrap()
    };
    assert_eq!((prune(0), prune(30), prune(61)), (0, 0, 1));
    assert_eq!((spool.log(), spool.ids()), (vec![5], vec![1, 2]));
}
