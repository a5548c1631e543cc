//! What is described besides of a captured table, whose changes are what its feed sends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LogColumns, TableDescription};
use crate::config::{CaptureMode, CaptureRules, FeedConfig, SpooledLog};
use crate::sqlite::changes::{ChangeLog, after, before};

/// What the log of a table's changes holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DescribedChanges {
    /// As `capture` says it: `keys` or `full`.
    pub capture: String,
    /// The columns of the table's key, in its order.
    pub key: Vec<DescribedKey>,
    /// Whether the key is the rowid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rowid: bool,
    /// Columns whose values before and after a change are recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// For how many seconds changes are kept; `None` where whoever describes it does not decide that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
}

/// One column of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DescribedKey {
    pub name: String,
    /// By which no two rows are the same.
    pub collation: String,
}

/// What begins each row of the log.
pub(super) const LOG_HEAD: [&str; 4] = ["seq", "op", "at", "moved"];

impl DescribedChanges {
    /// Describes what `log` records, as `feed` has it captured.
    pub(super) fn of(feed: &FeedConfig, log: &ChangeLog) -> DescribedChanges {
        let mode = match log.is_full {
            true => CaptureMode::Full,
            false => CaptureMode::Keys,
        };
        let is_rowid = |name: &String| {
            let mut columns = log.columns.iter();
            columns.any(|column| column.rowid && column.name == *name)
        };
        let key = log.key.iter().zip(&log.collations);
        let rules = feed.capture.as_ref();
        // What is found, somebody else prunes.
        let keep = rules.and_then(|rules| match &rules.spooled {
            Some(spooled) => spooled.keep,
            None => rules.upkeep.then_some(rules.keep),
        });
        DescribedChanges {
            capture: mode.as_str().to_owned(),
            rowid: log.key.len() == 1 && log.key.iter().all(is_rowid),
            key: key
                .map(|(name, collation)| DescribedKey {
                    name: name.clone(),
                    collation: collation.clone(),
                })
                .collect(),
            filters: log.filters().to_vec(),
            keep: keep.map(|keep| keep.as_secs()),
        }
    }

    /// Returns whether rows are taken in as those of `other` are.
    pub fn is_like(&self, other: &DescribedChanges) -> bool {
        let keep = self.keep;
        *self
            == DescribedChanges {
                keep,
                ..other.clone()
            }
    }

    /// Returns whether the log has the rows as they were.
    pub fn is_full(&self) -> bool {
        CaptureMode::of(&self.capture) == Some(CaptureMode::Full)
    }

    /// The rules by which it is captured, with its log where that is kept here.
    ///
    /// # Errors
    /// It is captured in a way that this version does not know: the word for it.
    pub(super) fn rules(&self, log: String) -> Result<CaptureRules, String> {
        let mode = CaptureMode::of(&self.capture).ok_or_else(|| self.capture.clone())?;
        let key = self.key.iter();
        let key = key.map(|key| (key.name.clone(), key.collation.clone()));
        let spooled = SpooledLog {
            log,
            key: key.collect(),
            keep: self.keep.map(Duration::from_secs),
        };
        Ok(CaptureRules {
            spooled: Some(spooled),
            ..CaptureRules::found(mode, self.filters.clone())
        })
    }
}

impl TableDescription {
    /// Returns the columns of the log, in the order in which a change has their values; `None` where the feed is of rows.
    pub fn log_columns(&self) -> Option<LogColumns> {
        let changes = self.changes.as_ref()?;
        let keys = |prefix: &'static str| {
            let places = 0..changes.key.len();
            places.map(move |place| format!("{prefix}{place}"))
        };
        let filters = 0..changes.filters.len();
        let filters = filters.flat_map(|n| [format!("old_f{n}"), format!("new_f{n}")]);
        let rows = self.columns.iter().filter(|_| changes.is_full());
        let rows = rows.flat_map(|column| [before(&column.name), after(&column.name)]);
        let head = LOG_HEAD.map(str::to_owned).into_iter();
        let log = head.chain(keys("k")).chain(keys("old_k"));
        let mut names: Vec<String> = log.chain(filters).collect();
        let whole = names.len();
        names.extend(rows);
        Some(LogColumns { names, whole })
    }

    /// Returns the name that the log has where the feed is kept for others; `None` where the feed is of rows.
    pub fn log_table(&self) -> Option<String> {
        let changes = self.changes.as_ref();
        changes.map(|_| format!("_walcast_changes_{}", self.feed))
    }

    /// Returns the table by whose key the feed has its positions, as it is named where the feed is kept for others.
    pub fn positions_table(&self) -> String {
        self.log_table().unwrap_or_else(|| self.table.clone())
    }
}
