//! One feed on its way into its stream: how it begins, and begins again after any trouble. It keeps no state of its own:
//! where it goes on is where the stream ends. What it sends, `flow` says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::PreparedPublish;
use super::broker::{Connection, Reach, Reaches};
use super::chain::{Broken, Chain};
use super::flow::Flow;
use super::link::Link;
use super::look::too_small;
use super::standing::{Herald, LISTEN, Publisher};
use super::stream::{End, FeedStream};
use crate::hub::{Feed, Presence};
use crate::model::position::Epoch;
use crate::session::{Request, Session, Since};
use crate::sinks::{Pauses, SinkActivity, SinkState, Surroundings, drained};
use crate::telemetry::metrics::PublishFailure;
use crate::wire::control::ResetReason;

/// How long to wait before a feed that is not there is looked for again.
const LOOK: Duration = Duration::from_secs(1);
/// How long the feed loop may take at start to read rows that the stream has.
const CATCH_UP: Duration = Duration::from_secs(10);
/// What a message needs beside rows: its headers, and the table's description where rows come in parts.
const OVERHEAD: usize = 8 * 1024;
/// A server that takes less in one message could not take a full one.
pub(super) const LEAST_PAYLOAD: usize = 128 * 1024;

/// Why nothing is published any more.
#[derive(Debug)]
pub(super) enum Stop {
    /// The daemon drains.
    Drain,
    /// Somebody else publishes the same.
    Rival(String),
    /// It has to begin again.
    Again(PublishFailure, String),
    /// It has to begin again, and there is nothing wrong.
    Anew,
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Stop {
        let reason = match broken {
            Broken::Elsewhere(_) => PublishFailure::Elsewhere,
            Broken::TooLarge(_) | Broken::Failed(_) => PublishFailure::Refused,
        };
        Stop::Again(reason, broken.to_string())
    }
}

/// One feed, from start to drain.
pub(super) struct FeedPublisher {
    pub(super) feed: Arc<Feed>,
    pub(super) prepared: Arc<PreparedPublish>,
    pub(super) around: Surroundings,
    pub(super) state: Arc<SinkState>,
    pub(super) reaches: Reaches,
    pub(super) this: Publisher,
    /// The history that this process has published last: it is no stranger's.
    pub(super) own: Option<Epoch>,
    /// The history that began last under this process, and why.
    pub(super) begun_for: Option<(Epoch, ResetReason)>,
    pauses: Pauses,
    /// Why it failed when that was last logged; `None`: it works.
    told: Option<String>,
}

impl FeedPublisher {
    pub(super) fn new(
        feed: Arc<Feed>,
        prepared: Arc<PreparedPublish>,
        around: Surroundings,
        (state, reaches, this): (Arc<SinkState>, Reaches, Publisher),
    ) -> FeedPublisher {
        FeedPublisher {
            feed,
            prepared,
            around,
            state,
            reaches,
            this,
            own: None,
            begun_for: None,
            pauses: Pauses::default(),
            told: None,
        }
    }

