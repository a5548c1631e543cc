//! One subscriber's life as a state machine: hello, replay, live, reset. It decides what comes next and does no input
//! or output, so WebSocket and SSE share it whole. A subscriber is a position in the table, never a queue.

mod batch;

use std::sync::Arc;
use std::time::Instant;

use crate::catchup::Bounds;
use crate::change::{Block, Cursor};
use crate::filter::{Filter, FilterId};
use crate::hub::{Feed, Presence, Standing, Subscription, View};
use crate::protocol::{CloseCode, Control};
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

/// What a client asked for.
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
    Close(CloseCode),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Hello (or reset, when something was sent before) waits for the table's bounds.
    Opening {
        reset: bool,
    },
    CatchUp,
    Live,
}

/// A subscriber.
pub struct Session {
    subscription: Subscription,
    /// Boxed: most subscribers are plain and idle, and there may be many.
    since: Option<Box<Since>>,
    generation: u64,
    position: Cursor,
    phase: Phase,
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
    pub fn begin(feed: &Arc<Feed>, request: Request) -> Session {
        let (subscription, standing) = feed.subscribe(request.filter);
        let Standing {
            generation,
            head,
            presence,
            ..
        } = standing;
        let phase = match request.since {
            Some(_) => Phase::Opening { reset: false },
            None => Phase::Live,
        };
        Session {
            subscription,
            since: request.since.map(Box::new),
            generation,
            position: head,
            phase,
            from_nothing: matches!(presence, Presence::Waiting(_)),
            replayed_to: Cursor::MIN,
            started: Instant::now(),
        }
    }

    /// Whether no frame may go out yet.
    pub fn awaits_hello(&self) -> bool {
        self.phase == (Phase::Opening { reset: false })
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

    /// Whether control frames may be sent to it.
    pub fn is_resumable(&self) -> bool {
        self.since.is_some()
    }

    /// How many rows `last=<n>` asks for.
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
        if self.generation != view.generation {
            return self.replaced(view);
        }
        if self.filter_is_gone(view) {
            return Step::Close(CloseCode::Restart);
        }
        match self.phase {
            Phase::Opening { .. } => Step::AskBounds,
            _ if self.position < self.table_until(view) => Step::ReadPage,
            _ if self.position < view.head => self.rows(view),
            Phase::CatchUp => {
                self.phase = Phase::Live;
                match self.is_resumable() {
                    true => Step::Say(Control::Live { id: view.head }),
                    false => Step::Wait,
                }
            }
            Phase::Live => Step::Wait,
        }
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
            .any(|name| schema.place(name).is_none())
    }

    fn rows(&self, view: &View) -> Step {
        match view.after(self.position).next() {
            Some(block) if block.knows(self.filter_id()) => Step::TakeRows,
            _ => Step::ReadPage,
        }
    }

