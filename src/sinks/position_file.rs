//! Up to where a sink has delivered, kept in the state directory across restarts.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::position::{Cursor, Epoch};
use crate::sqlite::state_file::{absolute, state_file};

/// Up to where was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reached {
    /// Nothing yet, and everything there is to come is to be delivered.
    Nothing,
    /// Rows up to this id of this history.
    Row { epoch: Epoch, id: Cursor },
}

/// What the file says.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    sink: String,
    feed: String,
    database: PathBuf,
    /// `None`: nothing was delivered yet.
    epoch: Option<String>,
    #[serde(default)]
    id: i64,
}

/// Where the position of one sink is kept: one file for each sink and database. A sink that is given another feed begins anew.
#[derive(Debug, Clone)]
pub(super) struct PositionFile {
    path: PathBuf,
    sink: String,
    feed: String,
    database: PathBuf,
}

impl PositionFile {
    pub(super) fn new(directory: &Path, database: &Path, sink: &str, feed: &str) -> PositionFile {
        PositionFile {
            path: state_file(directory, database, sink, "sink.json"),
            sink: sink.to_owned(),
            feed: feed.to_owned(),
            database: absolute(database),
        }
    }

    /// Returns what was kept; `None` where nothing was, as before the first start. What can't be understood counts as
    /// nothing delivered: rows that come twice can be told, rows that never come can't. Blocks.
    ///
    /// # Errors
    /// The file is there and can't be read.
    pub(super) fn load(&self) -> io::Result<Option<Reached>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let Ok(written) = serde_json::from_slice::<Written>(&bytes) else {
            tracing::error!(
                "sink {}: {} is damaged, so everything is delivered again",
                self.sink,
                self.path.display()
            );
            return Ok(Some(Reached::Nothing));
        };
        if written.feed != self.feed {
            return Ok(None);
        }
        Ok(Some(match written.epoch {
            None => Reached::Nothing,
            Some(epoch) => Reached::Row {
                epoch: Epoch::new(epoch),
                id: Cursor(written.id),
            },
        }))
    }

    /// Keeps it: a new file takes the place of the old one once it is written whole. Blocks.
    ///
    /// # Errors
    /// The directory is gone, full, or may not be written.
    pub(super) fn store(&self, reached: &Reached) -> io::Result<()> {
        let (epoch, id) = match reached {
            Reached::Nothing => (None, 0),
            Reached::Row { epoch, id } => (Some(epoch.to_string()), id.0),
        };
        let bytes = serde_json::to_vec(&Written {
            sink: self.sink.clone(),
            feed: self.feed.clone(),
            database: self.database.clone(),
            epoch,
            id,
        })?;
        let fresh = self.path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&bytes)?;
        // A name on the disk that leads to nothing yet would have everything delivered again.
        file.sync_data()?;
        fs::rename(&fresh, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &Path, feed: &str) -> PositionFile {
        PositionFile::new(directory, Path::new("db"), "billing", feed)
    }

    #[test]
    fn the_last_one_stored_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let orders = file(dir.path(), "orders");
        assert_eq!(orders.load().unwrap(), None);
        let row = |id| Reached::Row {
            epoch: Epoch::new("e1"),
            id: Cursor(id),
        };
        for reached in [
            Reached::Nothing,
            row(1),
            row(i64::MIN),
            row(i64::MAX),
            row(7),
        ] {
            orders.store(&reached).unwrap();
            assert_eq!(file(dir.path(), "orders").load().unwrap(), Some(reached));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(
            file(dir.path(), "refunds").load().unwrap(),
            None,
            "another feed"
        );
        let elsewhere = PositionFile::new(dir.path(), Path::new("other"), "billing", "orders");
        assert_eq!(elsewhere.load().unwrap(), None, "another database");
    }

    #[test]
    fn a_damaged_file_has_everything_delivered() {
        let dir = tempfile::tempdir().unwrap();
        let orders = file(dir.path(), "orders");
        for text in ["", "{", "{\"epoch\":\"e1\"}", "\0\0\0"] {
            fs::write(&orders.path, text).unwrap();
            assert_eq!(orders.load().unwrap(), Some(Reached::Nothing), "{text:?}");
        }
    }

    #[test]
    fn what_can_t_be_kept_is_an_error_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let orders = file(dir.path(), "orders");
        orders.store(&Reached::Nothing).unwrap();
        fs::create_dir(orders.path.with_extension("new")).unwrap();
        let row = Reached::Row {
            epoch: Epoch::new("e1"),
            id: Cursor(1),
        };
        orders.store(&row).unwrap_err();
        assert_eq!(orders.load().unwrap(), Some(Reached::Nothing));
    }
}
