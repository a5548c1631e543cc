//! An edge: the feeds of another daemon, its origin, had over WebSockets and put into a spool, which is served as any
//! database is.
//!
//! ```text
//! origin ─▶ feeder (a thread for each feed) ─▶ intake ─▶ spool thread ─▶ spool ─▶ wake
//! ```
//!
//! A feeder reads what comes and knows nothing of what is here; the spool thread alone writes, a batch a transaction, and
//! says where a feeder is to go on. What they hold between them is bounded in bytes.

mod connections;
mod director;
mod feeder;
mod frames;
#[cfg(feature = "nats")]
mod gap;
mod intake;
#[cfg(feature = "nats")]
mod link_judge;
#[cfg(feature = "nats")]
mod nats_feeder;
#[cfg(feature = "nats")]
mod nats_look;
#[cfg(feature = "nats")]
mod nats_origin;
mod older;
mod older_reading;
mod origin;
mod source;
mod spooling;
mod status;
#[cfg(feature = "nats")]
mod stream_search;
mod taking;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::director::Director;
use self::intake::Intake;
#[cfg(feature = "nats")]
use self::nats_origin::{NatsList, NatsOrigin};
use self::older::Older;
use self::origin::Origin;
use self::source::Source;
use self::spooling::Spooling;
pub use self::status::{EdgeReport, EdgeStatus, FeedReport};
use self::upstream::Upstream;
#[cfg(feature = "nats")]
use crate::access::Owners;
use crate::config::Config;
use crate::hub::{Hub, SourceDesk};
use crate::model::wakeup::Wake;
use crate::os::thread::or_abort;
use crate::publish::ServerFindings;
#[cfg(feature = "nats")]
use crate::publish::{NamedServers, PreparedServers};
use crate::sqlite::spool::{SpoolLimits, SpoolWriter};
use crate::telemetry::metrics::Metrics;

/// An edge that has opened its spool, and does not feed it yet.
pub struct PreparedEdge {
    source: Source,
    /// Asked for what is not to be had otherwise.
    upstream: Option<Upstream>,
    writer: SpoolWriter,
    limits: SpoolLimits,
    _lock: std::fs::File,
}

/// A feed of an origin, as `walcast check` finds it.
#[derive(Debug)]
pub struct OriginFeed {
    pub name: String,
    /// Why an edge does not serve it.
    pub trouble: Option<String>,
}

/// Asks the origin of an edge what it would be given; blocks. Returns what the origin is called, and its feeds.
///
/// # Errors
/// It can't be asked, does not answer, or refuses.
pub fn look_at_origin(config: &Config) -> anyhow::Result<(String, Vec<OriginFeed>)> {
    let origin = Origin::of(&config.edge)?;
    let feeds = origin.feeds()?;
    let look = |feed: &origin::Listed| OriginFeed {
        name: feed.name.clone(),
        trouble: feed.unfit().or_else(|| origin.try_feed(feed)),
    };
    Ok((origin.shown(), feeds.iter().map(look).collect()))
}

/// What feeds an edge.
pub struct Edge {
    status: Arc<EdgeStatus>,
    intake: Arc<Intake>,
    desk: Arc<SourceDesk>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: std::fs::File,
}

impl PreparedEdge {
    /// Opens the spool of the edge that the configuration describes; `None` where it is none. Blocks.
    ///
    /// # Errors
    /// The spool can't be written or is another edge's, or the origin can't be asked, whoever answers there.
    pub fn new(config: &Config) -> anyhow::Result<Option<PreparedEdge>> {
        if !config.edge.is_one() {
            return Ok(None);
        }
        let upstream = match &config.edge.upstream {
            Some(_) => Some(upstream(config)?),
            None => None,
        };
        let source = match &upstream {
            Some(upstream) if config.edge.nats.is_empty() => {
                Source::Daemon(upstream.origin().clone())
            }
            _ => of_streams(config, upstream.clone())?,
        };
        let path = &config.database;
        let lock = locked(path)?;
        let writer = SpoolWriter::open(path).map_err(|e| anyhow::anyhow!("edge.spool: {e}"))?;
        Ok(Some(PreparedEdge {
            source,
            upstream,
            writer,
            limits: SpoolLimits {
                bytes: config.edge.keep_bytes,
                age: config.edge.keep_age,
            },
            _lock: lock,
        }))
    }

