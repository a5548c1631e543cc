//! What a configuration comes to in its file: each feed with its table's shape.

use anyhow::{anyhow, bail};
use rusqlite::Connection;

use super::look_into;
use crate::config::{Config, FeedConfig};
use crate::sqlite::discovery::{Unfit, discover};
use crate::sqlite::table::{Schema, TableError};

/// A feed, and its table.
pub(super) struct Shape {
    pub feed: FeedConfig,
    pub schema: Schema,
    /// The highest id ever given.
    pub head: i64,
    /// Whether SQLite keeps every value to its column's type.
    pub strict: bool,
}

/// All feeds of a file, and what can't be one.
pub(super) struct Shapes {
    pub feeds: Vec<Shape>,
    pub unfit: Vec<Unfit>,
}

/// Looks at the feeds of the configuration, or at every table where it says so. Leaves the file as it is.
///
/// # Errors
/// The file is not there, is no database, or can't be read.
pub(super) fn shapes(config: &Config) -> anyhow::Result<Shapes> {
    let look = |connection: &Connection| {
        let (feeds, unfit) = match config.all_tables {
            true => {
                let found = discover(connection, [])?;
                (found.feeds, found.unfit)
            }
            false => (config.feeds.clone(), Vec::new()),
        };
        let mut shapes = Shapes {
            feeds: Vec::new(),
            unfit,
        };
        for feed in feeds {
            shapes.add(connection, feed)?;
        }
        let unfit = shapes.unfit.into_iter();
        shapes.unfit = unfit.map(|unfit| unfit.in_file(&config.database)).collect();
        Ok(shapes)
    };
    look_into(&config.database, look).map_err(|reason| anyhow!("{reason}"))
}

impl Shapes {
    fn add(&mut self, connection: &Connection, feed: FeedConfig) -> rusqlite::Result<()> {
        let reason = match Schema::of_feed(connection, &feed) {
            Ok(schema) => {
                let strict = connection.query_row(
                    "SELECT EXISTS (SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ?1 AND strict)",
                    [&schema.table.name],
                    |row| row.get(0),
                )?;
                let head = schema.table.highest(connection)?.unwrap_or(0).max(0);
                self.feeds.push(Shape {
                    feed,
                    schema,
                    head,
                    strict,
                });
                return Ok(());
            }
            Err(TableError::Missing) => format!("there is no table {} yet", feed.table),
            Err(TableError::Unfit(reason)) => reason,
            Err(TableError::Sqlite(e)) => return Err(e),
        };
        self.unfit.push(Unfit {
            table: feed.table,
            reason,
        });
        Ok(())
    }

    /// Refuses a file without a single feed, saying why its tables are none.
    pub(super) fn refuse_none(&self, config: &Config) -> anyhow::Result<()> {
        if !self.feeds.is_empty() {
            return Ok(());
        }
        let file = config.database.display();
        match self.unfit.as_slice() {
            [] => bail!("{file} holds no table yet"),
            unfit => {
                let reasons: Vec<&str> = unfit.iter().map(|unfit| &*unfit.reason).collect();
                bail!("no table of {file} can be a feed: {}", reasons.join("; "))
            }
        }
    }
}
