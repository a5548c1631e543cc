//! The feeds there are: those of the configuration, or of the tables as they come. None is ever taken out, so an index
//! stays good; the feed of a table that was dropped is gone until a table of that name is there again, and one whose place another
//! has is gone for good.

use std::ops::Index;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::Feed;

/// A list that only grows, up to a bound, and is read without a lock.
pub struct Feeds {
    slots: Box<[OnceLock<Arc<Feed>>]>,
    len: AtomicUsize,
}

impl Feeds {
    /// These feeds, with room for `most` in all.
    pub(super) fn new(feeds: Vec<Feed>, most: usize) -> Feeds {
        let most = most.max(feeds.len());
        let len = AtomicUsize::new(feeds.len());
        let filled = feeds.into_iter().map(|feed| OnceLock::from(Arc::new(feed)));
        let empty = std::iter::repeat_with(OnceLock::new);
        Feeds {
            slots: filled.chain(empty).take(most).collect(),
            len,
        }
    }

    /// Adds the feed that is made for the next index; `None` where there is no room. Only the feed loop does.
    pub(super) fn add(&self, make: impl FnOnce(usize) -> Feed) -> Option<Arc<Feed>> {
        let index = self.len();
        let feed = Arc::new(make(index));
        self.slots.get(index)?.set(Arc::clone(&feed)).ok()?;
        self.len.store(index + 1, Ordering::Release);
        Some(feed)
    }

    /// Returns the number of feeds there are by now.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Returns whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there can be at most.
    pub fn most(&self) -> usize {
        self.slots.len()
    }

    /// All of them, also those whose tables are gone.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Feed>> {
        self.slots[..self.len()].iter().filter_map(OnceLock::get)
    }

    /// Those that clients may know of: all but those whose tables are gone.
    pub fn listed(&self) -> impl Iterator<Item = &Arc<Feed>> {
        self.iter().filter(|feed| !feed.is_gone())
    }
}

impl Index<usize> for Feeds {
    type Output = Arc<Feed>;

    /// The feed of this index, which was taken from a feed.
    fn index(&self, index: usize) -> &Arc<Feed> {
        match self.slots[index].get() {
            Some(feed) => feed,
            None => panic!("no feed has the index {index}"),
        }
    }
}
