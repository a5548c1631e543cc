//! A database that somebody named as a file to be served: it has to be there already.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::sqlite::file::directory_of;
use crate::text::nearest::nearest;
use crate::text::shell::typed;

/// Why a name leads to no database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misnamed(String);

impl fmt::Display for Misnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misnamed {}

/// Endings that databases mostly have.
const ENDINGS: [&str; 4] = ["db", "sqlite", "sqlite3", "db3"];
/// Names in a directory that are looked at for one that is near.
const MOST_NAMES: usize = 10_000;

/// Checks that there is a file of this name. The error names the nearest one there is.
pub fn existing(path: &Path) -> Result<(), Misnamed> {
    existing_or_command(path, &[])
}

/// The same where a command could have been meant, which are these.
pub fn existing_or_command(path: &Path, commands: &[&str]) -> Result<(), Misnamed> {
    let shown = path.display();
    not_an_address(path)?;
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(Misnamed(match a_database_in(path) {
            Some(file) => format!(
                "{shown} is a directory, and a database is a file: did you mean {}?",
                file.display()
            ),
            None => format!("{shown} is a directory; name a database file"),
        })),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Misnamed(missing(path, commands)))
        }
        Err(e) => Err(Misnamed(format!(
            "{shown} can't be looked up ({e}); this user needs search rights on every directory above it"
        ))),
    }
}

/// Checks that what was given as a file is no URL. The error names the commands that take one.
pub(super) fn not_an_address(path: &Path) -> Result<(), Misnamed> {
    let text = path.to_string_lossy();
    if !text.contains("://") || path.exists() {
        return Ok(());
    }
    let url = typed(&text);
    Err(Misnamed(format!(
        "{text} is an address, and this takes a database file; of a running daemon, `walcast feeds {url}` lists the feeds, \
         `walcast tail {url}` prints the rows, and `walcast edge --upstream {url}` serves them here too"
    )))
}

fn missing(path: &Path, commands: &[&str]) -> String {
    let shown = path.display();
    let text = path.to_str().unwrap_or_default();
    let is_word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if is_word && let Some(command) = nearest(text, commands.iter().copied()) {
        return format!(
            "there is no file {shown}, and no such command; did you mean `walcast {command}`?"
        );
    }
    if is_host_and_port(text) {
        return format!(
            "there is no file {shown}; a daemon's address begins with its scheme: http://{shown}"
        );
    }
    let directory = directory_of(path);
    if !directory.exists() {
        return format!(
            "there is no file {shown}: the directory {} does not exist",
            directory.display()
        );
    }
    match nearest_file(path) {
        Some(file) => format!("there is no file {shown}; did you mean {}?", file.display()),
        None => format!(
            "there is no file {shown}; a database that is still to be made is served with --db {shown}"
        ),
    }
}

/// Whether this looks like an address that lacks its scheme, with a path or without.
fn is_host_and_port(text: &str) -> bool {
    let (address, _) = text.split_once('/').unwrap_or((text, ""));
    let parts = address.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn files_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries
        .take(MOST_NAMES)
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok());
    let of_database = |name: &String| {
        ["-wal", "-shm", "-journal"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let mut files: Vec<String> = files.filter(|name| !of_database(name)).collect();
    files.sort();
    files
}

/// Returns the file in the same directory that was probably meant. `walcast.toml` is no word for `walcast.db`.
pub(super) fn nearest_file(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let files = files_in(directory_of(path));
    let is_alike = |file: &&str| {
        let ending = ending(file);
        ending.is_none() || ending == self::ending(name) || is_databases(ending)
    };
    let alike = files.iter().map(String::as_str).filter(is_alike);
    nearest(name, alike).map(|file| path.with_file_name(file))
}

fn ending(file: &str) -> Option<&str> {
    Path::new(file).extension()?.to_str()
}

fn is_databases(ending: Option<&str>) -> bool {
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

fn a_database_in(directory: &Path) -> Option<PathBuf> {
    let mut files = files_in(directory).into_iter();
    let file = files.find(|name| is_databases(ending(name)))?;
    Some(directory.join(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let why = |name: &str| {
            existing_or_command(&at(name), &["check"])
                .unwrap_err()
                .to_string()
        };
        std::fs::write(at("app.toml"), "").unwrap();
        assert!(why("app.db").contains("--db"), "{}", why("app.db"));
        std::fs::write(at("orders.db"), "").unwrap();
        std::fs::write(at("orders.db-wal"), "").unwrap();
        assert!(
            why("order.db").contains("orders.db?"),
            "{}",
            why("order.db")
        );
        assert!(why("no/order.db").contains("does not exist"));
        let why = existing(dir.path()).unwrap_err().to_string();
        assert!(
            why.contains("directory") && why.contains("orders.db?"),
            "{why}"
        );
        assert_eq!(existing(&at("orders.db")), Ok(()));
        for lacks_scheme in ["127.0.0.1:8010", "h:1/ws/orders", "[::1]:80"] {
            let why = existing(Path::new(lacks_scheme)).unwrap_err().to_string();
            assert!(why.ends_with(&format!(": http://{lacks_scheme}")), "{why}");
        }
        let address = existing(Path::new("http://h:1")).unwrap_err().to_string();
        assert!(address.contains("`walcast feeds http://h:1`"), "{address}");
        let command = existing_or_command(Path::new("chekc"), &["check"]).unwrap_err();
        assert!(command.to_string().contains("`walcast check`"), "{command}");
    }
}
