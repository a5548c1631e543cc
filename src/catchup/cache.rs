//! Pages that were read, kept for a moment for subscribers close behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::page_request::{PageKey, ReplayKey};
use crate::wire::block::Block;

/// The most bytes of pages that are kept, all feeds together.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// How long a page may serve subscribers that began before it was read.
const MAX_AGE: Duration = Duration::from_secs(2);

/// The pages read last, from the oldest to the newest, bounded in bytes and age.
#[derive(Default)]
pub(super) struct PageCache {
    pages: VecDeque<(ReplayKey, Arc<Block>)>,
    bytes: usize,
}

impl PageCache {
    pub(super) fn insert(&mut self, stream: ReplayKey, page: &Arc<Block>) {
        self.bytes += page.cost();
        self.pages.push_back((stream, Arc::clone(page)));
        while self.bytes > MAX_BYTES {
            self.evict_oldest();
        }
    }

    /// The newest page of a stream for which `wanted` holds.
    pub(super) fn find(
        &self,
        stream: ReplayKey,
        wanted: impl Fn(&Block) -> bool,
    ) -> Option<Arc<Block>> {
        let mut pages = self.pages.iter().rev();
        pages
            .find(|(of, page)| *of == stream && wanted(page))
            .map(|(_, page)| Arc::clone(page))
    }

    pub(super) fn contains(&self, key: PageKey) -> bool {
        self.pages
            .iter()
            .any(|(of, page)| *of == key.stream && page.after == key.after)
    }

    /// Lets go of pages that no one close behind took in time.
    pub(super) fn evict_old(&mut self) {
        let old = |page: &Block| page.read_at.elapsed() > MAX_AGE;
        while self.pages.front().is_some_and(|(_, page)| old(page)) {
            self.evict_oldest();
        }
        if self.pages.is_empty() {
            self.pages.shrink_to_fit();
        }
    }

    fn evict_oldest(&mut self) {
        if let Some((_, page)) = self.pages.pop_front() {
            self.bytes -= page.cost();
        }
    }
}
