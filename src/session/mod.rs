//! One subscriber's life as a state machine: waiting, hello, replay, live, reset. It decides what comes next and does no input
//! or output, so WebSocket and SSE share it whole. A subscriber is a position in the table, never a queue.

mod batch;
mod held;
pub mod table_bounds;
mod table_replay;
mod whole_rows;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::access::Grant;
use crate::hub::{Absence, Cause, Feed, Presence, Standing, Subscription, TooManyValues, View};
use crate::model::filter::{Filter, FilterId};
use crate::model::position::Cursor;
use crate::model::read_owner::{Client, ReadOwner};
use crate::session::table_bounds::TableBounds;
use crate::sqlite::reader::TablePosition;
use crate::wire::block::Block;
use crate::wire::control::{CloseCode, Control, FeedKind};
pub use batch::{Batch, BatchLimits, Run};
use held::Held;
use table_replay::TableReplay;
use whole_rows::WholeRows;

/// Where a resumable subscription wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// `since=<id>`, with the history the id belongs to where the client knows it.
    Id { id: Cursor, epoch: Option<String> },
    /// `since=earliest` or `since=0`.
    Earliest,
    /// `since=now`.
    Now,
    /// `last=<n>`.
    Last(u32),
}

/// What a subscription asks for: where it begins, and its filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// `None`: a plain subscription, which gets rows and nothing else.
    pub since: Option<Since>,
    pub filter: Filter,
}

/// What a session needs done next.
#[derive(Debug)]
pub enum Step {
    /// Send this.
    Say(Control),
    /// Send the rows above the position that the view's blocks hold.
    TakeRows,
    /// Read a page from the table and send it.
    ReadPage,
    /// Read a page of the captured table as it is, from [`Session::table_position`] on, and send it.
    ReadTable,
    /// Ask the table where it begins, then call [`Session::opened`].
    AskBounds,
    /// Everything there is was taken.
    Wait,
    /// There is no table to go on with: look again when that changes.
    WaitForTable,
    /// The log has not come to where this subscriber begins: look again when it moves.
    WaitForHead,
    Close(CloseCode),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Hello (or reset) waits for the table's bounds.
    Opening,
    /// The captured table as it is comes before its changes.
    Table,
    CatchUp,
    Live,
}

/// One subscriber: its position, where it is in its life, and its entry in the feed.
pub struct Session {
    subscription: Subscription,
    /// Everything read for this subscriber is read for it.
    read_owner: ReadOwner,
    /// What it may read, and for how long; `None` where nobody is asked.
    grant: Option<Arc<Grant>>,
    /// Boxed: most subscribers are plain and idle, and there may be many.
    since: Option<Box<Since>>,
    generation: u64,
    position: Cursor,
    phase: Phase,
    /// A hello went out.
    greeted: bool,
    /// The history it came to is gone: what it asked for counts from the beginning of the next.
    starts_over: bool,
    /// It was told that there is nothing to read, for this cause.
    waiting: Option<Cause>,
    /// There was no table to have a position in when this subscriber came: whatever appears is new to it.
    from_nothing: bool,
    /// Rows up to here were there when the stream began: they come from the table as it is, for what the log holds of
    /// them may have been updated or deleted since.
    replayed_to: Cursor,
    /// Pages read before this are too old for this subscriber.
    started: Instant,
    /// Since when it waits for the source of an edge to be heard. Boxed: few do, and not for long.
    held: Option<Box<Held>>,
    /// Rows are taken whole. Boxed: few subscribers do.
    whole: Option<Box<WholeRows>>,
    /// What is still to come of the captured table as it is. Boxed: few subscribers are there, and not for long.
    table: Option<Box<TableReplay>>,
}

impl Session {
    /// Enters a subscriber. Everything committed from now on is its to get.
    ///
    /// # Errors
    /// The filters of all subscribers would have too many values together.
    pub fn begin(feed: &Arc<Feed>, request: Request) -> Result<Session, TooManyValues> {
        let (subscription, standing) = feed.subscribe(request.filter)?;
        let Standing {
            generation,
            head,
            presence,
            ..
        } = standing;
        let phase = match request.since {
            Some(_) => Phase::Opening,
            None => Phase::Live,
        };
        Ok(Session {
            subscription,
            read_owner: ReadOwner::new(Client::of_connection()),
            grant: None,
            since: request.since.map(Box::new),
            generation,
            position: head,
            phase,
            greeted: false,
            starts_over: false,
            waiting: None,
            from_nothing: presence
                .absence()
                .is_some_and(|absence| absence.cause.is_unmade()),
            replayed_to: Cursor::MIN,
            started: Instant::now(),
            held: None,
            whole: None,
            table: None,
        })
    }

