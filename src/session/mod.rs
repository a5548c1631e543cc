//! One subscriber's life as a state machine: waiting, hello, replay, live, reset. It decides what comes next and does no input
//! or output, so WebSocket and SSE share it whole. A subscriber is a position in the table, never a queue.

mod batch;
pub mod table_bounds;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::access::Grant;
use crate::hub::{Absence, Cause, Feed, Presence, Standing, Subscription, TooManyValues, View};
use crate::model::filter::{Filter, FilterId};
use crate::model::position::Cursor;
use crate::model::read_owner::{Client, ReadOwner};
use crate::session::table_bounds::TableBounds;
use crate::wire::block::Block;
use crate::wire::control::{CloseCode, Control};
pub use batch::{Batch, BatchLimits, Run};

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

    pub fn read_owner(&self) -> &ReadOwner {
        &self.read_owner
    }

    /// Returns whether no frame may go out yet: neither hello nor word that there is nothing to read.
    pub fn awaits_hello(&self) -> bool {
        self.phase == Phase::Opening && !self.greeted && self.waiting.is_none()
    }

    pub fn feed(&self) -> &Arc<Feed> {
        &self.subscription.feed
    }

    pub fn filter(&self) -> &Arc<Filter> {
        &self.subscription.filter
    }

    pub fn filter_id(&self) -> FilterId {
        self.subscription.filter_id
    }

    pub fn position(&self) -> Cursor {
        self.position
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

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
        match self.phase {
            Phase::Opening => Step::AskBounds,
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
        let opened = self.phase != Phase::Opening;
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
        let (start, recovered) = self.start(bounds);
        // A hello that was not sent yet can tell of another history itself.
        let reset = self.greeted && self.starts_over;
        (self.greeted, self.starts_over, self.waiting) = (true, false, None);
        self.position = start;
        self.phase = Phase::CatchUp;
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
                reason: "database_replaced",
                head: *head,
                earliest,
            }
        } else {
            Control::Hello {
                feed: self.feed().config.name.clone(),
                key: bounds.key.clone(),
                epoch: epoch.clone(),
                head: *head,
                earliest,
                since: start.max(lowest_shown(bounds)),
                recovered,
            }
        })
    }

    /// The position the stream begins from, and whether that is where the client wanted to be.
    fn start(&self, bounds: &TableBounds) -> (Cursor, bool) {
        let from_earliest = bounds.earliest.map_or(bounds.head, Cursor::before);
        let honoured = |id: Cursor| match id <= bounds.head && id >= from_earliest {
            true => (id, true),
            // Before every row, as it was shown to a client when there was none.
            false => (from_earliest, id == Cursor::MIN || id == Cursor(0)),
        };
        match self.since.as_deref() {
            Some(Since::Last(_)) if !self.greeted || self.starts_over => {
                (bounds.start_of_last.unwrap_or(bounds.head), true)
            }
            _ if self.greeted && self.starts_over => (from_earliest, true),
            // The table was away for a while.
            _ if self.greeted => honoured(self.position),
            Some(Since::Earliest) => (from_earliest, true),
            // All of a history that began since is new.
            Some(Since::Now) if self.starts_over => (from_earliest, true),
            Some(Since::Id { id, epoch }) => {
                let epoch = epoch.as_deref();
                match epoch.is_none_or(|epoch| epoch == &*bounds.epoch.0) {
                    true => honoured(*id),
                    false => (from_earliest, false),
                }
            }
            // The head as it was when the subscriber came.
            _ => (self.position, true),
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
mod tests;
