use super::*;

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);
const POLL: Duration = Duration::from_millis(250);
const POLLED: Look = Look {
    is_poll: true,
    may_wait: false,
    retries: false,
    woken: None,
};

/// A schedule, what it is told of the file, and the time as it says.
struct Loop {
    schedule: Schedule,
    situation: Situation,
    now: Instant,
}

impl Loop {
    /// Follows a file in WAL mode of which all was seen, and has had its first turn.
    fn following() -> Loop {
        let now = Instant::now();
        let file = OpenFile {
            is_wal: true,
            seen: Seen::UpTo(1),
        };
        let mut following = Loop {
            schedule: Schedule::new(POLL, now),
            situation: Situation {
                file: Some(file),
                is_watched: true,
                tables: Due::default(),
            },
            now,
        };
        following.turn(Wakes::default());
        following
    }

    fn with(mut self, change: impl FnOnce(&mut Situation)) -> Loop {
        change(&mut self.situation);
        self
    }

    fn seen(&mut self, seen: Seen) {
        self.situation.file.as_mut().unwrap().seen = seen;
    }

    /// The tasks of a turn that these wakes began. Each look finds nothing.
    fn turn(&mut self, wakes: Wakes) -> Vec<Task> {
        self.schedule.begin_turn(wakes, false, self.now);
        let mut tasks = Vec::new();
        while let Some(task) = self.schedule.next(&self.situation, self.now) {
            if let (Task::Look(_), Some(file)) = (task, self.situation.file) {
                self.schedule
                    .looked(file, Found::Nothing, self.now, self.now);
            }
            tasks.push(task);
        }
        tasks
    }

    fn wait(&mut self) -> Wait {
        self.schedule.wait(&self.situation, self.now)
    }

    /// Waits without being woken, and gives the tasks of the turn that follows.
    fn next_turn(&mut self) -> Vec<Task> {
        self.now = self.wait().until;
        self.turn(Wakes::default())
    }

    /// The times until `end` at which `task` is done, from now on, in milliseconds.
    fn times(&mut self, end: Duration, task: impl Fn(&Task) -> bool) -> Vec<u128> {
        let start = self.now;
        let mut times = Vec::new();
        while self.now < start + end {
            if self.next_turn().iter().any(&task) {
                times.push((self.now - start).as_millis());
            }
        }
        times
    }

    /// Has commits come so densely that they are asked for.
    fn ask(&mut self) {
        let file = self.situation.file.unwrap();
        while self.schedule.decide_listening(&self.situation) {
            self.now += 20 * US;
            let found = Found::Commits { writes: true };
            self.schedule.looked(file, found, self.now, self.now);
        }
    }
}

fn looks(tasks: &[Task]) -> Vec<Look> {
    let looks = tasks.iter().filter_map(|task| match task {
        Task::Look(look) => Some(*look),
        _ => None,
    });
    looks.collect()
}

#[test]
fn a_quiet_file_is_polled_and_compared_and_its_watch_once_a_second() {
    let mut quiet = Loop::following();
    for _ in 0..3 {
        let before = quiet.now;
        assert_eq!(quiet.next_turn(), [Task::Compare, Task::Look(POLLED)]);
        assert_eq!(quiet.now - before, POLL);
        assert_eq!(quiet.wait().deaf_until, None);
    }
    let expected = [Task::Watch, Task::Compare, Task::Look(POLLED)];
    assert_eq!(quiet.next_turn(), expected);
}

#[test]
fn a_write_leads_to_one_look_and_others_until_its_commit_is_seen() {
    let mut written = Loop::following();
    written.now += MS;
    let wrote = written.now;
    let look = Look {
        is_poll: false,
        may_wait: true,
        retries: false,
        woken: Some(wrote),
    };
    assert_eq!(written.turn(Wakes::FILE), [Task::Look(look)]);
    assert_eq!(written.next_turn(), [Task::Look(look)]);
    assert!(written.now - wrote <= 20 * US);
    let file = written.situation.file.unwrap();
    let found = Found::Commits { writes: false };
    assert!(written.schedule.is_following(written.now));
    written
        .schedule
        .looked(file, found, written.now, written.now);
    assert!(written.wait().until - written.now >= MS);
}

#[test]
fn events_of_other_files_lead_to_no_look() {
    let mut quiet = Loop::following();
    quiet.now += MS;
    assert_eq!(quiet.turn(Wakes::default()), []);
}

