//! A subscription that is served on the runtime: asks its session what comes next, and hands it to its transport in the
//! words of that. Streams of events are served so, and sockets with several subscriptions. It holds no rows while it waits
//! for news, nor for a client that takes nothing.

mod chunk;
mod stream_end;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::Span;

use crate::catchup::PageError;
use crate::http::state::App;
use crate::hub::READ_PATIENCE;
use crate::model::filter::FilterId;
use crate::model::position::{Cursor, Epoch};
use crate::session::table_bounds::TableBounds;
use crate::session::{Batch, BatchLimits, Session, Step};
use crate::sqlite::error::Unavailable;
use crate::sqlite::reader::TablePage;
use crate::wire::block::Block;
use crate::wire::control::{CloseCode, Control, HEARTBEAT_SECS};

pub(super) use chunk::Chunk;
pub(super) use stream_end::StreamEnd;

/// Rows that are put into one chunk.
const BATCH: BatchLimits = BatchLimits {
    runs: 256,
    bytes: 64 * 1024,
};
/// Blocks of the log that one look takes in. Single commits make blocks of one row, so this many fill a small chunk.
const LOOK_BLOCKS: usize = 32;
/// A subscriber to whom nothing was said for so long gets a sign of life.
const QUIET: Duration = Duration::from_secs(HEARTBEAT_SECS);
/// How long to wait before a read that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// What a subscriber is given rows and words by.
pub(super) trait Outlet: Send + Sync {
    /// Resolves once something would go out at once. Until it is used or [let go](Self::let_go), others may have to wait.
    fn room(&mut self) -> impl Future<Output = Result<(), StreamEnd>> + Send;

    /// Nothing is to be sent for now.
    fn let_go(&mut self) {}

