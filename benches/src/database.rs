//! The SQLite files that are served in a benchmark: the stock table, empty or with a given number of rows.

use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::Connection;

/// The stock feed's table, and its path for WebSockets.
pub const STOCK_TABLE: &str = "remediation_events";
pub const STOCK_PATH: &str = "/ws/remediation";

/// What a writer runs before each insert, as writers do that don't know whether they are the first.
pub fn create_table_sql(table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL, \
         alertname TEXT, tenant TEXT, action TEXT, status TEXT, details TEXT)"
    )
}

/// Makes a file in WAL mode with `tables`, `rows` rows in each, and no WAL left beside it.
///
/// # Errors
/// When the disk is full or the file is there already with other tables.
pub fn create(path: &Path, tables: &[String], rows: u64) -> Result<()> {
    let db = Connection::open(path).with_context(|| format!("{}", path.display()))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "off")?;
    for table in tables {
        db.execute(&create_table_sql(table), ())?;
        fill(&db, table, rows)?;
    }
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    Ok(())
}

/// A million rows in one transaction would make a WAL of the table's size; pages of this many don't.
const FILL_PAGE: u64 = 200_000;

fn fill(db: &Connection, table: &str, rows: u64) -> Result<()> {
    let mut done = 0;
    while done < rows {
        let page = FILL_PAGE.min(rows - done);
        insert_rows(db, table, page)?;
        done += page;
    }
    Ok(())
}

/// Inserts `rows` realistic rows of about 190 bytes of JSON in one transaction.
///
/// # Errors
/// When the database can't be written.
pub fn insert_rows(db: &Connection, table: &str, rows: u64) -> Result<()> {
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
         INSERT INTO {table}(ts, alertname, tenant, action, status, details) \
         SELECT '2026-01-01T00:00:00.000Z', 'HighMemoryUsage', 'tenant-' || (i % 4), 'restart_service', \
                iif(i % 4, 'success', 'error'), 'replica ' || i || ' restarted' FROM n"
    );
    db.execute(&sql, [rows as i64])?;
    Ok(())
}

/// The highest id in the table, 0 when it is empty.
///
/// # Errors
/// When there is no such file or table.
pub fn head(path: &Path, table: &str) -> Result<i64> {
    let db = Connection::open(path)?;
    Ok(db.query_row(
        &format!("SELECT coalesce(max(id), 0) FROM {table}"),
        (),
        |row| row.get(0),
    )?)
}