#[test]
fn writes_of_commits_that_take_long_are_not_looked_at_at_once() {
    let mut slow = Loop::following();
    let file = slow.situation.file.unwrap();
    for _ in 0..100 {
        slow.now += 5 * MS;
        slow.turn(Wakes::FILE);
        let visible = slow.now + 300 * US;
        while slow.now < visible {
            slow.next_turn();
        }
        let found = Found::Commits { writes: false };
        slow.schedule.looked(file, found, slow.now, slow.now);
    }
    slow.now += 5 * MS;
    // The poll apart, which waits for nothing.
    slow.schedule.next_poll = slow.now + POLL;
    assert_eq!(looks(&slow.turn(Wakes::FILE)), []);
    let wait = slow.wait();
    assert_eq!(wait.deaf_until, Some(wait.until));
    assert!(wait.until - slow.now >= 150 * US);
    assert_eq!(looks(&slow.next_turn()).len(), 1);
}

#[test]
fn one_s_own_commit_and_whoever_asks_are_worth_a_lock() {
    let mut hooked = Loop::following();
    hooked.now += MS;
    assert!(!looks(&hooked.turn(Wakes::HOOK))[0].may_wait);
    hooked.schedule.begin_turn(Wakes::SYNC, true, hooked.now);
    let task = hooked.schedule.next(&hooked.situation, hooked.now);
    assert!(matches!(task, Some(Task::Look(look)) if !look.may_wait));
}

#[test]
fn rows_left_unread_are_read_at_once_and_so_is_a_file_just_opened_at_the_next_turn() {
    let mut large = Loop::following();
    large.seen(Seen::Partly);
    large.now += MS;
    assert_eq!(large.wait().until, large.now);
    assert!(!looks(&large.next_turn())[0].may_wait);
    large.seen(Seen::Unknown);
    assert_eq!(looks(&large.turn(Wakes::default())).len(), 1);
    // After a lock it is not asked again at once.
    assert!(large.wait().until > large.now);
}

#[test]
fn another_file_is_looked_for_at_once_and_opened_where_none_is_open() {
    let mut replaced = Loop::following();
    replaced.now += MS;
    let tasks = replaced.turn(Wakes::REPLACED);
    assert_eq!(tasks[..2], [Task::Watch, Task::Compare]);
    assert_eq!(looks(&tasks).len(), 1);
    replaced.situation.file = None;
    replaced.schedule.file_left(false, replaced.now);
    assert_eq!(replaced.wait().until, replaced.now);
    assert_eq!(replaced.next_turn(), [Task::Open]);
}

#[test]
fn a_file_that_is_not_there_is_looked_for_at_each_poll() {
    let mut absent = Loop::following().with(|situation| situation.file = None);
    absent
        .schedule
        .kept_from_opening(Obstacle::Absent, absent.now);
    let mut opened = Vec::new();
    for _ in 0..4 {
        let tasks = absent.next_turn();
        if tasks.contains(&Task::Open) {
            opened.push(absent.now);
            absent
                .schedule
                .kept_from_opening(Obstacle::Absent, absent.now);
        }
    }
    assert_eq!(opened.len(), 4);
    assert_eq!(opened[3] - opened[0], 3 * POLL);
    absent.now += MS;
    assert!(absent.turn(Wakes::NEARBY).contains(&Task::Open));
}

#[test]
fn a_file_opened_in_a_rollback_journal_is_switched_at_once_and_then_every_second() {
    let mut journal = Loop::following().with(|situation| situation.file = None);
    journal.now += MS;
    journal
        .schedule
        .begin_turn(Wakes::NEARBY, false, journal.now);
    let opens = journal.schedule.next(&journal.situation, journal.now);
    assert_eq!(opens, Some(Task::Open));
    journal.schedule.opened(journal.now);
    journal.situation.file = Some(OpenFile {
        is_wal: false,
        seen: Seen::Unknown,
    });
    let switches = journal.schedule.next(&journal.situation, journal.now);
    assert_eq!(switches, Some(Task::SwitchToWal));
    journal.schedule.tried_to_switch(true, journal.now);
    journal.seen(Seen::UpTo(1));
    let is_switch = |task: &Task| *task == Task::SwitchToWal;
    let times = journal.times(Duration::from_secs(2), is_switch);
    assert!((1_000..1_000 + POLL.as_millis()).contains(&times[0]));
    journal.schedule.tried_to_switch(false, journal.now);
    assert_eq!(journal.times(Duration::from_secs(29), is_switch), []);
}

