//! What a stream does not have, had from the daemon that is named as upstream, up to where the stream goes on: rows that it has
//! no more, and of a feed of changes the table as it is, with which that begins. Rows that the upstream has no more either are
//! not to be had: then what is here is void, and clients are told.

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
use crate::sqlite::whole_row::{TableDescription, WholeChange, WholeRow};
use crate::wire::control::ResetReason;

/// How long it is tried to ask the upstream, before what it may have is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a stream lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gap {
    /// Rows, or changes.
    Between {
        /// What is here ends there.
        reached: Reached,
        /// The stream goes on after this.
        until: Cursor,
    },
    /// The table as it is, before changes of this history; or changes that lead from what is here to there.
    Beginning {
        epoch: String,
        /// Why the history began.
        reason: ResetReason,
    },
}

impl Gap {
    /// The history that the stream goes on in.
    fn epoch(&self) -> &str {
        match self {
            Gap::Between { reached, .. } => &reached.epoch,
            Gap::Beginning { epoch, .. } => epoch,
        }
    }

    /// Where the stream goes on at least.
    fn until(&self) -> Cursor {
        match self {
            Gap::Between { until, .. } => *until,
            Gap::Beginning { .. } => Cursor::MIN,
        }
    }

    /// Returns whether there is nothing to go on with for who was not given it.
    fn is_needed(&self) -> bool {
        matches!(self, Gap::Beginning { .. })
    }

    /// What the upstream is asked for, for people.
    fn shown(&self) -> &'static str {
        match self {
            Gap::Between { .. } => {
                "the stream has rows no more that are to come from edge.upstream"
            }
            Gap::Beginning { .. } => {
                "a feed of changes begins with the table as it is, which is to come from edge.upstream"
            }
        }
    }
}

/// What came of asking for what is in a gap.
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

    /// Takes note of what came of asking for the gap. Returns what was in the way, where it is to be tried again after a pause.
    pub(super) fn heed(
        &mut self,
        gap: Gap,
        filled: Filled,
        taking: &Taking,
    ) -> Result<(), Option<String>> {
        let feed = &taking.feed;
        let failing = self.failing.take();
        let why = match filled {
            Filled::Done => {
                // Who gave this may give the other, too.
                self.given_up = None;
                return Ok(());
            }
            Filled::LookAgain => return Ok(()),
            Filled::Closed => return Err(None),
            Filled::Later(why) | Filled::NotThere(why) if gap.is_needed() => {
                return Err(Some(format!("{}: {why}", gap.shown())));
            }
            Filled::Later(why) => {
                let same = failing.filter(|(failing, _)| *failing == gap);
                let since = same.map_or_else(Instant::now, |(_, since)| since);
                if since.elapsed() < PATIENCE {
                    let told = format!("{}: {why}", gap.shown());
                    self.failing = Some((gap, since));
                    return Err(Some(told));
                }
                why
            }
            Filled::NotThere(why) => why,
        };
        tracing::warn!(
            "feed {feed}: the stream has rows no more that follow on what is here, nor does edge.upstream give them ({why}); what \
             the stream has is taken from its first row on"
        );
        self.given_up = Some(gap);
        Ok(())
    }
}

/// Has what is in a gap. Blocks.
pub(super) fn fill(upstream: &Upstream, taking: &mut Taking, gap: &Gap) -> Filled {
    let feed = Arc::clone(&taking.feed);
    taking.status.begins(&feed);
    let position = match taking.intake.position(&feed) {
        Ok(position) => position,
        Err(Closed) => return Filled::Closed,
    };
    let is_before_it = |position: &SpoolPosition| {
        let id = position.id.map_or(Cursor::MIN, Cursor);
        position.epoch == gap.epoch() && id < gap.until()
    };
    let is_beginning = gap.is_needed();
    if !is_beginning && !position.as_ref().is_some_and(is_before_it) {
        return Filled::LookAgain;
    }
    let socket = match upstream.subscribe(&feed, position.as_ref()) {
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
        described: None,
        is_of_changes: false,
        epoch: String::new(),
        is_whole: false,
        reached: Cursor::MIN,
    };
    let filled = filling.read(socket);
    if let Filled::Done = filled {
        let what = match is_beginning {
            true => "the table as it is, or the changes up to it,",
            false => "rows that the stream has no more",
        };
        let shown = upstream.shown();
        tracing::info!("feed {feed}: {what} came from edge.upstream, {shown}");
    }
    filled
}

