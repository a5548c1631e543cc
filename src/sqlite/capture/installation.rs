//! Puts the log and the triggers of a captured table into the file, and takes them out.

use rusqlite::{Connection, TransactionBehavior};

use crate::model::filter::quote_identifier;
use crate::sqlite::capture::look::{Registered, has_table, look, registered};
use crate::sqlite::capture::triggers::{self, Made, quoted_text};
use crate::sqlite::capture::{
    CaptureState, CapturedColumn, OWN_PREFIX, PENDING, REGISTRY, Subject, VERSION, hidden_deletes,
};
use crate::sqlite::table::TableError;

const REGISTRY_SQL: &str = "CREATE TABLE IF NOT EXISTS \"_walcast_capture\"(table_name TEXT PRIMARY KEY, log TEXT, mode TEXT, \
                            key TEXT, filters TEXT, generation TEXT, version INTEGER)";

/// How many columns `_walcast_pending` has at least: enough for most tables, so that it is seldom changed.
const PENDING_WIDTH: usize = 16;

/// How many of them are in the index: all values of most UNIQUE constraints. By the first alone a writer would look through all
/// notes of a tenant at each row of the tenant's that it adds.
const PENDING_INDEXED: usize = 8;

/// All that capturing a table adds to its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    pub subject: Subject,
    /// The name of the log.
    pub log: String,
}

/// What installing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// All was in place.
    Already,
    /// The table is captured from now on.
    New,
    /// It was captured before; the log begins anew, for changes may be missing from it.
    Again,
}

impl Installation {
    /// What capturing `subject` in the table `log` takes.
    pub fn new(subject: Subject, log: String) -> Self {
        Self { subject, log }
    }

    /// What capturing `subject` takes in a file that has the tables of this one; what captured it before has to go first.
    ///
    /// # Errors
    /// As SQLite has them.
    pub fn planned(connection: &Connection, subject: Subject) -> rusqlite::Result<Self> {
        let log = match registered(connection, &subject.table)? {
            Some(before) => before.log,
            None => free_name(connection, &subject.table)?,
        };
        Ok(Self::new(subject, log))
    }

    /// The log.
    pub(super) fn log_table(&self) -> Made {
        triggers::log_table(&self.subject, &self.log)
    }

    /// The triggers that belong to it, in the order in which they are made.
    pub(super) fn triggers(&self) -> Vec<Made> {
        triggers::triggers(&self.subject, &self.log)
    }

    /// The trigger on the log that is made after them.
    pub(super) fn seal(&self) -> Made {
        triggers::seal(&self.subject, &self.log)
    }

    /// The statements that install it, to be run in one transaction.
    ///
    /// # Errors
    /// As SQLite has them.
    pub fn statements(&self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        self.statements_after(connection, Vec::new())
    }

    /// The statements for a migration, to be run in one transaction: they install it whether or not the file they are run in
    /// captures the table already, as it is here or otherwise.
    ///
    /// # Errors
    /// As SQLite has them.
    pub fn migration(&self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let Installation { subject, log } = self;
        let mut tables = vec![subject.table.clone()];
        // A table that was renamed keeps the triggers of its old name.
        let before = registered(connection, &subject.table)?;
        tables.extend(
            before
                .map(|before| before.table)
                .filter(|name| *name != subject.table),
        );
        let mut leftovers: Vec<String> =
            tables.iter().flat_map(|name| trigger_drops(name)).collect();
        leftovers.push(log_drop(log));
        leftovers.extend(tables.iter().map(|name| registry_delete(name)));
        if hidden_deletes::width(subject) > 0 {
            leftovers.push(pending_delete(log));
        }
        self.statements_after(connection, leftovers)
    }

    /// `leftovers` are run when the tables are there that all captured tables of a file share.
    fn statements_after(
        &self,
        connection: &Connection,
        leftovers: Vec<String>,
    ) -> rusqlite::Result<Vec<String>> {
        let mut statements = vec![REGISTRY_SQL.to_owned()];
        statements.extend(self.pending(connection)?);
        statements.extend(leftovers);
        statements.push(self.log_table().sql);
        let triggers = self.triggers().into_iter().chain([self.seal()]);
        statements.extend(triggers.map(|made| made.sql));
        statements.push(self.registration());
        Ok(statements)
    }

    /// What makes `_walcast_pending` wide enough.
    fn pending(&self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let wanted = hidden_deletes::width(&self.subject);
        let wide = pending_width(connection)?.unwrap_or_default();
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let made = wide.max(PENDING_WIDTH.max(wanted) * usize::from(wide == 0));
        let columns: Vec<String> = (0..made).map(|place| format!("c{place}")).collect();
        let indexed = columns[..PENDING_INDEXED.min(made)].join(", ");
        let columns = columns.join(", ");
        // Of the first value alone, as it was made before.
        let narrower = (wide > 0).then(|| format!("DROP INDEX IF EXISTS \"{PENDING}_place\""));
        let wider =
            (made..wanted).map(|place| format!("ALTER TABLE \"{PENDING}\" ADD COLUMN c{place}"));
        let made = [
            format!(
                "CREATE TABLE IF NOT EXISTS \"{PENDING}\"(log TEXT, place INTEGER, seen INTEGER, {columns})"
            ),
            format!(
                "CREATE INDEX IF NOT EXISTS \"{PENDING}_values\" ON \"{PENDING}\"(log, place, {indexed})"
            ),
        ];
        Ok(made.into_iter().chain(narrower).chain(wider).collect())
    }

