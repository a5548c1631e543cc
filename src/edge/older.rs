//! Rows that the spool has no more, relayed from upstream to who asks for them. They are not put into the spool: what it keeps
//! is bounded, and would let go of them at once. Each reader of them goes on over the connection that the last page left, and
//! from the rows that came with it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::older_reading::{NotBegun, OlderReading};
use super::upstream::Upstream;
use crate::hub::{Feed, NoOlderRows, NotNow, OlderPage, OlderRows};
use crate::model::position::{Cursor, Epoch};
use crate::wire::block::Block;

/// How long a connection is kept for a reader that does not come.
const IDLE: Duration = Duration::from_secs(10);
/// So many are kept at most.
const MOST: usize = 16;
/// An upstream that could not be asked is not asked again for so long: whoever comes meanwhile is told at once.
const AWAY: Duration = Duration::from_secs(2);

/// Older rows of all feeds of an edge.
pub(super) struct Older {
    upstream: Upstream,
    /// What readers have left, the oldest first.
    kept: Mutex<Vec<(Instant, OlderReading)>>,
    /// When the upstream could not be asked last, feed by feed: what it refuses of one says nothing of the others.
    failed: Mutex<HashMap<String, Failed>>,
}

/// The upstream could not be asked.
#[derive(Clone, Copy)]
struct Failed {
    at: Instant,
    /// It was there all the same: who asks is behind by what it may have, and is not told that it is gone.
    is_for_now: bool,
}

impl Failed {
    fn answer(self) -> Result<Option<OlderReading>, NotNow> {
        match self.is_for_now {
            true => Err(NotNow),
            false => Ok(None),
        }
    }
}

impl fmt::Debug for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Older({})", self.upstream.shown())
    }
}

impl Older {
    pub(super) fn new(upstream: Upstream) -> Older {
        Older {
            upstream,
            kept: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// A reading that goes on at this position: one that is kept, or a new one.
    fn reading(
        &self,
        feed: &Arc<Feed>,
        epoch: &Epoch,
        after: Cursor,
    ) -> Result<Option<OlderReading>, NotNow> {
        let name = &feed.config.name;
        let mut kept = self.kept.lock();
        let found = kept
            .iter()
            .position(|(_, reading)| reading.goes_on_at(name, epoch, after));
        if let Some(found) = found {
            return Ok(Some(kept.remove(found).1));
        }
        drop(kept);
        let failed = self.failed.lock().get(name).copied();
        if let Some(failed) = failed.filter(|failed| failed.at.elapsed() < AWAY) {
            return failed.answer();
        }
        match OlderReading::begin(&self.upstream, feed, epoch, after) {
            Ok(reading) => Ok(reading),
            Err(NotBegun { why, is_for_now }) => {
                let at = Instant::now();
                let failed = Failed { at, is_for_now };
                self.failed.lock().insert(name.clone(), failed);
                tracing::warn!("feed {name}: rows older than the spool are not to be had: {why}");
                failed.answer()
            }
        }
    }

    fn keep(&self, reading: OlderReading) {
        let mut kept = self.kept.lock();
        if kept.len() >= MOST {
            kept.remove(0);
        }
        kept.push((Instant::now(), reading));
    }
}

impl OlderRows for Older {
    fn are_there(&self, feed: &Arc<Feed>, epoch: &Epoch, after: Cursor) -> Result<bool, NotNow> {
        let reading = self.reading(feed, epoch, after)?;
        let is_there = reading.is_some();
        if let Some(reading) = reading {
            self.keep(reading);
        }
        Ok(is_there)
    }

    fn page(&self, feed: &Arc<Feed>, wanted: &OlderPage<'_>) -> Result<Arc<Block>, NoOlderRows> {
        let reading = self.reading(feed, wanted.epoch, wanted.after);
        let reading = reading.map_err(|NotNow| NoOlderRows::NotNow)?;
        let mut reading = reading.ok_or(NoOlderRows::Gone)?;
        match reading.page(feed, wanted) {
            Ok(Some(page)) => {
                self.keep(reading);
                Ok(Arc::new(page))
            }
            Ok(None) => Err(NoOlderRows::FilterGone),
            Err(why) => {
                let name = &feed.config.name;
                tracing::warn!(
                    "feed {name}: rows older than the spool are not to be had any more: {why}"
                );
                Err(NoOlderRows::Gone)
            }
        }
    }

    fn forget_idle(&self) {
        let is_idle = |left: &Instant| left.elapsed() >= IDLE;
        self.kept.lock().retain(|(left, _)| !is_idle(left));
    }
}
