//! Pauses in reading, for the WAL to start over. A writer begins it anew only in a moment in which all of it has been
//! copied into the database and nobody reads from it; reads that follow each other closely leave no such moment, and the
//! WAL grows for as long as they go on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::sqlite::file::companion;

/// How often it is looked whether a pause is due. The WAL grows meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a pause lasts at most: for a commit, and the checkpoint that it runs, on a slow disk.
const PAUSE: Duration = Duration::from_millis(40);
/// Between two looks at whether the WAL has started over.
const MOMENT: Duration = Duration::from_micros(500);
/// After pauses that brought nothing the next is so many times as far away, at most. Not further: with each that misses
/// the moment in which a checkpoint has ended, the WAL gets longer.
const MOST_PATIENCE: u32 = 2;
/// Pages from which on a WAL is to start over: half as many again as those after which SQLite runs a checkpoint.
const LONG: u64 = 1500;

/// When the readers of one database pause.
pub struct CheckpointPauses {
    database: PathBuf,
    state: Mutex<PauseState>,
    changed: Condvar,
}

struct PauseState {
    /// Reads under way.
    reading: usize,
    /// No further read begins.
    pausing: bool,
    next_look: Instant,
    /// Looks that are left out between two, more after each pause that brought nothing.
    patience: u32,
    /// When the WAL was written last, as it was known at the last look.
    written: Option<SystemTime>,
}

impl CheckpointPauses {
    /// For the readers of the database at this path.
    pub fn of(database: &Path) -> CheckpointPauses {
        CheckpointPauses {
            database: database.to_owned(),
            state: Mutex::new(PauseState {
                reading: 0,
                pausing: false,
                next_look: Instant::now(),
                patience: 1,
                written: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// SQLite keeps it beside the file itself, wherever a link to that may be.
    fn wal(&self) -> PathBuf {
        let real = std::fs::canonicalize(&self.database);
        companion(real.as_ref().unwrap_or(&self.database), "-wal")
    }

    /// Begins a read, after the pause that may be due. No read transaction may be open outside of such reads.
    pub fn read(&self) -> ReadGuard<'_> {
        let mut state = self.state.lock();
        while state.pausing {
            self.changed.wait(&mut state);
        }
        if Instant::now() >= state.next_look {
            if self.is_due(&mut state) {
                state.pausing = true;
                while state.reading > 0 {
                    self.changed.wait(&mut state);
                }
                drop(state);
                let started_over = self.pause();
                state = self.state.lock();
                state.pausing = false;
                state.patience = match started_over {
                    true => 1,
                    false => (state.patience + 1).min(MOST_PATIENCE),
                };
                self.changed.notify_all();
            }
            state.next_look = Instant::now() + LOOK_EVERY * state.patience;
        }
        state.reading += 1;
        ReadGuard(self)
    }

    /// Returns whether somebody writes to a WAL that is long already.
    fn is_due(&self, state: &mut PauseState) -> bool {
        let written = std::fs::metadata(self.wal()).and_then(|meta| meta.modified());
        let written = written.ok();
        let is_written = written != state.written;
        state.written = written;
        is_written && self.is_long()
    }

    /// Waits until the WAL has started over; `false`: it did not in time.
    fn pause(&self) -> bool {
        let begun = Instant::now();
        while self.is_long() {
            if begun.elapsed() >= PAUSE {
                return false;
            }
            std::thread::sleep(MOMENT);
        }
        true
    }

    /// Returns whether the WAL holds [`LONG`] pages written since it started over last; how long the file is tells
    /// nothing of that. Unlike the database and `-shm` it may be opened: SQLite holds no locks on it.
    fn is_long(&self) -> bool {
        // Where the file format is not as expected, there is nothing to wait for.
        self.has_page(LONG).unwrap_or(false)
    }

    /// Whether the frame of this number is one of those that count: it carries the salts of the file's header
    /// (<https://www.sqlite.org/fileformat2.html#walformat>).
    fn has_page(&self, number: u64) -> std::io::Result<bool> {
        let wal = File::open(self.wal())?;
        let mut header = [0; 32];
        wal.read_exact_at(&mut header, 0)?;
        let page_size = u64::from(u32::from_be_bytes([
            header[8], header[9], header[10], header[11],
        ]));
        let mut frame = [0; 24];
        wal.read_exact_at(&mut frame, 32 + number * (24 + page_size))?;
        Ok(header[16..24] == frame[8..16])
    }
}

/// While this lives a read is under way.
pub struct ReadGuard<'p>(&'p CheckpointPauses);

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.reading -= 1;
        if state.pausing {
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn a_wal_is_long_until_it_starts_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.db");
        let pauses = CheckpointPauses::of(&path);
        assert!(!pauses.is_long(), "there is none");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(x)",
            )
            .unwrap();
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)
             INSERT INTO t SELECT zeroblob(4000) FROM n";
        assert!(!pauses.is_long());
        writer.execute_batch(fill).unwrap();
        assert!(pauses.is_long());
        writer
            .execute_batch("PRAGMA wal_checkpoint; INSERT INTO t VALUES (1)")
            .unwrap();
        assert!(
            !pauses.is_long(),
            "it started over, in a file as long as before"
        );
        writer.execute_batch(fill).unwrap();
        // Nobody runs a checkpoint, so the pause comes to nothing, and the next one is further off.
        drop(pauses.read());
        assert!(pauses.state.lock().patience > 1);
    }
}
