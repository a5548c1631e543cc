//! Rows that a stream has no more, had from the daemon that is named as upstream, up to where the stream goes on. What it has
//! no more either is not to be had: then what is here is void, and clients are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};

use super::frames::{OriginControl, OriginFrame};
use super::intake::Closed;
use super::link_judge::Reached;
use super::taking::{NotTaken, Taking};
use super::upstream::Upstream;
use crate::model::position::Cursor;
use crate::net::feed_socket::{ConnectError, lost};
use crate::net::remote_daemon::DaemonStream;
use crate::sqlite::spool::{SpoolItem, SpoolPosition};
use crate::sqlite::whole_row::{TableDescription, WholeRow};
use crate::wire::control::ResetReason;

/// How long it is tried to ask the upstream, before what it may have is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows that a stream lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// What is here ends there.
    pub reached: Reached,
    /// The stream goes on after this.
    pub until: Cursor,
}

/// What came of asking for the rows of a gap.
#[derive(Debug)]
pub(super) enum Filled {
    /// They are here.
    Done,
    /// It is to be looked anew where the spool and the stream are.
    LookAgain,
    /// Nobody has them; why, in words.
    NotThere(String),
    /// The upstream could not be asked; why, in words.
    Later(String),
    /// The edge ends.
    Closed,
}

impl From<Closed> for Filled {
    fn from(_: Closed) -> Filled {
        Filled::Closed
    }
}

/// The gaps of one feed.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// The one that is to be filled now.
    pub due: Option<Gap>,
    /// The one that the upstream can't be asked for, and since when.
    failing: Option<(Gap, Instant)>,
    /// The one that nobody can fill.
    given_up: Option<Gap>,
}

impl Gaps {
    /// Returns whether this one is to be filled before anything else; `false` where nobody can.
    pub(super) fn is_due(&mut self, gap: Gap) -> bool {
        if self.given_up.as_ref() == Some(&gap) {
            return false;
        }
        self.due = Some(gap);
        true
    }

    /// Takes note of what came of asking. Returns what was in the way, where it is to be tried again after a pause.
    pub(super) fn heed(&mut self, filled: Filled, taking: &Taking) -> Result<(), Option<String>> {
        let feed = &taking.feed;
        let gap = self.due.take();
        let failing = self.failing.take();
        let why = match filled {
            Filled::Done | Filled::LookAgain => return Ok(()),
            Filled::Closed => return Err(None),
            Filled::Later(why) => {
                let same = failing.filter(|(failing, _)| Some(failing) == gap.as_ref());
                let since = same.map_or_else(Instant::now, |(_, since)| since);
                if since.elapsed() < PATIENCE {
                    self.failing = gap.map(|gap| (gap, since));
                    return Err(Some(format!(
                        "the stream has rows no more that are to come from edge.upstream: {why}"
                    )));
                }
                why
            }
            Filled::NotThere(why) => why,
        };
        tracing::warn!(
            "feed {feed}: the stream has rows no more that follow on what is here, nor does edge.upstream give them ({why}); what \
             the stream has is taken from its first row on"
        );
        self.given_up = gap;
        Ok(())
    }
}

/// Has the rows of a gap. Blocks.
pub(super) fn fill(upstream: &Upstream, taking: &mut Taking, gap: &Gap) -> Filled {
    let feed = Arc::clone(&taking.feed);
    taking.status.begins(&feed);
    let position = match taking.intake.position(&feed) {
        Ok(position) => position,
        Err(Closed) => return Filled::Closed,
    };
    let is_before_it = |position: &SpoolPosition| {
        let id = position.id.map_or(Cursor::MIN, Cursor);
        position.epoch == gap.reached.epoch && id < gap.until
    };
    let Some(position) = position.filter(is_before_it) else {
        return Filled::LookAgain;
    };
    let socket = match upstream.subscribe(&feed, &position) {
        Ok(socket) => socket,
        Err(ConnectError::Unreachable(e)) => {
            return Filled::Later(format!("{} does not answer: {e}", upstream.shown()));
        }
        Err(ConnectError::Later { why, .. } | ConnectError::Refused { why, .. }) => {
            return Filled::Later(why);
        }
    };
    if !taking.status.connected(&feed, socket.get_ref().socket()) {
        return Filled::LookAgain;
    }
    taking.forget();
    let mut filling = Filling {
        taking,
        gap,
        keys: HashMap::new(),
    };
    let filled = filling.read(socket);
    if let Filled::Done = filled {
        tracing::info!(
            "feed {feed}: rows that the stream has no more came from edge.upstream, {}",
            upstream.shown()
        );
    }
    filled
}

