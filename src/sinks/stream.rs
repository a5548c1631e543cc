//! What a sink delivers: a session of its feed, step by step. It holds no rows while it waits, neither for news nor for a
//! receiver that takes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::attempts::{Outcome, Posted};
use super::body::{Body, BodyLimits, Heading};
use super::position_file::Reached;
use super::sink::{LOOK, Sink, Stop, drained};
use super::state::SinkActivity;
use crate::catchup::PageError;
use crate::model::filter::FilterId;
use crate::model::position::{Cursor, Epoch};
use crate::session::{Session, Step};
use crate::sqlite::reader::TablePage;
use crate::wire::block::Block;
use crate::wire::control::{CloseCode, Control};

/// Blocks of the log that one look takes in. Single commits make blocks of one row, so this many fill a body.
const LOOK_BLOCKS: usize = super::body::MOST_ROWS;
/// How long to wait before a read that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How long a drain waits for the answer to what was posted already: cut off, it would be posted again after the restart.
const GRACE: Duration = Duration::from_secs(1);

/// Rows of a feed on their way to a receiver.
pub(super) struct Stream<'s> {
    sink: &'s mut Sink,
    session: Session,
    moved: watch::Receiver<()>,
    /// The history that the session is in; known once it was opened.
    epoch: Epoch,
    /// The head when it was opened.
    opened_at: Cursor,
    /// The receiver is still to be told that the table as it is begins.
    snapshot_due: bool,
}

/// What rows are of.
enum Of {
    /// The table, or its log of changes, by their ids.
    Log,
    /// A captured table as it is, by their number.
    Table(Arc<TablePage>),
}

