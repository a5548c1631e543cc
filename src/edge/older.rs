//! Rows that the spool has no more, relayed from upstream to who asks for them. They are not put into the spool: what it keeps
//! is bounded, and would let go of them at once. Each reader of them goes on over the connection that the last page left, and
//! from the rows that came with it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::older_reading::OlderReading;
use super::upstream::Upstream;
use crate::hub::{Feed, NoOlderRows, OlderPage, OlderRows};
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
    /// When the upstream could not be asked last.
    failed_at: Mutex<Option<Instant>>,
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
            failed_at: Mutex::default(),
        }
    }

    /// A reading that goes on at this position: one that is kept, or a new one.
    fn reading(&self, feed: &Arc<Feed>, epoch: &Epoch, after: Cursor) -> Option<OlderReading> {
        let name = &feed.config.name;
        let mut kept = self.kept.lock();
        let found = kept
            .iter()
            .position(|(_, reading)| reading.goes_on_at(name, epoch, after));
        if let Some(found) = found {
            return Some(kept.remove(found).1);
        }
        drop(kept);
        let is_away = |at: Instant| at.elapsed() < AWAY;
        if self.failed_at.lock().is_some_and(is_away) {
            return None;
        }
        match OlderReading::begin(&self.upstream, feed, epoch, after) {
            Ok(reading) => reading,
            Err(why) => {
                *self.failed_at.lock() = Some(Instant::now());
                tracing::warn!("feed {name}: rows older than the spool are not to be had: {why}");
                None
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
    fn are_there(&self, feed: &Arc<Feed>, epoch: &Epoch, after: Cursor) -> bool {
        match self.reading(feed, epoch, after) {
            Some(reading) => {
                self.keep(reading);
                true
            }
            None => false,
        }
    }

    fn page(&self, feed: &Arc<Feed>, wanted: &OlderPage<'_>) -> Result<Arc<Block>, NoOlderRows> {
        let reading = self.reading(feed, wanted.epoch, wanted.after);
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
