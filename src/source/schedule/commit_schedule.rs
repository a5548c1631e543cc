//! When to look for a commit after a write was noticed, and how long to go on.
//!
//! The frames of a commit are in the WAL, and their file event is here, before the commit is visible; the event is no
//! later than the commit, and nothing else will tell of it. So it is looked for, at intervals that grow with the time
//! waited: a commit that syncs to a slow disk can take long, and a row is late by an eighth of what its commit took.
//!
//! Every look is paid for by the writer, whose core or whose disk it may need in the middle of the commit. So there are
//! as few as the promise allows: the first comes when commits have usually been visible of late, and until a commit is
//! seen, further writes (a small one makes four) wake nobody.

use std::time::{Duration, Instant};

/// As fine as is useful: a busy loop preempts the writer in the middle of its commit.
const FINEST: Duration = Duration::from_micros(20);
/// With a rollback journal a look takes a lock, so fewer of them.
const FINEST_JOURNAL: Duration = Duration::from_millis(1);
/// As coarse as the promise of 100 ms allows, with room to spare.
const COARSEST: Duration = Duration::from_millis(25);
/// Quiet for so long after a commit, the feed is quiet.
const FOR: Duration = Duration::from_secs(1);
/// A write that no commit has followed is looked after for this long, now and then: its commit may be syncing to a very
/// slow disk. One that stays open longer writes again when it commits, and that is a new event.
const UNANSWERED_FOR: Duration = Duration::from_secs(60);
/// The same for a write that may have been the last commit's: there are many of those. With a rollback journal none is
/// needed: the end of its commit is an event.
const DOUBTED_FOR: Duration = Duration::from_secs(10);
const UNANSWERED_EVERY: Duration = Duration::from_millis(50);
/// The next look comes after the time waited, divided by this.
const AFTER_WRITE: u32 = 8;
/// The same when a commit was seen and writes came while it was read: they may be the next one's, and its last.
const AFTER_DOUBT: u32 = 2;
/// How long after the commit the first of those looks comes.
const SOON: Duration = Duration::from_micros(50);
/// The same when a commit was seen and nothing else. There is another to be found only if all its writes were noticed
/// together with those of the one before it: rare, and not worth many looks after every row.
const AFTER_COMMIT: u32 = 1;
/// The first of those looks: a row is late by so much when that rare thing happens.
const LATER: Duration = Duration::from_millis(2);
/// A transaction that goes on writing is looked after less and less: its commit is seen late by this share of it.
const WHILE_WRITING: u32 = 64;
/// The longest wait for a commit that is usually slow: so late is the first quick one among slow ones.
const LONGEST_USUAL: Duration = Duration::from_micros(500);

/// How the first look is learned: by 32nds of the wait, one sooner where the commit was there and three later where it was
/// not, so that three of four first looks find their commit. A look that comes too soon may run on the writer's own core
/// in the middle of its commit; with five of six too soon, as once, a FULL writer's commit took a fifth longer. Looks
/// that come late cost a row some 50 µs at the median.
const STEPS: u32 = 32;
const LATER_STEPS: u32 = 3;
/// A wait that is learned from nothing has to begin with something.
const LEAST_STEP: Duration = Duration::from_micros(6);
/// Commits usually this quick are looked for at once: they did not wait for a disk, so there are few looks to spare, and
/// learning when they are there takes longer than they do.
const AT_ONCE: Duration = Duration::from_micros(100);

/// Looking again after a write, until it has been quiet for a while.
#[derive(Debug, Default)]
pub(super) struct CommitSchedule {
    /// The last write or commit, or what else may have to do with one.
    since: Option<Instant>,
    /// The last write.
    wrote: Option<Instant>,
    /// The first write that no commit has followed, or the first after a quiet while.
    begun: Option<Instant>,
    /// Looks since then.
    looks: u32,
    /// There may be writes of a commit that was not seen yet: some came while the last one was read, or none were heard.
    in_doubt: bool,
    /// From the first write of a commit until it is visible, for three of four commits; learned from those before.
    usual: Duration,
}

/// What to do until the next look.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pause {
    /// Until then a write would tell nothing new.
    pub deaf_until: Instant,
    pub look_at: Instant,
}

impl Pause {
    /// Nothing is heard before the look, at `look_at`.
    pub(super) fn until(look_at: Instant) -> Pause {
        Pause {
            deaf_until: look_at,
            look_at,
        }
    }
}

impl CommitSchedule {
    /// Notes that the file was written to.
    pub(super) fn wrote(&mut self, now: Instant) {
        self.since = Some(now);
        let wrote = self.wrote.replace(now);
        // What was written long ago and not committed says nothing about when this will be.
        let fresh = wrote.is_none_or(|wrote| now.saturating_duration_since(wrote) >= FOR);
        if self.begun.is_none() || fresh {
            self.begun = Some(now);
            self.looks = 0;
        }
    }

