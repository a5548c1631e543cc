//! Captured tables: triggers of walcast's own write each insert, update and delete to a log of changes, in the transaction
//! that makes it, whoever the writer is.
//!
//! The log is an ordinary append-only table. What it takes is worded once, in `triggers`; [`install`] puts it into the
//! file, and [`look`] tells whether it still stands there as it was put.

use std::path::Path;

use rusqlite::Connection;

mod extent;
mod hidden_deletes;
mod installation;
mod look;
mod prune;
mod sql_words;
mod subject;
mod triggers;
mod uniques;

pub use crate::config::CaptureMode;
use crate::config::CaptureRules;
use crate::text::shell::typed;
pub use extent::LogExtent;
pub use installation::{Installation, Installed, install, remove, removing};
pub use look::{is_absent, look, rules_of};
pub use prune::{Prune, Pruning, prepare_for_pruning};
pub use subject::{CapturedColumn, Subject};

/// What the names of all tables and triggers of walcast's own begin with.
pub const OWN_PREFIX: &str = "_walcast_";

/// The table that names the captured tables, one a row.
pub const REGISTRY: &str = "_walcast_capture";

/// The table that notes, for the length of one change, which rows REPLACE may delete unseen.
pub(super) const PENDING: &str = "_walcast_pending";

/// Of the layout of the log and the wording of the triggers.
const VERSION: i64 = 2;

/// Returns whether a table or trigger of this name is walcast's own.
pub fn is_own(name: &str) -> bool {
    let prefix = name.get(..OWN_PREFIX.len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(OWN_PREFIX))
}

/// Whether the changes of a table are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureState {
    /// Nobody asked for it.
    Absent,
    /// Every change of the table is in the log, from the first of this generation on.
    Whole(Capture),
    /// Changes may be missing from the log.
    Broken {
        /// Which of the triggers is gone or changed, and what happened to it.
        reason: String,
    },
}

/// A captured table and its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The captured table, as it is spelled in the file.
    pub table: String,
    /// The table of its changes.
    pub log: String,
    pub mode: CaptureMode,
    /// The columns of its key, in the order of the primary key: `k0`, `k1`, … of the log.
    pub key: Vec<CapturedColumn>,
    /// The columns whose old and new values are recorded: `old_f0`, `new_f0`, … of the log.
    pub filters: Vec<CapturedColumn>,
    /// The columns that are recorded as they were, where the mode is full: `before:NAME` and `after:NAME` of the log.
    pub columns: Vec<CapturedColumn>,
    /// Names a log without a gap. Another one stands there as soon as a change may be missing.
    pub generation: String,
}

impl Capture {
    /// Returns whether the table is captured as these rules ask for.
    pub fn is_as(&self, rules: &CaptureRules) -> bool {
        let filters = self.filters.iter().map(|column| column.name.to_lowercase());
        self.mode == rules.mode && filters.eq(rules.filters.iter().map(|name| name.to_lowercase()))
    }
}

/// Returns the command that captures a table as these rules ask for, fit to be typed into a shell.
pub fn install_command(database: &Path, table: &str, rules: &CaptureRules) -> String {
    install_into(&typed(&database.to_string_lossy()), table, rules)
}

/// The same for those who are not told where the file is.
pub fn public_install_command(table: &str, rules: &CaptureRules) -> String {
    install_into("FILE", table, rules)
}

/// Returns a text with [`public_install_command`] in it as it reads to those who know the file.
pub fn with_file_named(text: &str, database: &Path) -> String {
    let database = database.to_string_lossy();
    let known = format!("{INSTALL} {} ", typed(&database));
    text.replace(&format!("{INSTALL} FILE "), &known)
}

/// How the command begins, up to the file.
const INSTALL: &str = "walcast capture install --db";

fn install_into(database: &str, table: &str, rules: &CaptureRules) -> String {
    let mut command = format!("{INSTALL} {database}");
    if rules.mode == CaptureMode::Full {
        command.push_str(" --full");
    }
    for filter in &rules.filters {
        command.push_str(&format!(" --filter {}", typed(filter)));
    }
    command + &last_word(table)
}

/// A table's name at the end of a command.
fn last_word(table: &str) -> String {
    // Else it would be taken for a flag.
    let end_of_flags = if table.starts_with('-') { " --" } else { "" };
    format!("{end_of_flags} {}", typed(table))
}

/// Returns the command that takes a table's triggers and log out of the file.
pub fn remove_command(database: &Path, table: &str) -> String {
    let database = database.to_string_lossy();
    format!(
        "walcast capture remove --db {}{}",
        typed(&database),
        last_word(table)
    )
}

/// Returns the command that prunes the log of a table, without saying how far.
pub fn prune_command(database: &Path, table: &str) -> String {
    let database = database.to_string_lossy();
    format!(
        "walcast capture prune --db {}{}",
        typed(&database),
        last_word(table)
    )
}

/// Returns the captured tables of the file, as the registry spells them; none where nothing was ever captured.
///
/// # Errors
/// As SQLite has them.
pub fn captured_tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    if !look::has_table(connection, REGISTRY)? {
        return Ok(Vec::new());
    }
    connection
        .prepare("SELECT table_name FROM \"_walcast_capture\" ORDER BY rowid")?
        .query_map([], |row| row.get(0))?
        .collect()
}

#[cfg(test)]
mod tests;
