//! The one thread that sees commits: wait for a wake, look whether the database moved, read what is above the heads and
//! publish it, and go on looking for a while, because a write to the WAL is seen before the commit it belongs to.
//! It owns the read connection and the cursors, so nothing here needs a lock.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::config::Config;
use crate::hub::Hub;
use crate::model::wakeup::{Waiter, Wakes};
use crate::source::capture_upkeep::CaptureUpkeep;
use crate::source::file::{Database, SourceFile};
use crate::source::schedule::{Found, Look, Schedule, Seen, Situation, Task};
use crate::sqlite::open_connections::OpenConnections;
use crate::sqlite::watcher::Backend;
use crate::telemetry::metrics::Metrics;

mod discovery;
mod file_trouble;
mod reading;
mod tables;
mod troubles;
mod upkeep;

use file_trouble::FileTrouble;
use tables::Tables;

/// The feed loop's state. [`run`](FeedLoop::run) it on a thread of its own.
pub struct FeedLoop {
    config: Arc<Config>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    schedule: Schedule,
    source: SourceFile,
    tables: Tables,
    trouble: FileTrouble,
    /// Called once per turn, so that a watchdog fed by it proves that the loop turns.
    alive: Box<dyn FnMut() + Send>,
    /// Told when the file is opened and when its schema moves; `None` where nothing is captured.
    captures: Option<Arc<CaptureUpkeep>>,
}

impl FeedLoop {
    /// A loop that has opened nothing yet. `alive` is called at every turn, for systemd's watchdog.
    pub fn new(
        config: Arc<Config>,
        hub: Arc<Hub>,
        waiter: Waiter,
        metrics: Arc<Metrics>,
        open_connections: Arc<OpenConnections>,
        alive: Box<dyn FnMut() + Send>,
        captures: Option<Arc<CaptureUpkeep>>,
    ) -> FeedLoop {
        FeedLoop {
            schedule: Schedule::new(config.limits.poll_interval, Instant::now()),
            source: SourceFile::new(Arc::clone(&config), open_connections, waiter),
            tables: Tables::new(Arc::clone(&config), Arc::clone(&hub), Arc::clone(&metrics)),
            trouble: FileTrouble::default(),
            config,
            hub,
            metrics,
            alive,
            captures,
        }
    }

    /// Opens what is there before anyone is served. A table that can't be a feed keeps none of the others from being one.
    pub fn start(&mut self) {
        if Backend::of(self.config.watch).is_none() {
            let (watch, interval) = (self.config.watch.as_str(), self.config.limits.poll_interval);
            tracing::info!(
                "no file events are listened to (watch = {watch:?}); rows are noticed by polling every {} ms",
                interval.as_millis()
            );
        }
        self.watch();
        self.open();
        self.switch_to_wal();
    }

    /// Why a table can't be a feed, of the first that can't.
    pub fn unfit(&self) -> Option<&str> {
        self.tables.unfit()
    }

    /// Runs until [`Wakes::STOP`].
    pub fn run(mut self) {
        precise_sleeps();
        loop {
            let wakes = self.wait();
            if wakes.contains(Wakes::STOP) {
                break;
            }
            self.turn(wakes);
            (self.alive)();
        }
        self.tables.save_at_end(self.source.database.as_ref());
    }

    /// Waits until something is to be done, and says what woke it.
    fn wait(&mut self) -> Wakes {
        let now = Instant::now();
        let situation = self.situation();
        let listens = self.schedule.decide_listening(&situation);
        if self.source.events.listen(listens) {
            self.schedule.listens_again(now);
        }
        let wait = self.schedule.wait(&situation, now);
        self.source.events.wait(&wait)
    }

    /// Does what is due.
    fn turn(&mut self, wakes: Wakes) {
        let now = Instant::now();
        let mut asked = self.hub.take_waiting();
        let wakes = wakes | self.source.events.take();
        self.count(wakes);
        self.schedule.begin_turn(wakes, !asked.is_empty(), now);
        while let Some(task) = self.schedule.next(&self.situation(), now) {
            match task {
                Task::Watch => self.watch(),
                Task::Compare => self.compare(now),
                Task::Open => self.open(),
                Task::SwitchToWal => self.switch_to_wal(),
                Task::Look(look) => {
                    self.look(look, now);
                    self.answer(std::mem::take(&mut asked));
                }
                Task::SayGoodbye => self.say_goodbye(now),
                Task::Save => self.tables.save(now),
                Task::ReadAfresh => self.read_afresh(),
            }
        }
    }

    /// Lets feeds go whose tables stayed away. What is left of a table may be another feed: the next look finds that.
    fn say_goodbye(&mut self, now: Instant) {
        if self.tables.say_goodbye(now)
            && let Some(database) = &mut self.source.database
        {
            database.forget_schema();
        }
    }

    /// What the schedule has to know.
    fn situation(&self) -> Situation {
        Situation {
            file: self.source.database.as_ref().map(Database::situation),
            is_watched: self.source.events.is_watched(),
            tables: self.tables.due(),
        }
    }

    fn count(&self, wakes: Wakes) {
        let files = Wakes::FILE | Wakes::NEARBY;
        for (wake, source) in [(files, "wal"), (Wakes::HOOK, "hook")] {
            if wakes.contains(wake) {
                self.metrics.wakes.with_label_values(&[source]).inc();
            }
        }
    }

    /// Looks for commits and publishes what they brought.
    fn look(&mut self, look: Look, now: Instant) {
        let Some(database) = &mut self.source.database else {
            return self.hub.beat(None);
        };
        // With a rollback journal every look takes a lock that a committing writer has to wait for.
        if look.may_wait && self.schedule.puts_off(database.is_being_written(), now) {
            return;
        }
        let file = database.situation();
        let events = &mut self.source.events;
        let schema = database.schema_version;
        let read = self.tables.read(database, events, look, now);
        if let Some(captures) = self
            .captures
            .as_ref()
            .filter(|_| database.schema_version != schema)
        {
            captures.look_again();
        }
        let found = *read.as_ref().unwrap_or(&Found::Failure);
        self.count_found(found, look, now);
        self.schedule.looked(file, found, now, Instant::now());
        match read {
            Ok(_) => self.trouble.clear(&self.config.database, &self.hub),
            Err(e) => self.failed(&e),
        }
    }

    /// Commits that no wake told of are counted by what led to the look.
    fn count_found(&self, found: Found, look: Look, now: Instant) {
        if !matches!(found, Found::Commits { .. }) {
            return;
        }
        if self.schedule.is_asking() && self.source.events.is_watched() {
            self.count(Wakes::FILE);
        }
        if look.is_poll && !self.schedule.is_following(now) {
            self.metrics.wakes.with_label_values(&["poll"]).inc();
        }
    }

    /// Tells those who wait until all that was committed is seen, unless there is more to read first.
    fn answer(&mut self, asked: Vec<oneshot::Sender<bool>>) {
        if asked.is_empty() {
            return;
        }
        let seen = self.source.database.as_ref().map(|database| database.seen);
        if seen == Some(Seen::Partly) {
            return self.hub.keep_waiting(asked);
        }
        self.tables.take_filters();
        for waiter in asked {
            // A look that failed has forgotten what it saw before. Who asked may be gone.
            let _ = waiter.send(seen != Some(Seen::Unknown));
        }
    }
}

/// Makes sleeps of 20 µs last about that long: the kernel's default slack of 50 µs would more than double them.
fn precise_sleeps() {
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1_000)) {
        tracing::debug!("timers stay coarse: {e}");
    }
}
