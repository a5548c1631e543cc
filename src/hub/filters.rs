//! The filters that the subscribers of a feed use.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::filter::{Filter, FilterId, MAX_FEED_VALUES};

/// The filters in use, each under one id however many subscribers share it.
#[derive(Default)]
pub(super) struct Filters {
    ids: HashMap<Arc<Filter>, (FilterId, usize)>,
    changes: FilterChanges,
    last: u64,
    /// Over all subscribers.
    values: usize,
}

/// Filters that came into use (`Some`) or fell out of it. One that did both in between is not among them.
pub type FilterChanges = BTreeMap<FilterId, Option<Arc<Filter>>>;

impl Filters {
    /// Enters a subscriber's filter. `None` where there would be more than [`MAX_FEED_VALUES`] values.
    pub(super) fn register(&mut self, filter: Filter) -> Option<(Arc<Filter>, FilterId)> {
        if filter.is_empty() {
            return Some((Arc::new(filter), FilterId::NONE));
        }
        let values = self.values + filter.value_count();
        if values > MAX_FEED_VALUES {
            return None;
        }
        self.values = values;
        if let Some((known, (id, _))) = self.ids.get_key_value(&filter) {
            let (known, id) = (Arc::clone(known), *id);
            if let Some((_, users)) = self.ids.get_mut(&known) {
                *users += 1;
            }
            return Some((known, id));
        }
        self.last += 1;
        let (filter, id) = (Arc::new(filter), FilterId(self.last));
        self.ids.insert(Arc::clone(&filter), (id, 1));
        self.changes.insert(id, Some(Arc::clone(&filter)));
        Some((filter, id))
    }

    pub(super) fn release(&mut self, filter: &Arc<Filter>) {
        if let Some((id, users)) = self.ids.get_mut(filter) {
            *users -= 1;
            self.values -= filter.value_count();
            if *users == 0 {
                if self.changes.remove(id).is_none() {
                    self.changes.insert(*id, None);
                }
                self.ids.remove(filter);
            }
        }
    }

    /// What came and went since the last call, and the first id not yet given.
    pub(super) fn take_changes(&mut self) -> (FilterChanges, FilterId) {
        (std::mem::take(&mut self.changes), FilterId(self.last + 1))
    }
}