    /// Looks for a while although nothing was written that a commit should follow.
    pub(super) fn look_around(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// Looks soon, and then for a while: writes were not heard of until now.
    pub(super) fn look_soon(&mut self, now: Instant) {
        (self.since, self.wrote) = (Some(now), Some(now));
        self.in_doubt = true;
    }

    /// Notes that a look found no commit.
    pub(super) fn looked(&mut self) {
        self.looks += 1;
    }

    /// Commits were seen; others may be on their way, all the more if there were `writes` meanwhile.
    pub(super) fn moved(&mut self, now: Instant, writes: bool) {
        self.in_doubt = writes;
        if let Some(begun) = self.begun.take() {
            self.learn(now - begun);
        }
        if self.since.is_some() {
            self.since = Some(now);
        }
    }

    /// A commit that the first look found may have been there for a while: the next first look comes a little sooner. One
    /// that took more looks moves it later, by no more than that commit took.
    fn learn(&mut self, took: Duration) {
        let step = self.usual / STEPS;
        self.usual = if self.looks == 0 {
            self.usual - step
        } else {
            let later = self.usual + (step * LATER_STEPS).max(LEAST_STEP);
            later.min(took.max(self.usual)).min(LONGEST_USUAL)
        };
    }

    /// Returns whether a look would come before the commit, most likely.
    pub(super) fn is_early(&self, now: Instant) -> bool {
        self.first_look().is_some_and(|first| now < first)
    }

    /// When the first look is due; `None` when there was one, or it is due at once.
    fn first_look(&self) -> Option<Instant> {
        let begun = self.begun.filter(|_| self.looks == 0)?;
        (self.usual >= AT_ONCE).then(|| begun + self.usual)
    }

    /// Returns whether there was a write or a commit of late, so that another may follow.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        let quiet = |since| now.saturating_duration_since(since);
        self.since.is_some_and(|since| quiet(since) < FOR)
    }

    /// When the writes were noticed that no commit has been seen for.
    pub(super) fn begun(&self, now: Instant) -> Option<Instant> {
        self.begun.filter(|_| self.is_on(now))
    }

