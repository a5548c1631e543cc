//! The rollback journal beside a database, looked at without a lock.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use crate::sqlite::file::{FileId, companion};

/// Returns whether a transaction is being written to a file with a rollback journal: the journal begins with a header,
/// which the commit takes away, and was written just now. Its writer may be gone.
pub fn is_hot(real: &Path) -> bool {
    const JUST_NOW: Duration = Duration::from_millis(20);
    let Some((true, meta)) = look_at(real) else {
        return false;
    };
    let written = meta.modified().ok();
    let age = written.and_then(|written| written.elapsed().ok());
    age.is_none_or(|age| age < JUST_NOW)
}

/// The journal, where there is one without a transaction in it.
pub fn at_rest(real: &Path) -> Option<FileId> {
    let (open_transaction, _) = look_at(real)?;
    FileId::of(&companion(real, "-journal")).filter(|_| !open_transaction)
}

/// Whether the journal that is there begins with a header.
fn look_at(real: &Path) -> Option<(bool, Metadata)> {
    // SQLite's locks are on the database, so a descriptor of the journal may be closed.
    let mut journal = File::open(companion(real, "-journal")).ok()?;
    let mut magic = [0; 8];
    let has_header = journal.read_exact(&mut magic).is_ok() && magic != [0; 8];
    Some((has_header, journal.metadata().ok()?))
}