    /// Rows up to here were committed before it came, although the log does not have them yet.
    pub fn above(mut self, committed: Option<Cursor>) -> Session {
        self.position = self.position.max(committed.unwrap_or(Cursor::MIN));
        self
    }

    /// Reads for it are taken in turn with others of this client. Without a word it is a client of its own.
    pub fn on_behalf_of(self, client: Client) -> Session {
        Session {
            read_owner: ReadOwner::new(client),
            ..self
        }
    }

    /// Takes rows whole (see [`whole_row`](crate::sqlite::whole_row)), each page of them read from the table: what the log
    /// holds is worded for clients. It is told what the rows are of before the hello, and when that changes.
    pub fn whole(self) -> Session {
        Session {
            whole: Some(Box::default()),
            ..self
        }
    }

    /// It lasts no longer than this grant.
    pub fn under(self, grant: Option<Arc<Grant>>) -> Session {
        Session { grant, ..self }
    }

    /// Returns why it has to end by then for want of a grant; `None` where it may go on.
    pub fn grant_ended(&self, now: SystemTime) -> Option<CloseCode> {
        let grant = self.grant.as_ref()?;
        grant.close_code(&self.feed().config.name, now)
    }

    /// Returns when its grant expires.
    pub fn expires(&self) -> Option<SystemTime> {
        self.grant.as_ref()?.expires()
    }

    /// On whose behalf reads for this subscriber are made.
    pub fn read_owner(&self) -> &ReadOwner {
        &self.read_owner
    }

    /// Returns whether no frame may go out yet: neither hello nor word that there is nothing to read.
    pub fn awaits_hello(&self) -> bool {
        self.phase == Phase::Opening && !self.greeted && self.waiting.is_none()
    }

