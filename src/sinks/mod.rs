//! Sinks: feeds that are posted to a webhook, each row at least once and in order. A sink is one more subscriber: a position
//! in the table and a session of the hub. It has no queue; a receiver that is down costs a timer.

mod attempts;
mod body;
mod columns;
mod connector;
mod kept;
mod lag;
mod pauses;
mod position_file;
mod receiver;
mod signature;
mod sink;
mod state;
mod stream;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::{AccessFileError, Owners, SecretFile};
use crate::config::SinkConfig;
use crate::net::tls_client::TlsClientError;
pub use columns::missing_column;
use pauses::LONGEST;
#[cfg(feature = "nats")]
pub(crate) use pauses::Pauses;
use position_file::PositionFile;
use receiver::Receiver;
use signature::Secrets;
use sink::Sink;
pub use sink::Surroundings;
pub(crate) use sink::drained;
pub(crate) use state::SinkState;
pub use state::{SinkActivity, SinkReport};

/// A sink with what its configuration names: the secrets read, and who vouches for its receiver.
pub struct PreparedSink {
    config: SinkConfig,
    receiver: Receiver,
    secret_file: SecretFile<Secrets>,
    secrets: Arc<Secrets>,
}

/// What a sink names and can't be used.
#[derive(Debug)]
pub enum SinkError {
    Secret(AccessFileError),
    /// Of the sink of this name.
    Authorities(String, TlsClientError),
}

impl std::error::Error for SinkError {}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Secret(error) => error.fmt(f),
            SinkError::Authorities(name, error) => write!(f, "sinks.{name}.ca: {error}"),
        }
    }
}

impl PreparedSink {
    /// Reads what `config` names; its secret must be of one of `owners`. Blocks.
    ///
    /// # Errors
    /// A file can't be used, or there are no authorities to trust; the error names the key of the configuration.
    pub fn new(config: &SinkConfig, owners: Owners) -> Result<PreparedSink, SinkError> {
        let name = &config.name;
        let key = format!("sinks.{name}.secret_file");
        let opened = SecretFile::open(
            &key,
            &config.secret_file,
            "secrets of a sink",
            (Secrets::parse, owners),
        );
        let (secret_file, secrets) = opened.map_err(SinkError::Secret)?;
        let receiver = Receiver::new(config.webhook.clone(), config.ca.as_deref())
            .map_err(|error| SinkError::Authorities(name.clone(), error))?;
        Ok(PreparedSink {
            config: config.clone(),
            receiver,
            secret_file,
            secrets: Arc::new(secrets),
        })
    }
}

/// All sinks of the daemon.
pub struct Sinks {
    around: Surroundings,
    sinks: Vec<Member>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// One of them, with how it fares.
#[derive(Clone)]
struct Member {
    sink: Arc<PreparedSink>,
    state: Arc<SinkState>,
    /// Where its position is kept.
    file: Option<Arc<PositionFile>>,
}

impl Sinks {
    /// These sinks, which do nothing until [`start`](Self::start). Their positions in the feeds of `database` are kept in
    /// `directory`; without one each start is the first.
    pub fn new(
        sinks: Vec<PreparedSink>,
        around: Surroundings,
        directory: Option<&Path>,
        database: &Path,
    ) -> Sinks {
        let member = |sink: PreparedSink| {
            let SinkConfig { name, feed, .. } = &sink.config;
            around.metrics.sinks.announce(name);
            let file = directory.map(|path| PositionFile::new(path, database, name, feed));
            let receiver = sink.receiver.url().to_string();
            Member {
                state: Arc::new(SinkState::new(name, feed, receiver)),
                file: file.map(Arc::new),
                sink: Arc::new(sink),
            }
        };
        Sinks {
            sinks: sinks.into_iter().map(member).collect(),
            around,
            tasks: Mutex::default(),
        }
    }

    /// Sets them to work, on the runtime that this is called on.
    pub fn start(&self) {
        for member in &self.sinks {
            let SinkConfig { name, feed, .. } = &member.sink.config;
            let receiver = member.sink.receiver.url();
            tracing::info!("sink {name}: rows of {feed} go to {receiver}");
            if member.file.is_none() {
                tracing::warn!(
                    "sink {name}: without a state directory its position is lost with the daemon, and rows committed until \
                     it runs again are not delivered"
                );
            }
            let work = keep_at_work(member.clone(), self.around.clone());
            self.tasks.lock().push(tokio::spawn(work));
        }
    }

    /// Returns how each sink fares now.
    pub fn reports(&self) -> Vec<SinkReport> {
        let report = |member: &Member| {
            if let Some(feed) = self.around.hub.feed(&member.sink.config.feed) {
                member.state.note_head(feed.head());
            }
            member.state.report()
        };
        self.sinks.iter().map(report).collect()
    }

    /// Brings the metrics of how far they are behind up to date.
    pub fn measure(&self) {
        for report in self.reports() {
            let labels = [report.name.as_str()];
            let metrics = &self.around.metrics.sinks;
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
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            // One that was cancelled has ended as well.
            let _ = task.await;
        }
    }
}

/// Runs a sink until it ends.
async fn keep_at_work(Member { sink, state, file }: Member, around: Surroundings) {
    let name = format!("sink {}", sink.config.name);
    let draining = around.draining.clone();
    let run = || {
        let state = Arc::clone(&state);
        Sink::run(Arc::clone(&sink), around.clone(), state, file.clone())
    };
    until_it_ends(&name, draining, run).await;
}

/// Does some work until it ends or the daemon drains. What panics would deliver nothing any more, in silence: it is begun
/// again after a while. `name` is how the log calls it.
pub(crate) async fn until_it_ends<W>(
    name: &str,
    mut draining: watch::Receiver<bool>,
    mut begin: impl FnMut() -> W,
) where
    W: Future<Output = ()> + Send + 'static,
{
    while tokio::spawn(begin()).await.is_err() {
        tracing::error!("{name} failed within itself; it begins again");
        tokio::select! {
            () = tokio::time::sleep(LONGEST) => {}
            () = drained(&mut draining) => return,
        }
    }
}
