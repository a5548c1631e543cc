//! What is wrong with the columns that a sink's `where` compares.

use crate::config::FeedConfig;
use crate::model::filter::Filter;
use crate::sqlite::table::Schema;
use crate::text::nearest::did_you_mean;

/// Returns what is wrong where the filter looks at a column of the feed that is not there, or, of changes, not recorded;
/// `None` where nothing is.
pub fn missing_column(feed: &FeedConfig, schema: &Schema, filter: &Filter) -> Option<String> {
    let mut columns = filter.columns();
    let missing = columns.find(|column| schema.place_of(*column).is_none())?;
    let (missing, feed) = (missing.name(), &feed.name);
    let there = schema.filterable();
    let shown = schema
        .changes
        .as_ref()
        .filter(|_| schema.place(missing).is_some());
    Some(match shown {
        Some(changes) => {
            let command = changes.recording_command(missing);
            format!(
                "`where` compares the column {missing}, and the capture of table {} does not record what that was before a \
                 change; it records {}; add it to `capture_filters` of feeds.{feed}, or run `{command}`",
                changes.table,
                there.join(", ")
            )
        }
        None => {
            let hint = did_you_mean(missing, there.iter().copied());
            format!(
                "`where` compares the column {missing}, which feed {feed} does not show{hint}; it shows {}",
                there.join(", ")
            )
        }
    })
}