    /// The feed subscribed to.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.subscription.feed
    }

    /// Which of its rows are wanted.
    pub fn filter(&self) -> &Arc<Filter> {
        &self.subscription.filter
    }

    /// The filter's number in the feed; equal filters share one, but for those who take rows whole.
    pub fn filter_id(&self) -> FilterId {
        match self.whole {
            Some(_) => self.subscription.filter_id.whole(),
            None => self.subscription.filter_id,
        }
    }

    /// The id up to which everything was taken.
    pub fn position(&self) -> Cursor {
        self.position
    }

    /// Which of the feed's epochs, counted in this process, the position belongs to.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the subscription began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Returns whether control frames may be sent to it.
    pub fn is_resumable(&self) -> bool {
        self.since.is_some()
    }

    /// Returns how many rows `last=<n>` asks for; `None` where the client asked otherwise.
    pub fn last(&self) -> Option<u32> {
        match self.since.as_deref() {
            Some(Since::Last(n)) => Some(*n),
            _ => None,
        }
    }

    /// Rows up to `position` were handed over, or are none of this subscriber's.
    pub fn advance(&mut self, position: Cursor) {
        if position > self.position {
            self.position = position;
            self.from_nothing = false;
        }
    }

    /// What comes next, given the state of the log.
    pub fn next(&mut self, view: &View) -> Step {
        if view.presence.is_replaced() {
            return Step::Close(CloseCode::Restart);
        }
        if view.presence.is_gone() {
            return Step::Close(CloseCode::FeedGone);
        }
        if self.generation != view.generation {
            return self.replaced(view);
        }
        if self.filter_is_gone(view) {
            return Step::Close(CloseCode::Restart);
        }
        if let Presence::Away(absence) = &view.presence
            && let Some(step) = self.without_table(view, absence)
        {
            return step;
        }
        if let Some(step) = self.describe(view) {
            return step;
        }
        if self.has_to_wait() {
            return Step::WaitForHead;
        }
        match self.phase {
            Phase::Opening => Step::AskBounds,
            Phase::Table => Step::ReadTable,
            _ if self.position < self.table_until(view) => Step::ReadPage,
            _ if self.position < view.head => self.rows(view),
            // Of what was there when it came, the log has not seen all.
            Phase::CatchUp if self.position < self.replayed_to => Step::WaitForHead,
            Phase::CatchUp => {
                self.phase = Phase::Live;
                match self.is_resumable() {
                    true => Step::Say(Control::Live {
                        id: view.head.max(self.position),
                    }),
                    false => self.next(view),
                }
            }
            Phase::Live if self.position > view.head => Step::WaitForHead,
            Phase::Live => Step::Wait,
        }
    }

    /// What is to be done while there is no table to read; `None`: the same as with one.
    fn without_table(&mut self, view: &View, absence: &Absence) -> Option<Step> {
        let behind = self.position < view.head;
        let opened = !matches!(self.phase, Phase::Opening | Phase::Table);
        if opened && behind && self.position >= self.table_until(view) && self.is_in_log(view) {
            return None;
        }
        if !self.is_resumable() {
            return behind.then_some(Step::WaitForTable);
        }
        if self.waiting.map(Cause::reason) == Some(absence.cause.reason()) {
            return Some(Step::WaitForTable);
        }
        self.waiting = Some(absence.cause);
        self.phase = Phase::Opening;
        Some(Step::Say(absence.control()))
    }

    /// Rows up to here are read from the table, those above it are in the log.
    pub fn table_until(&self, view: &View) -> Cursor {
        view.floor.max(self.replayed_to.min(view.head))
    }

    /// A filter on a column that is no more matches nothing for ever; the client learns of it when it reconnects.
    fn filter_is_gone(&self, view: &View) -> bool {
        let Some(schema) = &view.schema else {
            return false;
        };
        self.filter()
            .columns()
            .any(|column| schema.place_of(column).is_none())
    }

    fn rows(&self, view: &View) -> Step {
        match self.is_in_log(view) {
            true => Step::TakeRows,
            false => Step::ReadPage,
        }
    }

    /// Returns whether the log can say what comes next.
    fn is_in_log(&self, view: &View) -> bool {
        let next = view.after(self.position).next();
        next.is_some_and(|block| block.knows(self.filter_id()))
    }

    /// Returns what comes next once the history has changed under the subscriber.
    fn replaced(&mut self, view: &View) -> Step {
        if self.is_resumable() {
            self.generation = view.generation;
            self.phase = Phase::Opening;
            self.starts_over = true;
            // What it had is of the other history.
            self.position = Cursor::MIN;
            return self.next(view);
        }
        if self.from_nothing {
            self.generation = view.generation;
            self.from_nothing = false;
            self.position = Cursor::MIN;
            return self.next(view);
        }
        Step::Close(CloseCode::Restart)
    }

    /// The answer to [`Step::AskBounds`]: fixes where the stream begins and words the hello or reset.
    /// `None` where the answer is about a history that is gone again.
    pub fn opened(&mut self, bounds: &TableBounds) -> Option<Control> {
        if self.phase != Phase::Opening || bounds.generation != self.generation {
            return None;
        }
        if self.is_held(bounds) {
            return None;
        }
        let was_cut_off = self.table.take().is_some();
        let (start, recovered) = self.start(bounds, was_cut_off);
        // A hello that was not sent yet can tell of another history itself.
        let reset = self.greeted && self.starts_over;
        (self.greeted, self.starts_over, self.waiting) = (true, false, None);
        let is_of_changes = bounds.kind == Some(FeedKind::Changes);
        let snapshot = start.is_none() && is_of_changes && !self.takes_log_alone();
        self.phase = match snapshot {
            true => Phase::Table,
            false => Phase::CatchUp,
        };
        self.table = snapshot.then(|| {
            Box::new(TableReplay {
                from: TablePosition::beginning(),
                changes_after: self.changes_after_table(bounds),
            })
        });
        let from_earliest = bounds.earliest.map_or(bounds.head, Cursor::before);
        self.position = match snapshot {
            // Of the log it has nothing: whoever is cut off here begins again.
            true => Cursor::MIN,
            // Numbers of changes begin with 1.
            false if is_of_changes => start.unwrap_or(from_earliest).max(Cursor(0)),
            false => start.unwrap_or(from_earliest),
        };
        self.started = bounds.read_at;
        self.replayed_to = bounds.head;
        let TableBounds {
            epoch,
            head,
            earliest,
            ..
        } = bounds;
        let earliest = earliest.map(Cursor);
        Some(if reset {
            Control::Reset {
                epoch: epoch.clone(),
                reason: bounds.replaced_for,
                head: *head,
                earliest,
                snapshot,
            }
        } else {
            Control::Hello {
                feed: self.feed().config.name.clone(),
                kind: bounds.kind,
                key: bounds.key.clone(),
                epoch: epoch.clone(),
                head: *head,
                earliest,
                since: self.position.max(lowest_shown(bounds)),
                recovered,
                snapshot,
            }
        })
    }

    /// The position the stream begins from, `None` for the first there is, and whether that is where the client wanted to
    /// be. `was_cut_off`: it had begun to take the table, which may be another by now.
    fn start(&self, bounds: &TableBounds, was_cut_off: bool) -> (Option<Cursor>, bool) {
        let from_earliest = bounds.earliest.map_or(bounds.head, Cursor::before);
        // Nobody stands at the beginning of a log of changes: it is where the table comes first.
        let log_alone = self.takes_log_alone() && bounds.kind == Some(FeedKind::Changes);
        let is_first =
            |id: Cursor| bounds.kind == Some(FeedKind::Changes) && id <= Cursor(0) && !log_alone;
        let is_there = |id: Cursor| {
            let is_kept = id >= from_earliest || bounds.older_from == Some(id);
            is_kept && id <= bounds.head && !is_first(id)
        };
        let honoured = |id: Cursor| match is_there(id) {
            true => (Some(id), true),
            // Before every row, as it was shown to a client when there was none.
            false => (None, !log_alone && (id == Cursor::MIN || id == Cursor(0))),
        };
        match self.since.as_deref() {
            Some(Since::Last(_)) if !self.greeted || self.starts_over => {
                (Some(bounds.start_of_last.unwrap_or(bounds.head)), true)
            }
            _ if self.greeted && self.starts_over => (None, true),
            _ if was_cut_off => (None, false),
            // It has everything, also where that was nothing.
            _ if self.greeted && bounds.kind == Some(FeedKind::Changes) => {
                let is_there = from_earliest <= self.position.max(Cursor(0));
                match is_there && self.position <= bounds.head {
                    true => (Some(self.position), true),
                    false => (None, false),
                }
            }
            // The table was away for a while.
            _ if self.greeted => honoured(self.position),
            Some(Since::Earliest) => (None, true),
            // All of a history that began since is new.
            Some(Since::Now) if self.starts_over => (None, true),
            Some(Since::Id { id, epoch }) => {
                let epoch = epoch.as_deref();
                match epoch.is_none_or(|epoch| epoch == &*bounds.epoch.0) {
                    true => honoured(*id),
                    false => (None, false),
                }
            }
            // The head as it was when the subscriber came.
            _ => (Some(self.position), true),
        }
    }

    /// Returns the position that it wants to go on from, and of which history that is where it says so.
    pub fn named_position(&self) -> Option<(Cursor, Option<&str>)> {
        match (self.since.as_deref(), self.greeted) {
            (None, _) => None,
            (Some(_), true) => (!self.starts_over).then_some((self.position, None)),
            (Some(Since::Id { id, epoch }), false) => Some((*id, epoch.as_deref())),
            (Some(_), false) => None,
        }
    }

    /// Returns whether a page read from the table may be sent to this subscriber: it must follow the position, in the
    /// same history, and have been read since the subscription began.
    pub fn accepts(&self, block: &Block, generation: u64) -> bool {
        generation == self.generation
            && block.after <= self.position
            && block.last > self.position
            && block.read_at >= self.started
    }
}

/// A position below every row is shown as the one below the first, or as 0.
fn lowest_shown(bounds: &TableBounds) -> Cursor {
    bounds.earliest.map_or(Cursor::MIN, |earliest| {
        Cursor::before(earliest).min(Cursor(0))
    })
}

#[cfg(test)]
mod hopping;
#[cfg(test)]
mod tests;
