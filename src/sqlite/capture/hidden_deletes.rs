//! Triggers that find the rows which `REPLACE` deletes unseen.
//!
//! Before a row is written, those that it can't stand beside are noted in `_walcast_pending`, under the constraint and the new
//! row's values in it. Once it is written, those noted under the same values that are gone, or whose key it has taken, were
//! deleted: they are logged, and the notes removed.
//!
//! A row that is not written after all (`IGNORE`, `DO NOTHING`) leaves its notes behind, for nothing fires then. They are never
//! taken for those of a later row: whoever notes under the same values first removes what stands there. So there is at most one
//! for each constraint and value. A statement within another, of a user's trigger or a foreign key's, has other values, as the
//! constraints are unique, and so leaves the notes of the outer one alone. `ROLLBACK` and a failed statement take them back.
//!
//! A rowid that SQLite gives is not known before the row is written, so notes under it may be old ones: of a row that the log says
//! was deleted since, or got another key.

use crate::model::filter::quote_identifier;
use crate::sqlite::capture::triggers::{Made, log_column_names, quoted_text, trigger_name};
use crate::sqlite::capture::uniques::{HELD, StandIns, Unique, watched};
use crate::sqlite::capture::{CapturedColumn, PENDING, Subject};

/// Before and after which of the two changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Insert,
    Update,
}

impl Event {
    fn sql(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
        }
    }
}

/// What the names of these triggers may end with.
pub(super) const ENDINGS: [&str; 4] = [
    "insert_note",
    "update_note",
    "insert_settle",
    "update_settle",
];

/// Returns how many columns `_walcast_pending` needs for the values of this subject; 0 where it needs no notes.
pub(super) fn width(subject: &Subject) -> usize {
    match subject.uniques.is_empty() {
        true => 0,
        false => Places::of(subject).count(),
    }
}

/// The triggers that note. They change nothing of the table.
pub(super) fn notes(subject: &Subject, log: &str) -> Vec<Made> {
    both(subject, |event| note(subject, log, event))
}

/// The triggers that tell what was deleted. SQLite fires the newest trigger first, so that made after those that log the change
/// itself, they log the deletion before it.
pub(super) fn settlements(subject: &Subject, log: &str) -> Vec<Made> {
    both(subject, |event| settlement(subject, log, event))
}

fn both(subject: &Subject, made: impl Fn(Event) -> Made) -> Vec<Made> {
    match subject.uniques.is_empty() {
        true => Vec::new(),
        false => vec![made(Event::Insert), made(Event::Update)],
    }
}

/// Where the values of a note stand among the columns of `_walcast_pending`.
struct Places {
    terms: usize,
    keys: usize,
    old: usize,
}

impl Places {
    fn of(subject: &Subject) -> Places {
        let terms = subject.uniques.iter().map(|unique| unique.terms.len());
        Places {
            terms: terms.max().unwrap_or_default(),
            keys: subject.key.len(),
            old: subject.filters.len() + subject.recorded.len(),
        }
    }

    fn count(&self) -> usize {
        self.terms + self.keys + self.old
    }

    fn terms(&self, unique: &Unique) -> Vec<String> {
        columns(0, unique.terms.len())
    }

    fn keys(&self) -> Vec<String> {
        columns(self.terms, self.keys)
    }

    fn old(&self) -> Vec<String> {
        columns(self.terms + self.keys, self.old)
    }
}

fn columns(first: usize, count: usize) -> Vec<String> {
    (first..first + count)
        .map(|place| format!("c{place}"))
        .collect()
}

fn note(subject: &Subject, log: &str, event: Event) -> Made {
    let name = trigger_name(
        &subject.table,
        &format!("{}_note", event.sql().to_lowercase()),
    );
    let table = quote_identifier(&subject.table);
    let uniques = subject.uniques.iter();
    let conflicts = uniques.map(|unique| possible(subject, unique, event));
    let notes = subject.uniques.iter().enumerate();
    let notes = notes.map(|(place, unique)| notes_of(subject, log, event, place, unique));
    let sql = format!(
        "CREATE TRIGGER {} BEFORE {} ON {table} WHEN EXISTS (SELECT 1 FROM \"{PENDING}\") OR {} BEGIN\n{}END",
        quote_identifier(&name),
        fires_at(subject, event),
        conflicts.collect::<Vec<_>>().join(" OR "),
        notes.collect::<String>(),
    );
    Made { name, sql }
}

/// At which statements the triggers fire: not at updates of other columns than those of the constraints, which are most.
fn fires_at(subject: &Subject, event: Event) -> String {
    let watched = watched(&subject.uniques).filter(|_| event == Event::Update);
    let watched = watched.map(|names| {
        let names: Vec<String> = names.into_iter().map(quote_identifier).collect();
        format!(" OF {}", names.join(", "))
    });
    format!("{}{}", event.sql(), watched.unwrap_or_default())
}

/// SQL that holds where there is a row that the new one can't stand beside.
fn possible(subject: &Subject, unique: &Unique, event: Event) -> String {
    let held = held(subject, unique);
    let conflict = conflict(subject, unique, event);
    let changed = unique.changed().filter(|_| event == Event::Update);
    match changed {
        None => format!("EXISTS (SELECT 1 FROM {held} WHERE {conflict})"),
        Some(changed) if unique.droppable.is_empty() => {
            format!("{changed} AND EXISTS (SELECT 1 FROM {held} WHERE {conflict})")
        }
        Some(changed) => {
            let old = unique.droppable.beside("NATURAL LEFT JOIN", "old");
            format!("EXISTS (SELECT 1 FROM {held}{old} WHERE {conflict} AND {changed})")
        }
    }
}

