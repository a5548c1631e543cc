//! What the feed loop does next, and when: all its timers, and what wakes and looks mean for them. It asks no clock, no file
//! and no table: it is told what was seen, and says what is to be done.

mod commit_schedule;
mod dense_commits;
mod reopening;
mod situation;
mod task;

use std::time::{Duration, Instant};

use crate::model::wakeup::Wakes;
use commit_schedule::{CommitSchedule, Pause};
use dense_commits::DenseCommits;
pub(super) use reopening::Obstacle;
use reopening::Reopening;
pub(super) use situation::{Due, Found, OpenFile, Seen, Situation};
pub(super) use task::{Look, Task, Wait};

/// How often the watched directories are compared with those the path leads to: a dozen lookups, for a rare event.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the path still names the open file while no file event would tell; that it does not
/// is to be noticed within a second.
const COMPARE_EVERY: Duration = Duration::from_millis(250);
/// How often a fresh connection reads the head row, to notice a file that was garbled in place.
const READ_AFRESH_EVERY: Duration = Duration::from_secs(30);
/// How often switching to WAL is tried while somebody keeps the file from it ...
const SWITCH_EVERY: Duration = Duration::from_secs(1);
/// ... and where the file can't be in WAL mode.
const UNSWITCHABLE_FOR: Duration = Duration::from_secs(30);
/// A row may wait for so long while others are written to a rollback journal.
const LONGEST_PUT_OFF: Duration = Duration::from_millis(30);

/// All that the feed loop does by the clock.
#[derive(Debug)]
pub(crate) struct Schedule {
    poll_interval: Duration,
    commits: CommitSchedule,
    dense: DenseCommits,
    reopening: Reopening,
    /// When the look that is waited for is due.
    next_look: Option<Instant>,
    next_poll: Instant,
    next_watch: Instant,
    next_compare: Instant,
    next_switch: Instant,
    next_read_afresh: Instant,
    /// Since when looks are put off.
    put_off: Option<Instant>,
    turn: Turn,
}

/// One turn of the feed loop: what woke it, and what of that is done.
#[derive(Debug, Default)]
struct Turn {
    /// The stages that are behind it.
    done: usize,
    wakes: Wakes,
    is_poll: bool,
    is_asked: bool,
    /// The file was compared with what the path leads to, or opened.
    is_checked: bool,
}

/// A stage of a turn: it may come to a task.
type Stage = fn(&mut Schedule, &Situation, Instant) -> Option<Task>;

const STAGES: [Stage; 8] = [
    Schedule::watch,
    Schedule::compare,
    Schedule::open,
    Schedule::switch_to_wal,
    Schedule::look,
    Schedule::say_goodbye,
    Schedule::save,
    Schedule::read_afresh,
];

impl Schedule {
    /// With everything due but the reading afresh.
    pub(crate) fn new(poll_interval: Duration, now: Instant) -> Schedule {
        Schedule {
            poll_interval,
            commits: CommitSchedule::default(),
            dense: DenseCommits::default(),
            reopening: Reopening::new(now),
            next_look: None,
            next_poll: now,
            next_watch: now,
            next_compare: now,
            next_switch: now,
            next_read_afresh: now + READ_AFRESH_EVERY,
            put_off: None,
            turn: Turn::default(),
        }
    }

    /// Decides whether file events are wanted, for else commits are asked for. With a rollback journal they always are: every
    /// look takes a lock.
    pub(crate) fn decide_listening(&mut self, situation: &Situation) -> bool {
        if !situation.file.is_some_and(|file| file.is_wal) {
            self.dense.stop();
        }
        !self.dense.is_asking()
    }

    /// How long to wait for wakes.
    pub(crate) fn wait(&mut self, situation: &Situation, now: Instant) -> Wait {
        let pause = situation.file.and_then(|file| self.pause(file, now));
        self.next_look = pause.as_ref().map(|pause| pause.look_at);
        let unfinished = situation.is_unfinished().then_some(now);
        let open = situation.file.is_none().then(|| self.reopening.next());
        let compare = self.is_unheard(situation).then_some(self.next_compare);
        let until = [
            situation.tables.save,
            situation.retry(),
            situation.goodbye(),
            self.next_look,
            unfinished,
            open,
            compare,
        ];
        let until = until
            .into_iter()
            .flatten()
            .fold(self.next_poll, Instant::min);
        Wait {
            deaf_until: pause.map(|pause| pause.deaf_until.min(until)),
            until,
        }
    }