    /// When to look next; `None` when nothing is expected.
    pub(super) fn next(&self, now: Instant, wal: bool) -> Option<Pause> {
        let waited = now.saturating_duration_since(self.since?);
        let listening = |pause| Pause {
            deaf_until: now,
            look_at: now + pause,
        };
        if waited >= FOR {
            let within = |limit| self.wrote.is_some_and(|wrote| now - wrote < limit);
            let expected = self.begun.is_some() && within(UNANSWERED_FOR)
                || self.in_doubt && wal && within(DOUBTED_FOR);
            return expected.then(|| listening(UNANSWERED_EVERY));
        }
        if !wal {
            return Some(listening(
                (waited / AFTER_WRITE).clamp(FINEST_JOURNAL, COARSEST),
            ));
        }
        let Some(begun) = self.begun else {
            let (first, share) = match self.in_doubt {
                true => (SOON, AFTER_DOUBT),
                false => (LATER, AFTER_COMMIT),
            };
            return Some(listening((waited / share).clamp(first, COARSEST)));
        };
        if let Some(first) = self.first_look().filter(|first| now < *first) {
            return Some(Pause::until(first));
        }
        let deaf = ((now - begun) / WHILE_WRITING).clamp(FINEST, COARSEST);
        Some(Pause {
            deaf_until: now + deaf,
            look_at: now + (waited / AFTER_WRITE).clamp(deaf, COARSEST),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);
    const MS: Duration = Duration::from_millis(1);

    /// Looks as `schedule` says from `now` on, until a look at or after `visible`. Gives when, and how many looks it took.
    fn follow(schedule: &mut CommitSchedule, mut now: Instant, visible: Instant) -> (Instant, u32) {
        let mut looks = 0;
        loop {
            if !schedule.is_early(now) {
                looks += 1;
                if now >= visible {
                    schedule.moved(now, false);
                    return (now, looks);
                }
                schedule.looked();
            }
            now = schedule.next(now, true).expect("gave up too early").look_at;
        }
    }

    #[test]
    fn a_commit_is_seen_at_most_an_eighth_late() {
        for took in [10 * US, 100 * US, MS, 20 * MS, 300 * MS] {
            let (mut schedule, start) = (CommitSchedule::default(), Instant::now());
            schedule.wrote(start);
            let (seen, _) = follow(&mut schedule, start, start + took);
            let late = seen - (start + took);
            assert!(late <= (took / 7).max(FINEST), "{took:?}: {late:?} late");
        }
    }

    #[test]
    fn usually_slow_commits_are_looked_for_later_and_less_often() {
        let (mut schedule, mut now) = (CommitSchedule::default(), Instant::now());
        let commit = 300 * US;
        let looks = |schedule: &mut CommitSchedule, now: &mut Instant| {
            *now += MS;
            schedule.wrote(*now);
            let (seen, looks) = follow(schedule, *now, *now + commit);
            assert!(seen - *now < commit * 3 / 2);
            *now = seen;
            looks
        };
        let at_first = looks(&mut schedule, &mut now);
        for _ in 0..100 {
            looks(&mut schedule, &mut now);
        }
        let later: Vec<u32> = (0..100).map(|_| looks(&mut schedule, &mut now)).collect();
        let too_soon = later.iter().filter(|looks| **looks > 1).count();
        assert!((1..=35).contains(&too_soon), "{later:?}");
        let later: u32 = later.iter().sum();
        assert!(
            later * 4 < at_first * 100,
            "{at_first}, then {later} in 100"
        );
    }

    #[test]
    fn a_quick_commit_among_slow_ones_is_late_by_a_moment() {
        let (mut schedule, mut now) = (CommitSchedule::default(), Instant::now());
        for _ in 0..200 {
            now += 100 * MS;
            schedule.wrote(now);
            (now, _) = follow(&mut schedule, now, now + 20 * MS);
        }
        now += 100 * MS;
        schedule.wrote(now);
        let (seen, _) = follow(&mut schedule, now, now);
        assert!(seen - now <= LONGEST_USUAL);
    }

    #[test]
    fn quick_commits_are_looked_for_at_once_again_after_slow_ones() {
        let (mut schedule, mut now) = (CommitSchedule::default(), Instant::now());
        for took in std::iter::repeat_n(MS, 100).chain(std::iter::repeat_n(FINEST, 100)) {
            now += 100 * MS;
            schedule.wrote(now);
            (now, _) = follow(&mut schedule, now, now + took);
        }
        schedule.wrote(now);
        assert!(!schedule.is_early(now + FINEST));
    }

    #[test]
    fn the_writes_of_one_commit_wake_nobody_and_those_of_the_next_do() {
        let (mut schedule, now) = (CommitSchedule::default(), Instant::now());
        schedule.wrote(now);
        schedule.looked();
        let pause = schedule.next(now, true).unwrap();
        assert_eq!(pause.deaf_until, pause.look_at);
        schedule.moved(now, false);
        assert_eq!(schedule.next(now, true).unwrap().deaf_until, now);
    }

    #[test]
    fn a_write_that_was_rolled_back_does_not_make_deaf() {
        let (mut schedule, start) = (CommitSchedule::default(), Instant::now());
        schedule.wrote(start);
        schedule.looked();
        let now = start + 200 * MS;
        let pause = schedule.next(now, true).unwrap();
        assert!(pause.deaf_until - now < 4 * MS && pause.look_at - now == COARSEST);
    }

    #[test]
    fn a_write_of_long_ago_that_was_rolled_back_says_nothing_about_the_next() {
        let (mut schedule, start) = (CommitSchedule::default(), Instant::now());
        schedule.wrote(start);
        schedule.looked();
        // A checkpoint, say, every now and then: looking after that write has an end all the same.
        let now = start + UNANSWERED_FOR;
        schedule.look_around(now);
        assert_eq!(schedule.next(now + FOR, true), None);
        let now = now + 2 * FOR;
        schedule.wrote(now);
        schedule.looked();
        assert_eq!(schedule.next(now, true).unwrap().look_at - now, FINEST);
    }

    #[test]
    fn a_transaction_that_goes_on_writing_is_looked_at_less_and_less() {
        let (mut schedule, start) = (CommitSchedule::default(), Instant::now());
        let (mut now, mut looks) = (start, 0);
        while now < start + 2000 * MS {
            schedule.wrote(now);
            schedule.looked();
            looks += 1;
            now = schedule.next(now, true).unwrap().deaf_until;
        }
        assert!(looks < 700, "{looks} looks");
    }

    #[test]
    fn a_commit_that_syncs_for_long_is_looked_for_even_if_its_writes_may_have_been_those_of_the_last()
     {
        let (mut schedule, now) = (CommitSchedule::default(), Instant::now());
        schedule.wrote(now);
        schedule.moved(now, true);
        let pause = schedule.next(now + DOUBTED_FOR / 2, true).unwrap();
        assert!(pause.look_at <= now + DOUBTED_FOR / 2 + UNANSWERED_EVERY);
        assert_eq!(schedule.next(now + DOUBTED_FOR, true), None);
        let now = now + UNANSWERED_FOR;
        schedule.look_soon(now);
        assert!(schedule.next(now + DOUBTED_FOR / 2, true).is_some());
        assert_eq!(schedule.next(now + DOUBTED_FOR, true), None);
    }

    #[test]
    fn it_ends_after_a_quiet_second_and_an_unanswered_write_after_a_minute() {
        let (mut schedule, now) = (CommitSchedule::default(), Instant::now());
        schedule.wrote(now);
        schedule.looked();
        assert!(schedule.next(now + FOR, true).is_some());
        assert_eq!(schedule.next(now + UNANSWERED_FOR, true), None);
        schedule.moved(now, false);
        assert!(schedule.next(now + FOR / 2, true).is_some());
        assert_eq!(schedule.next(now + FOR, true), None);
    }
}
