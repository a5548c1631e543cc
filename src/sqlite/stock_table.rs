//! Making the stock table, where that is walcast's to do.
//!
//! Who makes a database chooses its page size, encoding and auto_vacuum with pragmas that last until the first table. So
//! an empty file that a writer is about to set up must not be made a database by anybody else: it is walcast's own only
//! when it was there at start and nobody has it open. A file that is not there is made under another name, and appears
//! whole; one whose writer was quicker is left to that writer. Whatever comes later than the start is never made.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::sqlite::error::{BrokenKind, Unavailable};
use crate::sqlite::file::real_path;
use crate::sqlite::file::{FileId, companion};
use crate::sqlite::lease;
use crate::sqlite::mounts_and_links::SharedFile;
use crate::sqlite::open::{open_reading, open_writing};

/// The SQL that makes the stock table.
pub const STOCK_SCHEMA: &str = include_str!("../../schema.sql");
/// The stock table's name.
pub const STOCK_TABLE: &str = "remediation_events";

/// How long one attempt waits for locks. There are others; nobody is to wait for the daemon to listen.
const BUSY: Duration = Duration::ZERO;
/// A file whose other users can't be asked for is taken for nobody's when it has been untouched for so long.
const UNTOUCHED: Duration = Duration::from_secs(10);
/// As many links in a row as the kernel follows.
const MAX_LINKS: usize = 40;
/// Tables that are listed in a log line, at most.
const LISTED: usize = 20;

/// The stock table that is still to be made.
#[derive(Debug)]
pub struct StockTable {
    database: PathBuf,
    /// Whether a file made anew is to be in WAL mode.
    wal: bool,
    /// What was there at start.
    found: Option<FileId>,
    /// That was an empty file.
    empty: bool,
}

/// What an attempt to make the stock table ended with.
#[derive(Debug)]
pub enum Attempt {
    /// The file is walcast's to make, but held by somebody at the moment.
    Later,
    /// Made; what was done, for the log.
    Made(String),
    /// There is nothing to make any more.
    NotOurs,
    /// The file has tables of others.
    OthersTables,
    Failed(Unavailable),
}

impl StockTable {
    /// To be made in the file as it is now.
    pub fn new(database: &Path, wal: bool) -> StockTable {
        StockTable {
            database: database.to_owned(),
            wal,
            found: FileId::of(database),
            empty: fs::metadata(database).is_ok_and(|meta| meta.len() == 0),
        }
    }

    /// Makes the table where that can be done now. The file must not be open as a database in this process.
    pub fn attempt(&self) -> Attempt {
        let path = &self.database;
        let length = fs::metadata(path).map(|meta| meta.len());
        let result = match length {
            _ if FileId::of(path) != self.found => return Attempt::NotOurs,
            Ok(_) if SharedFile::of(path).is_some() => self.look(),
            Ok(length) if (length == 0) != self.empty => return Attempt::NotOurs,
            Ok(0) if !is_nobodys(path) => return Attempt::Later,
            Ok(_) => self.add_table(),
            Err(e) if e.kind() == ErrorKind::NotFound => self.make_file(),
            // Who opens it says so.
            Err(_) => return Attempt::NotOurs,
        };
        match result {
            Ok(attempt) => attempt,
            Err(Unavailable::Busy(_)) => Attempt::Later,
            Err(reason) => Attempt::Failed(reason),
        }
    }

    fn failed(&self, error: &rusqlite::Error) -> Unavailable {
        Unavailable::from_sqlite(error, &self.database)
    }

    /// Nothing may be written to this file.
    fn look(&self) -> Result<Attempt, Unavailable> {
        let connection = open_reading(&self.database, BUSY)?;
        let tables = tables(&connection).map_err(|e| self.failed(&e))?;
        Ok(match tables.iter().any(|table| is_stock(table)) {
            true => Attempt::NotOurs,
            false => Attempt::OthersTables,
        })
    }

