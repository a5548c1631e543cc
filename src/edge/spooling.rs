//! The thread that writes the spool: all that came since it looked last goes into one transaction, and the feed loop is woken.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::ErrorCode;

use super::intake::{Arrival, Arrived, Intake};
use super::status::EdgeStatus;
use crate::model::wakeup::{Wake, Wakes};
use crate::sqlite::spool::{Imported, SpoolItem, SpoolLimits, SpoolWriter};

/// How often it is looked whether the file is still there, and something to be pruned.
const LOOK: Duration = Duration::from_millis(250);
const PRUNE: Duration = Duration::from_millis(500);
/// How long is pruned at a time.
const PRUNING: Duration = Duration::from_millis(20);
/// The first pause before a transaction that failed is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The one who writes the spool.
pub(super) struct Spooling {
    pub writer: SpoolWriter,
    pub limits: SpoolLimits,
    pub intake: Arc<Intake>,
    pub status: Arc<EdgeStatus>,
    pub wake: Arc<Wake>,
}

/// What became of what was to be written.
enum Written {
    Done,
    /// The file is another one: what feeders bring is of no use before they have asked where to begin.
    Anew,
    /// SQLite refuses it, whoever holds the file and however much room there is.
    Refused(rusqlite::Error),
    /// The edge ends.
    Closed,
}

impl Spooling {
    pub(super) fn run(mut self) {
        // Feeders that have asked where to go on, and whose rows follow on what is here.
        let mut taken: HashSet<Arc<str>> = HashSet::new();
        let mut prune_at = Instant::now() + PRUNE;
        while let Some(arrivals) = self.intake.take(LOOK) {
            if !self.writer.is_there() && !self.open_anew(&mut taken) {
                return;
            }
            self.take_in(arrivals, &mut taken);
            if Instant::now() >= prune_at {
                self.prune();
                prune_at = Instant::now() + PRUNE;
            }
        }
    }

    /// Writes what came, and answers who asks in between.
    fn take_in(&mut self, arrivals: Vec<Arrival>, taken: &mut HashSet<Arc<str>>) {
        let mut batch: Vec<(Arc<str>, SpoolItem)> = Vec::new();
        for Arrival { feed, what } in arrivals {
            match what {
                Arrived::Item(SpoolItem::Removed) => {
                    taken.remove(&feed);
                    batch.push((feed, SpoolItem::Removed));
                }
                Arrived::Item(item) => {
                    if taken.contains(&feed) {
                        batch.push((feed, item));
                    }
                }
                Arrived::Question(answer) => {
                    self.write(&mut batch, taken);
                    let position = self.writer.position(&feed).unwrap_or_else(|e| {
                        tracing::warn!("feed {feed} is had anew, for the spool does not say how far it came: {e}");
                        None
                    });
                    taken.insert(feed);
                    // A feeder that is gone asks again when it is back.
                    let _ = answer.send(position);
                }
            }
        }
        self.write(&mut batch, taken);
    }

    fn write(&mut self, batch: &mut Vec<(Arc<str>, SpoolItem)>, taken: &mut HashSet<Arc<str>>) {
        let batch = std::mem::take(batch);
        if batch.is_empty() {
            return;
        }
        match self.import(&batch, taken) {
            Written::Done => self.written(&batch),
            Written::Closed => {}
            Written::Anew => self.send_back_all(taken),
            Written::Refused(_) => self.write_apart(batch, taken),
        }
        self.wake.signal(Wakes::HOOK);
    }

    /// Writes what came of each feed by itself. One whose rows are refused is had anew, and keeps none of the others from
    /// being written.
    fn write_apart(&mut self, batch: Vec<(Arc<str>, SpoolItem)>, taken: &mut HashSet<Arc<str>>) {
        let mut feeds: Vec<Vec<(Arc<str>, SpoolItem)>> = Vec::new();
        for (feed, item) in batch {
            match feeds.iter_mut().find(|items| items[0].0 == feed) {
                Some(items) => items.push((feed, item)),
                None => feeds.push(vec![(feed, item)]),
            }
        }
        for items in feeds {
            match self.import(&items, taken) {
                Written::Done => self.written(&items),
                Written::Closed => return,
                Written::Anew => return self.send_back_all(taken),
                Written::Refused(error) => {
                    let feed = &items[0].0;
                    let why =
                        format!("the spool does not take what comes ({error}); it is had anew");
                    self.status.cut_off(feed, &why);
                    taken.remove(feed);
                    if let Err(e) = self.writer.discard(feed) {
                        tracing::error!(
                            "feed {feed}: what is in the spool can't be let go of: {e}"
                        );
                    }
                    self.status.send_back(feed);
                }
            }
        }
    }

