//! What was ever committed to the table: the truth that ledgers are compared with.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::common::Database;

pub const TENANTS: [&str; 4] = ["acme", "globex", "initech", "umbrella"];

/// A row's tenant never changes, so that whether a filter takes it does not depend on when it was read.
pub struct Row {
    pub tenant: &'static str,
    /// Every content it ever had. A subscriber gets the one that was current when the row was read.
    versions: Vec<Value>,
    /// Its last content stands in the table.
    pub exists: bool,
}

impl Row {
    pub fn was_ever(&self, row: &Value) -> bool {
        self.versions.contains(row)
    }
}

/// Every write goes through here, to the file first and then to the books.
pub struct Model {
    database: Database,
    rows: BTreeMap<i64, Row>,
    edits: usize,
}

impl Model {
    pub fn new(database: Database) -> Model {
        Model {
            database,
            rows: BTreeMap::new(),
            edits: 0,
        }
    }

    /// The highest id ever given.
    pub fn head(&self) -> i64 {
        self.rows.last_key_value().map_or(0, |(id, _)| *id)
    }

    /// The lowest id there is.
    pub fn earliest(&self) -> Option<i64> {
        self.existing().next().map(|(id, _)| id)
    }

    pub fn row(&self, id: i64) -> Option<&Row> {
        self.rows.get(&id)
    }

    pub fn existing(&self) -> impl DoubleEndedIterator<Item = (i64, &Row)> {
        self.rows
            .iter()
            .filter(|(_, row)| row.exists)
            .map(|(id, row)| (*id, row))
    }

    /// Commits rows of these tenants in one transaction, on a connection of its own.
    pub fn insert(&mut self, tenants: &[&'static str], details: &str) {
        let mut connection = self.database.connect();
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .unwrap();
        let transaction = connection.transaction().unwrap();
        for &tenant in tenants {
            let id = self.head() + 1;
            let row = json!({
                "id": id,
                "ts": format!("2026-01-01T00:00:00.{id:09}Z"),
                "alertname": null,
                "tenant": tenant,
                "action": "none",
                "status": "new",
                "details": details,
            });
            let sql = "INSERT INTO remediation_events(ts, tenant, action, status, details) VALUES (?, ?, 'none', 'new', ?)";
            let mut insert = transaction.prepare_cached(sql).unwrap();
            insert
                .execute((row["ts"].as_str(), tenant, details))
                .unwrap();
            assert_eq!(transaction.last_insert_rowid(), id);
            let row = Row {
                tenant,
                versions: vec![row],
                exists: true,
            };
            self.rows.insert(id, row);
        }
        transaction.commit().unwrap();
    }

    pub fn delete(&mut self, ids: &[i64]) {
        self.for_each("DELETE FROM remediation_events WHERE id = ?1", ids, None);
        for id in ids {
            self.rows.get_mut(id).unwrap().exists = false;
        }
    }

    /// Gives these rows a status that no row had before.
    pub fn update(&mut self, ids: &[i64]) {
        self.edits += 1;
        let status = format!("edit {}", self.edits);
        let sql = "UPDATE remediation_events SET status = ?2 WHERE id = ?1";
        self.for_each(sql, ids, Some(&status));
        for id in ids {
            let versions = &mut self.rows.get_mut(id).unwrap().versions;
            let mut row = versions.last().unwrap().clone();
            row["status"] = json!(status);
            versions.push(row);
        }
    }

    fn for_each(&self, sql: &str, ids: &[i64], value: Option<&str>) {
        let mut connection = self.database.connect();
        let transaction = connection.transaction().unwrap();
        for id in ids {
            let mut statement = transaction.prepare_cached(sql).unwrap();
            let changed = match value {
                Some(value) => statement.execute((id, value)),
                None => statement.execute((id,)),
            };
            assert_eq!(changed.unwrap(), 1);
        }
        transaction.commit().unwrap();
    }

    /// The books agree with the table.
    pub fn check_itself(&self) {
        let mut books = self.existing().map(|(_, row)| row.versions.last().unwrap());
        for row in self.database.rows() {
            assert_eq!(books.next(), Some(&row));
        }
        assert_eq!(books.next(), None);
    }
}
