//! A subscriber of an edge that names what has not come there yet: it waits until the source was heard.

use std::time::Instant;

use super::{Session, Since};
use crate::hub::HOLD;
use crate::session::table_bounds::TableBounds;

/// A subscriber that knows more than the edge it came to.
#[derive(Debug)]
pub(super) struct Held {
    since: Instant,
    /// It is not to look before the feed has moved.
    waits: bool,
}

impl Session {
    /// Returns whether the feed is to move before the subscriber asks for its bounds again.
    pub(super) fn has_to_wait(&mut self) -> bool {
        let held = self.held.as_mut();
        held.is_some_and(|held| std::mem::take(&mut held.waits))
    }

    /// Returns whether the subscriber names what has not come to this edge yet, and may still: it waits then until the source
    /// was heard, and never takes being behind for a history that is gone.
    pub(super) fn is_held(&mut self, bounds: &TableBounds) -> bool {
        let Some(desk) = self.subscription.feed.source() else {
            return false;
        };
        let Some(Since::Id { id, epoch }) = self.since.as_deref().filter(|_| !self.greeted) else {
            return false;
        };
        let is_known = |epoch: &str| epoch == &*bounds.epoch.0;
        let same = epoch.as_deref().is_none_or(is_known);
        if same && *id <= bounds.head {
            return false;
        }
        let (id, now) = (*id, Instant::now());
        let since = self.held.as_ref().map_or(now, |held| held.since);
        let word = desk.word(&self.subscription.feed.config.name);
        let is_over = now.duration_since(since) >= HOLD
            || word.is_some_and(|word| {
                // What the source said before the subscriber came tells nothing of what it heard elsewhere since.
                let has_come = is_known(&word.epoch.0);
                word.asked_at >= since && has_come && (!same || id > word.head)
            });
        if is_over {
            self.held = None;
            return false;
        }
        desk.ask();
        self.held = Some(Box::new(Held { since, waits: true }));
        true
    }
}