    /// Publishes until the daemon drains.
    pub(super) async fn run(mut self) {
        loop {
            let stop = match self.begin().await {
                Ok(flow) => flow.run().await,
                Err(stop) => stop,
            };
            match stop {
                Stop::Drain => return,
                Stop::Rival(who) => return self.rest(who).await,
                Stop::Again(reason, trouble) => {
                    let metrics = &self.around.metrics.publish;
                    metrics.failed(self.name(), reason);
                    self.trouble(trouble);
                    let pause = self.pauses.after_failure(None);
                    if self.pause(pause).await {
                        return;
                    }
                }
                Stop::Anew => {}
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.feed.config.name
    }

    /// It works: what goes wrong from here on is news.
    pub(super) fn works(&mut self) {
        self.pauses.reset();
        self.state.answered(None);
        if self.told.take().is_some() {
            tracing::info!("publish: the feed {} is published again", self.name());
        }
    }

    /// Begins where the stream ends.
    async fn begin(&mut self) -> Result<Flow<'_>, Stop> {
        // What is in the way from here on is told as a failure.
        self.state.set(SinkActivity::CatchingUp, None);
        let connection = self.connection().await?;
        self.wait_for_feed().await?;
        let most = connection.client.server_info().max_payload;
        if most < LEAST_PAYLOAD {
            return Err(Stop::Again(PublishFailure::Stream, too_small(most)));
        }
        let rules = &self.prepared.rules;
        let in_stream = |trouble: super::stream::Trouble| {
            Stop::Again(PublishFailure::Stream, trouble.to_string())
        };
        let opened = FeedStream::open(&connection, rules, self.name()).await;
        let mut stream = opened.map_err(in_stream)?;
        let herald = Herald::start(
            &connection,
            stream.names.standing.clone(),
            Arc::clone(&self.feed),
            self.this.clone(),
        )
        .await
        .map_err(|error| Stop::Again(PublishFailure::Connection, error))?;
        let end = stream.end(&connection).await.map_err(in_stream)?;
        let since = self.since(&end, &herald).await?;
        let request = Request {
            since: Some(since),
            ..Request::default()
        };
        let moved = self.around.moves.subscribe(self.feed.index);
        // Without a filter there is always room.
        let session = Session::begin(&self.feed, request)
            .map_err(|error| Stop::Again(PublishFailure::Stream, error.to_string()))?
            .whole()
            .log_alone();
        let chain = Chain::after(
            connection.jetstream.clone(),
            stream.names.subject.clone(),
            end.sequence,
        );
        Ok(Flow::new(
            self,
            (stream, herald, chain),
            (session, moved),
            end.link,
            most - OVERHEAD,
        ))
    }

    /// Where the stream ends, as a beginning.
    async fn since(&self, end: &End, herald: &Herald) -> Result<Since, Stop> {
        let rules = &self.prepared.rules;
        let fresh = match rules.backfill {
            true => Since::Earliest,
            false => Since::Now,
        };
        let Some(link) = &end.link else {
            return Ok(fresh);
        };
        let standing = self.feed.standing();
        if link.epoch == standing.epoch {
            self.reach(link, herald).await?;
            return Ok(Since::Id {
                id: link.reaches(),
                epoch: Some(link.epoch.0.to_string()),
            });
        }
        if self.own.as_ref() != Some(&link.epoch) {
            self.alone(herald, "its history is another one").await?;
        }
        Ok(fresh)
    }

    /// Waits until the feed is read up to where the stream ends, which it is in a moment, unless somebody else put that there.
    async fn reach(&self, link: &Link, herald: &Herald) -> Result<(), Stop> {
        let mut moved = self.around.moves.subscribe(self.feed.index);
        let reached = async {
            while self.feed.head() < link.reaches() && self.feed.standing().epoch == link.epoch {
                if moved.changed().await.is_err() {
                    return;
                }
            }
        };
        match tokio::time::timeout(CATCH_UP, reached).await {
            Ok(()) => Ok(()),
            Err(_) => {
                self.alone(herald, "it has rows that the table never had")
                    .await?;
                Err(Stop::Again(
                    PublishFailure::Elsewhere,
                    format!(
                        "the stream {0} has rows up to {1}, and the table never had them in the same history: another database \
                         was published under this name, or this one was restored with its state directory; remove the \
                         stream, and it is filled again: nats stream rm {0}",
                        super::stream::Names::of(&self.prepared.rules.stream_prefix, self.name())
                            .stream,
                        link.last.0
                    ),
                ))
            }
        }
    }

    /// Listens whether somebody else publishes the same, before anything of his is replaced.
    async fn alone(&self, herald: &Herald, why: &str) -> Result<(), Stop> {
        let mut draining = self.around.draining.clone();
        tokio::select! {
            other = herald.other_claim() => Err(Stop::Rival(format!("{} ({why})", named(&other)))),
            () = drained(&mut draining) => Err(Stop::Drain),
            () = tokio::time::sleep(LISTEN) => Ok(()),
        }
    }

    /// The connection, once there is one.
    async fn connection(&mut self) -> Result<Arc<Connection>, Stop> {
        let mut draining = self.around.draining.clone();
        loop {
            let reach = self.reaches.borrow_and_update().clone();
            let away = match reach {
                Reach::Connected(connection) => return Ok(connection),
                Reach::Away(why) => why,
            };
            if !away.is_empty() {
                self.state.answered(Some(away.to_string()));
            }
            tokio::select! {
                changed = self.reaches.changed() => changed.map_err(|_| Stop::Drain)?,
                () = drained(&mut draining) => return Err(Stop::Drain),
            }
        }
    }

    /// Waits until it can be told what is in the feed.
    async fn wait_for_feed(&mut self) -> Result<(), Stop> {
        loop {
            let trouble = match self.feed.presence() {
                Presence::Open => return Ok(()),
                Presence::Away(absence) => absence.message.to_string(),
            };
            if self.state.set(SinkActivity::Waiting, Some(trouble.clone())) {
                tracing::info!("publish: the feed {} waits: {trouble}", self.name());
            }
            if self.pause(LOOK).await {
                return Err(Stop::Drain);
            }
        }
    }

    /// It can't go on, for this reason; said once.
    fn trouble(&mut self, trouble: String) {
        self.state.answered(Some(trouble.clone()));
        if self.told.as_ref() != Some(&trouble) {
            tracing::warn!(
                "publish: the feed {} is not published: {trouble}; it is tried again until it is",
                self.name()
            );
            self.told = Some(trouble);
        }
    }

    /// Waits. Returns whether the daemon drains.
    async fn pause(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = drained(&mut self.around.draining) => true,
        }
    }

    /// Another daemon publishes the same: this one does no more, or they would undo each other's work for ever.
    async fn rest(&mut self, who: String) {
        let metrics = &self.around.metrics.publish;
        metrics.failed(self.name(), PublishFailure::Rival);
        let stream =
            super::stream::Names::of(&self.prepared.rules.stream_prefix, self.name()).stream;
        let trouble = format!("{who} publishes to the stream {stream} too");
        self.state.set(SinkActivity::Ended, Some(trouble.clone()));
        tracing::error!(
            "publish: the feed {} is published no more: {trouble}. Stop one of the two, or give this one another \
             publish.stream_prefix, and start it again",
            self.name()
        );
        drained(&mut self.around.draining).await;
    }
}

/// Another publisher, for people.
pub(super) fn named(other: &Publisher) -> String {
    let host = crate::text::harmless::harmless(&other.host).into_owned();
    format!("another walcast on {host}")
}

/// What hears of a feed's moves.
pub(super) type Moved = watch::Receiver<()>;
