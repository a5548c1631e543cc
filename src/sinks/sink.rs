//! One sink: what it is made of, and how it finds its feed. What it delivers of that, `stream` says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::PreparedSink;
use super::attempts::Attempts;
use super::columns::missing_column;
use super::kept::KeptPosition;
use super::position_file::{PositionFile, Reached};
use super::state::{SinkActivity, SinkState};
use super::stream::Stream;
use crate::catchup::CatchUp;
use crate::config::SinkStart;
use crate::hub::{Feed, Hub, Moves, Presence};
use crate::session::{Request, Session, Since};
use crate::telemetry::metrics::Metrics;

/// How long to wait before a feed that is not there is looked for again, and between looks at the head while a receiver
/// takes its time.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// What sinks need of the daemon.
#[derive(Clone)]
pub struct Surroundings {
    pub hub: Arc<Hub>,
    pub catchup: CatchUp,
    pub moves: Arc<Moves>,
    pub metrics: Arc<Metrics>,
    /// Turns true when the daemon drains; sinks end then.
    pub draining: watch::Receiver<bool>,
}

/// Why a sink delivers no more.
#[derive(Debug)]
pub(super) enum Stop {
    /// The daemon drains.
    Drain,
    /// The receiver wants no rows any more.
    Gone,
    /// It has to begin again from its position, for this reason where that is a trouble.
    Again(Option<String>),
}

/// One sink, from start to drain.
pub(super) struct Sink {
    pub(super) prepared: Arc<PreparedSink>,
    pub(super) around: Surroundings,
    pub(super) state: Arc<SinkState>,
    pub(super) kept: KeptPosition,
    pub(super) attempts: Attempts,
}

impl Sink {
    /// Delivers until the daemon drains.
    pub(super) async fn run(
        prepared: Arc<PreparedSink>,
        around: Surroundings,
        state: Arc<SinkState>,
        file: Option<Arc<PositionFile>>,
    ) {
        let name = prepared.config.name.clone();
        let mut sink = Sink {
            kept: KeptPosition::load(&name, file).await,
            attempts: Attempts::new(Arc::clone(&prepared)),
            prepared,
            around,
            state,
        };
        loop {
            let stop = match sink.stream().await {
                Ok(stream) => stream.run().await,
                Err(stop) => stop,
            };
            sink.kept.store(&name).await;
            match stop {
                Stop::Drain => return,
                Stop::Gone => return sink.rest().await,
                Stop::Again(trouble) => sink.trouble(trouble),
            }
            if sink.pause().await {
                return;
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.prepared.config.name
    }

    /// Begins where it stands.
    async fn stream(&mut self) -> Result<Stream<'_>, Stop> {
        let feed = self.feed().await?;
        let since = self.since(&feed).await;
        let filter = self.prepared.config.filter.clone();
        let schema = feed.schema();
        if let Some(trouble) =
            schema.and_then(|schema| missing_column(&feed.config, &schema, &filter))
        {
            return Err(Stop::Again(Some(trouble)));
        }
        let request = Request {
            since: Some(since),
            filter,
        };
        let moved = self.around.moves.subscribe(feed.index);
        let session =
            Session::begin(&feed, request).map_err(|error| Stop::Again(Some(error.to_string())))?;
        Ok(Stream::new(self, session, moved))
    }

    /// The feed, once it can be told what is in it: its table is open, or nobody has made it yet.
    async fn feed(&mut self) -> Result<Arc<Feed>, Stop> {
        loop {
            let name = &self.prepared.config.feed;
            let feed = self.around.hub.feed(name).cloned();
            let trouble = match &feed {
                None => format!("there is no feed {name}"),
                Some(feed) => match feed.presence() {
                    Presence::Away(absence) if !absence.cause.is_unmade() => {
                        absence.message.to_string()
                    }
                    Presence::Open | Presence::Away(_) => return Ok(Arc::clone(feed)),
                },
            };
            self.trouble(Some(trouble));
            if self.pause().await {
                return Err(Stop::Drain);
            }
        }
    }

    /// Where it begins. Before its first start that is as configured; where there is no table by then, all that appears is
    /// new, also to a daemon that is started again before it does.
    async fn since(&mut self, feed: &Feed) -> Since {
        let unmade = feed.presence().absence().is_some();
        let first = self.prepared.config.since;
        match (self.kept.reached(), first) {
            (Some(Reached::Row { epoch, id }), _) => Since::Id {
                id: *id,
                epoch: Some(epoch.to_string()),
            },
            (Some(Reached::Nothing), _) | (None, SinkStart::Earliest) => Since::Earliest,
            (None, SinkStart::After(id)) => Since::Id { id, epoch: None },
            (None, SinkStart::Now) if unmade => {
                self.kept.set(Reached::Nothing);
                let name = self.prepared.config.name.clone();
                self.kept.store(&name).await;
                Since::Earliest
            }
            (None, SinkStart::Now) => Since::Now,
        }
    }

    /// It waits, for this reason where that is a trouble; said once.
    fn trouble(&self, trouble: Option<String>) {
        let Some(trouble) = trouble else { return };
        if self.state.set(SinkActivity::Waiting, Some(trouble.clone())) {
            tracing::warn!("sink {} waits: {trouble}", self.name());
        }
    }

    /// Waits a moment. Returns whether the daemon drains.
    async fn pause(&mut self) -> bool {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            () = drained(&mut self.around.draining) => true,
        }
    }

    /// The receiver wants no rows: nothing is left to do.
    async fn rest(&mut self) {
        drained(&mut self.around.draining).await;
    }
}

/// Resolves when the daemon drains.
pub(crate) async fn drained(draining: &mut watch::Receiver<bool>) {
    // Without anybody left who could drain it, it ends.
    let _ = draining.wait_for(|draining| *draining).await;
}