    /// Until the next look for a commit, if one is expected.
    fn pause(&self, file: OpenFile, now: Instant) -> Option<Pause> {
        match self.dense.is_asking() {
            true => Some(Pause::until(now + dense_commits::EVERY)),
            false => self.commits.next(now, file.is_wal),
        }
    }

    /// A turn begins, with these wakes; `is_asked`: somebody waits until all that was committed so far is seen.
    pub(crate) fn begin_turn(&mut self, wakes: Wakes, is_asked: bool, now: Instant) {
        if wakes.contains(Wakes::FILE) {
            self.commits.wrote(now);
        } else if wakes.contains(Wakes::NEARBY) {
            self.commits.look_around(now);
        }
        self.turn = Turn {
            wakes,
            is_poll: now >= self.next_poll,
            is_asked,
            ..Turn::default()
        };
        if self.turn.is_poll {
            self.next_poll = now + self.poll_interval;
        }
        if self.turn.is_touched() {
            self.reopening.hint(now);
        }
    }

    /// The next task of the turn; `None` when there is nothing more to do before the next wait.
    pub(crate) fn next(&mut self, situation: &Situation, now: Instant) -> Option<Task> {
        while let Some(stage) = STAGES.get(self.turn.done) {
            self.turn.done += 1;
            if let Some(task) = stage(self, situation, now) {
                return Some(task);
            }
        }
        None
    }

    fn watch(&mut self, situation: &Situation, now: Instant) -> Option<Task> {
        let replaced = self.turn.wakes.contains(Wakes::REPLACED);
        let unheard = self.is_unheard(situation) && now >= self.next_compare;
        self.turn.is_checked = self.turn.is_poll || unheard || replaced;
        if !self.turn.is_checked {
            return None;
        }
        self.next_compare = now + COMPARE_EVERY;
        if now < self.next_watch && !replaced {
            return None;
        }
        self.next_watch = now + WATCH_EVERY;
        Some(Task::Watch)
    }

    fn compare(&mut self, situation: &Situation, _: Instant) -> Option<Task> {
        (self.turn.is_checked && situation.file.is_some()).then_some(Task::Compare)
    }

    fn open(&mut self, situation: &Situation, now: Instant) -> Option<Task> {
        (situation.file.is_none() && now >= self.reopening.next()).then_some(Task::Open)
    }

    fn switch_to_wal(&mut self, situation: &Situation, now: Instant) -> Option<Task> {
        let is_other = situation.file.is_some_and(|file| !file.is_wal);
        let due = self.turn.is_checked && is_other && now >= self.next_switch;
        due.then_some(Task::SwitchToWal)
    }

    fn look(&mut self, situation: &Situation, now: Instant) -> Option<Task> {
        let turn = &self.turn;
        let retries = is_due(situation.tables.retry, now);
        // The daemon's own commit is visible already.
        let expected = turn.is_asked || turn.wakes.contains(Wakes::HOOK);
        let due = retries || is_due(situation.goodbye(), now) || is_due(situation.tables.save, now);
        let worth_a_lock = turn.is_poll || expected || due || situation.is_unfinished();
        (worth_a_lock || self.is_commit_likely(situation, now)).then(|| {
            Task::Look(Look {
                is_poll: turn.is_poll,
                may_wait: !worth_a_lock,
                retries,
                woken: match self.dense.is_asking() {
                    true => self.next_look,
                    false => self.commits.begun(now),
                },
            })
        })
    }

    fn say_goodbye(&mut self, situation: &Situation, now: Instant) -> Option<Task> {
        is_due(situation.goodbye(), now).then_some(Task::SayGoodbye)
    }

    fn save(&mut self, situation: &Situation, now: Instant) -> Option<Task> {
        is_due(situation.tables.save, now).then_some(Task::Save)
    }

