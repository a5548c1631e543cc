//! Which tables of a file can be feeds, and why the others can't.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use crate::config::{CaptureRules, FeedConfig, LONGEST_NAME};
use crate::sqlite::capture::{self, CaptureState};
use crate::sqlite::stock_table::STOCK_TABLE;
use crate::sqlite::table::{Table, TableError};

/// The most feeds that are made of a file's tables. Each may keep a ring of rows in memory, and readiness asks every one.
pub const MAX_FEEDS: usize = 1024;

/// What the tables of a file come to.
#[derive(Debug, Default)]
pub struct Discovered {
    /// A feed for each table that can be one.
    pub feeds: Vec<FeedConfig>,
    /// The tables that can't be.
    pub unfit: Vec<Unfit>,
}

/// A table or view that can't be a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub table: String,
    /// Why, and what would make it one, in a sentence that names it.
    pub reason: String,
}

impl Unfit {
    /// The same for those who know the file: its name stands in the commands.
    pub fn in_file(self, database: &Path) -> Unfit {
        Unfit {
            reason: capture::with_file_named(&self.reason, database),
            ..self
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a feed: {}", self.reason)
    }
}

/// Looks at every table and view of the file but SQLite's and walcast's own, those that a virtual table keeps its content in, and
/// those that are feeds already.
pub fn discover<'a>(
    connection: &Connection,
    known: impl IntoIterator<Item = &'a FeedConfig>,
) -> rusqlite::Result<Discovered> {
    let known: Vec<&FeedConfig> = known.into_iter().collect();
    let served: HashSet<String> = known.iter().map(|feed| feed.table.to_lowercase()).collect();
    let mut discovered = Discovered::default();
    let mut fit = Vec::new();
    for (table, kind) in listed(connection)? {
        if served.contains(&table.to_lowercase()) || capture::is_own(&table) {
            continue;
        }
        let rules = capture_rules(connection, &table)?;
        let reason = match Table::introspect(connection, &table, None) {
            _ if kind == "virtual" => format!(
                "{table} is a virtual table, which has no ids in the order of its commits; serve the table its content comes from"
            ),
            Ok(_) if known.len() + fit.len() >= MAX_FEEDS => format!(
                "table {table} would be one more than {MAX_FEEDS}; name those to be served in a configuration"
            ),
            _ if rules.is_some() && known.len() + fit.len() < MAX_FEEDS => {
                fit.push((table, rules));
                continue;
            }
            Ok(table) => {
                fit.push((table.name, None));
                continue;
            }
            // Dropped meanwhile.
            Err(TableError::Missing) => continue,
            Err(TableError::Unfit(reason)) => reason,
            // What is wrong with the table alone, for example a module or collation that only its writer has.
            Err(TableError::Sqlite(e)) if e.sqlite_error_code() == Some(ErrorCode::Unknown) => {
                format!("table {table} can't be read ({e})")
            }
            Err(TableError::Sqlite(e)) => return Err(e),
        };
        discovered.unfit.push(Unfit { table, reason });
    }
    let (tables, rules): (Vec<String>, Vec<Option<CaptureRules>>) = fit.into_iter().unzip();
    let feeds = named(tables, known.iter().map(|feed| feed.name.clone()));
    let feeds = feeds
        .into_iter()
        .zip(rules)
        .map(|(feed, rules)| match rules {
            Some(rules) => FeedConfig {
                capture: Some(rules),
                ..feed.of_changes()
            },
            None => feed,
        });
    discovered.feeds = feeds.collect();
    Ok(discovered)
}

/// How the changes of a table are captured, where somebody has them so; `None` where its rows are the feed's.
fn capture_rules(connection: &Connection, table: &str) -> rusqlite::Result<Option<CaptureRules>> {
    Ok(match capture::look(connection, table)? {
        CaptureState::Absent => None,
        CaptureState::Whole(capture) => {
            let filters = capture.filters.into_iter().map(|column| column.name);
            Some(CaptureRules::found(capture.mode, filters.collect()))
        }
        // What is wrong is said where the feed is asked for.
        CaptureState::Broken { .. } => capture::rules_of(connection, table)?,
    })
}