/// SQL of the table whose rows are compared with the new one.
fn held(subject: &Subject, unique: &Unique) -> String {
    let beside = unique.droppable.beside("NATURAL LEFT JOIN", "new");
    format!("{} AS {HELD}{beside}", quote_identifier(&subject.table))
}

/// SQL that puts the notes of one constraint in the place of those under the same values.
fn notes_of(subject: &Subject, log: &str, event: Event, place: usize, unique: &Unique) -> String {
    let places = Places::of(subject);
    let (log_name, log_table) = (quoted_text(log), quote_identifier(log));
    let into = [places.terms(unique), places.keys(), places.old()].concat();
    let new = unique
        .terms
        .iter()
        .map(|term| unique.droppable.seen(&term.new));
    let kept = subject
        .key
        .iter()
        .chain(&subject.filters)
        .chain(&subject.recorded);
    let kept = kept.map(|column| format!("{HELD}.{}", quote_identifier(&column.name)));
    let values: Vec<String> = new.chain(kept).collect();
    format!(
        "  {};\n  INSERT INTO \"{PENDING}\"(log, place, seen, {}) SELECT {log_name}, {place}, \
         (SELECT coalesce(max(seq), 0) FROM {log_table}), {} FROM {} WHERE {};\n",
        deletion(
            &unique.droppable,
            &noted_under(&places, log, place, unique, &unique.droppable)
        ),
        into.join(", "),
        values.join(", "),
        held(subject, unique),
        conflict(subject, unique, event),
    )
}

/// SQL that removes the notes for which `noted` holds.
fn deletion(droppable: &StandIns, noted: &str) -> String {
    let notes = format!("\"{PENDING}\" AS n{}", droppable.beside("JOIN", "new"));
    format!("DELETE FROM \"{PENDING}\" WHERE rowid IN (SELECT n.rowid FROM {notes} WHERE {noted})")
}

/// SQL that holds for the rows that the new row can't stand beside: of an update, others than the one it changes.
fn conflict(subject: &Subject, unique: &Unique, event: Event) -> String {
    let conflict = unique.conflict();
    match event {
        Event::Insert => conflict,
        Event::Update => {
            let same = subject.key.iter().map(|column| {
                let name = quote_identifier(&column.name);
                let old = unique.droppable.seen(&format!("OLD.{name}"));
                format!("{HELD}.{name} IS {old}")
            });
            let same = same.collect::<Vec<_>>().join(" AND ");
            format!("{conflict} AND NOT ({same}){}", unique.sources())
        }
    }
}

/// SQL that holds for the notes under the new row's values. They go by the name `n`.
fn noted_under(
    places: &Places,
    log: &str,
    place: usize,
    unique: &Unique,
    droppable: &StandIns,
) -> String {
    let terms = places.terms(unique).into_iter().zip(&unique.terms);
    let terms =
        terms.map(|(column, term)| format!(" AND n.{column} IS {}", droppable.seen(&term.new)));
    format!(
        "n.log = {} AND n.place = {place}{}",
        quoted_text(log),
        terms.collect::<String>()
    )
}

fn settlement(subject: &Subject, log: &str, event: Event) -> Made {
    let name = trigger_name(
        &subject.table,
        &format!("{}_settle", event.sql().to_lowercase()),
    );
    let places = Places::of(subject);
    let droppable = StandIns::of_all(&subject.uniques);
    let uniques = subject.uniques.iter().enumerate();
    let noted = uniques.map(|(place, unique)| {
        let noted = noted_under(&places, log, place, unique, &droppable);
        format!("({noted})")
    });
    let noted = noted.collect::<Vec<_>>().join(" OR ");
    let (table, log_table) = (quote_identifier(&subject.table), quote_identifier(log));
    let same = |place: &dyn Fn(&CapturedColumn, usize) -> String| {
        let keys = subject.key.iter().zip(places.keys());
        let same = keys.enumerate().map(|(at, (column, noted))| {
            let there = place(column, at);
            let types = format!(" AND typeof({there}) = typeof(n.{noted})");
            let types = if column.has_one_type() { "" } else { &types };
            format!("{there} = n.{noted} AND {there} COLLATE BINARY = n.{noted}{types}")
        });
        same.collect::<Vec<_>>().join(" AND ")
    };
    let there = same(&|column, _| format!("{HELD}.{}", quote_identifier(&column.name)));
    let new = same(&|column, _| droppable.seen(&format!("NEW.{}", quote_identifier(&column.name))));
    let (deleted, moved) = (
        same(&|_, at| format!("l.k{at}")),
        same(&|_, at| format!("l.old_k{at}")),
    );
    let kept = [places.keys(), places.old()].concat();
    let kept = kept.iter().map(|column| format!("n.{column}"));
    let sql = format!(
        "CREATE TRIGGER {} AFTER {} ON {table} WHEN EXISTS (SELECT 1 FROM \"{PENDING}\") BEGIN\n  INSERT INTO {log_table}(op, at, {}) \
         SELECT DISTINCT 'd', julianday('now'), {} FROM \"{PENDING}\" AS n{} WHERE ({noted}) AND (NOT EXISTS (SELECT 1 FROM {table} AS \
         {HELD} WHERE {there}) OR ({new})) AND NOT EXISTS (SELECT 1 FROM {log_table} AS l WHERE l.seq > n.seen AND \
         (l.op = 'd' AND {deleted} OR l.moved AND {moved}));\n  {};\nEND",
        quote_identifier(&name),
        fires_at(subject, event),
        log_column_names(subject).join(", "),
        kept.collect::<Vec<_>>().join(", "),
        droppable.beside("JOIN", "new"),
        deletion(&droppable, &noted),
    );
    Made { name, sql }
}
