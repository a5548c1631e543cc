//! What wakes the feed loop: signals of the daemon's other threads, and file events, as far as they are to be had and
//! wanted.

use std::path::Path;
use std::time::Duration;

use crate::config::WatchMode;
use crate::model::wakeup::{Waiter, Wakes};
use crate::source::schedule::Wait;
use crate::sqlite::watcher::{Backend, Watcher};

/// The feed loop's ears.
pub(crate) struct Events {
    waiter: Waiter,
    /// `None` where file events are not to be had.
    watcher: Option<Watcher>,
    /// Whether the last attempt to watch failed, so that it is said once.
    failed: bool,
    /// Commits are asked for, and file events not wanted.
    is_deaf: bool,
    /// What the next turn is still to hear of.
    held_back: Wakes,
}

impl Events {
    pub(super) fn new(waiter: Waiter) -> Events {
        Events {
            waiter,
            watcher: None,
            failed: false,
            is_deaf: false,
            held_back: Wakes::default(),
        }
    }

    /// Returns whether file events are to be had.
    pub(crate) fn is_watched(&self) -> bool {
        self.watcher.is_some()
    }

    /// Keeps watching the directories that the path leads to, by what `mode` asks for. Where they can't be watched the log says so, and that commits
    /// are polled for at `poll_interval`. Returns whether a watch began.
    pub(crate) fn watch(
        &mut self,
        database: &Path,
        mode: WatchMode,
        poll_interval: Duration,
    ) -> bool {
        let Some(backend) = Backend::of(mode) else {
            return false;
        };
        let watcher = self.watcher.as_ref();
        if watcher.is_some_and(|watcher| watcher.is_current(database)) {
            return false;
        }
        match Watcher::start(database, backend) {
            Ok(mut watcher) => {
                if self.is_deaf {
                    watcher.pause();
                }
                if self.failed {
                    tracing::info!("file events are back");
                }
                (self.watcher, self.failed) = (Some(watcher), false);
                true
            }
            Err(e) => {
                self.watcher = None;
                if !self.failed {
                    let interval = poll_interval.as_millis();
                    tracing::warn!(
                        "no file events ({e}); rows are noticed by polling every {interval} ms"
                    );
                }
                self.failed = true;
                false
            }
        }
    }

    /// Listens to file events or not. Returns whether listening began with that.
    pub(crate) fn listen(&mut self, listens: bool) -> bool {
        if self.is_deaf != listens {
            return false;
        }
        self.is_deaf = !listens;
        if listens {
            tracing::debug!("commits are told of by file events again");
            // Without its directory a watcher is no use; the next turn starts another.
            self.watcher.take_if(|watcher| watcher.resume().is_err());
            // Another file in place of this brought no event meanwhile.
            self.held_back = Wakes::REPLACED;
        } else {
            tracing::debug!("commits come densely: asked for, no file events");
            if let Some(watcher) = &mut self.watcher {
                watcher.pause();
            }
        }
        listens
    }

    /// Waits until something is to be done, and says what woke it.
    pub(crate) fn wait(&mut self, wait: &Wait) -> Wakes {
        let held_back = std::mem::take(&mut self.held_back);
        if !held_back.is_empty() {
            return held_back | self.waiter.take();
        }
        let watcher = self.watcher.as_ref();
        let noise = watcher.and_then(Watcher::deaf_until);
        for deaf_until in [wait.deaf_until, noise].into_iter().flatten() {
            let wakes = self.waiter.wait_until(deaf_until.min(wait.until), None);
            if !wakes.is_empty() {
                return wakes;
            }
        }
        let events = watcher.map(Watcher::readable);
        self.waiter.wait_until(wait.until, events)
    }

    /// Takes the file events there are, without waiting.
    pub(crate) fn take(&mut self) -> Wakes {
        let taken = self.watcher.as_mut().map(Watcher::take);
        taken.unwrap_or_default()
    }

    /// Takes the file events there are, and leaves to the next turn that the file may be another. Returns whether there was a
    /// write among them.
    pub(crate) fn take_writes(&mut self) -> bool {
        let taken = self.take();
        if taken.contains(Wakes::REPLACED) {
            self.held_back = Wakes::REPLACED;
        }
        taken.contains(Wakes::FILE)
    }

    /// Watches the files that are there now, where no event may have told of their coming.
    pub(super) fn refresh(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            watcher.refresh();
        }
    }
}
