//! `walcast check`: looks at everything `serve` with the same flags would depend on, says what would not work, and how
//! to mend it. Creates and changes nothing; a probe file for file events is removed again.

mod access;
mod database;
mod feeds;
mod indexes;
mod listen;
mod place;
mod report;
mod rights;
mod surroundings;

use std::process::ExitCode;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::harmless::harmless_lines;
use place::Place;
use report::Report;

/// Bad configuration, as everywhere in walcast.
const BAD_CONFIGURATION: u8 = 2;

/// Prints what was found. Exit code 0: all would work; 1: something would not; 2: the configuration is wrong.
pub fn check(args: &ServeArgs) -> ExitCode {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => {
            for problem in error.problems() {
                eprintln!("walcast: {}", harmless_lines(&problem.to_string()));
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
    access::look(config, report);
    surroundings::connections(config, report);
}
