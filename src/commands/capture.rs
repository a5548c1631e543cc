//! `walcast capture`: puts the capture of a table into a file, takes it out, says how it is, and prunes its log.

use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, bail};
use rusqlite::Connection;

use crate::cli::{CaptureArgs, CaptureCommand};
use crate::commands::named_file::existing;
use crate::config::CaptureRules;
use crate::sqlite::capture::{
    Capture, CaptureMode, CaptureState, CapturedColumn, Installation, Installed, LogExtent, Prune,
    Pruning, Subject, captured_tables, install, install_command, look, prepare_for_pruning, remove,
    remove_command, removing, rules_of,
};
use crate::sqlite::error::Unavailable;
use crate::sqlite::open::{open_reading, open_writing};
use crate::sqlite::stock_table::tables;
use crate::sqlite::table::TableError;
use crate::text::harmless::harmless;
use crate::text::nearest::did_you_mean;

/// How long it is waited for other writers.
const BUSY: Duration = Duration::from_secs(60);

/// Does what was asked for, and says on stdout what it did.
///
/// # Errors
/// The file can't be read or written, there is no such table, it can't be captured, or (of `status`) a change may be missing.
pub fn capture(args: &CaptureArgs) -> anyhow::Result<()> {
    match &args.command {
        CaptureCommand::Install {
            table,
            full,
            filters,
            print,
            file,
        } => {
            let mode = match full {
                true => CaptureMode::Full,
                false => CaptureMode::Keys,
            };
            let asked = Asked {
                path: &file.database(),
                table,
            };
            match print {
                true => asked.print_install(mode, filters),
                false => asked.install(mode, filters),
            }
        }
        CaptureCommand::Remove { table, print, file } => {
            let asked = Asked {
                path: &file.database(),
                table,
            };
            match print {
                true => asked.print_remove(),
                false => asked.remove(),
            }
        }
        CaptureCommand::Status { table, file } => status(&file.database(), table.as_deref()),
        CaptureCommand::Prune { table, older, file } => Asked {
            path: &file.database(),
            table,
        }
        .prune(older.map_or(Prune::All, Prune::Older)),
    }
}

/// A table of a file.
struct Asked<'a> {
    path: &'a Path,
    table: &'a str,
}

