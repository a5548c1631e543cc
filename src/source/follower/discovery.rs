//! The tables of a file as they come: each that can be a feed is made one.

use std::sync::Arc;

use rusqlite::Connection;

use super::tables::Tables;
use crate::config::FeedConfig;
use crate::source::table_follower::TableFollower;
use crate::sqlite::discovery::{Unfit, discover};
use crate::sqlite::spool;

impl Tables {
    /// Adds a feed for each table that has none, where tables become feeds as they come, and says in the log which can't
    /// be, once. The feeds are still to be attached.
    pub(super) fn discover(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.config.edge.is_one() {
            return self.discover_spooled(connection);
        }
        let Some(reported) = &mut self.reported_unfit else {
            return Ok(());
        };
        let mut kept = Vec::new();
        let mut retiring = Vec::new();
        for (index, feed) in self.feeds.iter().enumerate() {
            match feed.is_another(connection)? {
                true => retiring.push(index),
                false if feed.is_retired() => {}
                false => kept.push(&self.hub.feeds[index].config),
            }
        }
        let found = discover(connection, kept)?;
        let unfit = found.unfit.into_iter();
        let unfit: Vec<Unfit> = unfit.map(|u| u.in_file(&self.config.database)).collect();
        for news in unfit.iter().filter(|unfit| !reported.contains(unfit)) {
            tracing::warn!("{news}");
        }
        *reported = unfit;
        for feed in found.feeds {
            self.follow(feed);
        }
        // Whoever is sent away finds the one that takes its place.
        for index in retiring {
            self.feeds[index].retire(&self.hub);
        }
        Ok(())
    }

    /// Adds a feed for each that an edge's spool holds and that has none.
    fn discover_spooled(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for described in spool::descriptions(connection)? {
            let is_followed = {
                let mut feeds = self.hub.feeds.iter();
                feeds.any(|feed| feed.config.name == described.feed)
            };
            if is_followed {
                continue;
            }
            match described.feed_config() {
                Ok(mut config) => {
                    config.scope_columns = self.config.auth.anonymous.compared_columns(&config);
                    self.follow(config);
                }
                Err(words) => tracing::error!(
                    "feed {}: its origin says {words:?}, which this version does not understand, so it is not served; use the \
                     origin's version of walcast",
                    described.feed
                ),
            }
        }
        Ok(())
    }

    fn follow(&mut self, config: FeedConfig) {
        let (name, table) = (config.name.clone(), config.table.clone());
        match self.hub.add(config) {
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
}