    /// Adds the table to a database that holds none at all, unless somebody may be about to make his.
    fn add_table(&self) -> Result<Attempt, Unavailable> {
        // Asked before it is opened as a database.
        let nobodys = is_nobodys(&self.database);
        let mut connection = open_writing(&self.database, BUSY, false)?;
        let sqlite = |e: rusqlite::Error| self.failed(&e);
        let found = tables(&connection).map_err(sqlite)?;
        if found.iter().any(|table| is_stock(table)) {
            return Ok(Attempt::NotOurs);
        }
        if !found.is_empty() {
            return Ok(Attempt::OthersTables);
        }
        if !nobodys {
            return Ok(Attempt::NotOurs);
        }
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sqlite)?;
        if !tables(&transaction).map_err(sqlite)?.is_empty() {
            return Ok(Attempt::Later);
        }
        transaction.execute_batch(STOCK_SCHEMA).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
        let path = self.database.display();
        Ok(Attempt::Made(format!(
            "created the table {STOCK_TABLE} in {path}, which held no table"
        )))
    }

    /// Makes the file with the table in it.
    fn make_file(&self) -> Result<Attempt, Unavailable> {
        let target = end_of_links(&self.database);
        let leftovers = has_leftovers(&target);
        let made = match leftovers {
            // SQLite removes them beside an empty file; beside any other it would take them for that file's own.
            true => create_empty(&target).map(|()| true),
            false => self.make_whole(&target)?,
        };
        match made {
            Ok(true) if leftovers => self.add_table().map(|attempt| match attempt {
                Attempt::Made(_) => Attempt::Made(self.created()),
                other => other,
            }),
            Ok(true) => Ok(Attempt::Made(self.created())),
            Ok(false) => Ok(Attempt::NotOurs),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(Attempt::NotOurs),
            Err(e) => Err(Unavailable::Broken {
                kind: BrokenKind::Permission,
                reason: format!("{} can't be created ({e})", target.display()),
            }),
        }
    }

    fn created(&self) -> String {
        format!(
            "created {} with the table {STOCK_TABLE}",
            self.database.display()
        )
    }

    /// Makes it under another name in the same directory, and gives it its own when it is whole. `false`: somebody has
    /// made a file of that name meanwhile.
    fn make_whole(&self, target: &Path) -> Result<io::Result<bool>, Unavailable> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".new-{}", std::process::id()));
        let new = target.with_file_name(name);
        if let Err(e) = create_empty(&new) {
            return Ok(Err(e));
        }
        let filled = open_writing(&new, BUSY, false).and_then(|connection| {
            let mode = if self.wal {
                "PRAGMA journal_mode = WAL;"
            } else {
                ""
            };
            connection
                .execute_batch(&format!("{mode} {STOCK_SCHEMA}"))
                .map_err(|e| self.failed(&e))
        });
        let named = filled.map(|()| rename_new(&new, target));
        if !matches!(named, Ok(Ok(true))) {
            for suffix in ["", "-wal", "-shm", "-journal"] {
                let _ = fs::remove_file(companion(&new, suffix));
            }
        }
        named
    }
}

/// The names of all tables but those of SQLite's and walcast's own.
pub fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
                AND name NOT LIKE '\\_walcast\\_%' ESCAPE '\\' ORDER BY name",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Tables by their names, for a log line: the first of them where there are many.
pub fn listed(tables: &[String]) -> String {
    match tables.split_at_checked(LISTED) {
        Some((first, more)) if !more.is_empty() => {
            format!("{} and {} more", first.join(", "), more.len())
        }
        _ => tables.join(", "),
    }
}

/// Returns whether a table of this name is the stock table, as SQLite compares names.
pub fn is_stock(table: &str) -> bool {
    table.eq_ignore_ascii_case(STOCK_TABLE)
}

/// Returns whether nobody has this file open. It must not be open as a database in this process.
fn is_nobodys(path: &Path) -> bool {
    lease::is_open_nowhere_else(path).unwrap_or_else(|| {
        let changed = fs::metadata(path).and_then(|meta| meta.modified());
        let age = changed.ok().and_then(|changed| changed.elapsed().ok());
        age.is_some_and(|age| age >= UNTOUCHED)
    })
}

