//! The tables of a file as they come: each that can be a feed is made one.

use std::sync::Arc;

use rusqlite::Connection;

use crate::config::Config;
use crate::hub::Hub;
use crate::source::table_follower::TableFollower;
use crate::sqlite::discovery::{Unfit, discover};
use crate::telemetry::metrics::Metrics;

/// What was said of tables that can't be feeds.
#[derive(Debug, Default)]
pub(super) struct Tables {
    unfit: Vec<Unfit>,
}

impl Tables {
    /// Adds a feed for each table that has none, and says in the log which tables can't be feeds, once. The feeds are
    /// still to be attached.
    pub(super) fn follow(
        &mut self,
        connection: &Connection,
        feeds: &mut Vec<TableFollower>,
        hub: &Hub,
        config: &Config,
        metrics: &Arc<Metrics>,
    ) -> rusqlite::Result<()> {
        let found = discover(connection, hub.feeds.iter().map(|feed| &feed.config))?;
        for feed in found.feeds {
            let (name, table) = (feed.name.clone(), feed.table.clone());
            match hub.add(feed) {
                Some(feed) => feeds.push(TableFollower::new(feed, config, Arc::clone(metrics))),
                None => tracing::warn!(
                    "the table {table} does not become the feed {name}: there have been as many as there can be; restart to \
                     forget those of tables that are gone"
                ),
            }
        }
        for unfit in found
            .unfit
            .iter()
            .filter(|unfit| !self.unfit.contains(unfit))
        {
            tracing::warn!("the table {} is not a feed: {}", unfit.table, unfit.reason);
        }
        self.unfit = found.unfit;
        Ok(())
    }
}
