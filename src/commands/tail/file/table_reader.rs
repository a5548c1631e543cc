//! Reads the table where rows are no longer, or not yet, in memory.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::BUSY;
use crate::hub::Feed;
use crate::sqlite::deadline::Deadline;
use crate::sqlite::file::FileId;
use crate::sqlite::open::open_reading;
use crate::sqlite::open_connections::{OpenConnection, OpenConnections};
use crate::sqlite::reader::RowReader;

/// The table of a feed, with a connection to its file while there is something to read.
pub(super) struct TableReader<'a> {
    path: &'a Path,
    feed: &'a Feed,
    open_connections: Arc<OpenConnections>,
    open: Option<Reader>,
}

/// A connection, and the table as it was when it was opened.
struct Reader {
    file: FileId,
    connection: Connection,
    rows: RowReader,
    /// Dropped after the connection.
    open_connection: OpenConnection,
}

impl<'a> TableReader<'a> {
    pub(super) fn new(
        path: &'a Path,
        feed: &'a Feed,
        open_connections: Arc<OpenConnections>,
    ) -> TableReader<'a> {
        TableReader {
            path,
            feed,
            open_connections,
            open: None,
        }
    }

    /// Closes the connection, which would only keep a writer from being the last to close.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Returns whether what was read last is of the file that is there now.
    pub(super) fn is_current_file(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|reader| FileId::of(self.path) == Some(reader.file))
    }

    /// Reads with a connection to the file as it is now. `None` where that does not work at the moment; the feed loop
    /// finds out why, and its word on it is printed.
    pub(super) fn read<T>(
        &mut self,
        read: impl FnOnce(&Connection, &mut RowReader) -> rusqlite::Result<T>,
    ) -> Option<T> {
        self.open
            .take_if(|reader| !reader.open_connection.is_current());
        let schema = self.feed.schema()?;
        let file = FileId::of(self.path)?;
        let fits =
            |reader: &Reader| reader.file == file && Arc::ptr_eq(&reader.rows.schema, &schema);
        if !self.open.as_ref().is_some_and(fits) {
            self.open = None;
            let open_connection = self.open_connections.enter();
            let mut connection = open_reading(self.path, BUSY).ok()?;
            let deadline = Deadline::default();
            deadline.install(&mut connection).ok()?;
            let rows = RowReader::new(&self.feed.config, schema, self.feed.max_row_bytes)
                .limited_by(deadline);
            self.open = Some(Reader {
                file,
                connection,
                rows,
                open_connection,
            });
        }
        let reader = self.open.as_mut()?;
        let result = read(&reader.connection, &mut reader.rows);
        // The feed loop soon has the table as it is now.
        let is_good = result.is_ok() && reader.rows.is_current(&reader.connection).ok()?;
        if !is_good {
            self.open = None;
        }
        result.ok().filter(|_| is_good)
    }
}