struct Filling<'f> {
    taking: &'f mut Taking,
    gap: &'f Gap,
    /// Where rows have their ids, by the fingerprints that they name.
    keys: HashMap<String, usize>,
}

impl Filling<'_> {
    fn read(&mut self, mut socket: WebSocket<DaemonStream>) -> Filled {
        loop {
            let text = match socket.read() {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(frame)) => {
                    let code = frame.map_or(1005, |frame| u16::from(frame.code));
                    return Filled::Later(format!("it closed the connection (code {code})"));
                }
                Ok(_) => continue,
                Err(_) if self.taking.status.is_sent_back(&self.taking.feed) => {
                    return Filled::LookAgain;
                }
                Err(e) => return Filled::Later(lost(&e)),
            };
            let taken = match OriginFrame::parse(&text) {
                Ok(OriginFrame::Row(row)) => self.row(row, text.len()),
                Ok(OriginFrame::Control(control)) => self.heed(control, text.len()),
                Ok(OriginFrame::Change(_)) => {
                    Err(Filled::NotThere("it has changes of them alone".to_owned()))
                }
                Err(e) => Err(Filled::NotThere(format!(
                    "what it sent is not understood: {e}"
                ))),
            };
            match taken {
                Ok(false) => {}
                Ok(true) => return Filled::Done,
                Err(filled) => return filled,
            }
        }
    }

    /// Takes a row. `true`: what was missing is here.
    fn row(&mut self, row: WholeRow, bytes: usize) -> Result<bool, Filled> {
        let place = self.keys.get(&row.schema);
        let id = place.and_then(|place| row.values.get(*place)?.integer());
        self.taking.row(row, bytes).map_err(not_taken)?;
        Ok(id.is_some_and(|id| Cursor(id) >= self.gap.until))
    }

    /// Takes what is said beside rows. `true`: what was missing is here.
    fn heed(&mut self, control: OriginControl, bytes: usize) -> Result<bool, Filled> {
        let feed = Arc::clone(&self.taking.feed);
        match control {
            OriginControl::Table { schema, table } => {
                if let Some(place) = key_place(&table) {
                    self.keys.insert(schema.clone(), place);
                }
                self.taking
                    .table(schema, *table, bytes)
                    .map_err(not_taken)?;
            }
            OriginControl::Hello {
                epoch, recovered, ..
            } => {
                if epoch != self.gap.reached.epoch {
                    return Err(Filled::NotThere("it has another history".to_owned()));
                }
                if !recovered {
                    return Err(Filled::NotThere("it has them no more".to_owned()));
                }
                let goes_on = SpoolItem::Begin {
                    epoch,
                    goes_on: true,
                    reason: ResetReason::default(),
                };
                self.taking.intake.push(&feed, goes_on, 0)?;
            }
            OriginControl::Reset { .. } => {
                return Err(Filled::NotThere("it has another history".to_owned()));
            }
            OriginControl::Live { id } | OriginControl::Heartbeat { head: id } => {
                let up_to = SpoolItem::UpTo(id.0);
                self.taking.intake.push(&feed, up_to, 0)?;
                return Ok(Cursor(id.0) >= self.gap.until);
            }
            OriginControl::Waiting { message } => {
                return Err(Filled::Later(format!("it waits: {message}")));
            }
            OriginControl::Goodbye { .. } | OriginControl::Unknown => {}
        }
        Ok(false)
    }
}

fn key_place(table: &TableDescription) -> Option<usize> {
    let is_key = |name: &String| name.eq_ignore_ascii_case(&table.key);
    table.column_names().iter().position(is_key)
}

fn not_taken(not: NotTaken) -> Filled {
    match not {
        NotTaken::Closed => Filled::Closed,
        NotTaken::Undescribed => Filled::LookAgain,
        NotTaken::Wrong(why) => Filled::NotThere(why),
    }
}