    /// Resolves when a page may be read, which is held until it was sent.
    fn turn_to_read(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// What was read was sent.
    fn read_is_over(&mut self) {}

    /// Sends what belongs together; waits until there is room.
    fn send(&mut self, pieces: Vec<Bytes>) -> impl Future<Output = Result<(), StreamEnd>> + Send;

    /// Resolves when nobody takes anything any more.
    fn closed(&self) -> impl Future<Output = ()> + Send;

    /// The same, as far as it shows only to who looks for it: while something is read for the client.
    fn vanished(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Rows of a batch, at positions of this history; `None` where they are at none.
    fn rows(&self, batch: &Batch<'_>, epoch: Option<&Epoch>) -> Chunk;

    /// A control message to who stands at this position of a history.
    fn words(&self, control: &Control, at: (&Epoch, Cursor)) -> Bytes;

    /// What says, at any time, that the connection lives; `None` where the transport has something for that.
    fn comment(&self) -> Option<Bytes>;
}

/// Serves one subscription.
pub(super) struct Subscriber<O> {
    pub session: Session,
    pub outlet: O,
    /// Its life in the log.
    pub span: Span,
    /// The history that the session is in.
    epoch: Epoch,
    moved: watch::Receiver<()>,
    draining: watch::Receiver<bool>,
    /// Moves when grants have ended.
    grants: watch::Receiver<()>,
    /// When something was last sent.
    quiet_since: Instant,
    /// Since when reads for it have failed.
    failing_since: Option<Instant>,
    /// It has had everything there was, and needed nothing of the table since.
    caught_up: bool,
    app: Arc<App>,
}

/// What comes next.
struct Look {
    step: Step,
    /// The rows, where the log has them.
    rows: Option<Chunk>,
    /// What is said to who hears nothing else for long.
    sign: Option<Control>,
}

impl<O: Outlet> Subscriber<O> {
    /// `epoch` is the history the session is in, or one before that.
    pub(super) fn new(
        app: &Arc<App>,
        (session, epoch): (Session, Epoch),
        outlet: O,
        span: Span,
    ) -> Subscriber<O> {
        Subscriber {
            moved: app.moves.subscribe(session.feed().index),
            grants: app.gate.ended(),
            draining: app.draining.clone(),
            epoch,
            session,
            outlet,
            span,
            quiet_since: Instant::now(),
            failing_since: None,
            caught_up: false,
            app: Arc::clone(app),
        }
    }

    /// Serves it for as long as it goes.
    pub(super) async fn run(&mut self) -> StreamEnd {
        self.span.in_scope(|| {
            tracing::debug!(
                resumable = self.session.is_resumable(),
                filtered = !self.session.filter().is_empty(),
                "connected"
            );
        });
        loop {
            if let Err(ended) = self.step().await {
                return ended;
            }
        }
    }

    /// Where it stands.
    pub(super) fn at(&self) -> (&Epoch, Cursor) {
        (&self.epoch, self.session.position())
    }

    async fn step(&mut self) -> Result<(), StreamEnd> {
        // Room comes first: rows are gathered only when they can go out at once. A client that takes nothing for the
        // write timeout loses its connection, and with it goes who takes them.
        self.outlet.room().await?;
        if *self.draining.borrow() {
            return Err(StreamEnd::Drain);
        }
        if self.quiet_since.elapsed() >= QUIET
            && let Some(comment) = self.outlet.comment()
        {
            return self.send(vec![comment]).await;
        }
        self.grants.borrow_and_update();
        if let Some(code) = self.session.grant_ended(SystemTime::now()) {
            return Err(StreamEnd::Unauthorised(code));
        }
        self.moved.borrow_and_update();
        let Look { step, rows, sign } = self.look();
        self.note(&step);
        match step {
            Step::Say(control) => self.say(&control).await,
            Step::TakeRows => match rows {
                Some(chunk) => self.send_rows(chunk).await,
                None => Ok(()),
            },
            Step::ReadPage => {
                self.turn_to_read().await;
                self.send_page()
                    .await
                    .inspect(|()| self.outlet.read_is_over())
            }
            Step::ReadTable => {
                self.turn_to_read().await;
                self.send_table()
                    .await
                    .inspect(|()| self.outlet.read_is_over())
            }
            Step::AskBounds => self.open_session().await,
            Step::Wait | Step::WaitForTable | Step::WaitForHead => self.wait(sign).await,
            Step::Close(CloseCode::FeedGone) => Err(StreamEnd::FeedGone),
            Step::Close(_) => Err(StreamEnd::StartsOver),
        }
    }

    /// Tells in the log when the subscriber has everything, and when it needs the table again.
    fn note(&mut self, step: &Step) {
        let caught_up = match step {
            Step::Wait => true,
            Step::ReadPage | Step::ReadTable => false,
            _ => return,
        };
        if std::mem::replace(&mut self.caught_up, caught_up) == caught_up {
            return;
        }
        let position = self.session.position().0;
        self.span.in_scope(|| match caught_up {
            true => tracing::debug!(position, "caught up"),
            false => tracing::debug!(position, "behind"),
        });
    }

    fn look(&mut self) -> Look {
        let feed = Arc::clone(self.session.feed());
        let view = feed.view_after(self.session.position(), LOOK_BLOCKS);
        let step = self.session.next(&view);
        self.epoch = view.epoch.clone();
        let rows =
            matches!(step, Step::TakeRows).then(|| self.chunk(view.after(self.session.position())));
        let sign = match step {
            Step::Wait => Some(Control::Heartbeat { head: view.head }),
            // A head would be taken for a position reached.
            Step::WaitForTable => view.presence.absence().map(|absence| absence.control()),
            _ => None,
        };
        Look { step, rows, sign }
    }

    /// The rows of `blocks` that are this subscriber's, as many as fit.
    fn chunk<'a>(&self, blocks: impl Iterator<Item = &'a Arc<Block>>) -> Chunk {
        let (filter, position) = (self.session.filter_id(), self.session.position());
        let batch = Batch::gather(blocks, filter, position, BATCH);
        self.outlet.rows(&batch, Some(&self.epoch))
    }

    async fn send_rows(&mut self, chunk: Chunk) -> Result<(), StreamEnd> {
        if let Some(position) = self.send_chunk(chunk).await? {
            self.session.advance(position);
        }
        Ok(())
    }

    /// Returns how far these rows reach.
    async fn send_chunk(&mut self, chunk: Chunk) -> Result<Option<Cursor>, StreamEnd> {
        if !chunk.pieces.is_empty() {
            self.send(chunk.pieces).await?;
        }
        self.app.metrics.messages_sent.inc_by(chunk.rows);
        Ok(chunk.reaches)
    }

    /// Waits for a turn to read what is to be sent.
    async fn turn_to_read(&mut self) {
        self.outlet.let_go();
        self.outlet.turn_to_read().await;
    }

    /// Sends the beginning of the page that follows the position. What does not fit is found again: among the pages
    /// kept for others, or in the table.
    async fn send_page(&mut self) -> Result<(), StreamEnd> {
        let page = match self.app.catchup.kept(&self.session) {
            Some(page) => page,
            None => match self.read_page().await? {
                Some(page) => page,
                None => return Ok(()),
            },
        };
        self.outlet.room().await?;
        let chunk = self.chunk(std::iter::once(&page));
        drop(page);
        self.send_rows(chunk).await
    }

    /// Sends rows of the captured table as it is. They have no id: whoever is cut off here begins again.
    async fn send_table(&mut self) -> Result<(), StreamEnd> {
        let (sender, receiver) = oneshot::channel();
        self.app.catchup.table_page(&self.session, move |page| {
            let _ = sender.send(page);
        });
        let accepts = |session: &Session, page: &Arc<TablePage>, generation| {
            session.accepts_table(page, generation)
        };
        let page = self.page_of(receiver, accepts).await?;
        let taken = self.session.table_position().map(|from| from.taken);
        let (Some(page), Some(taken)) = (page, taken) else {
            return Ok(());
        };
        self.outlet.room().await?;
        let batch = Batch::gather(std::iter::once(&page.block), FilterId::NONE, taken, BATCH);
        let chunk = self.outlet.rows(&batch, None);
        if let Some(reached) = self.send_chunk(chunk).await? {
            self.session.took_of_table(&page, reached);
        }
        Ok(())
    }

    /// Reads the page that follows the position; `None` where the session has to look again.
    async fn read_page(&mut self) -> Result<Option<Arc<Block>>, StreamEnd> {
        let (sender, receiver) = oneshot::channel();
        self.app.catchup.page(&self.session, move |page| {
            let _ = sender.send(page);
        });
        let accepts =
            |session: &Session, page: &Arc<Block>, generation| session.accepts(page, generation);
        self.page_of(receiver, accepts).await
    }

    /// What a read brings; `None` where the session has to look again.
    async fn page_of<P>(
        &mut self,
        read: oneshot::Receiver<Result<(P, u64), PageError>>,
        accepts: impl FnOnce(&Session, &P, u64) -> bool,
    ) -> Result<Option<P>, StreamEnd> {
        match self.beside_comments(read).await? {
            Ok(Ok((page, generation))) => {
                self.failing_since = None;
                Ok(Some(page).filter(|page| accepts(&self.session, page, generation)))
            }
            Ok(Err(PageError::Pruned | PageError::FilterGone)) => Err(StreamEnd::StartsOver),
            Ok(Err(PageError::Unavailable(reason))) => {
                self.try_later(Some(&reason)).await.map(|()| None)
            }
            Err(_) => self.try_later(None).await.map(|()| None),
        }
    }

    async fn open_session(&mut self) -> Result<(), StreamEnd> {
        self.outlet.let_go();
        let (sender, receiver) = oneshot::channel::<Result<TableBounds, _>>();
        self.app.catchup.bounds(&self.session, move |bounds| {
            let _ = sender.send(bounds);
        });
        match self.beside_comments(receiver).await? {
            Ok(Ok(bounds)) => match self.session.opened(&bounds) {
                Some(control) => self.say(&control).await,
                None => Ok(()),
            },
            Ok(Err(reason)) => self.try_later(Some(&reason)).await,
            Err(_) => self.try_later(None).await,
        }
    }

    /// Waits for news; `sign` is what is said where there is none for long.
    async fn wait(&mut self, sign: Option<Control>) -> Result<(), StreamEnd> {
        self.outlet.let_go();
        tokio::select! {
            moved = self.moved.changed() => moved.map_err(|_| StreamEnd::Drain),
            _ = self.draining.changed() => Ok(()),
            _ = self.grants.changed() => Ok(()),
            () = expiry(self.session.expires()) => Ok(()),
            () = self.outlet.closed() => Err(StreamEnd::ClientGone),
            () = sleep_until(self.quiet_since + QUIET) => self.say_something(sign).await,
        }
    }

    /// Lets a client know that we are there.
    async fn say_something(&mut self, sign: Option<Control>) -> Result<(), StreamEnd> {
        match (self.outlet.comment(), sign) {
            (Some(comment), _) => self.send(vec![comment]).await,
            (None, Some(sign)) => self.say(&sign).await,
            (None, None) => {
                self.quiet_since = Instant::now();
                Ok(())
            }
        }
    }

    /// Waits before a read is tried again. Where reads have failed for long, and not for a lock, the stream ends: the
    /// client comes back, and is refused where that says more.
    async fn try_later(&mut self, reason: Option<&Unavailable>) -> Result<(), StreamEnd> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let passes = matches!(reason, None | Some(Unavailable::Busy(_)));
        if !passes && since.elapsed() >= READ_PATIENCE {
            return Err(StreamEnd::ReadsFail);
        }
        self.beside_comments(tokio::time::sleep(RETRY)).await
    }

    /// Waits for `work` for as long as the client is there, and lets it know that we are.
    async fn beside_comments<T>(&mut self, work: impl Future<Output = T>) -> Result<T, StreamEnd> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = work.as_mut() => return Ok(done),
                () = self.outlet.closed() => return Err(StreamEnd::ClientGone),
                () = self.outlet.vanished() => return Err(StreamEnd::ClientGone),
                () = sleep_until(self.quiet_since + QUIET) => {}
            }
            self.say_something(None).await?;
        }
    }

    /// Tells the client something.
    pub(super) async fn say(&mut self, control: &Control) -> Result<(), StreamEnd> {
        self.span
            .in_scope(|| tracing::debug!(frame = control.json(), "{}", control.name()));
        let words = self.outlet.words(control, self.at());
        self.send(vec![words]).await
    }

    /// Sends what belongs together; waits until there is room.
    pub(super) async fn send(&mut self, pieces: Vec<Bytes>) -> Result<(), StreamEnd> {
        self.outlet.send(pieces).await?;
        self.quiet_since = Instant::now();
        Ok(())
    }
}

/// Resolves once a grant that ends then has expired.
pub(super) async fn expiry(expires: Option<SystemTime>) {
    match expires {
        None => std::future::pending().await,
        // In the past it is over; a clock that was set is looked at again.
        Some(time) => {
            let left = time.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::time::sleep(left.min(QUIET)).await;
        }
    }
}