/// Names and kinds of tables and views, in the order they were created in.
fn listed(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare(
        "SELECT made.name, list.type FROM sqlite_schema AS made JOIN pragma_table_list AS list
            ON list.schema = 'main' AND list.name = made.name
          WHERE made.type IN ('table', 'view') AND list.type <> 'shadow' AND made.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
          ORDER BY made.rowid",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// A feed for each table, under a name of its own. A table whose name can be a feed's keeps it, whatever other tables
/// are called; the stock table has the name it always has.
fn named(tables: Vec<String>, taken: impl Iterator<Item = String>) -> Vec<FeedConfig> {
    let mut taken: HashSet<String> = taken.collect();
    let mut names: Vec<Option<String>> = vec![None; tables.len()];
    let is_own: [fn(&str) -> bool; 3] = [is_stock, |table| feed_name(table) == table, |_| true];
    for first in is_own {
        for (name, table) in names.iter_mut().zip(&tables) {
            if name.is_none() && first(table) {
                let free = free_name(&own_name(table), &taken);
                taken.insert(free.clone());
                *name = Some(free);
            }
        }
    }
    let named = names.into_iter().zip(&tables);
    named
        .filter_map(|(name, table)| name.map(|name| FeedConfig::of_table(&name, table)))
        .collect()
}

fn is_stock(table: &str) -> bool {
    table.eq_ignore_ascii_case(STOCK_TABLE)
}

fn own_name(table: &str) -> String {
    match is_stock(table) {
        true => FeedConfig::stock().name,
        false => feed_name(table),
    }
}

/// The table's name in the letters that names of feeds have.
fn feed_name(table: &str) -> String {
    let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let mut name: String = table
        .to_lowercase()
        .chars()
        .map(|c| if fit(c) { c } else { '_' })
        .take(LONGEST_NAME)
        .collect();
    if name.is_empty() || name.starts_with('-') {
        name.replace_range(..name.len().min(1), "_");
    }
    name
}

/// `name`, or the first of `name_2`, `name_3`, … that nobody has.
fn free_name(name: &str, taken: &HashSet<String>) -> String {
    let numbered = (2_usize..).map(|number| {
        let number = format!("_{number}");
        let room = LONGEST_NAME - number.len();
        format!("{}{number}", &name[..name.len().min(room)])
    });
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names
        .find(|name| !taken.contains(name))
        // The numbers never end.
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovered(sql: &str) -> Discovered {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(sql).unwrap();
        discover(&db, []).unwrap()
    }

    fn names(sql: &str) -> Vec<(String, String)> {
        let feeds = discovered(sql).feeds.into_iter();
        feeds.map(|feed| (feed.name, feed.table)).collect()
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn tables_with_an_integer_key_are_feeds_and_others_say_why_not() {
        let found = discovered(
            "CREATE TABLE b(id INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE a(id INT PRIMARY KEY);
             CREATE TABLE k(name TEXT PRIMARY KEY, n INTEGER NOT NULL UNIQUE); CREATE VIEW v AS SELECT 1 AS id;
             CREATE VIRTUAL TABLE text USING fts5(body)",
        );
        let feeds: Vec<_> = found.feeds.iter().map(|feed| &*feed.name).collect();
        assert_eq!(feeds, ["b", "a"]);
        let unfit: Vec<_> = found.unfit.iter().map(|unfit| &*unfit.table).collect();
        assert_eq!(unfit, ["k", "v", "text"]);
        assert!(found.unfit[1].reason.starts_with("v is a view"));
        assert!(
            found.unfit[0].reason.contains("key = \"n\""),
            "{:?}",
            found.unfit
        );
        assert!(found.feeds.iter().all(|feed| !feed.create && !feed.ingest));
    }

    #[test]
    fn names_are_in_the_letters_of_urls_and_clashes_are_numbered() {
        let table = |name: &str| format!("CREATE TABLE \"{name}\"(id INTEGER PRIMARY KEY);");
        let sql = |names: &[&str]| names.iter().map(|name| table(name)).collect::<String>();
        assert_eq!(
            names(&sql(&["Order Lines", "order_lines", "Ünits", "_own", "-x"])),
            pairs(&[
                ("order_lines_2", "Order Lines"),
                ("order_lines", "order_lines"),
                ("_nits", "Ünits"),
                ("_own", "_own"),
                ("_x", "-x"),
            ])
        );
        assert_eq!(
            names(&sql(&["remediation", "remediation_events"])),
            pairs(&[
                ("remediation_2", "remediation"),
                ("remediation", "remediation_events")
            ])
        );
        let long = "x".repeat(100);
        let found = names(&sql(&[&long, &format!("{long}y")]));
        assert!(
            found.iter().all(|(name, _)| name.len() == LONGEST_NAME),
            "{found:?}"
        );
        assert_ne!(found[0].0, found[1].0);
    }

    #[test]
    fn the_stock_table_is_the_stock_feed() {
        let found = discovered(crate::sqlite::stock_table::STOCK_SCHEMA);
        let stock = FeedConfig {
            create: false,
            ..FeedConfig::stock()
        };
        assert_eq!(found.feeds, [stock]);
    }
}
