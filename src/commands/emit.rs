//! `walcast emit`: writes sample events as an ordinary writer would, each in a transaction of its own.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rusqlite::Connection;

use super::BadUsage;
use super::named_file::not_an_address;
use crate::cli::EmitArgs;
use crate::os::interrupt::on_interrupt;
use crate::sqlite::error::Unavailable;
use crate::sqlite::open::open_writing;
use crate::sqlite::stock_table::{STOCK_SCHEMA, STOCK_TABLE, is_stock, listed, tables};

/// How long one event waits for other writers. Long, for a writer that gives up loses its event.
const BUSY: Duration = Duration::from_secs(60);

/// One in so many events is an error.
const ERROR_EVERY: u64 = 4;

const TENANTS: [&str; 4] = ["acme", "globex", "initech", "umbrella"];
const ACTIONS: [&str; 4] = ["restart_service", "clean_disk", "scale_out", "rotate_logs"];

/// An alert, and what its remediation is about.
const ALERTS: [(&str, &str); 6] = [
    ("HighCPU", "load above 8 for 5 min"),
    ("DiskFull", "/var at 96 %"),
    ("MemoryPressure", "1.2 GiB swapped out"),
    ("ServiceDown", "no answer on port 8443"),
    ("CertificateExpiring", "3 days left"),
    ("QueueBacklog", "14,200 jobs waiting"),
];

const INSERT: &str =
    "INSERT INTO remediation_events(ts, alertname, tenant, action, status, details)
    VALUES (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?1, ?2, ?3, ?4, ?5)";

/// Writes the events, creating the file where it is missing, and the stock table in one that holds no table. Says on stderr what was written, also when
/// it was interrupted or failed on the way.
///
/// # Errors
/// The file can't be written, stays locked for a minute, holds only tables of others, or its `remediation_events` has not the
/// stock columns.
pub fn emit(args: &EmitArgs) -> anyhow::Result<()> {
    let (sender, interrupted) = channel();
    // Where nobody receives, the writing is over already.
    on_interrupt(move || sender.send(()).unwrap_or_default())
        .context("signals can't be waited for")?;
    let path = &args.database();
    not_an_address(path)?;
    let connection =
        open_writing(path, BUSY, true).map_err(|reason| cannot_write(path, &reason))?;
    prepare(&connection, path)?;
    let mut written = Written::default();
    let result = write(&connection, args, &interrupted, &mut written);
    eprintln!("{}", written.summary(path));
    result.map_err(|e| explain(&e, path))
}

/// Makes the stock table where the file holds no table at all. Beside tables of others nothing is made.
fn prepare(connection: &Connection, path: &Path) -> anyhow::Result<()> {
    let found = tables(connection).map_err(|e| explain(&e, path))?;
    if found.is_empty() {
        let made = connection.execute_batch(STOCK_SCHEMA);
        return made.map_err(|e| explain(&e, path));
    }
    if found.iter().any(|table| is_stock(table)) {
        return Ok(());
    }
    bail!(BadUsage(format!(
        "{} has no table {STOCK_TABLE}, and none is made beside tables of others (there are {}); name another file, which is \
         made where it is missing",
        path.display(),
        listed(&found)
    )))
}

fn write(
    connection: &Connection,
    args: &EmitArgs,
    interrupted: &Receiver<()>,
    written: &mut Written,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(INSERT)?;
    let mut random = Random::new();
    for number in 0..args.count() {
        let pause = if number == 0 {
            Duration::ZERO
        } else {
            args.interval
        };
        if interrupted.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        let event = SampleEvent::sample(number, &mut random);
        statement.execute((
            event.alertname,
            event.tenant,
            event.action,
            event.status,
            event.details,
        ))?;
        written.add(connection.last_insert_rowid());
    }
    Ok(())
}

