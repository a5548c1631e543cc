//! Whether the triggers of a captured table stand in the file as they were put there.

use rusqlite::{Connection, OptionalExtension};

use crate::config::CaptureRules;
use crate::sqlite::capture::installation::pending_width;
use crate::sqlite::capture::sql_words::fires_after;
use crate::sqlite::capture::triggers::Made;
use crate::sqlite::capture::{
    Capture, CaptureMode, CaptureState, Installation, PENDING, REGISTRY, Subject, VERSION,
    hidden_deletes, is_own,
};
use crate::sqlite::table::TableError;

/// A row of the registry.
pub(super) struct Registered {
    pub table: String,
    pub log: String,
    pub mode: String,
    pub filters: Vec<String>,
    pub generation: String,
    pub version: i64,
}

/// Tells whether every change of `table` is in its log: compares what stands in the schema with what belongs there, at one moment.
///
/// # Errors
/// As SQLite has them. Whatever is wrong with the capture itself is a state.
pub fn look(connection: &Connection, table: &str) -> rusqlite::Result<CaptureState> {
    // A migration that commits between two of the questions would be seen in part, and the wrong trigger named.
    let _moment = connection
        .is_autocommit()
        .then(|| connection.unchecked_transaction())
        .transpose()?;
    let Some(registered) = registered(connection, table)? else {
        return Ok(CaptureState::Absent);
    };
    let broken = |reason: String| Ok(CaptureState::Broken { reason });
    if !registered.table.eq_ignore_ascii_case(table) {
        return broken(format!("table {} was renamed to {table}", registered.table));
    }
    let Some(mode) = CaptureMode::of(&registered.mode).filter(|_| registered.version == VERSION)
    else {
        return broken("it was installed by another version of walcast".to_owned());
    };
    let subject = match Subject::of(connection, table, mode, &registered.filters) {
        Ok(subject) => subject,
        Err(TableError::Missing) => return broken(format!("there is no table {table}")),
        Err(TableError::Unfit(reason)) => return broken(reason),
        Err(TableError::Sqlite(error)) => return Err(error),
    };
    let installation = Installation::new(subject, registered.log);
    if let Some(reason) = difference(connection, &installation)? {
        return broken(reason);
    }
    let Installation { subject, log } = installation;
    Ok(CaptureState::Whole(Capture {
        table: subject.table,
        log,
        mode,
        key: subject.key,
        filters: subject.filters,
        columns: subject.recorded,
        generation: registered.generation,
    }))
}

/// Returns whether nobody captures the table, be it whole or not.
///
/// # Errors
/// As SQLite has them.
pub fn is_absent(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    Ok(registered(connection, table)?.is_none())
}

/// Returns how the table was captured when that was whole, and is to be again; `None` where nobody captured it.
///
/// # Errors
/// As SQLite has them.
pub fn rules_of(connection: &Connection, table: &str) -> rusqlite::Result<Option<CaptureRules>> {
    let registered = registered(connection, table)?;
    Ok(registered.map(|known| {
        let mode = CaptureMode::of(&known.mode).unwrap_or(CaptureMode::Keys);
        CaptureRules::found(mode, known.filters)
    }))
}

/// What the registry says of a table, also where the table was renamed since, and its triggers with it.
pub(super) fn registered(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Option<Registered>> {
    if !has_table(connection, REGISTRY)? {
        return Ok(None);
    }
    connection
        .query_row(
            "SELECT table_name, log, mode, filters, generation, version FROM \"_walcast_capture\" AS known
              WHERE table_name = ?1 COLLATE NOCASE OR EXISTS (SELECT 1 FROM sqlite_schema AS made
                WHERE made.type = 'trigger' AND made.tbl_name = ?1 COLLATE NOCASE
                  AND made.name = '_walcast_' || known.table_name || '_insert')
              ORDER BY table_name = ?1 COLLATE NOCASE DESC LIMIT 1",
            [table],
            |row| {
                let filters: String = row.get(3)?;
                Ok(Registered {
                    table: row.get(0)?,
                    log: row.get(1)?,
                    mode: row.get(2)?,
                    // Whoever garbled it is told that the triggers are not those that belong here.
                    filters: serde_json::from_str(&filters).unwrap_or_default(),
                    generation: row.get(4)?,
                    version: row.get(5)?,
                })
            },
        )
        .optional()
}

pub(super) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE)",
        [name],
        |row| row.get(0),
    )
}

