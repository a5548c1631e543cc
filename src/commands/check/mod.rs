//! `walcast check`: looks at everything `serve` with the same flags would depend on, says what would not work, and how
//! to mend it. Creates and changes nothing; a probe file for file events is removed again.

mod access;
mod auth;
mod captures;
mod database;
mod edge;
mod feeds;
mod indexes;
mod listen;
mod place;
mod publish;
mod report;
mod rights;
mod sinks;
mod surroundings;
mod tls;

use std::process::ExitCode;

use crate::cli::{CheckArgs, ServeArgs};
use crate::commands::named_file::existing;
use crate::config::Config;
use crate::sqlite::discovery::discover;
use crate::text::harmless::harmless_lines;
pub use database::{look_into, look_into_within};
use place::DatabasePlace;
use report::Report;

/// Bad configuration, as everywhere in walcast.
const BAD_CONFIGURATION: u8 = 2;

/// Prints what was found. Exit code 0: all would work; 1: something would not; 2: the configuration is wrong.
pub fn check(args: &CheckArgs) -> ExitCode {
    let CheckArgs { serve: args, token } = args;
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => {
            for problem in error.problems() {
                eprintln!("walcast: {}", harmless_lines(&problem.to_string()));
            }
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let mut config = config;
    let mut report = Report::default();
    let token = token.read().unwrap_or_else(|error| {
        report.problem("token", format!("{error:#}"), &[]);
        None
    });
    look(&mut config, args, token.as_deref(), &mut report);
    match report.print() {
        Ok(()) if report.has_problems() => ExitCode::FAILURE,
        // Nobody reads it any more: then nobody needs the rest.
        Ok(()) | Err(_) => ExitCode::from(u8::from(report.has_problems())),
    }
}

fn look(config: &mut Config, args: &ServeArgs, token: Option<&str>, report: &mut Report) {
    match args.config.as_deref().filter(|file| !file.is_empty()) {
        Some(file) => report.ok("configuration", format!("{file} is valid")),
        None => report.ok(
            "configuration",
            "no file is read: flags, WALCAST_* variables and defaults",
        ),
    }
    match config.edge.is_one() {
        true => edge::look(config, report),
        false => look_at_database(config, args, report),
    }
    let config = &*config;
    surroundings::state_directory(config, report);
    listen::look(config, token, report);
    tls::look(config, report);
    access::look(config, report);
    auth::look(config, report);
    sinks::look(config, report);
    publish::look(config, report);
    surroundings::connections(config, report);
}

fn look_at_database(config: &mut Config, args: &ServeArgs, report: &mut Report) {
    let place = DatabasePlace::of(&config.database);
    let named = args
        .file
        .as_ref()
        .and_then(|_| existing(&config.database).err());
    if let Some(misnamed) = named {
        report.problem("database", misnamed.to_string(), &[]);
    } else if place.report(report) {
        if config.all_tables {
            tables(config, report);
        }
        let config = &*config;
        let wal = database::look(config, &place, report);
        rights::look(config, &place, wal, report);
        surroundings::file_events(config, &place, report);
    }
}

/// The feeds of a file whose tables are to be feeds. What keeps it from being read is found, and said, by the others.
fn tables(config: &mut Config, report: &mut Report) {
    let Ok(found) = look_into(&config.database, |connection| discover(connection, [])) else {
        return;
    };
    for unfit in found.unfit {
        let unfit = unfit.in_file(&config.database);
        report.note(&format!("table {}", unfit.table), unfit.to_string());
    }
    if found.feeds.is_empty() {
        report.warn(
            "feeds",
            "there is no table yet that can be a feed",
            &[
                "make one with an integer primary key; it is served as soon as it is there"
                    .to_owned(),
            ],
        );
    }
    config.feeds = found.feeds;
}
