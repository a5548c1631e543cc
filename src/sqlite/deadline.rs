//! Until when a read may last. A statement that looks at rows without giving any can't be left in between, so SQLite
//! itself asks while it runs, and ends the statement once the time is over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// Instructions of SQLite's machine between two looks at the clock: ten rows or so, of which each may be megabytes of
/// pages to walk past. A look takes 30 ns.
const EVERY: i32 = 64;
const NONE: u64 = u64::MAX;

/// The time limit of one connection's statements, none at first. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Deadline(Arc<LimitState>);

#[derive(Debug)]
struct LimitState {
    /// Nanoseconds by [`now`].
    until: AtomicU64,
    /// Statements that are late are left to their end all the same.
    patient: AtomicBool,
}

impl Default for LimitState {
    fn default() -> LimitState {
        LimitState {
            until: AtomicU64::new(NONE),
            patient: AtomicBool::new(false),
        }
    }
}

impl Deadline {
    /// Has the connection's statements end with an error, see [`is_interruption`], when the time is over.
    pub fn install(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let Deadline(state) = self.clone();
        // In this order: a look at the clock is what costs.
        let ends = move || !state.patient.load(Ordering::Relaxed) && state.is_over();
        connection.progress_handler(EVERY, Some(ends))
    }

    /// So long from now on, while the guard lives.
    pub fn within(&self, time: Duration) -> Limited<'_> {
        let until = now() + time.as_nanos() as u64;
        Limited {
            deadline: self,
            before: self.0.until.swap(until, Ordering::Relaxed),
        }
    }

    /// Leaves statements to their end while the guard lives, late or not.
    pub fn patient(&self) -> Patient<'_> {
        Patient {
            deadline: self,
            before: self.0.patient.swap(true, Ordering::Relaxed),
        }
    }

    /// Returns whether the time has passed; never, where none is set.
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

impl LimitState {
    fn is_over(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != NONE && now() >= until
    }
}

/// While this lives the time is limited.
#[derive(Debug)]
pub struct Limited<'a> {
    deadline: &'a Deadline,
    before: u64,
}

impl Limited<'_> {
    /// Moves the deadline to `time` from now.
    pub fn renew(&self, time: Duration) {
        let until = now() + time.as_nanos() as u64;
        self.deadline.0.until.store(until, Ordering::Relaxed);
    }
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        self.deadline.0.until.store(self.before, Ordering::Relaxed);
    }
}

/// While this lives no statement is ended.
#[derive(Debug)]
pub struct Patient<'a> {
    deadline: &'a Deadline,
    before: bool,
}

impl Drop for Patient<'_> {
    fn drop(&mut self) {
        self.deadline
            .0
            .patient
            .store(self.before, Ordering::Relaxed);
    }
}

/// Nanoseconds since the first call.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Five hundred years until it overflows.
    START.elapsed().as_nanos() as u64
}

/// Returns whether a statement ended because its time was over.
pub fn is_interruption(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_gives_no_rows_ends_in_time_and_the_next_one_runs() {
        let mut connection = Connection::open_in_memory().unwrap();
        let deadline = Deadline::default();
        deadline.install(&mut connection).unwrap();
        let count = |n: u64| -> rusqlite::Result<i64> {
            connection.query_row(
                "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT ?1) SELECT count(*) FROM s",
                [n as i64],
                |row| row.get(0),
            )
        };
        let limited = deadline.within(Duration::from_millis(1));
        assert!(count(1_000_000_000).is_err_and(|e| is_interruption(&e)));
        drop(limited);
        assert_eq!(count(1000).unwrap(), 1000);
    }
}
