//! One reader's way through rows that are not in the spool: a connection to the upstream, and the rows that came last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tungstenite::{Message, WebSocket};

use super::frames::{OriginControl, OriginFrame};
use super::upstream::Upstream;
use crate::hub::{Feed, OlderPage};
use crate::model::position::{Cursor, Epoch};
use crate::net::feed_socket::{ConnectError, lost};
use crate::net::remote_daemon::DaemonStream;
use crate::sqlite::reader::PageLimits;
use crate::sqlite::spool::{Fragment, SpoolPosition};
use crate::sqlite::whole_row::{TableDescription, WholeRow};
use crate::wire::block::Block;

/// How long the next frame may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, and the rows that came over it last.
pub(super) struct OlderReading {
    feed: String,
    epoch: Epoch,
    socket: WebSocket<DaemonStream>,
    rows: Option<Described>,
    /// What rows to come are of, where that is something else.
    next: Option<Described>,
    /// The rows that are held are those above this position,
    after: Cursor,
    /// and up to this one.
    reached: Cursor,
}

/// Rows of one description.
struct Described {
    schema: String,
    /// Where a row has its id.
    key: usize,
    fragment: Fragment,
}

/// What a frame came to.
enum Came {
    /// A row of so many bytes.
    Row(usize),
    /// Everything up to here has come.
    UpTo(Cursor),
    /// Rows of another description follow.
    Table,
    Nothing,
}

/// Why there is no reading.
#[derive(Debug)]
pub(super) struct NotBegun {
    pub why: String,
    /// The upstream is there, and can't say now whether it has the rows.
    pub is_for_now: bool,
}

impl NotBegun {
    fn now(why: String) -> NotBegun {
        let is_for_now = true;
        NotBegun { why, is_for_now }
    }

    fn at_all(why: String) -> NotBegun {
        let is_for_now = false;
        NotBegun { why, is_for_now }
    }
}

/// Somebody accepted, and said nothing.
fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

impl OlderReading {
    /// Connects. `None`: the upstream does not have all rows that follow on this position.
    pub(super) fn begin(
        upstream: &Upstream,
        feed: &Arc<Feed>,
        epoch: &Epoch,
        after: Cursor,
    ) -> Result<Option<OlderReading>, NotBegun> {
        if after.0 < 1 {
            // That can't be asked for, and nothing is older.
            return Ok(None);
        }
        let name = &feed.config.name;
        let position = SpoolPosition {
            epoch: epoch.0.to_string(),
            id: Some(after.0),
            is_of_changes: false,
        };
        let socket = upstream.subscribe(name, Some(&position));
        let socket = socket.map_err(|error| match error {
            ConnectError::Unreachable(e) => NotBegun {
                is_for_now: is_silence(&e),
                why: format!("{} does not answer: {e}", upstream.shown()),
            },
            ConnectError::Later { why, .. } => NotBegun::now(why),
            ConnectError::Refused { why, .. } => NotBegun::at_all(why),
        })?;
        let limited = socket.get_ref().set_read_timeout(PATIENCE);
        limited.map_err(|e| NotBegun::at_all(e.to_string()))?;
        let mut reading = OlderReading {
            feed: name.clone(),
            epoch: epoch.clone(),
            socket,
            rows: None,
            next: None,
            after,
            reached: after,
        };
        // It was there a moment ago.
        let goes_on = reading.greet(feed).map_err(NotBegun::now)?;
        Ok(goes_on.then_some(reading))
    }

    /// Takes what comes up to the hello. Returns whether rows follow that go on at the position.
    fn greet(&mut self, feed: &Arc<Feed>) -> Result<bool, String> {
        loop {
            let (frame, _) = self.frame()?;
            match frame {
                OriginFrame::Control(OriginControl::Table { schema, table }) => {
                    self.next = Some(Described::new(feed, schema, &table)?);
                }
                OriginFrame::Control(OriginControl::Hello {
                    epoch, recovered, ..
                }) => {
                    return Ok(recovered && *epoch == *self.epoch.0);
                }
                OriginFrame::Control(OriginControl::Waiting { message }) => {
                    return Err(format!("it waits: {message}"));
                }
                OriginFrame::Control(_) => {}
                OriginFrame::Row(_) | OriginFrame::Change(_) => {
                    return Err("a row came before the hello".to_owned());
                }
            }
        }
    }

    /// Returns whether this position can be gone on from.
    pub(super) fn goes_on_at(&self, feed: &str, epoch: &Epoch, after: Cursor) -> bool {
        self.feed == feed && self.epoch == *epoch && (self.after..=self.reached).contains(&after)
    }

