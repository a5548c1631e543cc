//! What of a feed goes into its stream: a session, step by step, from where the stream ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::broker::{Reach, Reaches};
use super::chain::{Chain, Stored};
use super::feed::{FeedPublisher, Moved, Stop, named};
use super::link::{Link, LinkKind, Part};
use super::rows::{Description, next_body, parts};
use super::standing::Herald;
use super::stream::FeedStream;
use crate::catchup::{PageError, PageResult};
use crate::model::position::{Cursor, Epoch};
use crate::session::{Session, Step};
use crate::sinks::{SinkActivity, drained};
use crate::telemetry::metrics::PublishFailure;
use crate::wire::block::Block;
use crate::wire::control::{CloseCode, Control, ResetReason};

/// How long to wait before a read that failed is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How long a drain waits for answers to what was sent: not at all would do, as the stream knows where it ends.
const GRACE: Duration = Duration::from_millis(500);

/// Rows of a feed on their way into a stream.
pub(super) struct Flow<'p> {
    publisher: &'p mut FeedPublisher,
    stream: FeedStream,
    herald: Herald,
    chain: Chain,
    session: Session,
    moved: Moved,
    /// The page after the position, asked for while the one before it is sent.
    ahead: Option<oneshot::Receiver<PageResult>>,
    /// The last link of the stream when it was opened, until the session knows where it stands.
    found: Option<Link>,
    /// The history; empty until the session has said it.
    epoch: Epoch,
    /// What its rows are of, once that was said.
    description: Option<Description>,
    /// Where the chain ends.
    last: Cursor,
    /// Rows up to here are in the chain, or not in the table.
    through: Cursor,
    /// Bytes of a message's body, at most.
    most: usize,
    /// A history was begun by this message: what is older is to go once the rows of the new one are there.
    purge_below: Option<u64>,
}

