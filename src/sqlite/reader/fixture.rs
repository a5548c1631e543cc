//! Tables that unit tests read.

use std::sync::Arc;

use rusqlite::Connection;

use super::RowReader;
use crate::config::FeedConfig;
use crate::model::filter::Filter;
use crate::sqlite::table::Schema;

/// A table of `rows` rows `step` ids apart, of which those with an `n` divisible by 7,001 are rare.
pub(super) fn table(rows: i64, step: i64, declared: &str) -> (Connection, RowReader) {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(&format!(
        "CREATE TABLE t({declared}, n INTEGER, kind TEXT);
         WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows})
         INSERT INTO t(id, n, kind) SELECT n * {step}, n, iif(n % 7001 = 0, 'rare', 'common') FROM s"
    ))
    .unwrap();
    let feed = FeedConfig {
        table: "t".into(),
        key: Some("id".into()),
        ..FeedConfig::stock()
    };
    let schema = Schema::of_feed(&db, &feed).unwrap();
    let reader = RowReader::new(&feed, Arc::new(schema), 1 << 20);
    (db, reader)
}

pub(super) fn rare() -> Filter {
    filter("rare")
}

/// Rows of this kind.
pub(super) fn filter(kind: &str) -> Filter {
    let mut filter = Filter::default();
    filter.accept("kind", kind);
    filter
}

pub(super) fn shapes() -> [(Connection, RowReader); 3] {
    [
        table(50_000, 1, "id INTEGER PRIMARY KEY"),
        table(50_000, 1_000_003, "id INTEGER PRIMARY KEY"),
        table(
            50_000,
            3,
            "name TEXT PRIMARY KEY DEFAULT (hex(randomblob(16))), id INTEGER UNIQUE",
        ),
    ]
}

pub(super) fn ids(db: &Connection, condition: &str) -> Vec<i64> {
    db.prepare(&format!("SELECT id FROM t WHERE {condition} ORDER BY id"))
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}