    /// Reads a page. `None`: a column of the filter is not there.
    pub(super) fn page(
        &mut self,
        feed: &Arc<Feed>,
        wanted: &OlderPage<'_>,
    ) -> Result<Option<Block>, String> {
        if wanted.after == self.reached {
            self.fetch(feed, wanted.limits, wanted.upto)?;
        }
        let range = (wanted.after, self.reached.min(wanted.upto));
        if range.0 >= range.1 {
            return Err("it has nothing that follows".to_owned());
        }
        let (limits, filter) = (wanted.limits, wanted.filter);
        match &mut self.rows {
            // Nothing but ids without rows.
            None => Ok(Some(Block::passing(range.0, range.1))),
            Some(rows) => rows
                .fragment
                .page(&feed.config, range, limits, filter, wanted.is_whole)
                .map_err(|e| e.to_string()),
        }
    }

    /// Takes as many rows as make a page, in place of those that are held.
    fn fetch(&mut self, feed: &Arc<Feed>, limits: PageLimits, upto: Cursor) -> Result<(), String> {
        self.after = self.reached;
        if let Some(next) = self.next.take() {
            self.rows = Some(next);
        }
        if let Some(rows) = &self.rows {
            rows.fragment.clear().map_err(|e| e.to_string())?;
        }
        let (mut rows, mut bytes) = (0, 0);
        while rows < limits.rows && bytes < limits.bytes && self.reached < upto {
            match self.take(feed)? {
                Came::Row(size) => (rows, bytes) = (rows + 1, bytes + size),
                Came::UpTo(id) => {
                    self.reached = self.reached.max(id);
                    return Ok(());
                }
                Came::Table if rows > 0 => return Ok(()),
                Came::Table => self.rows = self.next.take(),
                Came::Nothing => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, feed: &Arc<Feed>) -> Result<Came, String> {
        let (frame, bytes) = self.frame()?;
        let control = match frame {
            OriginFrame::Row(row) => return self.row(&row).map(|()| Came::Row(bytes)),
            OriginFrame::Control(control) => control,
            OriginFrame::Change(_) => return Err("it has changes of them alone".to_owned()),
        };
        Ok(match control {
            OriginControl::Table { schema, table } => {
                self.next = Some(Described::new(feed, schema, &table)?);
                Came::Table
            }
            OriginControl::Live { id } | OriginControl::Heartbeat { head: id } => {
                Came::UpTo(Cursor(id.0))
            }
            OriginControl::Hello { .. } | OriginControl::Reset { .. } => {
                return Err("another history began there".to_owned());
            }
            OriginControl::Waiting { message } => return Err(format!("it waits: {message}")),
            OriginControl::Goodbye { .. } | OriginControl::Unknown => Came::Nothing,
        })
    }

    fn row(&mut self, row: &WholeRow) -> Result<(), String> {
        let described = self.rows.as_ref().filter(|rows| rows.schema == row.schema);
        let rows = described.ok_or("it did not say what a row is of")?;
        let id = row.values.get(rows.key).and_then(|value| value.integer());
        let id = id.filter(|_| row.values.len() == rows.fragment.columns());
        let id = id.ok_or("a row is not as it was described")?;
        rows.fragment
            .insert(&row.values)
            .map_err(|e| e.to_string())?;
        self.reached = self.reached.max(Cursor(id));
        Ok(())
    }

    /// The next frame, and how many bytes it had.
    fn frame(&mut self) -> Result<(OriginFrame, usize), String> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let frame = OriginFrame::parse(&text);
                    let frame = frame.map_err(|e| format!("what came is not understood: {e}"))?;
                    return Ok((frame, text.len()));
                }
                Ok(Message::Close(frame)) => {
                    let code = frame.map_or(1005, |frame| u16::from(frame.code));
                    return Err(format!("the connection was closed (code {code})"));
                }
                Ok(_) => {}
                Err(e) => return Err(lost(&e)),
            }
        }
    }
}

impl Described {
    fn new(
        feed: &Arc<Feed>,
        schema: String,
        table: &TableDescription,
    ) -> Result<Described, String> {
        let is_key = |name: &String| name.eq_ignore_ascii_case(&table.key);
        let key = table.column_names().iter().position(is_key);
        Ok(Described {
            schema,
            key: key.ok_or("its rows have no ids")?,
            fragment: Fragment::new(table, &feed.config, feed.max_row_bytes)?,
        })
    }
}
