//! How a sink fares, for metrics and the dashboard.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::lag::HeadTimes;
use crate::model::position::Cursor;

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkActivity {
    /// There is no table to read, or not the columns that it filters by.
    Waiting,
    /// It delivers what was there before.
    CatchingUp,
    /// It delivers rows as they come.
    Live,
    /// The receiver does not take what it is sent; it is tried again.
    Failing,
    /// The receiver wants no rows any more.
    Ended,
}

impl SinkActivity {
    /// Returns the word for it in answers.
    pub fn word(self) -> &'static str {
        match self {
            SinkActivity::Waiting => "waiting",
            SinkActivity::CatchingUp => "catching_up",
            SinkActivity::Live => "live",
            SinkActivity::Failing => "failing",
            SinkActivity::Ended => "ended",
        }
    }
}

/// How a sink fares at one moment.
#[derive(Debug, Clone)]
pub struct SinkReport {
    pub name: String,
    pub feed: String,
    /// Scheme, host and port of the receiver.
    pub receiver: String,
    pub activity: SinkActivity,
    /// Why it waits, fails or has ended.
    pub trouble: Option<String>,
    /// Ids between the last row that was delivered and the head.
    pub lag_rows: i64,
    /// How long the oldest row waits that was not delivered.
    pub lag: Duration,
}

/// How a sink fares, told by the sink.
pub(crate) struct SinkState {
    name: String,
    feed: String,
    receiver: String,
    progress: Mutex<Progress>,
}

struct Progress {
    activity: SinkActivity,
    /// Why it waits.
    trouble: Option<String>,
    /// Why the receiver did not take what it was sent last.
    failure: Option<String>,
    /// Up to where was delivered; `None` before the history is known.
    position: Option<Cursor>,
    head: Cursor,
    times: HeadTimes,
}

impl SinkState {
    pub(crate) fn new(name: &str, feed: &str, receiver: String) -> SinkState {
        SinkState {
            name: name.to_owned(),
            feed: feed.to_owned(),
            receiver,
            progress: Mutex::new(Progress {
                activity: SinkActivity::Waiting,
                trouble: None,
                failure: None,
                position: None,
                head: Cursor::MIN,
                times: HeadTimes::default(),
            }),
        }
    }

    /// It does this now, for this reason. Returns whether it did something else before, or for another one.
    pub(crate) fn set(&self, activity: SinkActivity, trouble: Option<String>) -> bool {
        let mut progress = self.progress.lock();
        let changed = progress.activity != activity || progress.trouble != trouble;
        (progress.activity, progress.trouble) = (activity, trouble);
        changed
    }

    /// The receiver took what it was sent last, or did not, for this reason.
    pub(crate) fn answered(&self, failure: Option<String>) {
        self.progress.lock().failure = failure;
    }

    /// The head of the history that it is in.
    pub(crate) fn note_head(&self, head: Cursor) {
        let mut progress = self.progress.lock();
        progress.head = head;
        progress.times.note(head, Instant::now());
        if let Some(position) = progress.position {
            progress.times.reached(position);
        }
    }

    /// Everything up to here was delivered.
    pub(crate) fn reached(&self, position: Cursor) {
        let mut progress = self.progress.lock();
        progress.position = Some(position);
        progress.times.reached(position);
    }

    /// Another history begins, or nobody knows where it is in this one.
    pub(crate) fn forget_position(&self) {
        let mut progress = self.progress.lock();
        progress.position = None;
        progress.times.clear();
    }

    pub(crate) fn report(&self) -> SinkReport {
        let progress = self.progress.lock();
        let lag_rows = match (progress.position, progress.head) {
            // A table that never had a row has no head.
            (None, _) | (_, Cursor::MIN) => 0,
            // Before every row: ids are hardly ever below 1.
            (Some(Cursor::MIN), head) => head.0.max(0),
            (Some(position), head) => head.0.saturating_sub(position.0).max(0),
        };
        let (activity, trouble) = match (progress.activity, &progress.failure) {
            (SinkActivity::CatchingUp | SinkActivity::Live, Some(failure)) => {
                (SinkActivity::Failing, Some(failure.clone()))
            }
            (activity, _) => (activity, progress.trouble.clone()),
        };
        SinkReport {
            name: self.name.clone(),
            feed: self.feed.clone(),
            receiver: self.receiver.clone(),
            activity,
            trouble,
            lag_rows,
            lag: progress.times.lag(Instant::now()),
        }
    }
}