    fn registration(&self) -> String {
        let Installation { subject, log } = self;
        format!(
            "INSERT INTO \"_walcast_capture\"(table_name, log, mode, key, filters, generation, version) VALUES ({}, {}, {}, {}, {}, \
             lower(hex(randomblob(16))), {VERSION})",
            quoted_text(&subject.table),
            quoted_text(log),
            quoted_text(subject.mode.as_str()),
            quoted_text(&names(&subject.key)),
            quoted_text(&names(&subject.filters)),
        )
    }
}

/// Captures a table, in one transaction. Where it is captured otherwise, or not without a gap, the log begins anew.
///
/// # Errors
/// The table can't be captured, or as SQLite has them; nothing was changed then.
pub fn install(
    connection: &mut Connection,
    subject: &dyn Fn(&Connection) -> Result<Subject, TableError>,
) -> Result<Installed, TableError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let subject = subject(&transaction)?;
    if is_in_place(&transaction, &subject)? {
        return Ok(Installed::Already);
    }
    let before = registered(&transaction, &subject.table)?;
    if let Some(before) = &before {
        run(&transaction, &removal(&transaction, before)?)?;
    }
    let installation = Installation::planned(&transaction, subject)?;
    run(&transaction, &installation.statements(&transaction)?)?;
    transaction.commit()?;
    Ok(match before {
        Some(_) => Installed::Again,
        None => Installed::New,
    })
}

/// Takes the capture of a table out of the file, its log included; nothing is left of it. Returns whether there was one.
///
/// # Errors
/// As SQLite has them; nothing was changed then.
pub fn remove(connection: &mut Connection, table: &str) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(statements) = removing(&transaction, table)? else {
        return Ok(false);
    };
    run(&transaction, &statements)?;
    transaction.commit()?;
    Ok(true)
}

/// The statements that remove the capture of a table, to be run in one transaction; `None` where it is not captured.
///
/// # Errors
/// As SQLite has them.
pub fn removing(connection: &Connection, table: &str) -> rusqlite::Result<Option<Vec<String>>> {
    registered(connection, table)?
        .map(|before| removal(connection, &before))
        .transpose()
}

fn run(connection: &Connection, statements: &[String]) -> rusqlite::Result<()> {
    statements
        .iter()
        .try_for_each(|sql| connection.execute_batch(sql))
}

fn is_in_place(connection: &Connection, subject: &Subject) -> rusqlite::Result<bool> {
    let CaptureState::Whole(capture) = look(connection, &subject.table)? else {
        return Ok(false);
    };
    Ok(capture.mode == subject.mode && capture.filters == subject.filters)
}

/// Drops the triggers and the log of a table, wherever they are by now, and what only they need.
fn removal(connection: &Connection, before: &Registered) -> rusqlite::Result<Vec<String>> {
    let mut statements: Vec<String> = trigger_drops(&before.table).collect();
    statements.push(log_drop(&before.log));
    let others: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM \"_walcast_capture\" WHERE table_name <> ?1)",
        [&before.table],
        |row| row.get(0),
    )?;
    statements.push(match others {
        true => registry_delete(&before.table),
        false => "DROP TABLE \"_walcast_capture\"".to_owned(),
    });
    if has_table(connection, PENDING)? {
        statements.push(match are_noted(connection, &before.table)? {
            true => pending_delete(&before.log),
            false => format!("DROP TABLE \"{PENDING}\""),
        });
    }
    Ok(statements)
}

fn trigger_drops(table: &str) -> impl Iterator<Item = String> {
    triggers::trigger_names(table)
        .map(|name| format!("DROP TRIGGER IF EXISTS {}", quote_identifier(&name)))
}

fn log_drop(log: &str) -> String {
    format!("DROP TABLE IF EXISTS {}", quote_identifier(log))
}

fn registry_delete(table: &str) -> String {
    format!(
        "DELETE FROM \"_walcast_capture\" WHERE table_name = {}",
        quoted_text(table)
    )
}

fn pending_delete(log: &str) -> String {
    format!("DELETE FROM \"{PENDING}\" WHERE log = {}", quoted_text(log))
}

/// Whether other tables than this one have triggers that note.
fn are_noted(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM \"_walcast_capture\" AS other JOIN sqlite_schema AS made ON made.type = 'trigger'
            AND made.name = '_walcast_' || other.table_name || '_insert_note' WHERE other.table_name <> ?1)",
        [table],
        |row| row.get(0),
    )
}

/// How many columns `_walcast_pending` has for values; `None` where there is no such table.
pub(super) fn pending_width(connection: &Connection) -> rusqlite::Result<Option<usize>> {
    let columns: i64 = connection.query_row(
        "SELECT count(*) FROM pragma_table_xinfo(?1) WHERE name GLOB 'c[0-9]*'",
        [PENDING],
        |row| row.get(0),
    )?;
    Ok(usize::try_from(columns).ok().filter(|columns| *columns > 0))
}

/// The names of columns as a JSON array.
fn names(columns: &[CapturedColumn]) -> String {
    let names = columns.iter().map(|column| column.name.as_str());
    serde_json::Value::from_iter(names).to_string()
}

/// A name for the log that nothing in the file has: of a table called `capture` it can't be the plain one.
fn free_name(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    let plain = format!("{OWN_PREFIX}{table}");
    let mut name = plain.clone();
    let mut number = 1;
    let mut taken = connection
        .prepare("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE AND type <> 'trigger')")?;
    let is_shared = |name: &str| {
        [REGISTRY, PENDING]
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name))
    };
    while is_shared(&name) || taken.query_row([&name], |row| row.get(0))? {
        number += 1;
        name = format!("{plain}_{number}");
    }
    Ok(name)
}
