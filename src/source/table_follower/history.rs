//! What is known of a feed's history: sampled as rows come, and kept in the state directory now and then.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::config::{Config, FeedConfig};
use crate::sqlite::file::FileId;
use crate::sqlite::identity::{Doubt, Question, Sample};
use crate::sqlite::identity_store::{Identity, IdentityFiles};
use crate::sqlite::table::{Schema, Table};

/// The identity is kept at most so often. Rows sent within this time before a kill are not in it; a restore would have
/// to come from a backup taken in that same moment to go unnoticed.
const SAVE_EVERY: Duration = Duration::from_millis(200);
/// A sample of so many rows tells enough to last until the identity is kept again.
const FEW: usize = 8;

/// The identity of one feed's history, and where it is kept.
pub(super) struct History {
    feed: String,
    table: String,
    database: PathBuf,
    /// `None`: kept nowhere.
    files: Option<IdentityFiles>,
    known: Option<Identity>,
    stored: Stored,
    /// Something happened since the identity was kept.
    dirty_since: Option<Instant>,
    /// Rows published that the sample has not been asked about.
    unsampled: usize,
    /// Rows that were sampled are not what they were, and it is the same history all the same.
    is_edited: bool,
    /// Sampled since it was kept.
    sampled: bool,
    saved_at: Option<Instant>,
}

/// What is in the files.
enum Stored {
    /// This, or nothing.
    Last(Option<Identity>),
    /// Keeping it failed the last time, which was said.
    Failed,
}

impl History {
    /// As the state directory remembers it.
    pub(super) fn load(config: &Config, feed: &FeedConfig) -> History {
        // Which history a spool holds is written in it.
        let directory = config.state_dir.as_deref();
        let directory = directory.filter(|_| !config.edge.is_one());
        let mut files =
            directory.map(|directory| IdentityFiles::new(directory, &config.database, &feed.name));
        let known = files.as_mut().and_then(|files| files.load().ok().flatten());
        let mut known = known.filter(|identity| identity.table == feed.table);
        if let Some(identity) = &mut known
            && identity.head == 0
            && identity.sample.is_empty()
        {
            // So an earlier version kept that there never was a row.
            identity.head = i64::MIN;
        }
        History {
            feed: feed.name.clone(),
            table: feed.table.clone(),
            database: config.database.clone(),
            files,
            stored: Stored::Last(known.clone()),
            known,
            dirty_since: None,
            unsampled: 0,
            is_edited: false,
            sampled: false,
            saved_at: None,
        }
    }

    pub(super) fn known(&self) -> Option<&Identity> {
        self.known.as_ref()
    }

    /// Returns whether the history that is known is one of changes that ended, or of rows where there are changes now.
    pub(super) fn is_interrupted(&self, schema: &Schema) -> bool {
        let generation = schema.changes.as_ref().map(|log| &log.generation);
        let known = self.known.as_ref();
        known.is_some_and(|known| known.capture.as_ref() != generation)
    }

    /// The question whether this is still the history of `table`, whose highest id was `head`.
    pub(super) fn question<'a>(
        &'a self,
        table: &'a Table,
        head: i64,
        doubt: Doubt,
    ) -> Question<'a> {
        let known = self.known.as_ref();
        Question {
            table,
            sample: known.map(|known| &known.sample),
            sampled_to: known.map_or(head, |known| known.head.min(head)),
            head,
            doubt,
        }
    }

    /// Returns whether there is a place to keep it.
    pub(super) fn is_kept(&self) -> bool {
        self.files.is_some()
    }

    /// Rows were published.
    pub(super) fn grew(&mut self, rows: usize) {
        self.unsampled += rows;
    }

    /// The newest row is another than it was, which is no other history: what is compared next is compared with what
    /// there is now.
    pub(super) fn edited(&mut self) {
        self.is_edited = true;
    }

    /// All rows published were considered for the sample.
    pub(super) fn is_sampled(&self) -> bool {
        self.unsampled == 0
    }

    /// What is kept is not all there is to know.
    pub(super) fn changed(&mut self) {
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    /// Samples the newest rows up to `head`.
    pub(super) fn sample(
        &mut self,
        connection: &Connection,
        schema: &Schema,
        epoch: String,
        file: FileId,
        head: i64,
    ) -> rusqlite::Result<()> {
        self.known = Some(Identity {
            database: self.database.clone(),
            table: self.table.clone(),
            epoch,
            file: Some(file),
            head,
            capture: schema.changes.as_ref().map(|log| log.generation.clone()),
            sample: Sample::take(connection, &schema.table, head)?,
        });
        self.sampled = true;
        Ok(())
    }

    /// Samples anew where the sample there is could soon tell nothing: it is of a few rows, of rows that were edited, or of
    /// rows far behind that may be pruned together. Otherwise a sample some commits old is as good, and is renewed when the identity is kept.
    pub(super) fn resample(
        &mut self,
        connection: &Connection,
        table: &Table,
        head: i64,
    ) -> rusqlite::Result<()> {
        let rows = std::mem::take(&mut self.unsampled);
        let is_edited = std::mem::take(&mut self.is_edited);
        let Some(known) = &mut self.known else {
            return Ok(());
        };
        if is_edited || rows > 0 && (rows >= FEW || known.sample.len() < FEW) {
            known.sample = Sample::take(connection, table, head)?;
            known.head = head;
        }
        Ok(())
    }

    /// When it is due to be kept; `None` when nothing changed.
    pub(super) fn due(&self) -> Option<Instant> {
        let dirty = self.dirty_since?;
        let next = self.saved_at.map(|saved| saved + SAVE_EVERY);
        Some(next.map_or(dirty, |next| dirty.max(next)))
    }

    /// Keeps it if it was sampled since the last time; else it is due again a little later.
    pub(super) fn save(&mut self) {
        self.saved_at = Some(Instant::now());
        if self.sampled {
            self.dirty_since = None;
            self.store();
        }
    }

    /// Keeps it at once. What fails is logged.
    pub(super) fn store(&mut self) {
        self.sampled = false;
        let (Some(files), Some(known)) = (&mut self.files, &self.known) else {
            return;
        };
        if matches!(&self.stored, Stored::Last(Some(last)) if last == known) {
            return;
        }
        let (feed, has_failed) = (&self.feed, matches!(self.stored, Stored::Failed));
        self.stored = match files.store(known) {
            Ok(()) => {
                if has_failed {
                    tracing::info!("the identity of feed {feed} is kept again");
                }
                Stored::Last(Some(known.clone()))
            }
            Err(e) => {
                if !has_failed {
                    tracing::error!(
                        "the identity of feed {feed} can't be kept ({e}); after a restart subscribers may have to start over"
                    );
                }
                Stored::Failed
            }
        };
    }
}