/// Where a path leads to, be there a file or not.
fn end_of_links(path: &Path) -> PathBuf {
    let mut end = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&end) else {
            break;
        };
        end = end.parent().unwrap_or(Path::new("")).join(target);
    }
    match (end.parent(), end.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => {
            real_path(parent).join(name)
        }
        _ => end,
    }
}

/// Files that belonged to a database of this name.
fn has_leftovers(target: &Path) -> bool {
    ["-wal", "-journal"]
        .iter()
        .any(|suffix| companion(target, suffix).exists())
}

/// Creates an empty file. SQLite itself would make it 0644 less the umask, and -wal and -shm after it: a umask chosen to
/// let a group write would be of no use.
fn create_empty(path: &Path) -> io::Result<()> {
    // Open nowhere else in this process, as it is new, so closing it costs no locks.
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(path)
        .map(drop)
}

/// Renames unless there is a file of that name, in one step. `false` where there is.
fn rename_new(new: &Path, target: &Path) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, new, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            // A file system that can't.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    match fs::hard_link(new, target) {
        Ok(()) => fs::remove_file(new).map(|()| true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_missing_file_appears_whole_and_in_its_mode() {
        for wal in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("db");
            let creation = StockTable::new(&path, wal);
            assert!(matches!(creation.attempt(), Attempt::Made(_)));
            assert_eq!(names(dir.path()), ["db"]);
            let connection = Connection::open(&path).unwrap();
            assert_eq!(tables(&connection).unwrap(), [STOCK_TABLE]);
            let mode: String = connection
                .query_row("PRAGMA journal_mode", [], |row| row.get(0))
                .unwrap();
            assert_eq!(mode == "wal", wal);
            assert!(matches!(creation.attempt(), Attempt::NotOurs));
        }
    }

    #[test]
    fn a_file_that_a_writer_made_first_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let creation = StockTable::new(&path, true);
        fs::write(&path, "").unwrap();
        assert!(matches!(creation.attempt(), Attempt::NotOurs));
        let new = dir.path().join("new");
        fs::write(&new, "x").unwrap();
        assert!(!rename_new(&new, &path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn an_empty_file_is_made_a_database_once_nobody_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA page_size = 8192").unwrap();
        let creation = StockTable::new(&path, true);
        assert!(matches!(creation.attempt(), Attempt::Later));
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        drop(writer);
        assert!(matches!(creation.attempt(), Attempt::Made(_)));
    }

    #[test]
    fn nothing_is_added_to_tables_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("CREATE TABLE b(x INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE a(x)")
            .unwrap();
        let attempt = StockTable::new(&path, true).attempt();
        assert!(matches!(attempt, Attempt::OthersTables), "{attempt:?}");
        assert_eq!(tables(&writer).unwrap(), ["a", "b"]);
    }

    #[test]
    fn many_tables_are_listed_by_the_first_of_them() {
        let names = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>();
        assert_eq!(listed(&names(2)), "t0, t1");
        assert!(listed(&names(LISTED)).ends_with(", t19"));
        assert!(listed(&names(LISTED + 5)).ends_with(", t19 and 5 more"));
    }

    #[test]
    fn what_an_earlier_database_left_is_not_taken_for_the_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE old(x)")
            .unwrap();
        let wal = fs::read(companion(&path, "-wal")).unwrap();
        drop(old);
        fs::remove_file(&path).unwrap();
        fs::write(companion(&path, "-wal"), wal).unwrap();
        assert!(matches!(
            StockTable::new(&path, true).attempt(),
            Attempt::Made(_)
        ));
        let connection = Connection::open(&path).unwrap();
        assert_eq!(tables(&connection).unwrap(), [STOCK_TABLE]);
    }

    #[test]
    fn a_dangling_link_is_made_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        std::os::unix::fs::symlink("db", &path).unwrap();
        assert!(matches!(
            StockTable::new(&path, true).attempt(),
            Attempt::Made(_)
        ));
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert!(dir.path().join("db").is_file());
    }
}
