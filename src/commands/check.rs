//! `walcast check`: looks at everything `serve` with the same flags would depend on, says what would not work, and how
//! to mend it. Creates and changes nothing; a probe file for file events is removed again.

mod database;
mod feeds;
mod listen;
mod report;
mod rights;
mod surroundings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::ServeArgs;
use crate::config::Config;
use report::Report;

/// Bad configuration, as everywhere in walcast.
const BAD_CONFIGURATION: u8 = 2;

/// Prints what was found. Exit code 0: all would work; 1: something would not; 2: the configuration is wrong.
pub fn check(args: &ServeArgs) -> ExitCode {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => {
            for problem in error.problems() {
                eprintln!("walcast: {problem}");
            }
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let mut report = Report::default();
    look(&config, args, &mut report);
    match report.print() {
        Ok(()) if report.has_problems() => ExitCode::FAILURE,
        // Nobody reads it any more: then nobody needs the rest.
        Ok(()) | Err(_) => ExitCode::from(u8::from(report.has_problems())),
    }
}

fn look(config: &Config, args: &ServeArgs, report: &mut Report) {
    match args.config.as_deref().filter(|file| !file.is_empty()) {
        Some(file) => report.ok("configuration", format!("{file} is valid")),
        None => report.ok(
            "configuration",
            "no file is read: flags, WALCAST_* variables and defaults",
        ),
    }
    let place = Place::of(&config.database);
    if place.report(report) {
        let wal = database::look(config, &place, report);
        rights::look(config, &place, wal, report);
        surroundings::file_events(&place, report);
    }
    surroundings::state_directory(config, report);
    listen::look(config, report);
    surroundings::connections(config, report);
}

/// Where the database is, or will be.
struct Place {
    /// As it was configured.
    given: PathBuf,
    /// Behind all symbolic links, as far as there is something.
    real: PathBuf,
    directory: PathBuf,
    exists: bool,
}

impl Place {
    fn of(database: &Path) -> Place {
        // A link to a file that is not there yet still says where the file will be.
        let target = match std::fs::read_link(database) {
            Ok(target) => directory_of(database).join(target),
            Err(_) => database.to_owned(),
        };
        let real = std::fs::canonicalize(database).or_else(|_| {
            let name = target.file_name().unwrap_or_default();
            std::fs::canonicalize(directory_of(&target)).map(|directory| directory.join(name))
        });
        let real = real.unwrap_or(target);
        Place {
            given: database.to_owned(),
            directory: directory_of(&real),
            exists: real.exists(),
            real,
        }
    }

    /// The file's companion, e.g. `-wal`.
    fn companion(&self, suffix: &str) -> PathBuf {
        let mut name = self.real.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    }

    /// Whether there is a directory to look into.
    fn report(&self, report: &mut Report) -> bool {
        let shown = match std::fs::read_link(&self.given) {
            Ok(_) => format!(
                "{}, a link to {}",
                self.given.display(),
                self.real.display()
            ),
            Err(_) => self.real.display().to_string(),
        };
        match std::fs::metadata(&self.directory) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                let text = format!("{shown}: {} is not a directory", self.directory.display());
                report.problem(
                    "database",
                    text,
                    &["name a file in a directory with --db or `database`".to_owned()],
                );
                return false;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let text = format!("{shown}: its directory does not exist");
                let make = format!("mkdir -p {}", report::quoted(&self.directory));
                report.problem("database", text, &[make]);
                return false;
            }
            Err(e) => {
                let text = format!("{shown}: its directory can't be looked up ({e})");
                let mend = format!(
                    "let this user search it: chmod o+x, or a shared group, on {} and every directory above it",
                    report::quoted(&self.directory)
                );
                report.problem("database", text, &[mend]);
                return false;
            }
        }
        match std::fs::metadata(&self.real) {
            Ok(meta) if meta.is_dir() => {
                report.problem(
                    "database",
                    format!("{shown} is a directory"),
                    &["name a file with --db or `database`".to_owned()],
                );
                return false;
            }
            Ok(meta) => report.ok("database", format!("{shown}, {}", report::size(meta.len()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                report.note(
                    "database",
                    format!("{shown} does not exist yet; it is served as soon as it does"),
                );
            }
            Err(e) => {
                let mend = format!(
                    "let this user search {} (chmod, or a shared group)",
                    report::quoted(&self.directory)
                );
                report.problem(
                    "database",
                    format!("{shown} can't be looked up ({e})"),
                    &[mend],
                );
                return false;
            }
        }
        true
    }
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
