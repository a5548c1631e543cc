//! A subscriber that takes rows whole (see [`whole_row`](crate::sqlite::whole_row)), as an edge does.

use std::sync::Arc;

use super::{Session, Step};
use crate::hub::View;
use crate::model::position::Cursor;
use crate::session::table_bounds::TableBounds;
use crate::sqlite::table::Schema;
use crate::sqlite::whole_row::TableDescription;
use crate::wire::control::Control;

/// A subscriber that takes rows whole.
#[derive(Debug, Default)]
pub(super) struct WholeRows {
    /// What it was told that rows are of: the table as it was in this schema, and the fingerprint of its description.
    described: Option<(Arc<Schema>, String)>,
    /// It was given a captured table as it was when the log had come up to here.
    table_of: Option<Cursor>,
    /// It takes what the log has of a captured table, and never the table as it is.
    log_alone: bool,
}

impl Session {
    /// Tells who takes rows whole what they are of, where that is news.
    pub(super) fn describe(&mut self, view: &View) -> Option<Step> {
        let whole = self.whole.as_mut()?;
        let schema = view.schema.as_ref()?;
        let told = whole.described.as_ref();
        if told.is_some_and(|(told, _)| Arc::ptr_eq(told, schema)) {
            return None;
        }
        let config = &self.subscription.feed.config;
        let description = TableDescription::of(config, schema);
        let fingerprint = description.fingerprint();
        let is_news = told.is_none_or(|(_, told)| *told != fingerprint);
        whole.described = Some((Arc::clone(schema), fingerprint));
        is_news.then(|| {
            Step::Say(Control::Table {
                message: description.message().into(),
            })
        })
    }

    /// Returns whether rows are taken whole.
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Of a captured table it takes the log alone, as a stream does that others go on from who have the table: never the table
    /// as it is, and no number that follows on none without a word.
    pub fn log_alone(mut self) -> Session {
        self.whole.get_or_insert_default().log_alone = true;
        self
    }

    pub(super) fn takes_log_alone(&self) -> bool {
        self.whole.as_ref().is_some_and(|whole| whole.log_alone)
    }

    /// Returns where changes begin for who is given the captured table as it is first: who serves it on is given all that are
    /// kept, so that subscribers there can go on from as far back as here.
    pub(super) fn changes_after_table(&mut self, bounds: &TableBounds) -> Cursor {
        let Some(whole) = &mut self.whole else {
            return bounds.head;
        };
        whole.table_of = Some(bounds.head);
        bounds.earliest.map_or(bounds.head, Cursor::before)
    }

    /// Changes above the position were pruned. Returns whether it goes on without them, for the table that it was given is of
    /// a later moment.
    pub fn passes_pruned(&mut self) -> bool {
        let table_of = self.whole.as_ref().and_then(|whole| whole.table_of);
        let passed = table_of.filter(|reached| self.position < *reached);
        if let Some(reached) = passed {
            self.advance(reached);
        }
        passed.is_some()
    }
}