/// What of the installation is not as it belongs, in words; `None` where all is.
fn difference(
    connection: &Connection,
    installation: &Installation,
) -> rusqlite::Result<Option<String>> {
    let table = &installation.subject.table;
    let log = installation.log_table();
    match sql_of(connection, "table", &log.name)? {
        None => return Ok(Some(format!("the table {} is gone", log.name))),
        Some(sql) if !is_alike(&sql, &log.sql) => {
            return Ok(Some(format!("the table {} was changed", log.name)));
        }
        Some(_) => {}
    }
    let width = hidden_deletes::width(&installation.subject);
    if width > 0 && pending_width(connection)?.is_none_or(|wide| wide < width) {
        return Ok(Some(format!("the table {PENDING} is gone or was changed")));
    }
    let belonging = installation.triggers();
    let seal = installation.seal();
    let mut places = Vec::new();
    let all = belonging.iter().map(|made| (made, table));
    for (made, on) in all.chain([(&seal, &log.name)]) {
        match standing(connection, made, on)? {
            Ok(place) => places.push(place),
            Err(reason) => return Ok(Some(reason)),
        }
    }
    if comes_before(connection, &log.name, table)? {
        return Ok(Some(format!(
            "the table {table} was built anew, and its triggers put back"
        )));
    }
    if places.iter().max() != places.last() {
        return Ok(Some(format!(
            "triggers of {table} were dropped and put back, and changes meanwhile are in no log"
        )));
    }
    foreign_trigger(connection, table, &belonging)
}

/// Whether one table was made before the other. A log is made after its table, which no renaming and no `VACUUM` changes; of a
/// table that was built anew since, what its rows were before is in no log.
fn comes_before(connection: &Connection, one: &str, other: &str) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT (SELECT rowid FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE)
              < (SELECT rowid FROM sqlite_schema WHERE type = 'table' AND name = ?2 COLLATE NOCASE)",
        [one, other],
        |row| row.get::<_, Option<bool>>(0).map(Option::unwrap_or_default),
    )
}

/// Words of what a trigger of the user's or a stray one of walcast's does to the order of the log.
fn foreign_trigger(
    connection: &Connection,
    table: &str,
    belonging: &[Made],
) -> rusqlite::Result<Option<String>> {
    let triggers: Vec<(String, String)> = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE ORDER BY rowid")?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut belonging = belonging.iter();
    let mut logs_by_now = false;
    for (name, sql) in &triggers {
        if is_own(name) {
            // In another order they would log in another order.
            let next = belonging.next();
            if !next.is_some_and(|made| made.name.eq_ignore_ascii_case(name)) {
                return Ok(Some(format!("the trigger {name} does not belong here")));
            }
            logs_by_now |= fires_after(sql);
        } else if logs_by_now && fires_after(sql) {
            // SQLite fires the newest first: what this one does would stand in the log before what made it fire.
            return Ok(Some(format!(
                "the trigger {name} was made later, and so fires before those of walcast"
            )));
        }
    }
    Ok(None)
}

fn sql_of(connection: &Connection, kind: &str, name: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row(
            "SELECT sql FROM sqlite_schema WHERE type = ?1 AND name = ?2 COLLATE NOCASE",
            [kind, name],
            |row| row.get(0),
        )
        .optional()
}

/// Where the trigger stands in the schema, which keeps the order in which things were made; or what is wrong with it.
fn standing(
    connection: &Connection,
    made: &Made,
    table: &str,
) -> rusqlite::Result<Result<i64, String>> {
    let found: Option<(String, String, i64)> = connection
        .query_row(
            "SELECT tbl_name, sql, rowid FROM sqlite_schema WHERE type = 'trigger' AND name = ?1 COLLATE NOCASE",
            [&made.name],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let name = &made.name;
    Ok(match found {
        None => Err(format!(
            "the trigger {name} is gone: somebody dropped it, or the table was built anew"
        )),
        Some((on, ..)) if !on.eq_ignore_ascii_case(table) => {
            Err(format!("the trigger {name} is on {on}"))
        }
        Some((_, sql, _)) if !is_alike(&sql, &made.sql) => Err(format!(
            "the trigger {name} is not the one that belongs to the table as it is now"
        )),
        Some((_, _, place)) => Ok(place),
    })
}

/// Whether two statements are the same but for white space between their words: a tool may have wrapped them.
fn is_alike(one: &str, other: &str) -> bool {
    words(one).eq(words(other))
}

/// The characters of a statement, runs of white space outside of quotes left out.
fn words(sql: &str) -> impl Iterator<Item = char> {
    let mut quote = None;
    sql.chars().filter(move |c| {
        match quote {
            Some(open) if open == *c => quote = None,
            None if *c == '"' || *c == '\'' => quote = Some(*c),
            _ => {}
        }
        quote.is_some() || !c.is_whitespace()
    })
}
