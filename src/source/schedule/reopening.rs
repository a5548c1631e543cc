//! When a file that is not open is tried again.

use std::time::{Duration, Instant};

/// From the removal of a database's companions until another file is in its place, where that is being moved there.
const REPLACING: Duration = Duration::from_millis(200);
/// A file that is locked is tried again after this share of the time it has been ...
const AFTER_LOCKED: u32 = 8;
/// ... but no sooner than this, ...
const LEAST_LOCKED: Duration = Duration::from_millis(5);
/// ... and no later.
const LONGEST_LOCKED: Duration = Duration::from_millis(100);
/// How often a file is looked for that no file event would tell of.
const UNHEARD: Duration = Duration::from_secs(1);
/// How soon a broken file is tried again after a file event.
const REOPEN: Duration = Duration::from_millis(250);
/// How often a file that can't be opened is tried again, at most. A file event tries at once.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// What keeps a file from being open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It is not there, or nothing is in it. Waiting costs one `stat` a poll; backing off would only make the first row
    /// late.
    Absent,
    /// It has been locked for so long. A writer that creates it, most likely; done in a moment.
    Locked(Duration),
    /// It has other names. Looking costs a few system calls, and no file event tells of one that is gone.
    Shared,
    /// Somebody has to mend it.
    Broken,
}

/// When a file that is not open is tried again.
#[derive(Debug)]
pub(super) struct Reopening {
    next: Instant,
    /// Not before this, whatever file events say: opening a broken file makes file events itself.
    not_before: Instant,
    backoff: Duration,
}

impl Reopening {
    pub(super) fn new(now: Instant) -> Reopening {
        Reopening {
            next: now,
            not_before: now,
            backoff: Duration::ZERO,
        }
    }

    /// When the file is tried next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// A file event says that there may be something to open.
    pub(super) fn hint(&mut self, now: Instant) {
        self.next = self.next.min(self.not_before.max(now));
    }

    /// The file is open.
    pub(super) fn opened(&mut self) {
        self.backoff = Duration::ZERO;
    }

    /// The path does not lead to what was open any more.
    pub(super) fn left(&mut self, now: Instant) {
        self.next = now;
    }

    /// The files beside it went away. Who moves another file into place removes these first: give him the time.
    pub(super) fn left_without_companions(&mut self, now: Instant) {
        self.next = now + REPLACING;
        self.not_before = self.next;
    }

    /// The file can't be opened, or was closed because it can't be read. It is polled for at `next_poll`, every
    /// `poll_interval`.
    pub(super) fn failed(
        &mut self,
        obstacle: Obstacle,
        next_poll: Instant,
        poll_interval: Duration,
        now: Instant,
    ) {
        self.next = match obstacle {
            Obstacle::Absent => next_poll,
            Obstacle::Locked(lasted) => {
                now + (lasted / AFTER_LOCKED).clamp(LEAST_LOCKED, LONGEST_LOCKED)
            }
            Obstacle::Shared => now + UNHEARD,
            Obstacle::Broken => {
                self.not_before = now + REOPEN;
                let least = poll_interval.min(MAX_BACKOFF);
                self.backoff = (self.backoff * 2).clamp(least, MAX_BACKOFF);
                now + self.backoff
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const POLL: Duration = Duration::from_millis(250);

    #[test]
    fn a_broken_file_is_tried_less_and_less_and_soon_after_a_file_event() {
        let start = Instant::now();
        let mut reopening = Reopening::new(start);
        let mut pauses = Vec::new();
        let mut now = start;
        for _ in 0..7 {
            reopening.failed(Obstacle::Broken, now + POLL, POLL, now);
            pauses.push((reopening.next() - now).as_millis());
            now = reopening.next();
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        reopening.failed(Obstacle::Broken, now + POLL, POLL, now);
        reopening.hint(now);
        assert_eq!(reopening.next(), now + REOPEN);
        reopening.opened();
        reopening.failed(Obstacle::Broken, now + POLL, POLL, now);
        assert_eq!(reopening.next(), now + POLL);
    }

    #[test]
    fn a_file_that_is_not_there_is_looked_for_at_the_poll_and_at_once_after_a_file_event() {
        let now = Instant::now();
        let mut reopening = Reopening::new(now);
        reopening.failed(Obstacle::Absent, now + POLL, POLL, now);
        assert_eq!(reopening.next(), now + POLL);
        reopening.hint(now + MS);
        assert_eq!(reopening.next(), now + MS);
    }

    #[test]
    fn a_locked_file_is_late_by_an_eighth_of_the_lock_and_no_more_than_a_tenth_of_a_second() {
        let now = Instant::now();
        for (lasted, pause) in [(0, 5), (80, 10), (400, 50), (60_000, 100)] {
            let mut reopening = Reopening::new(now);
            reopening.failed(Obstacle::Locked(lasted * MS), now + POLL, POLL, now);
            assert_eq!(reopening.next(), now + pause * MS);
        }
    }

    #[test]
    fn who_moves_another_file_into_place_is_given_time_whatever_file_events_say() {
        let now = Instant::now();
        let mut reopening = Reopening::new(now);
        reopening.left_without_companions(now);
        reopening.hint(now + MS);
        assert_eq!(reopening.next(), now + REPLACING);
        reopening.left(now + MS);
        assert_eq!(reopening.next(), now + MS);
    }
}
