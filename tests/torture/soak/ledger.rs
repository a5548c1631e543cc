//! What a subscriber got, and what the table says it should have got.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::common::{Database, id};

/// The stock feed sends so many characters of `details`.
const DETAILS: usize = 500;

fn cut(mut row: Value) -> Value {
    if let Some(details) = row["details"].as_str() {
        row["details"] = details.chars().take(DETAILS).collect::<String>().into();
    }
    row
}

/// The table while it is quiet.
pub struct Truth {
    rows: BTreeMap<i64, Value>,
    /// The highest id ever given in this history.
    head: i64,
    /// The name of this history.
    pub epoch: String,
}

impl Truth {
    pub fn of(database: &Database, epoch: String) -> Truth {
        let rows = database.rows().into_iter().map(|row| (id(&row), cut(row)));
        let head =
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'remediation_events'";
        Truth {
            rows: rows.collect(),
            head: database.number(head),
            epoch,
        }
    }
}

impl std::fmt::Debug for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = self.rows.first_key_value().map(|(id, _)| id);
        write!(
            f,
            "{} rows from {first:?}, head {}",
            self.rows.len(),
            self.head
        )
    }
}

/// One stream's rows, from its beginning in one history.
#[derive(Default)]
pub struct Ledger {
    tenants: Vec<&'static str>,
    rows: BTreeMap<i64, Value>,
    /// Rows above this id are due. `None`: those from the first one that comes.
    beginning: Option<i64>,
    /// This id was seen to be committed before the stream began, so those above it are due whatever comes first.
    due_above: Option<i64>,
    last: Option<i64>,
    pub received: usize,
}

impl Ledger {
    pub fn of(tenants: Vec<&'static str>) -> Ledger {
        Ledger {
            tenants,
            ..Ledger::default()
        }
    }

    /// The stream starts over.
    pub fn begin(&mut self, beginning: Option<i64>, due_above: Option<i64>) {
        self.rows.clear();
        self.last = None;
        (self.beginning, self.due_above) = (beginning, due_above);
    }

    /// The id to resume from.
    pub fn position(&self) -> Option<i64> {
        self.last.or(self.beginning)
    }

    /// Takes a row. It must be above all that came before.
    pub fn enter(&mut self, row: Value) {
        let id = id(&row);
        let above = self.position().is_none_or(|position| id > position);
        assert!(above, "{id} came after {:?}", self.position());
        assert!(self.takes(&row), "{row} does not match {:?}", self.tenants);
        self.last = Some(id);
        self.received += 1;
        self.rows.insert(id, row);
    }

    fn takes(&self, row: &Value) -> bool {
        let tenant = row["tenant"].as_str().unwrap_or_default();
        self.tenants.is_empty() || self.tenants.contains(&tenant)
    }

    /// The rows that must be there.
    fn due<'t>(
        &'t self,
        truth: &'t Truth,
    ) -> impl DoubleEndedIterator<Item = (&'t i64, &'t Value)> {
        let from = self.rows.first_key_value().map(|(first, _)| first - 1);
        let beginning = match (self.beginning, self.due_above, from) {
            (Some(beginning), _, _) => beginning,
            (None, Some(above), from) => from.unwrap_or(above).min(above),
            (None, None, from) => from.unwrap_or(truth.head),
        };
        truth
            .rows
            .range(beginning.saturating_add(1)..)
            .filter(|(_, row)| self.takes(row))
    }

    /// Whether the newest row that is due came.
    pub fn has_all(&self, truth: &Truth) -> bool {
        let newest = self.due(truth).next_back();
        newest.is_none_or(|(id, _)| self.last.is_some_and(|last| last >= *id))
    }

    /// Every row that is due came, as it stands in the table, and no other but what was pruned since.
    pub fn check(&self, truth: &Truth, who: &dyn std::fmt::Debug) {
        for (id, _) in self.due(truth) {
            assert!(
                self.rows.contains_key(id),
                "{id} is missing: {who:?} of {truth:?}"
            );
        }
        let earliest = truth
            .rows
            .first_key_value()
            .map_or(truth.head + 1, |(id, _)| *id);
        for (id, row) in &self.rows {
            let Some(committed) = truth.rows.get(id) else {
                assert!(
                    *id < earliest,
                    "{row} was never committed: {who:?} of {truth:?}"
                );
                continue;
            };
            // A row that was sent before a column was added lacks it.
            let sent = row.as_object().expect("a row is an object");
            let same = sent
                .iter()
                .all(|(column, value)| committed[column] == *value);
            assert!(same, "{row} stands as {committed} in the table: {who:?}");
        }
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = self.rows.first_key_value().map(|(id, _)| id);
        let (count, last) = (self.rows.len(), self.last);
        write!(
            f,
            "{count} rows {first:?} to {last:?} of {:?} above {:?}, {:?}",
            self.tenants, self.beginning, self.due_above
        )
    }
}
