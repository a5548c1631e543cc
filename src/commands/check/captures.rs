//! What the triggers and the log of each captured feed come to.

use rusqlite::Connection;

use super::report::Report;
use crate::config::{CaptureRules, Config, FeedConfig, written_age};
use crate::sqlite::capture::{
    Capture, CaptureState, LogExtent, Subject, install_command, look as look_at, prune_command,
    remove_command, rules_of,
};
use crate::sqlite::table::TableError;

/// How many times the age that changes are kept for the oldest may have before somebody is told: the daemon prunes in steps.
const LATE: f64 = 2.0;

/// Reports the captures that the feeds ask for. What can't be read is said of the feed itself.
pub(super) fn look(config: &Config, connection: &Connection, report: &mut Report) {
    for feed in &config.feeds {
        let Some(rules) = &feed.capture else {
            unasked(config, connection, feed, report);
            continue;
        };
        let label = format!("capture {}", feed.name);
        let command = install_command(&config.database, &feed.table, rules);
        match look_at(connection, &feed.table) {
            Ok(CaptureState::Whole(capture)) if !rules.upkeep || capture.is_as(rules) => {
                whole(config, connection, &capture, rules, &label, report);
            }
            Ok(CaptureState::Whole(_)) => report.warn(
                &label,
                "the table is captured otherwise than the configuration says; the daemon captures it anew, and subscribers start over",
                &[format!("or do it yourself: {command}")],
            ),
            Ok(CaptureState::Broken { reason }) => report.problem(
                &label,
                format!("changes may be missing: {reason}"),
                &[format!("{command}, which the daemon does where it may write")],
            ),
            Ok(CaptureState::Absent) => absent(connection, &feed.table, rules, &label, &command, report),
            Err(_) => {}
        }
    }
}

/// Returns whether all that a feed lacks is that its table is captured, which the daemon does at its start.
pub(super) fn awaits(connection: &Connection, feed: &FeedConfig) -> bool {
    let wanted = feed.capture.as_ref().filter(|rules| rules.upkeep);
    wanted.is_some_and(|rules| {
        matches!(look_at(connection, &feed.table), Ok(CaptureState::Absent))
            && Subject::of(connection, &feed.table, rules.mode, &rules.filters).is_ok()
    })
}

/// Says of a table that is captured, for whatever reason, that its feed does not send what is captured.
fn unasked(config: &Config, connection: &Connection, feed: &FeedConfig, report: &mut Report) {
    let Ok(Some(found)) = rules_of(connection, &feed.table) else {
        return;
    };
    let (name, table, mode) = (&feed.name, &feed.table, found.mode.as_str());
    report.note(
        &format!("capture {name}"),
        format!(
            "changes of table {table} are captured ({mode}), but this feed is of its inserted rows; to send updates and deletes, \
             say capture = {mode:?} in [feeds.{name}]; if nobody needs them: {}",
            remove_command(&config.database, table)
        ),
    );
}

fn absent(
    connection: &Connection,
    table: &str,
    rules: &CaptureRules,
    label: &str,
    command: &str,
    report: &mut Report,
) {
    match Subject::of(connection, table, rules.mode, &rules.filters) {
        Ok(_) => report.note(
            label,
            format!("not captured yet; the daemon does it at its start, where it may write, or you with: {command}"),
        ),
        Err(TableError::Unfit(reason)) => report.problem(label, reason, &[]),
        Err(TableError::Missing | TableError::Sqlite(_)) => {}
    }
}

fn whole(
    config: &Config,
    connection: &Connection,
    capture: &Capture,
    rules: &CaptureRules,
    label: &str,
    report: &mut Report,
) {
    let Ok(extent) = LogExtent::of(connection, &capture.log) else {
        return;
    };
    let held = match extent.numbers {
        None => "no change yet".to_owned(),
        Some((first, last)) => format!("changes {first} to {last}"),
    };
    report.ok(
        label,
        format!("{} in {}: {held}", capture.mode.as_str(), capture.log),
    );
    let kept = rules.keep.as_secs_f64();
    if extent.oldest_age.is_some_and(|age| age > kept * LATE) && extent.count() > 1 {
        let keep = written_age(rules.keep);
        report.warn(
            label,
            format!(
                "the log grows: its oldest change is {:.0} times as old as changes are kept for, so no daemon has pruned it",
                extent.oldest_age.unwrap_or_default() / kept
            ),
            &[format!(
                "run the daemon as a user who may write the file, or: {} --older {keep}",
                prune_command(&config.database, &capture.table)
            )],
        );
    }
}