    /// Begins to feed the spool.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn start(
        self,
        desk: Arc<SourceDesk>,
        hub: &Arc<Hub>,
        wake: &Arc<Wake>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Edge> {
        if let Some(upstream) = self.upstream {
            desk.set_older(Arc::new(Older::new(upstream)));
        }
        let status = Arc::new(EdgeStatus::new(self.source.shown(), Arc::clone(metrics)));
        let intake = Arc::new(Intake::default());
        let spooling = Spooling {
            writer: self.writer,
            limits: self.limits,
            intake: Arc::clone(&intake),
            status: Arc::clone(&status),
            wake: Arc::clone(wake),
        };
        let director = Director::new(
            self.source,
            (Arc::clone(&intake), Arc::clone(&status)),
            (Arc::clone(&desk), Arc::clone(hub)),
        );
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let threads = vec![
            named("walcast-spool").spawn(move || or_abort(|| spooling.run()))?,
            named("walcast-edge").spawn(move || or_abort(|| director.run()))?,
        ];
        Ok(Edge {
            status,
            intake,
            desk,
            threads: Mutex::new(threads),
            _lock: self._lock,
        })
    }
}

fn upstream(config: &Config) -> anyhow::Result<Upstream> {
    let origin = Origin::of(&config.edge)?;
    // One that can't be read is said now; it may change while the edge runs.
    origin.token()?;
    Ok(Upstream::new(origin))
}

/// Asks the NATS servers of an edge what it would be given; blocks.
///
/// # Errors
/// No server is reached, or it does not tell of streams.
#[cfg(feature = "nats")]
pub fn look_at_streams(config: &Config) -> anyhow::Result<ServerFindings> {
    let servers = Arc::new(servers(config, Owners::Administered)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the servers can't be asked")?;
    let (prefix, has_upstream) = (&config.edge.stream_prefix, config.edge.upstream.is_some());
    let found = runtime.block_on(nats_look::look(&servers, prefix, has_upstream));
    found.map_err(anyhow::Error::msg)
}

/// # Errors
/// Always.
#[cfg(not(feature = "nats"))]
pub fn look_at_streams(_: &Config) -> anyhow::Result<ServerFindings> {
    anyhow::bail!("edge.nats: this walcast was built without NATS")
}

#[cfg(feature = "nats")]
fn servers(config: &Config, owners: Owners) -> anyhow::Result<PreparedServers> {
    let named = NamedServers {
        table: "edge",
        authorities_key: "ca",
        servers: config.edge.nats.clone(),
        credentials: config.edge.credentials.clone(),
        authorities: config.edge.ca.clone(),
    };
    Ok(PreparedServers::new(named, owners)?)
}

#[cfg(feature = "nats")]
fn of_streams(config: &Config, upstream: Option<Upstream>) -> anyhow::Result<Source> {
    let servers = servers(config, Owners::RootAndSelf)?;
    let origin = NatsOrigin::new(servers, &config.edge.stream_prefix);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("walcast-nats")
        .enable_all()
        .build()
        .context("no thread for NATS")?;
    Ok(Source::Nats {
        list: NatsList::new(origin.clone()),
        origin,
        upstream,
        runtime: Arc::new(runtime),
    })
}

#[cfg(not(feature = "nats"))]
fn of_streams(_: &Config, _: Option<Upstream>) -> anyhow::Result<Source> {
    anyhow::bail!("edge.nats: this walcast was built without NATS")
}

impl Edge {
    /// How it fares.
    pub fn status(&self) -> &Arc<EdgeStatus> {
        &self.status
    }

    /// Turns into the reason when it has to be started again to serve what the origin has become.
    pub fn must_restart(&self) -> watch::Receiver<Option<String>> {
        self.status.must_restart()
    }

    /// Waits until every feed that the origin has can be served, for no longer than `patience`. Blocks.
    pub fn wait_until_filled(&self, patience: Duration) {
        self.status.wait_until_filled(patience);
    }

    /// Stops feeding. Blocks until what has come is in the spool.
    pub fn stop(&self) {
        self.desk.close();
        self.intake.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // One that panicked has ended the process.
            let _ = thread.join();
        }
    }
}

/// Keeps other edges from the spool for as long as the file that is returned is open.
fn locked(spool: &std::path::Path) -> anyhow::Result<std::fs::File> {
    use rustix::fs::{FlockOperation, flock};
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let directory = crate::sqlite::file::directory_of(spool);
    let mut made = std::fs::DirBuilder::new();
    made.recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("edge.spool: {} can't be made", directory.display()))?;
    let path: PathBuf = crate::sqlite::file::companion(spool, ".lock");
    let mut file = std::fs::OpenOptions::new();
    let file = file
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path);
    let file = file.with_context(|| format!("edge.spool: {} can't be opened", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
        rustix::io::Errno::WOULDBLOCK => anyhow::anyhow!(
            "edge.spool: {} is the spool of another edge that runs; name one of its own with --spool",
            spool.display()
        ),
        e => anyhow::anyhow!("edge.spool: {} can't be locked: {e}", path.display()),
    })?;
    Ok(file)
}