impl Asked<'_> {
    fn install(&self, mode: CaptureMode, filters: &[String]) -> anyhow::Result<()> {
        let mut connection = self.open_writing()?;
        let before = rules_of(&connection, self.table).map_err(|e| self.failed(&e))?;
        let installed = install(&mut connection, &|connection| {
            Subject::of(connection, self.table, mode, filters)
        });
        let installed = installed.map_err(|e| self.explain(&connection, e))?;
        let capture = self.captured(&connection)?;
        println!("{}", harmless(&said(installed, &capture)));
        if let Some(before) = before.filter(|before| !capture.is_as(before)) {
            let command = install_command(self.path, self.table, &before);
            println!(
                "  it was captured otherwise before; back to that with: {}",
                harmless(&command)
            );
        }
        Ok(())
    }

    fn print_install(&self, mode: CaptureMode, filters: &[String]) -> anyhow::Result<()> {
        let connection = self.open_reading()?;
        let subject = Subject::of(&connection, self.table, mode, filters)
            .map_err(|e| self.explain(&connection, e))?;
        let planned = Installation::planned(&connection, subject);
        let statements = planned.and_then(|planned| planned.migration(&connection));
        print_statements(&statements.map_err(|e| self.failed(&e))?);
        Ok(())
    }

    fn remove(&self) -> anyhow::Result<()> {
        let mut connection = self.open_writing()?;
        match remove(&mut connection, self.table) {
            Ok(true) => {
                println!("{} is not captured any more", harmless(self.table));
                Ok(())
            }
            Ok(false) => Err(self.not_captured(&connection)),
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn print_remove(&self) -> anyhow::Result<()> {
        let connection = self.open_reading()?;
        let statements = removing(&connection, self.table).map_err(|e| self.failed(&e))?;
        print_statements(&statements.ok_or_else(|| self.not_captured(&connection))?);
        Ok(())
    }

    fn prune(&self, prune: Prune) -> anyhow::Result<()> {
        let mut connection = self.open_writing()?;
        let capture = self.captured(&connection)?;
        prepare_for_pruning(&connection).map_err(|e| self.failed(&e))?;
        let mut pruning = Pruning::new(&capture.log, prune);
        let mut removed = 0;
        loop {
            let step = pruning.step(&mut connection).map_err(|e| self.failed(&e))?;
            removed += step.removed;
            match step.pause {
                Some(pause) => std::thread::sleep(pause),
                None => break,
            }
        }
        println!("{removed} changes of {} removed", harmless(&capture.table));
        Ok(())
    }

    /// The table's capture, be it whole or not.
    fn captured(&self, connection: &Connection) -> anyhow::Result<Capture> {
        match look(connection, self.table).map_err(|e| self.failed(&e))? {
            CaptureState::Whole(capture) => Ok(capture),
            CaptureState::Absent => Err(self.not_captured(connection)),
            CaptureState::Broken { reason } => {
                bail!(
                    "the capture of {} is broken: {reason}; {}",
                    self.table,
                    self.remedy(connection)
                )
            }
        }
    }

    /// What makes a capture that is broken whole, or takes it out where its table is gone for good.
    fn remedy(&self, connection: &Connection) -> String {
        if let Err(TableError::Missing) =
            Subject::of(connection, self.table, CaptureMode::Keys, &[])
        {
            let command = remove_command(self.path, self.table);
            return format!(
                "if the table is gone for good, take out what is left with `{command}`"
            );
        }
        let known = rules_of(connection, self.table).ok().flatten();
        let rules = known.unwrap_or_else(|| CaptureRules::found(CaptureMode::Keys, Vec::new()));
        let command = install_command(self.path, self.table, &rules);
        format!("begin anew with `{command}`")
    }

    fn not_captured(&self, connection: &Connection) -> anyhow::Error {
        let captured = captured_tables(connection).unwrap_or_default();
        let near = did_you_mean(self.table, captured.iter().map(String::as_str));
        anyhow!("table {} is not captured{near}", self.table)
    }

    fn open_reading(&self) -> anyhow::Result<Connection> {
        existing(self.path)?;
        open_reading(self.path, BUSY).map_err(|reason| anyhow!("{reason}"))
    }

    fn open_writing(&self) -> anyhow::Result<Connection> {
        existing(self.path)?;
        open_writing(self.path, BUSY, false).map_err(|reason| anyhow!("{reason}"))
    }

    fn explain(&self, connection: &Connection, error: TableError) -> anyhow::Error {
        match error {
            TableError::Missing => {
                let there = tables(connection).unwrap_or_default();
                let near = did_you_mean(self.table, there.iter().map(String::as_str));
                anyhow!(
                    "there is no table {} in {}{near}",
                    self.table,
                    self.path.display()
                )
            }
            TableError::Unfit(reason) => anyhow!("{reason}"),
            TableError::Sqlite(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &rusqlite::Error) -> anyhow::Error {
        anyhow!("{}", Unavailable::from_sqlite(error, self.path))
    }
}

fn said(installed: Installed, capture: &Capture) -> String {
    let table = &capture.table;
    let how = how(capture);
    match installed {
        Installed::Already => format!("{table} is captured already: {how}"),
        Installed::New => format!("{table} is captured from now on: {how}"),
        Installed::Again => format!(
            "{table} is captured anew: {how}; what changed before now is not in the log, and subscribers start over"
        ),
    }
}

fn how(capture: &Capture) -> String {
    let filters = match capture.filters.is_empty() {
        true => String::new(),
        false => format!(", filters on {}", listed(&capture.filters)),
    };
    format!(
        "{}, key {}{filters}, log {}",
        capture.mode.as_str(),
        listed(&capture.key),
        capture.log
    )
}

fn listed(columns: &[CapturedColumn]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.join(", ")
}

fn print_statements(statements: &[String]) {
    println!("-- Made by walcast capture. Run it in one transaction.");
    for statement in statements {
        println!("{statement};");
    }
}

fn status(path: &Path, table: Option<&str>) -> anyhow::Result<()> {
    let all = Asked {
        path,
        table: table.unwrap_or_default(),
    };
    let connection = all.open_reading()?;
    let tables = match table {
        Some(table) => vec![table.to_owned()],
        None => captured_tables(&connection).map_err(|e| all.failed(&e))?,
    };
    if tables.is_empty() {
        println!("no table of {} is captured", path.display());
        return Ok(());
    }
    let mut broken = Vec::new();
    for table in &tables {
        let asked = Asked { path, table };
        match look(&connection, table).map_err(|e| asked.failed(&e))? {
            CaptureState::Whole(capture) => {
                let extent = LogExtent::of(&connection, &capture.log);
                let extent = extent.map_err(|e| asked.failed(&e))?;
                println!("{}", harmless(&describe(&capture, &extent)));
                println!("  {}", harmless(&bound(&capture)));
            }
            CaptureState::Absent => return Err(asked.not_captured(&connection)),
            CaptureState::Broken { reason } => {
                let line = format!(
                    "{table}: changes may be missing: {reason}; {}",
                    asked.remedy(&connection)
                );
                println!("{}", harmless(&line));
                broken.push(table.as_str());
            }
        }
    }
    match broken.is_empty() {
        true => Ok(()),
        false => bail!("changes may be missing of {}", broken.join(", ")),
    }
}

fn describe(capture: &Capture, extent: &LogExtent) -> String {
    let held = match (extent.numbers, &extent.oldest_at) {
        (Some((first, last)), Some(at)) => {
            format!("changes {first} to {last}, the oldest of {at}")
        }
        (Some((first, last)), None) => format!("changes {first} to {last}"),
        (None, _) => "no change yet".to_owned(),
    };
    format!("{}: {}; {held}", capture.table, how(capture))
}

/// What migrations can't do while the table is captured.
fn bound(capture: &Capture) -> String {
    let what = match capture.mode {
        CaptureMode::Full => "no column can be dropped or renamed".to_owned(),
        CaptureMode::Keys => {
            let mut names: Vec<&str> = capture.filters.iter().map(|c| c.name.as_str()).collect();
            names.dedup();
            match names.is_empty() {
                true => {
                    return "migrations are free: ALTER TABLE does what it does without capture"
                        .to_owned();
                }
                false => format!("{} can't be dropped", names.join(", ")),
            }
        }
    };
    format!(
        "{what} by ALTER TABLE while this is captured: remove the capture before such a migration, install it after"
    )
}
