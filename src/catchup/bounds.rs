//! Where a table begins and ends, read for subscribers that open.

use std::sync::Arc;

use super::reader_pool::{Next, PooledReader, Work};
use super::{CatchUp, NEAR, table_is_away};
use crate::hub::Feed;
use crate::model::filter::Filter;
use crate::model::position::Cursor;
use crate::session::Session;
use crate::session::table_bounds::TableBounds;
use crate::sqlite::error::Unavailable;
use crate::sqlite::reader::LastRows;

impl CatchUp {
    /// Finds where the table begins, and where the last rows do for who asked for them; `done` gets it, on another thread.
    pub fn bounds(
        &self,
        session: &Session,
        done: impl FnOnce(Result<TableBounds, Unavailable>) + Send + 'static,
    ) {
        let last = session.last();
        let mut read = BoundsRead {
            feed: Arc::clone(session.feed()),
            filter: Arc::clone(session.filter()),
            last,
            committed: (session.generation(), session.position()),
            found: None,
        };
        let far = session.feed().head().0 > NEAR;
        let work = match last.is_some() && far && !session.filter().is_empty() {
            true => Work::Search,
            false => Work::Quick,
        };
        let named = session.named_position();
        let named = named.map(|(id, epoch)| (id, epoch.map(str::to_owned)));
        let (this, mut done) = (self.clone(), Some(done));
        let asking = session.read_owner().claim();
        self.pool
            .submit(session.read_owner().claim(), work, move |reader| {
                let Some(result) = read.step(reader).transpose() else {
                    return Next::Again(work);
                };
                let Some(done) = done.take() else {
                    return Next::Done;
                };
                match result {
                    Ok(bounds) => {
                        let about = (&read.feed, named.as_ref());
                        this.bounds_elsewhere(about, bounds, &asking, done);
                    }
                    Err(reason) => done(Err(reason)),
                }
                Next::Done
            });
    }
}

/// The read of a table's bounds, done in steps.
struct BoundsRead {
    feed: Arc<Feed>,
    filter: Arc<Filter>,
    last: Option<u32>,
    /// The history the subscriber is in, and up to where rows were committed before it came.
    committed: (u64, Cursor),
    /// What is known after the first step.
    found: Option<(TableBounds, LastRows)>,
}

impl BoundsRead {
    /// `None`: another step is needed.
    fn step(&mut self, reader: &mut PooledReader) -> Result<Option<TableBounds>, Unavailable> {
        let (feed, filter) = (&self.feed, &self.filter);
        let Some((bounds, last)) = &mut self.found else {
            let mut bounds = TableBounds::of(feed, feed.standing());
            let (generation, committed) = self.committed;
            if bounds.generation == generation {
                bounds.head = bounds.head.max(committed);
            }
            let is_there = reader.with_feed(feed, |open| match open {
                Some((connection, rows)) => bounds.read(connection, rows).map(|()| true),
                None => Ok(false),
            })?;
            if !is_there {
                return Err(table_is_away());
            }
            let Some(n) = self.last else {
                return Ok(Some(bounds));
            };
            let last = LastRows::new(n, bounds.head);
            self.found = Some((bounds, last));
            return self.step(reader);
        };
        let found = reader.with_feed(feed, |open| match open {
            Some((connection, rows)) => last.step(connection, rows, filter),
            None => Ok(true),
        })?;
        if !found {
            return Ok(None);
        }
        bounds.start_of_last = last.start();
        Ok(Some(bounds.clone()))
    }
}