#[test]
fn dense_commits_are_asked_for_and_another_file_is_noticed_all_the_same() {
    let mut dense = Loop::following();
    dense.schedule.poll_interval = 10 * POLL;
    dense.next_turn();
    dense.ask();
    let wait = dense.wait();
    assert_eq!(wait.until - dense.now, dense_commits::EVERY);
    assert_eq!(wait.deaf_until, Some(wait.until));
    let look = looks(&dense.next_turn())[0];
    assert_eq!(look.woken, Some(dense.now));
    let file = dense.situation.file.unwrap();
    let mut compared = Vec::new();
    let start = dense.now;
    while dense.now < start + 1_000 * MS {
        if dense.next_turn().contains(&Task::Compare) {
            compared.push(dense.now - start);
        }
        let found = Found::Commits { writes: false };
        dense.schedule.looked(file, found, dense.now, dense.now);
    }
    assert!(!dense.schedule.decide_listening(&dense.situation));
    assert!((3..=4).contains(&compared.len()), "{compared:?}");
}

#[test]
fn with_a_rollback_journal_commits_are_never_asked_for() {
    let mut dense = Loop::following();
    dense.ask();
    dense.situation.file.as_mut().unwrap().is_wal = false;
    assert!(dense.schedule.decide_listening(&dense.situation));
    assert!(!dense.schedule.is_asking());
}

#[test]
fn without_file_events_the_file_is_compared_four_times_a_second_whatever_the_poll() {
    let mut unheard = Loop::following().with(|situation| situation.is_watched = false);
    unheard.schedule.poll_interval = 60 * MS * 1_000;
    unheard.next_turn();
    let compared = unheard.times(Duration::from_secs(1), |task| *task == Task::Compare);
    assert_eq!(compared, [250, 500, 750, 1_000]);
}

#[test]
fn a_look_is_put_off_for_a_transaction_but_not_for_ever() {
    let mut written = Loop::following();
    let start = written.now;
    assert!(written.schedule.puts_off(true, start));
    assert!(written.schedule.puts_off(true, start + 29 * MS));
    assert!(!written.schedule.puts_off(true, start + 30 * MS));
    // The next one has its time again.
    assert!(written.schedule.puts_off(true, start + 31 * MS));
    assert!(!written.schedule.puts_off(false, start + 32 * MS));
    assert!(written.schedule.puts_off(true, start + 61 * MS));
}

#[test]
fn identities_and_tables_that_failed_have_their_time() {
    let mut due = Loop::following();
    let (save, retry) = (due.now + 10 * MS, due.now + 20 * MS);
    due.situation.tables.save = Some(save);
    due.situation.tables.retry = Some(retry);
    let tasks = due.next_turn();
    assert_eq!(due.now, save);
    assert_eq!(tasks[1..], [Task::Save]);
    assert!(!looks(&tasks)[0].retries);
    due.situation.tables.save = None;
    let tasks = due.next_turn();
    assert_eq!(due.now, retry);
    assert!(looks(&tasks)[0].retries);
    // A table is not tried again while the file is locked, or there is none.
    due.seen(Seen::Unknown);
    assert!(due.wait().until > due.now);
    due.situation.file = None;
    due.schedule.kept_from_opening(Obstacle::Absent, due.now);
    assert!(due.wait().until > due.now);
}

#[test]
fn the_head_rows_are_read_afresh_every_half_minute() {
    let mut quiet = Loop::following();
    let afresh = quiet.times(Duration::from_secs(61), |task| *task == Task::ReadAfresh);
    assert_eq!(afresh.len(), 2);
    assert!(afresh[0] >= 30_000 && afresh[1] >= 60_000);
}

#[test]
fn the_feed_of_a_dropped_table_goes_after_one_more_look_and_not_while_the_file_can_t_be_read() {
    let mut dropped = Loop::following();
    let goes = dropped.now + 10 * MS;
    dropped.situation.tables.goodbye = Some(goes);
    let tasks = dropped.next_turn();
    assert_eq!(dropped.now, goes);
    assert!(!looks(&tasks)[0].may_wait);
    assert_eq!(tasks[1..], [Task::SayGoodbye]);
    dropped.seen(Seen::Unknown);
    assert!(dropped.wait().until > dropped.now);
    assert!(!dropped.turn(Wakes::default()).contains(&Task::SayGoodbye));
}