struct Filling<'f> {
    taking: &'f mut Taking,
    gap: &'f Gap,
    /// Where rows have their ids, by the fingerprints that they name.
    keys: HashMap<String, usize>,
    /// What the table is said to be, and in how many bytes, until it is known which history follows.
    described: Option<(String, Box<TableDescription>, usize)>,
    /// What comes is of a captured table.
    is_of_changes: bool,
    /// The history that it is of; empty until that is said.
    epoch: String,
    /// What came is a state of the feed that can be gone on from.
    is_whole: bool,
    /// Up to where it came.
    reached: Cursor,
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
                Ok(OriginFrame::Change(change)) => self.change(change, text.len()),
                Err(e) => Err(Filled::NotThere(format!(
                    "what it sent is not understood: {e}"
                ))),
            };
            match taken {
                Ok(()) if self.is_whole && self.reached >= self.gap.until() => return self.done(),
                Ok(()) => {}
                Err(filled) => return filled,
            }
        }
    }

    /// What was asked for is here, if the stream goes on in the same history.
    fn done(&self) -> Filled {
        match self.epoch == self.gap.epoch() {
            true => Filled::Done,
            // One of the two is behind the other.
            false => Filled::Later("it is in another history than the stream".to_owned()),
        }
    }

    fn row(&mut self, row: WholeRow, bytes: usize) -> Result<(), Filled> {
        let place = self.keys.get(&row.schema);
        let id = place.and_then(|place| row.values.get(*place)?.integer());
        self.taking.row(row, bytes).map_err(not_taken)?;
        // Of a captured table as it is, rows are no positions.
        if let Some(id) = id.filter(|_| !self.is_of_changes) {
            self.reached = Cursor(id);
        }
        Ok(())
    }

    fn change(&mut self, change: WholeChange, bytes: usize) -> Result<(), Filled> {
        let seq = change.seq();
        self.taking.change(change, bytes).map_err(not_taken)?;
        if let Some(seq) = seq {
            self.reached = Cursor(seq);
        }
        Ok(())
    }

    /// Takes what is said beside rows.
    fn heed(&mut self, control: OriginControl, bytes: usize) -> Result<(), Filled> {
        let feed = Arc::clone(&self.taking.feed);
        match control {
            OriginControl::Table { schema, table } => {
                self.is_of_changes = table.changes.is_some();
                self.described = Some((schema, table, bytes));
                if !self.epoch.is_empty() {
                    self.describe()?;
                }
            }
            OriginControl::Hello {
                epoch,
                recovered,
                snapshot,
            } => {
                self.greeted(&epoch, recovered)?;
                self.describe()?;
                let goes_on = recovered && !snapshot;
                let reason = match self.gap {
                    Gap::Beginning {
                        epoch: begun,
                        reason,
                    } if *begun == epoch => *reason,
                    _ => ResetReason::default(),
                };
                (self.is_whole, self.epoch) = (goes_on, epoch.clone());
                let begin = SpoolItem::Begin {
                    epoch,
                    goes_on,
                    reason,
                };
                self.taking.intake.push(&feed, begin, 0)?;
            }
            OriginControl::Reset { .. } if self.is_of_changes => return Err(Filled::LookAgain),
            OriginControl::Reset { .. } => {
                return Err(Filled::NotThere("it has another history".to_owned()));
            }
            OriginControl::Live { id } | OriginControl::Heartbeat { head: id } => {
                (self.is_whole, self.reached) = (true, Cursor(id.0));
                if self.reached < self.gap.until() {
                    // All that it has is not all there is.
                    let why = format!("{}, which is behind itself", self.gap.shown());
                    self.taking.status.cut_off(&feed, &why);
                    return Ok(());
                }
                let up_to = SpoolItem::UpTo(id.0);
                self.taking.intake.push(&feed, up_to, 0)?;
            }
            OriginControl::Waiting { message } => {
                return Err(Filled::Later(format!("it waits: {message}")));
            }
            OriginControl::Goodbye { .. } | OriginControl::Unknown => {}
        }
        Ok(())
    }

    /// Returns why nothing that follows is of use, if so. Whoever has changes of a table has it as it is, too.
    fn greeted(&self, epoch: &str, recovered: bool) -> Result<(), Filled> {
        let why = match self.gap {
            _ if self.is_of_changes => return Ok(()),
            Gap::Beginning { .. } => {
                return Err(Filled::Later(
                    "it has rows of it, and no changes".to_owned(),
                ));
            }
            Gap::Between { reached, .. } if epoch != reached.epoch => "it has another history",
            Gap::Between { .. } if !recovered => "it has them no more",
            Gap::Between { .. } => return Ok(()),
        };
        Err(Filled::NotThere(why.to_owned()))
    }

    /// Takes what the table is said to be.
    fn describe(&mut self) -> Result<(), Filled> {
        let Some((schema, table, bytes)) = self.described.take() else {
            return Ok(());
        };
        if let Some(place) = key_place(&table) {
            self.keys.insert(schema.clone(), place);
        }
        self.taking.table(schema, *table, bytes).map_err(not_taken)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::status::EdgeStatus;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn what_was_given_up_is_asked_for_again_once_the_upstream_has_given_something() {
        let status = EdgeStatus::new("ws://origin".to_owned(), Metrics::new().unwrap());
        let (feed, table) = (Arc::from("orders"), "orders".to_owned());
        let taking = Taking::new(feed, table, Arc::default(), Arc::new(status));
        let gap = Gap::Between {
            reached: Reached {
                epoch: "e1".to_owned(),
                id: Cursor(5),
            },
            until: Cursor(9),
        };
        let mut gaps = Gaps::default();
        assert!(gaps.is_due(gap.clone()));
        let not_there = Filled::NotThere("it has them no more".to_owned());
        assert_eq!(gaps.heed(gap.clone(), not_there, &taking), Ok(()));
        assert!(!gaps.is_due(gap.clone()));
        // Of a feed of changes the table is asked for then, which begins where what is here ends, if it can.
        let beginning = Gap::Beginning {
            epoch: "e1".to_owned(),
            reason: ResetReason::default(),
        };
        assert_eq!(gaps.heed(beginning, Filled::Done, &taking), Ok(()));
        assert!(gaps.is_due(gap));
    }
}
