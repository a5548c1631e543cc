//! What went wrong with single feeds in one look: each feed's errors stay its own, unless they are the file's.

use std::time::Instant;

use rusqlite::{Error, ErrorCode, Result};

use crate::hub::Hub;
use crate::source::table_follower::TableFollower;

/// Errors by the index of their feed.
#[derive(Default)]
pub(super) struct Troubles(Vec<(usize, Error)>);

impl Troubles {
    /// Takes note of an error of this feed.
    ///
    /// # Errors
    /// It is the file's: no other feed can be read either.
    pub(super) fn note(&mut self, feed: usize, result: Result<()>) -> Result<()> {
        match result {
            Err(error) if is_the_files(&error) => Err(error),
            Err(error) => {
                self.0.push((feed, error));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Closes the feeds that failed; each is tried again by itself. Returns whether there were any.
    ///
    /// # Errors
    /// No feed can be read, and none for a reason of its own: it is the file, or the connection.
    pub(super) fn settle(
        mut self,
        feeds: &mut [TableFollower],
        hub: &Hub,
        now: Instant,
    ) -> Result<bool> {
        let failed = |index: usize| self.0.iter().any(|(feed, _)| *feed == index);
        let followed = feeds.iter().enumerate();
        let mut all = followed.filter(|(_, feed)| !feed.is_retired());
        let everywhere = all.all(|(index, feed)| failed(index) || feed.next_retry().is_some());
        let unclear = self
            .0
            .iter()
            .all(|(_, error)| blame(error) == Blame::Unclear);
        if everywhere
            && unclear
            && let Some((_, error)) = self.0.pop()
        {
            return Err(error);
        }
        for (index, error) in &self.0 {
            feeds[*index].fail(error, hub, now);
        }
        Ok(!self.0.is_empty())
    }
}

/// Returns whether no table can be read where this happens.
pub(super) fn is_the_files(error: &Error) -> bool {
    blame(error) == Blame::File
}

/// Whose fault an error is.
#[derive(Debug, PartialEq, Eq)]
enum Blame {
    /// The file's, or somebody's who holds it.
    File,
    /// The table's that was read.
    Table,
    /// A page of the table's, or of the whole file.
    Unclear,
}

fn blame(error: &Error) -> Blame {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::NotADatabase
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed,
        ) => Blame::File,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::SystemIoFailure) => Blame::Unclear,
        _ => Blame::Table,
    }
}