impl<'p> Flow<'p> {
    pub(super) fn new(
        publisher: &'p mut FeedPublisher,
        (stream, herald, chain): (FeedStream, Herald, Chain),
        (session, moved): (Session, Moved),
        found: Option<Link>,
        most: usize,
    ) -> Flow<'p> {
        Flow {
            publisher,
            stream,
            herald,
            chain,
            session,
            moved,
            ahead: None,
            found,
            epoch: Epoch::new(""),
            description: None,
            last: Cursor::MIN,
            through: Cursor::MIN,
            most,
            purge_below: None,
        }
    }

    /// Publishes for as long as it can.
    pub(super) async fn run(mut self) -> Stop {
        loop {
            if let Err(stop) = self.step().await {
                if matches!(stop, Stop::Drain) {
                    self.settle_in(GRACE).await;
                }
                return stop;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Stop> {
        self.moved.borrow_and_update();
        let feed = Arc::clone(self.session.feed());
        let view = feed.view_after(self.session.position(), 1);
        let step = self.session.next(&view);
        if view.generation == self.session.generation() {
            self.publisher.state.note_head(view.head);
        }
        drop(view);
        match step {
            Step::Say(control) => self.hear(&control).await,
            Step::TakeRows | Step::ReadPage => self.publish_page().await,
            Step::AskBounds => self.open_session().await,
            Step::Wait | Step::WaitForTable | Step::WaitForHead => self.wait().await,
            // A stream has no use for the table as it is; a feed that is gone may come back.
            Step::ReadTable | Step::Close(CloseCode::FeedGone) => self.wait().await,
            Step::Close(_) => Err(Stop::Anew),
        }
    }

    /// Heeds what a client would be told.
    async fn hear(&mut self, control: &Control) -> Result<(), Stop> {
        match control {
            Control::Hello {
                epoch,
                head,
                since,
                recovered,
                ..
            } => self.opened(epoch, *head, *since, *recovered).await,
            // Begun again, it hears of the new history by a hello.
            Control::Reset { epoch, reason, .. } => {
                self.publisher.begun_for = Some((epoch.clone(), *reason));
                Err(Stop::Anew)
            }
            Control::Live { .. } => self.live().await,
            Control::Table { message } => {
                self.description = Description::of(message);
                Ok(())
            }
            Control::Waiting { message, .. } => {
                self.publisher.state.forget_position();
                let trouble = Some(message.clone());
                if self.publisher.state.set(SinkActivity::Waiting, trouble) {
                    let name = self.publisher.name();
                    tracing::info!("publish: the feed {name} waits: {message}");
                }
                Ok(())
            }
            Control::Heartbeat { .. } | Control::Goodbye { .. } | Control::GrantEnded { .. } => {
                Ok(())
            }
        }
    }

    /// The session knows where it stands: the chain goes on from there, or a history begins.
    async fn opened(
        &mut self,
        epoch: &Epoch,
        head: Cursor,
        since: Cursor,
        recovered: bool,
    ) -> Result<(), Stop> {
        if !self.epoch.0.is_empty() {
            // The table was away, and what the session was told at its start is said anew. Where the stream goes on, it says
            // itself: were a history begun in it here, all that it holds would go.
            while !self.chain.is_settled() {
                self.settle_one().await?;
            }
            return Err(Stop::Anew);
        }
        let state = &self.publisher.state;
        state.forget_position();
        state.note_head(head);
        state.set(SinkActivity::CatchingUp, None);
        self.epoch = epoch.clone();
        self.publisher.own = Some(epoch.clone());
        let found = self.found.take();
        let name = self.publisher.name().to_owned();
        match found {
            Some(link) if link.epoch == *epoch && recovered => {
                self.last = link.reaches();
                self.reached(self.last);
                Ok(())
            }
            Some(link) if link.epoch == *epoch => {
                tracing::warn!(
                    "publish: rows of the feed {name} were removed from the table before they were published; its stream goes on \
                     after {since}"
                );
                self.last = link.reaches();
                self.announce(LinkKind::Gap, since).await
            }
            Some(_) => {
                tracing::warn!(
                    "publish: another history of the feed {name} begins in its stream (epoch {epoch})"
                );
                self.announce(LinkKind::Reset, since).await
            }
            None => {
                tracing::info!(
                    "publish: the stream of the feed {name} begins after {since} (epoch {epoch})"
                );
                self.announce(LinkKind::Reset, since).await
            }
        }
    }

    /// Sends a link with no row that ends here, and waits until it is stored.
    async fn announce(&mut self, kind: LinkKind, last: Cursor) -> Result<(), Stop> {
        let prev = match kind {
            LinkKind::Reset => last,
            LinkKind::Gap | LinkKind::Rows => self.last,
        };
        let of = self.description.as_ref();
        let begun = self.publisher.begun_for.as_ref();
        let begun = begun.filter(|(epoch, _)| *epoch == self.epoch);
        let link = Link {
            reason: begun.map_or_else(ResetReason::default, |(_, reason)| *reason),
            kind,
            epoch: self.epoch.clone(),
            prev,
            first: last,
            last,
            schema: of.map_or_else(String::new, |of| of.fingerprint().to_owned()),
            part: Part::WHOLE,
        };
        // Never empty: servers before 2.10 do not give a message without a body back whole.
        let body = of.map_or("{}", Description::message);
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.chain.send(link, body, 0).await?;
        self.last = last;
        while !self.chain.is_settled() {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// Everything that was there is published, or on its way.
    async fn live(&mut self) -> Result<(), Stop> {
        while !self.chain.is_settled() {
            self.settle_one().await?;
        }
        self.publisher.works();
        self.herald.speak();
        self.publisher.state.set(SinkActivity::Live, None);
        if let Some(sequence) = self.purge_below.take()
            && let Err(error) = self.stream.purge_below(sequence).await
        {
            // It goes by itself when the stream is full, or its age is reached.
            tracing::info!(
                "publish: what the stream {} holds of another history stays for now: {error}",
                self.stream.names.stream
            );
        }
        Ok(())
    }

    /// Publishes the page that follows the position.
    async fn publish_page(&mut self) -> Result<(), Stop> {
        let Some(page) = self.read_page().await? else {
            return Ok(());
        };
        let Some(description) = self.description.clone().filter(|of| of.describes(&page)) else {
            // Read under another schema: the session tells of it once the feed loop has seen it.
            return self.beside_answers(tokio::time::sleep(RETRY)).await;
        };
        self.session.advance(page.last);
        if page.last < self.session.feed().head() {
            self.ahead = Some(self.ask_for_page());
        }
        let mut from = 0;
        while let Some(body) = next_body(&page, from, description.message()) {
            from += body.rows;
            let (first, last) = (body.first, body.last);
            for (part, bytes) in parts(&body.bytes, self.most) {
                let link = Link {
                    reason: ResetReason::default(),
                    kind: LinkKind::Rows,
                    epoch: self.epoch.clone(),
                    prev: self.last,
                    first,
                    last,
                    schema: description.fingerprint().to_owned(),
                    part,
                };
                while self.chain.is_full() {
                    self.settle_one().await?;
                }
                let rows = if part.is_last() { body.rows } else { 0 };
                self.chain.send(link, bytes, rows).await?;
            }
            self.last = last;
        }
        // It may have passed ids that no row has any more.
        self.through = self.session.position();
        if self.chain.is_settled() {
            self.reached(self.last);
        }
        Ok(())
    }

    /// Reads the page that follows the position; `None` where the session has to look again.
    async fn read_page(&mut self) -> Result<Option<Arc<Block>>, Stop> {
        let asked = match self.ahead.take() {
            Some(asked) => asked,
            None => {
                if let Some(page) = self.publisher.around.catchup.kept(&self.session) {
                    return Ok(Some(page));
                }
                self.ask_for_page()
            }
        };
        match self.beside_answers(asked).await? {
            Ok(Ok((page, generation))) => {
                Ok(Some(page).filter(|page| self.session.accepts(page, generation)))
            }
            Ok(Err(PageError::Pruned | PageError::FilterGone)) => Err(Stop::Anew),
            // What is wrong with the file, the feed loop says.
            Ok(Err(PageError::Unavailable(_))) | Err(_) => {
                self.beside_answers(tokio::time::sleep(RETRY)).await?;
                Ok(None)
            }
        }
    }

    fn ask_for_page(&self) -> oneshot::Receiver<PageResult> {
        let (sender, receiver) = oneshot::channel();
        let catchup = &self.publisher.around.catchup;
        catchup.page(&self.session, move |page| {
            // Who does not wait any more needs none.
            let _ = sender.send(page);
        });
        receiver
    }

    async fn open_session(&mut self) -> Result<(), Stop> {
        let (sender, receiver) = oneshot::channel();
        let catchup = &self.publisher.around.catchup;
        catchup.bounds(&self.session, move |bounds| {
            let _ = sender.send(bounds);
        });
        match self.beside_answers(receiver).await? {
            Ok(Ok(bounds)) => match self.session.opened(&bounds) {
                Some(control) => self.hear(&control).await,
                None => Ok(()),
            },
            Ok(Err(_)) | Err(_) => self.beside_answers(tokio::time::sleep(RETRY)).await,
        }
    }

    /// Waits until the feed moves.
    async fn wait(&mut self) -> Result<(), Stop> {
        let mut moved = self.moved.clone();
        let moved = self.beside_answers(async move { moved.changed().await });
        moved.await?.map_err(|_| Stop::Drain)
    }

    /// Waits for the oldest answer.
    async fn settle_one(&mut self) -> Result<(), Stop> {
        let FeedPublisher {
            around, reaches, ..
        } = &mut *self.publisher;
        let mut draining = around.draining.clone();
        let stored = tokio::select! {
            stored = self.chain.answered() => stored?,
            stop = ended(&self.herald, reaches, &mut draining) => return Err(stop),
        };
        self.note(stored);
        Ok(())
    }

    /// Waits for `work`, and heeds answers meanwhile.
    async fn beside_answers<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut work = std::pin::pin!(work);
        loop {
            let FeedPublisher {
                around, reaches, ..
            } = &mut *self.publisher;
            let mut draining = around.draining.clone();
            let stored = tokio::select! {
                biased;
                stored = self.chain.answered() => stored?,
                done = work.as_mut() => return Ok(done),
                stop = ended(&self.herald, reaches, &mut draining) => return Err(stop),
            };
            self.note(stored);
        }
    }

    fn note(&mut self, stored: Stored) {
        let name = self.publisher.name().to_owned();
        let metrics = &self.publisher.around.metrics.publish;
        metrics.messages.with_label_values(&[&name]).inc();
        metrics
            .rows
            .with_label_values(&[&name])
            .inc_by(stored.rows as u64);
        metrics
            .bytes
            .with_label_values(&[&name])
            .inc_by(stored.bytes as u64);
        // Asked to purge below the first message of all, servers before 2.10 purge everything.
        if stored.link.kind == LinkKind::Reset && stored.sequence > 1 {
            self.purge_below = Some(stored.sequence);
        }
        if self.publisher.state.report().activity == SinkActivity::Failing {
            self.publisher.works();
        }
        self.reached(stored.link.reaches());
    }

    /// The stream has everything up to `last`, where it ends.
    fn reached(&mut self, last: Cursor) {
        let complete = match self.chain.is_settled() {
            true => last.max(self.through),
            false => last,
        };
        self.publisher.state.reached(complete);
        self.herald.published(&self.epoch, last, complete);
    }

    async fn settle_in(&mut self, most: Duration) {
        let settled = async {
            while !self.chain.is_settled() {
                match self.chain.answered().await {
                    Ok(stored) => self.note(stored),
                    Err(_) => return,
                }
            }
        };
        // What is not answered by then is found in the stream at the next start, or sent again.
        let _ = tokio::time::timeout(most, settled).await;
    }
}

/// Resolves when nothing can be published any more, whatever the chain says.
async fn ended(
    herald: &Herald,
    reaches: &mut Reaches,
    draining: &mut tokio::sync::watch::Receiver<bool>,
) -> Stop {
    let lost = async {
        match reaches
            .wait_for(|reach| matches!(reach, Reach::Away(_)))
            .await
            .as_deref()
        {
            Ok(Reach::Away(why)) => Stop::Again(PublishFailure::Connection, why.to_string()),
            // Nobody keeps connections any more.
            Ok(Reach::Connected(_)) | Err(_) => Stop::Drain,
        }
    };
    tokio::select! {
        other = herald.older_holder() => Stop::Rival(named(&other)),
        () = drained(draining) => Stop::Drain,
        stop = lost => stop,
    }
}
