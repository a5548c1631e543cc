//! The SQL of a captured table: its log, and the triggers that write to it.
//!
//! No function but `julianday` and `typeof` is called, and no column of the log has a type or a constraint: nothing that is
//! done here can fail what a writer does, whatever it stores, whichever SQLite it brings (3.8 and newer), and with
//! `trusted_schema` off. An `ON CONFLICT` of the statement that fires a trigger overrules those within it, so none is used.

use crate::model::filter::quote_identifier;
use crate::sqlite::capture::{CapturedColumn, OWN_PREFIX, Subject, hidden_deletes};

/// One table or trigger, as `sqlite_schema` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) sql: String,
}

/// The log of the subject's changes, under the name `log`.
pub(super) fn log_table(subject: &Subject, log: &str) -> Made {
    let columns = ["op TEXT", "at REAL", "moved INTEGER"].map(str::to_owned);
    let columns = columns.into_iter().chain(log_columns(subject));
    Made {
        name: log.to_owned(),
        sql: format!(
            "CREATE TABLE {}(seq INTEGER PRIMARY KEY, {})",
            quote_identifier(log),
            columns.collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The columns of the log for the key and the old values of a deleted row, quoted.
pub(super) fn log_column_names(subject: &Subject) -> Vec<String> {
    let keys = (0..subject.key.len()).map(|place| format!("k{place}"));
    let filters = (0..subject.filters.len()).map(|place| format!("old_f{place}"));
    let recorded = subject.recorded.iter();
    let recorded = recorded.map(|column| quote_identifier(&format!("before:{}", column.name)));
    keys.chain(filters).chain(recorded).collect()
}

/// Quotes a text for SQL.
pub(super) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The columns that hold values of the subject's, quoted, in the order of [`Change::values`].
fn log_columns(subject: &Subject) -> Vec<String> {
    let places = |prefix: &'static str, count: usize| {
        (0..count).map(move |place| format!("{prefix}{place}"))
    };
    let (keys, filters) = (subject.key.len(), subject.filters.len());
    let recorded = subject.recorded.iter().flat_map(|column| {
        ["before", "after"].map(|when| quote_identifier(&format!("{when}:{}", column.name)))
    });
    places("k", keys)
        .chain(places("old_k", keys))
        .chain((0..filters).flat_map(|f| [format!("old_f{f}"), format!("new_f{f}")]))
        .chain(recorded)
        .collect()
}

/// What a trigger sees of a change.
#[derive(Clone, Copy)]
struct Change {
    op: char,
    has_old: bool,
    has_new: bool,
}

impl Change {
    const INSERT: Change = Change {
        op: 'c',
        has_old: false,
        has_new: true,
    };
    const UPDATE: Change = Change {
        op: 'u',
        has_old: true,
        has_new: true,
    };
    const DELETE: Change = Change {
        op: 'd',
        has_old: true,
        has_new: false,
    };

    fn event(self) -> &'static str {
        match (self.has_old, self.has_new) {
            (false, _) => "INSERT",
            (true, true) => "UPDATE",
            (true, false) => "DELETE",
        }
    }

    /// SQL of the change as a row of the log.
    fn logged(self, subject: &Subject, log: &str) -> String {
        let values = self.values(subject);
        format!(
            "INSERT INTO {}(op, at, moved, {}) VALUES ('{}', julianday('now'), {}, {});",
            quote_identifier(log),
            log_columns(subject).join(", "),
            self.op,
            self.moved(subject),
            values.join(", ")
        )
    }

    fn values(self, subject: &Subject) -> Vec<String> {
        let old = |column: &CapturedColumn| side(self.has_old, "OLD", column);
        let new = |column: &CapturedColumn| side(self.has_new, "NEW", column);
        let key = subject.key.iter();
        let key = key.map(|column| {
            if self.has_new {
                new(column)
            } else {
                old(column)
            }
        });
        let old_key = subject.key.iter().map(|column| match self.op {
            'u' => format!("CASE WHEN {} THEN {} END", moved(&subject.key), old(column)),
            _ => "NULL".to_owned(),
        });
        let kept = subject.filters.iter().chain(&subject.recorded);
        let kept = kept.flat_map(|column| [old(column), new(column)]);
        key.chain(old_key).chain(kept).collect()
    }

    fn moved(self, subject: &Subject) -> String {
        match self.op {
            'u' => moved(&subject.key),
            _ => "NULL".to_owned(),
        }
    }
}

fn side(is_there: bool, side: &str, column: &CapturedColumn) -> String {
    match is_there {
        true => format!("{side}.{}", quote_identifier(&column.name)),
        false => "NULL".to_owned(),
    }
}

/// SQL that is 1 where an update gives the row another key: byte for byte, whatever collation the column has.
fn moved(key: &[CapturedColumn]) -> String {
    let parts = key.iter().map(|column| {
        let name = quote_identifier(&column.name);
        let types = format!(" OR typeof(NEW.{name}) <> typeof(OLD.{name})");
        let types = if column.has_one_type() { "" } else { &types };
        format!("NEW.{name} IS NOT OLD.{name} COLLATE BINARY{types}")
    });
    format!("({})", parts.collect::<Vec<_>>().join(" OR "))
}

/// The triggers of the subject, in the order in which they are made.
pub(super) fn triggers(subject: &Subject, log: &str) -> Vec<Made> {
    let changes = [Change::INSERT, Change::UPDATE, Change::DELETE];
    let made = changes.map(|change| {
        let name = trigger_name(&subject.table, &change.event().to_lowercase());
        let sql = format!(
            "CREATE TRIGGER {} AFTER {} ON {} BEGIN\n  {}\nEND",
            quote_identifier(&name),
            change.event(),
            quote_identifier(&subject.table),
            change.logged(subject, log),
        );
        Made { name, sql }
    });
    [
        hidden_deletes::notes(subject, log),
        made.to_vec(),
        hidden_deletes::settlements(subject, log),
    ]
    .concat()
}

/// A trigger on the log that does nothing and is made last. Whoever drops the triggers of the table, changes rows, and puts the
/// triggers back makes them after this one: SQLite's schema keeps its entries in the order in which they were made, over `VACUUM` too.
pub(super) fn seal(subject: &Subject, log: &str) -> Made {
    let name = trigger_name(&subject.table, SEAL);
    Made {
        sql: format!(
            "CREATE TRIGGER {} AFTER UPDATE ON {} WHEN 0 BEGIN\n  SELECT 1;\nEND",
            quote_identifier(&name),
            quote_identifier(log),
        ),
        name,
    }
}

/// What the name of the seal ends with.
const SEAL: &str = "seal";

/// The names that a table's triggers may have.
pub(super) fn trigger_names(table: &str) -> impl Iterator<Item = String> {
    let endings = ["insert", "update", "delete", SEAL];
    let endings = endings.into_iter().chain(hidden_deletes::ENDINGS);
    endings.map(move |ending| trigger_name(table, ending))
}

/// No ending is the end of another, so that no two tables can come to one name.
pub(super) fn trigger_name(table: &str, ending: &str) -> String {
    format!("{OWN_PREFIX}{table}_{ending}")
}