    /// The history changed under the subscriber.
    fn replaced(&mut self, view: &View) -> Step {
        if self.is_resumable() {
            // A hello that was not sent yet can tell of the new history itself.
            let reset = self.phase != Phase::Opening { reset: false };
            self.generation = view.generation;
            self.phase = Phase::Opening { reset };
            return Step::AskBounds;
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
    pub fn opened(&mut self, bounds: &Bounds) -> Option<Control> {
        let Phase::Opening { reset } = self.phase else {
            return None;
        };
        if bounds.generation != self.generation {
            return None;
        }
        let (start, recovered) = self.start(bounds, reset);
        self.position = start;
        self.phase = Phase::CatchUp;
        self.started = bounds.read_at;
        self.replayed_to = bounds.head;
        let Bounds {
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
    fn start(&self, bounds: &Bounds, reset: bool) -> (Cursor, bool) {
        let from_earliest = match bounds.earliest {
            Some(earliest) => Cursor::before(earliest),
            None if bounds.table_is_there => bounds.head,
            // The table is away, with rows or without: begin at its beginning, wherever that will be.
            None => Cursor::MIN,
        };
        match self.since.as_deref() {
            Some(Since::Now) | None => (bounds.head, true),
            Some(Since::Earliest) => (from_earliest, true),
            Some(Since::Last(_)) => (bounds.start_of_last.unwrap_or(bounds.head), true),
            Some(Since::Id { .. }) if reset => (from_earliest, true),
            Some(Since::Id { id, epoch }) => {
                let same_epoch = epoch
                    .as_deref()
                    .is_none_or(|epoch| epoch == &*bounds.epoch.0);
                let recovered = same_epoch && *id <= bounds.head && *id >= from_earliest;
                (if recovered { *id } else { from_earliest }, recovered)
            }
        }
    }

    /// Whether a page read from the table may be sent to this subscriber: it must follow the position, in the same
    /// history, and have been read since the subscription began.
    pub fn accepts(&self, block: &Block, generation: u64) -> bool {
        generation == self.generation
            && block.after <= self.position
            && block.last > self.position
            && block.read_at >= self.started
    }
}

/// A position below every row is shown as the one below the first, or as 0.
fn lowest_shown(bounds: &Bounds) -> Cursor {
    bounds.earliest.map_or(Cursor(0), |earliest| {
        Cursor::before(earliest).min(Cursor(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Epoch;

    fn feed() -> Arc<Feed> {
        let feed = Feed::stock();
        feed.begin(Epoch::new("e1"), Cursor(100));
        feed
    }

    fn bounds(earliest: Option<i64>) -> Bounds {
        Bounds {
            epoch: Epoch::new("e1"),
            generation: 0,
            key: "id".into(),
            head: Cursor(100),
            table_is_there: true,
            earliest,
            start_of_last: Some(Cursor(90)),
            read_at: Instant::now(),
        }
    }

    fn resumable(feed: &Arc<Feed>, since: Since) -> Session {
        let request = Request {
            since: Some(since),
            filter: Filter::default(),
        };
        Session::begin(feed, request)
    }

    fn id(id: i64, epoch: Option<&str>) -> Since {
        Since::Id {
            id: Cursor(id),
            epoch: epoch.map(str::to_owned),
        }
    }

    fn hello(since: Since, earliest: Option<i64>) -> (i64, bool) {
        let mut session = resumable(&feed(), since);
        match session.opened(&bounds(earliest)) {
            Some(Control::Hello {
                since, recovered, ..
            }) => (since.0, recovered),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cursor_is_honoured_or_the_client_is_told() {
        assert_eq!(hello(id(50, None), Some(1)), (50, true));
        assert_eq!(hello(id(50, Some("e1")), Some(1)), (50, true));
        assert_eq!(hello(id(100, None), Some(1)), (100, true));
        assert_eq!(
            hello(id(50, Some("e0")), Some(1)),
            (0, false),
            "another epoch"
        );
        assert_eq!(hello(id(101, None), Some(1)), (0, false), "above the head");
        assert_eq!(
            hello(id(49, None), Some(50)),
            (49, true),
            "nothing above it was pruned"
        );
        assert_eq!(
            hello(id(48, None), Some(50)),
            (49, false),
            "row 49 was pruned"
        );
        assert_eq!(
            hello(id(99, None), None),
            (100, false),
            "row 100 was pruned"
        );
        assert_eq!(hello(id(100, None), None), (100, true));
        assert_eq!(hello(Since::Earliest, Some(50)), (49, true));
        assert_eq!(hello(Since::Earliest, None), (100, true));
        assert_eq!(hello(Since::Now, Some(1)), (100, true));
        assert_eq!(hello(Since::Last(10), Some(1)), (90, true));
    }

    #[test]
    fn who_comes_while_the_table_is_away_gets_its_rows_when_it_is_back() {
        let away = Bounds {
            table_is_there: false,
            ..bounds(None)
        };
        for (since, position, shown, recovered) in [
            (Since::Earliest, Cursor::MIN, 0, true),
            (id(50, None), Cursor(50), 50, true),
            (id(50, Some("e0")), Cursor::MIN, 0, false),
        ] {
            let mut session = resumable(&feed(), since);
            let Some(Control::Hello {
                since,
                recovered: told,
                ..
            }) = session.opened(&away)
            else {
                panic!()
            };
            assert_eq!(
                (session.position(), since.0, told),
                (position, shown, recovered)
            );
        }
    }

    #[test]
    fn a_replaced_history_closes_plain_subscribers_and_resets_resumable_ones() {
        let feed = feed();
        feed.opened(Arc::new(crate::sqlite::table::Schema {
            version: 1,
            table: crate::sqlite::table::Table {
                name: "t".into(),
                columns: vec![],
                key: 0,
                autoincrement: true,
            },
            exposed: vec![],
            key_place: 0,
        }));
        let mut plain = Session::begin(&feed, Request::default());
        let mut resumable = resumable(&feed, Since::Now);
        resumable.opened(&bounds(Some(1)));
        feed.replace(Epoch::new("e2"), Cursor(5));
        let view = feed.view();
        assert!(matches!(plain.next(&view), Step::Close(CloseCode::Restart)));
        assert!(matches!(resumable.next(&view), Step::AskBounds));
        assert!(
            resumable.opened(&bounds(Some(1))).is_none(),
            "bounds of the old history"
        );
        let new = Bounds {
            generation: 1,
            head: Cursor(5),
            epoch: Epoch::new("e2"),
            ..bounds(Some(1))
        };
        assert!(matches!(
            resumable.opened(&new),
            Some(Control::Reset {
                head: Cursor(5),
                ..
            })
        ));
        assert!(matches!(
            resumable.next(&view),
            Step::Say(Control::Live { id: Cursor(5) })
        ));
    }

    #[test]
    fn who_came_before_there_was_a_table_gets_all_of_it() {
        let feed = feed();
        feed.closed(Presence::Waiting("no file".into()));
        let mut early = Session::begin(&feed, Request::default());
        feed.replace(Epoch::new("e2"), Cursor(5));
        assert!(matches!(early.next(&feed.view()), Step::ReadPage));
    }
}
