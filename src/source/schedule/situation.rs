//! What the schedule is told.

use std::time::Instant;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Commits {
        /// The file was written to until these were seen.
        writes: bool,
    },
    /// It failed.
    Failure,
}

/// How far the commits of the open file were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was just opened, or the last look failed: look whatever its version says.
    Unknown,
    /// The last look left rows unread.
    Partly,
    /// All that there was at this `data_version`.
    UpTo(i64),
}

/// What the schedule has to know of the file and its tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// `None` while no file is open.
    pub file: Option<OpenFile>,
    /// Whether file events are to be had.
    pub is_watched: bool,
    pub tables: Due,
}

/// When something is due for the first of the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// An identity is to be kept.
    pub save: Option<Instant>,
    /// One that failed is to be tried again.
    pub retry: Option<Instant>,
    /// The feed of one that was dropped goes.
    pub goodbye: Option<Instant>,
}

impl Due {
    /// Returns what is due first of both.
    pub(crate) fn or_earlier(self, other: Due) -> Due {
        let earlier = |a: Option<Instant>, b: Option<Instant>| a.into_iter().chain(b).min();
        Due {
            save: earlier(self.save, other.save),
            retry: earlier(self.retry, other.retry),
            goodbye: earlier(self.goodbye, other.goodbye),
        }
    }
}

/// What the schedule has to know of the open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenFile {
    pub is_wal: bool,
    pub seen: Seen,
}

impl Situation {
    /// Returns whether the last look left rows unread.
    pub(super) fn is_unfinished(&self) -> bool {
        self.file.is_some_and(|file| file.seen == Seen::Partly)
    }

    /// Returns whether a file is open of whose commits nothing is known.
    pub(super) fn is_unseen(&self) -> bool {
        self.file.is_some_and(|file| file.seen == Seen::Unknown)
    }

    /// Returns whether the file was open and could be read at the last look.
    fn is_readable(&self) -> bool {
        self.file.is_some() && !self.is_unseen()
    }

    /// When a table that failed is tried again. While the file can't be read there is no use.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.tables.retry.filter(|_| self.is_readable())
    }

    /// When the feed of a dropped table goes. While the file can't be read, nobody knows whether the table is back.
    pub(super) fn goodbye(&self) -> Option<Instant> {
        self.tables.goodbye.filter(|_| self.is_readable())
    }
}
