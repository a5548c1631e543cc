//! The filters of a feed's subscribers, as the rows are asked about them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::hub::Feed;
use crate::model::filter::{Filter, FilterId, FilterIndex};
use crate::sqlite::table::Schema;

/// The filters subscribers use, bound to the schema as it is.
#[derive(Default)]
pub(super) struct BoundFilters {
    known: HashMap<FilterId, Arc<Filter>>,
    pub index: FilterIndex,
}

impl BoundFilters {
    /// Takes in what came and went; every filter below the id returned is known from here on.
    pub(super) fn take_changes(&mut self, feed: &Feed, schema: Option<&Schema>) -> FilterId {
        let (changes, known_below) = feed.filter_changes();
        for (id, change) in changes {
            match change {
                Some(filter) => {
                    if let Some(schema) = schema {
                        self.index
                            .insert(id, &filter, |column| schema.place_of(column));
                    }
                    self.known.insert(id, filter);
                }
                None => {
                    self.index.remove(id);
                    self.known.remove(&id);
                }
            }
        }
        known_below
    }

    /// The schema changed: columns moved.
    pub(super) fn rebind(&mut self, schema: &Schema) {
        self.index = FilterIndex::default();
        for (id, filter) in &self.known {
            self.index
                .insert(*id, filter, |column| schema.place_of(column));
        }
    }
}