impl<'s> Stream<'s> {
    pub(super) fn new(
        sink: &'s mut Sink,
        session: Session,
        moved: watch::Receiver<()>,
    ) -> Stream<'s> {
        Stream {
            sink,
            session,
            moved,
            epoch: Epoch::new(""),
            opened_at: Cursor::MIN,
            snapshot_due: false,
        }
    }

    /// Delivers for as long as it can.
    pub(super) async fn run(mut self) -> Stop {
        loop {
            if let Err(stop) = self.step().await {
                return stop;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Stop> {
        if *self.sink.around.draining.borrow() {
            return Err(Stop::Drain);
        }
        self.moved.borrow_and_update();
        let (step, body) = self.look();
        match step {
            Step::Say(control) => {
                self.hear(&control).await;
                Ok(())
            }
            Step::TakeRows => match body {
                Some(body) => self.deliver(body, Of::Log).await,
                None => Ok(()),
            },
            Step::ReadPage => self.deliver_page().await,
            Step::ReadTable => self.deliver_table().await,
            Step::AskBounds => self.open_session().await,
            Step::Wait | Step::WaitForTable | Step::WaitForHead => self.wait().await,
            Step::Close(CloseCode::FeedGone) => {
                Err(Stop::Again(Some("the feed's table was dropped".to_owned())))
            }
            // A column of the filter is gone: the next beginning says which.
            Step::Close(_) => Err(Stop::Again(None)),
        }
    }

    /// What comes next, with the rows where the log has them.
    fn look(&mut self) -> (Step, Option<Body>) {
        let feed = Arc::clone(self.session.feed());
        let view = feed.view_after(self.session.position(), LOOK_BLOCKS);
        let step = self.session.next(&view);
        if view.generation == self.session.generation() {
            self.sink.state.note_head(view.head);
        }
        let takes = matches!(step, Step::TakeRows);
        let body = takes.then(|| self.gather(view.after(self.session.position())));
        (step, body)
    }

    fn gather<'a>(&self, blocks: impl Iterator<Item = &'a Arc<Block>>) -> Body {
        self.gather_by(self.session.filter_id(), self.session.position(), blocks)
    }

    fn gather_by<'a>(
        &self,
        filter: FilterId,
        position: Cursor,
        blocks: impl Iterator<Item = &'a Arc<Block>>,
    ) -> Body {
        let attempts = &self.sink.attempts;
        let limits = BodyLimits {
            bytes: attempts.most_bytes(),
            upto: attempts.upto(),
        };
        let feed = &self.session.feed().config.name;
        let heading = Heading {
            feed,
            epoch: &self.epoch,
            snapshot: self.snapshot_due,
        };
        Body::gather(heading, blocks, filter, position, limits)
    }

    /// Heeds what a client would be told.
    async fn hear(&mut self, control: &Control) {
        let name = self.sink.name().to_owned();
        match control {
            Control::Hello {
                epoch,
                head,
                recovered,
                snapshot,
                ..
            } => {
                self.snapshot_due = *snapshot;
                if !recovered {
                    tracing::warn!(
                        "sink {name}: rows that were not delivered are gone, or the table holds another history now; it \
                         begins anew with the first row there is (epoch {epoch})"
                    );
                }
                self.opened(epoch, *head).await;
            }
            Control::Reset {
                epoch,
                head,
                snapshot,
                ..
            } => {
                self.snapshot_due = *snapshot;
                tracing::warn!(
                    "sink {name}: another history began; its rows are delivered from the first on (epoch {epoch})"
                );
                self.opened(epoch, *head).await;
            }
            Control::Live { .. } => {
                self.sink.state.set(SinkActivity::Live, None);
            }
            Control::Waiting { message, .. } => {
                self.sink.state.forget_position();
                let trouble = Some(message.clone());
                if self.sink.state.set(SinkActivity::Waiting, trouble) {
                    tracing::info!("sink {name} waits: {message}");
                }
            }
            Control::Heartbeat { .. }
            | Control::Goodbye { .. }
            | Control::GrantEnded { .. }
            | Control::Table { .. } => {}
        }
    }

    /// The session knows where it stands, in this history.
    async fn opened(&mut self, epoch: &Epoch, head: Cursor) {
        let sink = &mut *self.sink;
        (self.epoch, self.opened_at) = (epoch.clone(), head);
        sink.attempts.forget();
        sink.state.forget_position();
        sink.state.set(SinkActivity::CatchingUp, None);
        self.advance(self.session.position());
        // From here on it has been started: what comes while the daemon is down is its to deliver.
        let name = self.sink.name().to_owned();
        self.sink.kept.store(&name).await;
    }

    /// Rows up to here were delivered, or are none of this sink's.
    fn advance(&mut self, position: Cursor) {
        self.session.advance(position);
        let reached = Reached::Row {
            epoch: self.epoch.clone(),
            id: self.session.position(),
        };
        self.sink.state.reached(self.session.position());
        self.sink.kept.set(reached);
    }

    /// Rows of a table as it is up to this number were delivered. Until they all are it has nothing that it could go on from.
    fn advance_in_table(&mut self, page: &TablePage, taken: Cursor) {
        self.session.took_of_table(page, taken);
        self.advance(self.session.position());
    }

    fn advance_in(&mut self, of: &Of, reached: Cursor) {
        match of {
            Of::Log => self.advance(reached),
            Of::Table(page) => self.advance_in_table(page, reached),
        }
    }

    /// Posts the rows, and moves on once they are taken. They are gathered anew for each attempt, for by then there may be
    /// another history.
    async fn deliver(&mut self, body: Body, of: Of) -> Result<(), Stop> {
        let reaches = body.reaches;
        let Some(last) = body.last else {
            if let Some(reached) = reaches {
                self.advance_in(&of, reached);
            }
            return Ok(());
        };
        let id = match of {
            Of::Log => format!("{}:{last}", self.epoch),
            // They have no id. By the head before them and their number what is posted under one name is the same.
            Of::Table(_) => format!("{}:{}r{last}", self.epoch, self.opened_at),
        };
        match self.post(id, body, last).await? {
            Outcome::Taken => {
                self.snapshot_due = false;
                self.advance_in(&of, reaches.unwrap_or(last));
                let name = self.sink.name().to_owned();
                self.sink.kept.store_if_due(&name).await;
                Ok(())
            }
            Outcome::Gone => Err(Stop::Gone),
            Outcome::Again { pause } => {
                let name = self.sink.name().to_owned();
                self.sink.kept.store(&name).await;
                self.beside_head(tokio::time::sleep(pause)).await
            }
        }
    }

    async fn post(&mut self, id: String, body: Body, last: Cursor) -> Result<Outcome, Stop> {
        self.sink.attempts.renew_secrets().await;
        let posting = self.sink.attempts.post(id, body.json.clone());
        let mut posting = std::pin::pin!(posting);
        let answer = match self.beside_head(posting.as_mut()).await {
            Ok(answer) => answer,
            Err(stop) => match tokio::time::timeout(GRACE, posting).await {
                Ok(answer) => answer,
                Err(_) => return Err(stop),
            },
        };
        let sink = &mut *self.sink;
        let posted = Posted {
            rows: body.rows,
            bytes: body.json.len(),
            last,
        };
        Ok(sink
            .attempts
            .judge(answer, posted, &sink.state, &sink.around.metrics.sinks))
    }

    /// Delivers the beginning of the page that follows the position. What does not fit is found again: among the pages
    /// kept for others, or in the table.
    async fn deliver_page(&mut self) -> Result<(), Stop> {
        let page = match self.sink.around.catchup.kept(&self.session) {
            Some(page) => page,
            None => match self.read_page().await? {
                Some(page) => page,
                None => return Ok(()),
            },
        };
        let body = self.gather(std::iter::once(&page));
        drop(page);
        self.deliver(body, Of::Log).await
    }

    /// Delivers rows of the captured table as it is, from where it stands there.
    async fn deliver_table(&mut self) -> Result<(), Stop> {
        let (sender, receiver) = oneshot::channel();
        self.sink
            .around
            .catchup
            .table_page(&self.session, move |page| {
                let _ = sender.send(page);
            });
        let page = match self.beside_head(receiver).await? {
            Ok(Ok((page, generation))) if self.session.accepts_table(&page, generation) => page,
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(PageError::Pruned | PageError::FilterGone)) => return Err(Stop::Again(None)),
            Ok(Err(PageError::Unavailable(_))) | Err(_) => return self.try_later().await,
        };
        let Some(taken) = self.session.table_position().map(|from| from.taken) else {
            return Ok(());
        };
        // All of its rows match.
        let body = self.gather_by(FilterId::NONE, taken, std::iter::once(&page.block));
        self.deliver(body, Of::Table(page)).await
    }

    /// Reads the page that follows the position; `None` where the session has to look again.
    async fn read_page(&mut self) -> Result<Option<Arc<Block>>, Stop> {
        let (sender, receiver) = oneshot::channel();
        self.sink.around.catchup.page(&self.session, move |page| {
            let _ = sender.send(page);
        });
        match self.beside_head(receiver).await? {
            Ok(Ok((page, generation))) => {
                Ok(Some(page).filter(|page| self.session.accepts(page, generation)))
            }
            Ok(Err(PageError::Pruned | PageError::FilterGone)) => Err(Stop::Again(None)),
            // What is wrong with the file, the feed loop says.
            Ok(Err(PageError::Unavailable(_))) | Err(_) => self.try_later().await.map(|()| None),
        }
    }

    async fn open_session(&mut self) -> Result<(), Stop> {
        let (sender, receiver) = oneshot::channel();
        self.sink
            .around
            .catchup
            .bounds(&self.session, move |bounds| {
                let _ = sender.send(bounds);
            });
        match self.beside_head(receiver).await? {
            Ok(Ok(bounds)) => {
                if let Some(control) = self.session.opened(&bounds) {
                    self.hear(&control).await;
                }
                Ok(())
            }
            Ok(Err(_)) | Err(_) => self.try_later().await,
        }
    }

    async fn try_later(&mut self) -> Result<(), Stop> {
        self.beside_head(tokio::time::sleep(RETRY)).await
    }

    /// Waits until the feed moves. What was delivered is written down meanwhile.
    async fn wait(&mut self) -> Result<(), Stop> {
        let due = self.sink.kept.due();
        let store = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            moved = self.moved.changed() => return moved.map_err(|_| Stop::Drain),
            () = drained(&mut self.sink.around.draining) => return Err(Stop::Drain),
            () = store => {}
        }
        let name = self.sink.name().to_owned();
        self.sink.kept.store_if_due(&name).await;
        Ok(())
    }

    /// Waits for `work` until the daemon drains, and notes meanwhile where the head is.
    async fn beside_head<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut work = std::pin::pin!(work);
        let mut draining = self.sink.around.draining.clone();
        let mut stop = std::pin::pin!(drained(&mut draining));
        let mut look = Instant::now() + LOOK;
        loop {
            tokio::select! {
                done = work.as_mut() => return Ok(done),
                () = stop.as_mut() => return Err(Stop::Drain),
                () = sleep_until(look) => {}
            }
            look += LOOK;
            let standing = self.session.feed().standing();
            if standing.generation == self.session.generation() {
                self.sink.state.note_head(standing.head);
            }
        }
    }
}