    fn written(&self, batch: &[(Arc<str>, SpoolItem)]) {
        for (feed, item) in batch {
            if let SpoolItem::UpTo(_) = item {
                self.status.live(feed);
            }
        }
    }

    /// Writes a batch, as often as it takes.
    fn import(
        &mut self,
        batch: &[(Arc<str>, SpoolItem)],
        taken: &mut HashSet<Arc<str>>,
    ) -> Written {
        let mut pause = PAUSES.0;
        loop {
            let items = batch.iter().map(|(feed, item)| (&**feed, item));
            let error = match self.writer.import(items) {
                Ok(imported) => {
                    self.status.spool(None);
                    self.heed(imported, taken);
                    return Written::Done;
                }
                Err(error) => error,
            };
            let path = self.writer.path().display().to_string();
            let code = error.sqlite_error_code();
            if matches!(
                code,
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ) {
                tracing::error!("the spool {path} is garbled ({error}); it is made anew");
                if let Err(e) = self.writer.start_over() {
                    self.status.spool(Some(e.to_string()));
                }
                return Written::Anew;
            }
            if !may_pass(code) {
                return Written::Refused(error);
            }
            self.status
                .spool(Some(format!("the spool {path} can't be written: {error}")));
            if self.intake.is_closed() {
                return Written::Closed;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
            if !self.writer.is_there() {
                return Written::Anew;
            }
        }
    }

    fn heed(&mut self, imported: Imported, taken: &mut HashSet<Arc<str>>) {
        for feed in &imported.begun {
            tracing::info!("feed {feed}: rows are had from the first on");
        }
        for feed in &imported.refill {
            tracing::info!(
                "feed {feed}: its table has another shape at the origin; rows are had anew"
            );
        }
        if let Some(feed) = imported.reworded.first() {
            self.status.demand_restart(format!(
                "the origin serves the feed {feed} otherwise than before (its paths, message, scope or columns); the edge ends, \
                 to be started again with that"
            ));
        }
        for feed in imported.refill {
            // What the feeder still brings follows on what was here, and would pass for all there is.
            taken.remove(feed.as_str());
            self.status.send_back(&feed);
        }
    }

    /// Opens what the path names by now. `false`: the edge ends.
    fn open_anew(&mut self, taken: &mut HashSet<Arc<str>>) -> bool {
        tracing::warn!(
            "the spool {} is not there any more; it is made anew and filled from the origin",
            self.writer.path().display()
        );
        let mut pause = PAUSES.0;
        while let Err(e) = self.writer.open_anew() {
            self.status
                .spool(Some(format!("the spool can't be made anew: {e}")));
            if self.intake.is_closed() {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
        self.status.spool(None);
        self.send_back_all(taken);
        true
    }

    /// Has every feeder ask anew where it is to go on.
    fn send_back_all(&mut self, taken: &mut HashSet<Arc<str>>) {
        for feed in taken.drain() {
            self.status.send_back(&feed);
        }
    }

    fn prune(&mut self) {
        // A part at a time, so that rows do not wait for long.
        let began = Instant::now();
        while began.elapsed() < PRUNING {
            match self.writer.prune(self.limits, SystemTime::now()) {
                Ok(0) => return,
                Ok(_) => self.wake.signal(Wakes::HOOK),
                Err(e) => return tracing::debug!("the spool was not pruned: {e}"),
            }
        }
    }
}

/// Returns whether what failed so may work later: somebody holds the file, or there is no room for it.
fn may_pass(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}
