//! What an edge has heard of its source, for subscribers that know of more than the edge does: of an id or an epoch that
//! has not come here yet.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::older::OlderRows;
use crate::model::position::{Cursor, Epoch};

/// How long a subscriber waits at most until the source was heard.
pub const HOLD: Duration = Duration::from_secs(10);

/// What the source said of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceWord {
    /// When it was asked: what it said is no older.
    pub asked_at: Instant,
    pub epoch: Epoch,
    pub head: Cursor,
}

/// Where subscribers ask, and who feeds the edge answers.
#[derive(Debug, Default)]
pub struct SourceDesk {
    state: Mutex<Desk>,
    asked: Condvar,
    older: OnceLock<Arc<dyn OlderRows>>,
}

#[derive(Debug, Default)]
struct Desk {
    words: HashMap<String, SourceWord>,
    /// When somebody asked last.
    asked_at: Option<Instant>,
    /// What there is at the source may be something else now.
    look_again: bool,
    closed: bool,
}

impl SourceDesk {
    /// Rows older than the edge's own come from there.
    pub fn set_older(&self, older: Arc<dyn OlderRows>) {
        // Said once, where the edge is started.
        let _ = self.older.set(older);
    }

    /// Where rows older than the edge's own come from; `None` where there is no such place.
    pub fn older(&self) -> Option<&Arc<dyn OlderRows>> {
        self.older.get()
    }

    /// What the source said last of a feed; `None` where it said nothing yet.
    pub fn word(&self, feed: &str) -> Option<SourceWord> {
        self.state.lock().words.get(feed).cloned()
    }

    /// Somebody waits for the source to be heard.
    pub fn ask(&self) {
        self.state.lock().asked_at = Some(Instant::now());
        self.asked.notify_all();
    }

    /// Something tells that the source has other feeds now.
    pub fn look_again(&self) {
        self.state.lock().look_again = true;
        self.asked.notify_all();
    }

    /// The source said this of a feed.
    pub fn tell(&self, feed: &str, word: SourceWord) {
        self.state.lock().words.insert(feed.to_owned(), word);
    }

    /// Waits until somebody asks, or asked so short a time ago that he may wait still, or the source is to be looked at again;
    /// for no longer than `time`. Returns whether somebody waits for its word.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut desk = self.state.lock();
        loop {
            let waits = |at: Instant| at.elapsed() < HOLD + Duration::from_secs(1);
            if desk.asked_at.is_some_and(waits) {
                return true;
            }
            if std::mem::take(&mut desk.look_again) {
                return false;
            }
            if desk.closed || self.asked.wait_until(&mut desk, until).timed_out() {
                return false;
            }
        }
    }

    /// Nobody waits any more: the daemon ends.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.asked.notify_all();
    }
}