fn cannot_write(path: &Path, reason: &Unavailable) -> anyhow::Error {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match directory {
        Some(directory) if !directory.exists() => {
            anyhow!(
                "the directory {} does not exist; create it, or name another file",
                directory.display()
            )
        }
        _ => anyhow!("{reason}"),
    }
}

fn explain(error: &rusqlite::Error, path: &Path) -> anyhow::Error {
    match error.sqlite_error_code() {
        // "no such column", and a NOT NULL column that the sample does not know.
        Some(rusqlite::ErrorCode::Unknown | rusqlite::ErrorCode::ConstraintViolation) => anyhow!(
            "the table remediation_events of {} is not the stock table ({error}); name another file",
            path.display()
        ),
        _ => anyhow!("{}", Unavailable::from_sqlite(error, path)),
    }
}

/// What was written so far.
#[derive(Debug, Default)]
struct Written {
    count: u64,
    first: i64,
    last: i64,
}

impl Written {
    fn add(&mut self, id: i64) {
        if self.count == 0 {
            self.first = id;
        }
        self.count += 1;
        self.last = id;
    }

    /// The ids may have gaps where others write at the same time; they name the range.
    fn summary(&self, path: &Path) -> String {
        let path = path.display();
        match self.count {
            0 => format!("wrote no event to {path}"),
            1 => format!("wrote 1 event to {path}, id {}", self.first),
            n => format!(
                "wrote {n} events to {path}, ids {}–{}",
                self.first, self.last
            ),
        }
    }
}

/// One event, all but its id and time.
#[derive(Debug)]
struct SampleEvent {
    alertname: &'static str,
    tenant: &'static str,
    action: &'static str,
    status: &'static str,
    details: String,
}

impl SampleEvent {
    fn sample(number: u64, random: &mut Random) -> SampleEvent {
        let (alertname, cause) = ALERTS[random.below(ALERTS.len())];
        let tenant = TENANTS[random.below(TENANTS.len())];
        let action = ACTIONS[random.below(ACTIONS.len())];
        let (host, millis) = (random.below(40) + 1, random.below(9_000) + 120);
        let (status, outcome) = if number % ERROR_EVERY == ERROR_EVERY - 1 {
            (
                "error",
                format!(
                    "gave up after 3 attempts in {millis} ms, exit code {}",
                    random.below(3) + 1
                ),
            )
        } else {
            ("success", format!("done in {millis} ms"))
        };
        let details = format!("{cause} on {tenant}-{host:02}: {action} {outcome}");
        SampleEvent {
            alertname,
            tenant,
            action,
            status,
            details,
        }
    }
}

/// SplitMix64: enough to vary samples, not worth a dependency.
struct Random(u64);

impl Random {
    fn new() -> Random {
        use std::hash::{BuildHasher, RandomState};
        Random(RandomState::new().hash_one(std::process::id()))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn samples_cover_everything_and_one_in_four_is_an_error() {
        let mut random = Random(7);
        let events: Vec<SampleEvent> = (0..400)
            .map(|number| SampleEvent::sample(number, &mut random))
            .collect();
        let distinct = |of: fn(&SampleEvent) -> &'static str| {
            events.iter().map(of).collect::<HashSet<_>>().len()
        };
        assert_eq!(
            (
                distinct(|e| e.tenant),
                distinct(|e| e.alertname),
                distinct(|e| e.action)
            ),
            (4, 6, 4)
        );
        assert_eq!(events.iter().filter(|e| e.status == "error").count(), 100);
    }

    #[test]
    fn the_summary_names_file_and_ids() {
        let mut written = Written::default();
        assert_eq!(written.summary(Path::new("a.db")), "wrote no event to a.db");
        written.add(5);
        assert_eq!(
            written.summary(Path::new("a.db")),
            "wrote 1 event to a.db, id 5"
        );
        written.add(6);
        assert_eq!(
            written.summary(Path::new("a.db")),
            "wrote 2 events to a.db, ids 5–6"
        );
    }
}
