//! What is known of a feed's history, kept in the state directory across restarts.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sqlite::file::FileId;
use crate::sqlite::identity::Sample;
use crate::sqlite::state_file::state_file;

/// What is kept of a feed's history across restarts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub database: PathBuf,
    pub table: String,
    pub epoch: String,
    /// The file it was seen in; unknown where an earlier version kept it.
    #[serde(default)]
    pub file: Option<FileId>,
    /// Of a feed of changes: in which stretch of time none was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// The highest id ever given in this epoch.
    pub head: i64,
    pub sample: Sample,
}

/// Where one feed's [`Identity`] is kept: two files, written in turn, so that there is always a whole one.
///
/// Written in place. Renaming a new file over the old one would do with one, but makes the file system write it to the
/// disk at once, several times a second, beside a writer that waits for that disk.
#[derive(Debug)]
pub struct IdentityFiles {
    slots: [PathBuf; 2],
    /// Of the newest whole one.
    serial: u64,
}

/// An identity as it is written, with the number that tells the newer of two files.
#[derive(Serialize, Deserialize)]
struct Numbered<I> {
    #[serde(default)]
    serial: u64,
    #[serde(flatten)]
    identity: I,
}

impl IdentityFiles {
    /// Files of their own for each database and feed.
    pub fn new(directory: &Path, database: &Path, feed: &str) -> IdentityFiles {
        IdentityFiles {
            slots: ["json", "b.json"].map(|ending| state_file(directory, database, feed, ending)),
            serial: 0,
        }
    }

    /// What was kept last; `None` where nothing was or it can't be understood, which counts as nothing.
    ///
    /// # Errors
    /// There is a file that can't be read, and none that can.
    pub fn load(&mut self) -> io::Result<Option<Identity>> {
        let (mut newest, mut failure) = (None::<Numbered<Identity>>, None);
        for slot in &self.slots {
            match std::fs::read(slot) {
                Ok(bytes) => {
                    let kept = serde_json::from_slice::<Numbered<Identity>>(&bytes).ok();
                    newest = newest
                        .into_iter()
                        .chain(kept)
                        .max_by_key(|kept| kept.serial);
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => failure = Some(e),
            }
        }
        match (newest, failure) {
            (Some(newest), _) => {
                self.serial = newest.serial;
                Ok(Some(newest.identity))
            }
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(None),
        }
    }

    /// Keeps it. What was kept before is not touched: it counts should this one not be written whole.
    ///
    /// # Errors
    /// The directory is gone, full, or may not be written.
    pub fn store(&mut self, identity: &Identity) -> io::Result<()> {
        let serial = self.serial + 1;
        let bytes = serde_json::to_vec(&Numbered { serial, identity })?;
        let slot = &self.slots[(serial % 2) as usize];
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            // It tells of rows, whoever may read them in the database.
            .mode(0o600)
            .open(slot)?;
        file.write_all(&bytes)?;
        let length = bytes.len() as u64;
        if file.metadata()?.len() > length {
            file.set_len(length)?;
        }
        self.serial = serial;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(head: i64) -> Identity {
        Identity {
            database: "db".into(),
            table: "t".into(),
            epoch: "e".repeat(head as usize),
            file: None,
            capture: None,
            head,
            sample: Sample::default(),
        }
    }

    fn files(directory: &Path) -> IdentityFiles {
        IdentityFiles::new(directory, Path::new("db"), "feed")
    }

    #[test]
    fn the_last_one_stored_is_loaded_whatever_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let mut writing = files(dir.path());
        assert_eq!(files(dir.path()).load().unwrap(), None);
        for head in [9, 8, 3, 2, 7] {
            writing.store(&identity(head)).unwrap();
            let mut reading = files(dir.path());
            assert_eq!(reading.load().unwrap(), Some(identity(head)));
            // A restarted daemon goes on counting.
            writing = reading;
        }
    }

    #[test]
    fn one_cut_off_while_it_was_written_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut writing = files(dir.path());
        for head in [1, 2, 3] {
            writing.store(&identity(head)).unwrap();
        }
        let newest = &writing.slots[1];
        let whole = std::fs::read(newest).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(newest, &whole[..length]).unwrap();
            assert_eq!(files(dir.path()).load().unwrap(), Some(identity(2)));
        }
        let longer = [&whole[..], b"\"}"].concat();
        std::fs::write(newest, longer).unwrap();
        assert_eq!(files(dir.path()).load().unwrap(), Some(identity(2)));
    }

    #[test]
    fn a_file_of_an_earlier_version_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = serde_json::to_vec(&identity(4)).unwrap();
        std::fs::write(&files(dir.path()).slots[0], bytes).unwrap();
        assert_eq!(files(dir.path()).load().unwrap(), Some(identity(4)));
    }

    #[test]
    fn what_can_t_be_stored_is_an_error_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut writing = files(dir.path());
        writing.store(&identity(1)).unwrap();
        std::fs::create_dir(&writing.slots[0]).unwrap();
        writing.store(&identity(2)).unwrap_err();
        assert_eq!(files(dir.path()).load().unwrap(), Some(identity(1)));
        std::fs::remove_dir(&writing.slots[0]).unwrap();
        writing.store(&identity(2)).unwrap();
        assert_eq!(files(dir.path()).load().unwrap(), Some(identity(2)));
    }
}
