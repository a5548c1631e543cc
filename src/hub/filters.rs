//! The filters that the subscribers of a feed use.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::filter::{Filter, FilterId};

/// The filters in use, each under one id however many subscribers share it.
#[derive(Default)]
pub(super) struct Filters {
    ids: HashMap<Arc<Filter>, (FilterId, usize)>,
    changes: FilterChanges,
    last: u64,
}

/// Filters that came into use (`Some`) or fell out of it. One that did both in between is not among them.
pub type FilterChanges = BTreeMap<FilterId, Option<Arc<Filter>>>;

impl Filters {
    pub fn register(&mut self, filter: &Arc<Filter>) -> FilterId {
        if filter.is_empty() {
            return FilterId::NONE;
        }
        if let Some((id, users)) = self.ids.get_mut(filter) {
            *users += 1;
            return *id;
        }
        self.last += 1;
        let id = FilterId(self.last);
        self.ids.insert(Arc::clone(filter), (id, 1));
        self.changes.insert(id, Some(Arc::clone(filter)));
        id
    }

    pub fn release(&mut self, filter: &Arc<Filter>) {
        if let Some((id, users)) = self.ids.get_mut(filter) {
            *users -= 1;
            if *users == 0 {
                if self.changes.remove(id).is_none() {
                    self.changes.insert(*id, None);
                }
                self.ids.remove(filter);
            }
        }
    }

    /// What came and went since the last call, and the first id not yet given.
    pub fn take_changes(&mut self) -> (FilterChanges, FilterId) {
        (std::mem::take(&mut self.changes), FilterId(self.last + 1))
    }
}
