//! How the feed loop hears of writes: by file events, or by asking while commits come densely.

use std::sync::Arc;
use std::time::Instant;

use super::FeedLoop;
use crate::model::wakeup::Wakes;
use crate::sqlite::watcher::Watcher;

impl FeedLoop {
    /// Keeps watching the right directories.
    pub(super) fn watch(&mut self) {
        if self
            .watcher
            .as_ref()
            .is_some_and(|watcher| watcher.is_current(&self.config.database))
        {
            return;
        }
        match Watcher::start(&self.config.database, Arc::clone(self.waiter.wake())) {
            Ok(mut watcher) => {
                if self.dense_commits.is_asking() {
                    watcher.pause();
                }
                if self.unwatched {
                    tracing::info!("file events are back");
                }
                self.watcher = Some(watcher);
                self.unwatched = false;
                // What happened before the watch began brought no event.
                self.schedule.look_around(Instant::now());
            }
            Err(e) => {
                self.watcher = None;
                if !self.unwatched {
                    let interval = self.config.limits.poll_interval.as_millis();
                    tracing::warn!(
                        "no file events ({e}); rows are noticed by polling every {interval} ms"
                    );
                }
                self.unwatched = true;
            }
        }
    }

    /// Chooses between hearing of writes and asking for commits.
    pub(super) fn moderate(&mut self, found: bool, began: Instant) {
        if !self.is_wal() {
            return;
        }
        if found && self.dense_commits.is_asking() && self.watcher.is_some() {
            self.count(Wakes::FILE);
        }
        let ended = Instant::now();
        if self.dense_commits.looked(found, began, ended) {
            match self.dense_commits.is_asking() {
                true => self.stop_listening(),
                false => self.listen_again(ended),
            }
        }
    }

    fn stop_listening(&mut self) {
        tracing::debug!("commits come densely: asked for, no file events");
        if let Some(watcher) = &mut self.watcher {
            watcher.pause();
        }
    }

    pub(super) fn listen_again(&mut self, now: Instant) {
        tracing::debug!("commits are told of by file events again");
        // Without its directory a watcher is no use; the next turn starts another.
        self.watcher.take_if(|watcher| watcher.resume().is_err());
        // What happened meanwhile brought no event: a commit that is not visible yet, another file in place of this.
        self.schedule.look_soon(now);
        self.waiter.wake().signal(Wakes::REPLACED);
    }
}
