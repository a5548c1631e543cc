//! The tables of a file as they come: each that can be a feed is made one.

use std::sync::Arc;

use rusqlite::Connection;

use super::tables::Tables;
use crate::source::table_follower::TableFollower;
use crate::sqlite::discovery::{Unfit, discover};

/// What was said of tables that can't be feeds.
#[derive(Debug, Default)]
pub(super) struct Discovered {
    unfit: Vec<Unfit>,
}

impl Tables {
    /// Adds a feed for each table that has none, where tables become feeds as they come, and says in the log which can't
    /// be, once. The feeds are still to be attached.
    pub(super) fn discover(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(discovered) = &mut self.discovered else {
            return Ok(());
        };
        let found = discover(connection, self.hub.feeds.iter().map(|feed| &feed.config))?;
        for feed in found.feeds {
            let (name, table) = (feed.name.clone(), feed.table.clone());
            match self.hub.add(feed) {
                Some(feed) => {
                    let metrics = Arc::clone(&self.metrics);
                    let follower = TableFollower::new(feed, &self.config, metrics);
                    self.feeds.push(follower);
                }
                None => tracing::warn!(
                    "the table {table} does not become the feed {name}: there have been as many as there can be; restart to \
                     forget those of tables that are gone"
                ),
            }
        }
        for unfit in found
            .unfit
            .iter()
            .filter(|unfit| !discovered.unfit.contains(unfit))
        {
            tracing::warn!("the table {} is not a feed: {}", unfit.table, unfit.reason);
        }
        discovered.unfit = found.unfit;
        Ok(())
    }
}
