//! All feeds on their way into streams.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::PreparedPublish;
use super::broker::{Reach, Reaches, keep_connected};
use super::feed::FeedPublisher;
use super::standing::Publisher;
use crate::hub::Feed;
use crate::sinks::{SinkReport, SinkState, Surroundings, drained, until_it_ends};

/// How often it is looked for feeds of tables that came.
const LOOK: Duration = Duration::from_secs(1);

/// Feeds that are published, and how each fares.
type Members = Arc<Mutex<Vec<(Arc<Feed>, Arc<SinkState>)>>>;

/// The publishers of all feeds, where feeds are published.
pub struct Publishing {
    prepared: Option<Arc<PreparedPublish>>,
    around: Surroundings,
    states: Members,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Publishing {
    /// Publishers that do nothing until [`start`](Self::start).
    pub fn new(prepared: Option<PreparedPublish>, around: Surroundings) -> Publishing {
        Publishing {
            prepared: prepared.map(Arc::new),
            around,
            states: Arc::default(),
            task: Mutex::default(),
        }
    }

    /// Sets them to work, on the runtime that this is called on.
    pub fn start(&self) {
        let Some(prepared) = &self.prepared else {
            return;
        };
        tracing::info!("publish: feeds go to {}", prepared.servers.shown());
        let work = Work {
            prepared: Arc::clone(prepared),
            around: self.around.clone(),
            states: Arc::clone(&self.states),
            this: Publisher::this(),
        };
        *self.task.lock() = Some(tokio::spawn(work.run()));
    }

    /// Returns how each feed fares now, under the feed's name; nothing where none is published.
    pub fn reports(&self) -> Vec<SinkReport> {
        let states = self.states.lock();
        let report = |(feed, state): &(Arc<Feed>, Arc<SinkState>)| {
            state.note_head(feed.head());
            state.report()
        };
        states.iter().map(report).collect()
    }

    /// Brings the metrics of how far they are behind up to date.
    pub fn measure(&self) {
        let metrics = &self.around.metrics.publish;
        for report in self.reports() {
            let labels = [report.feed.as_str()];
            metrics
                .lag_rows
                .with_label_values(&labels)
                .set(report.lag_rows);
            let seconds = report.lag.as_secs_f64();
            metrics.lag_seconds.with_label_values(&labels).set(seconds);
        }
    }

    /// Resolves when all have ended, which they do when the daemon drains.
    pub async fn ended(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            // One that was cancelled has ended as well.
            let _ = task.await;
        }
    }
}

/// What it takes to publish whatever feeds there are.
struct Work {
    prepared: Arc<PreparedPublish>,
    around: Surroundings,
    states: Members,
    this: Publisher,
}

impl Work {
    /// Publishes each feed, those that come later too, until the daemon drains.
    async fn run(self) {
        let (sender, reaches) = watch::channel(Reach::Away("".into()));
        let broker = tokio::spawn(keep_connected(Arc::clone(&self.prepared.servers), sender));
        let mut draining = self.around.draining.clone();
        let mut publishers = Vec::new();
        loop {
            let known = publishers.len();
            for feed in self.around.hub.feeds.iter().skip(known) {
                publishers.push(self.publish(feed, &reaches));
            }
            let all = publishers.len() == self.around.hub.feeds.most();
            tokio::select! {
                () = tokio::time::sleep(LOOK), if !all => {}
                () = drained(&mut draining) => break,
            }
        }
        drop(reaches);
        for task in publishers.into_iter().chain([broker]) {
            // One that was cancelled has ended as well.
            let _ = task.await;
        }
    }

    fn publish(&self, feed: &Arc<Feed>, reaches: &Reaches) -> JoinHandle<()> {
        let name = &feed.config.name;
        self.around.metrics.publish.announce(name);
        let state = Arc::new(SinkState::new(name, name, self.prepared.servers.shown()));
        self.states
            .lock()
            .push((Arc::clone(feed), Arc::clone(&state)));
        let (feed, around, reaches) = (Arc::clone(feed), self.around.clone(), reaches.clone());
        let (prepared, this) = (Arc::clone(&self.prepared), self.this.clone());
        tokio::spawn(async move {
            let name = format!("publish: the feed {}", feed.config.name);
            let begin = || {
                let with = (Arc::clone(&state), reaches.clone(), this.clone());
                let (feed, prepared) = (Arc::clone(&feed), Arc::clone(&prepared));
                FeedPublisher::new(feed, prepared, around.clone(), with).run()
            };
            until_it_ends(&name, around.draining.clone(), begin).await;
        })
    }
}