    fn read_afresh(&mut self, _: &Situation, now: Instant) -> Option<Task> {
        if now < self.next_read_afresh {
            return None;
        }
        self.next_read_afresh = now + READ_AFRESH_EVERY;
        Some(Task::ReadAfresh)
    }

    /// Returns whether no event would tell of another file in place of this: none are to be had, or commits are asked for.
    fn is_unheard(&self, situation: &Situation) -> bool {
        self.dense.is_asking() || !situation.is_watched
    }

    /// Returns whether a commit may be there. Events of other files in the directory say nothing, and there may be many
    /// of them.
    fn is_commit_likely(&self, situation: &Situation, now: Instant) -> bool {
        let due = is_due(self.next_look, now);
        // Just opened, perhaps by a timer that no event led to; or the last look failed.
        let unseen = situation.is_unseen();
        (self.turn.is_touched() || due || unseen) && !self.commits.is_early(now)
    }

    /// Returns whether a look that may wait is better put off. `is_written`: a transaction is being written to a rollback
    /// journal, and the look takes a lock that its commit has to wait for. Of transactions without a pause between them
    /// each would put it off, so not for ever.
    pub(crate) fn puts_off(&mut self, is_written: bool, now: Instant) -> bool {
        let since = *self.put_off.get_or_insert(now);
        let puts_off = is_written && now.saturating_duration_since(since) < LONGEST_PUT_OFF;
        if !puts_off {
            self.put_off = None;
        }
        puts_off
    }

    /// A look at `file` that began at `began` ended with this.
    pub(crate) fn looked(&mut self, file: OpenFile, found: Found, began: Instant, ended: Instant) {
        match found {
            Found::Nothing => self.commits.looked(),
            // What was written up to now is of these commits, most likely; of one that is still to be seen the looks that
            // follow every commit take care.
            Found::Commits { writes } => self.commits.moved(ended, writes),
            Found::Failure => {}
        }
        if file.is_wal {
            let found = matches!(found, Found::Commits { .. });
            self.dense.looked(found, began, ended);
        }
    }

    /// Returns whether commits are asked for, and file events not wanted.
    pub(crate) fn is_asking(&self) -> bool {
        self.dense.is_asking()
    }

    /// Returns whether looks are made because of a write or a commit.
    pub(crate) fn is_following(&self, now: Instant) -> bool {
        self.commits.is_on(now)
    }

    /// File events are to be had from now on: what happened before brought none.
    pub(crate) fn watch_began(&mut self, now: Instant) {
        self.commits.look_around(now);
        self.reopening.hint(now);
    }

    /// File events are listened to again: a commit that is not visible yet brought none.
    pub(crate) fn listens_again(&mut self, now: Instant) {
        self.commits.look_soon(now);
    }

    /// The path does not lead to what was open any more; `apart`: the files beside it went away.
    pub(crate) fn file_left(&mut self, apart: bool, now: Instant) {
        match apart {
            true => self.reopening.left_without_companions(now),
            false => self.reopening.left(now),
        }
    }

    /// A file was opened.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.reopening.opened();
        self.put_off = None;
        self.next_switch = now;
        self.turn.is_checked = true;
    }

    /// No file is open, for this reason.
    pub(crate) fn kept_from_opening(&mut self, obstacle: Obstacle, now: Instant) {
        self.reopening
            .failed(obstacle, self.next_poll, self.poll_interval, now);
    }

    /// Switching to WAL was tried; `can_be`: the file is in WAL mode now, or may be some time soon.
    pub(crate) fn tried_to_switch(&mut self, can_be: bool, now: Instant) {
        let pause = if can_be {
            SWITCH_EVERY
        } else {
            UNSWITCHABLE_FOR
        };
        self.next_switch = now + pause;
    }
}

impl Turn {
    /// Returns whether something happened to the files.
    fn is_touched(&self) -> bool {
        let files = Wakes::FILE | Wakes::NEARBY | Wakes::REPLACED;
        self.wakes.contains(files)
    }
}

fn is_due(time: Option<Instant>, now: Instant) -> bool {
    time.is_some_and(|time| now >= time)
}

#[cfg(test)]
mod tests;
