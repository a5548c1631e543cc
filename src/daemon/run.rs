//! Everything put together: what serves is started, and stopped in the end.

use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::lifecycle::{bounds, serve_until_stopped, shown};
use super::listen::Listeners;
use super::signals::Signals;
use super::systemd::tell;
use super::{announce, state_dir, status_text, systemd};
use crate::access::Gate;
use crate::catchup::CatchUp;
use crate::catchup::reader_pool::ReadPool;
use crate::config::Config;
use crate::fanout::Fanout;
use crate::http::server::{self, Offer};
use crate::http::{App, HostAndOrigin, Ingest, Moves};
use crate::hub::Hub;
use crate::model::wakeup::{Waiter, Wake, Wakes};
use crate::net::connection_limits::Connections;
use crate::os::thread::or_abort;
use crate::source::follower::FeedLoop;
use crate::sqlite::discovery::MAX_FEEDS;
use crate::sqlite::open_connections::OpenConnections;
use crate::sqlite::writer::Writer;
use crate::telemetry::logging::LogLevel;
use crate::telemetry::metrics::Metrics;
use crate::{access, fanout, http};

/// Threads that write to sockets. More than two bring nothing to a machine whose feed loop and writers run too.
const MAX_SHARDS: usize = 4;

/// Serves `config` on `listeners` to whom `gate` lets in, until `control` says stop. An error means that it never began
/// to.
pub async fn run(
    config: Config,
    gate: Gate,
    listeners: Listeners,
    control: Signals,
    log: &LogLevel,
) -> anyhow::Result<()> {
    let config = Arc::new(state_dir::usable(config));
    let waiter = Waiter::new().context("no pipe for the feed loop")?;
    let wake = Arc::clone(waiter.wake());
    let metrics = Metrics::new().context("the metrics contradict each other")?;
    let hub = Arc::new(Hub::new(
        config.feeds.clone(),
        if config.all_tables { MAX_FEEDS } else { 0 },
        &config.limits,
        Arc::clone(&wake),
    ));
    let open_connections = Arc::new(OpenConnections::default());
    let feed_loop = FeedLoop::new(
        Arc::clone(&config),
        Arc::clone(&hub),
        waiter,
        Arc::clone(&metrics),
        Arc::clone(&open_connections),
        systemd::watchdog(),
    );
    let feed_loop = started(feed_loop).await?;
    let (drain, draining) = watch::channel(false);
    let gate = Arc::new(gate);
    let app = assemble(
        &config,
        &hub,
        metrics,
        &gate,
        (&wake, &open_connections),
        draining,
    )?;
    let feed_thread = std::thread::Builder::new()
        .name("walcast-feed".into())
        .spawn(move || or_abort(|| feed_loop.run()))?;

    announce::announce(&config, &hub, &listeners.feeds);
    let routes = http::routes(&app);
    for listener in listeners.feeds {
        let offer = Offer::everything(&routes);
        tokio::spawn(server::serve(listener, Arc::clone(&app), offer));
    }
    for listener in listeners.metrics {
        tracing::info!("metrics alone at {}/metrics", listener.url());
        let offer = Offer::metrics_alone(&routes);
        tokio::spawn(server::serve(listener, Arc::clone(&app), offer));
    }
    tokio::spawn(keep_grants(Arc::clone(&app)));
    tokio::spawn(status_text::keep_current(Arc::clone(&hub)));
    tell(&[NotifyState::Ready]);

    let drained_for = serve_until_stopped(&app, &config, control, log, &drain).await;
    tracing::info!("stopped after {} of drain", shown(drained_for));
    tokio::task::spawn_blocking(move || {
        app.fanout.stop();
        app.catchup.pool.close();
        app.ingest.close();
        wake.signal(Wakes::STOP);
        // A feed loop that panicked has said so; there is nothing left to wait for.
        let _ = feed_thread.join();
    })
    .await
    .context("the threads could not be stopped")
}

/// Reads the files that say who may come in again when they change, and ends what is not granted any more.
async fn keep_grants(app: Arc<App>) {
    if !app.gate.has_files() {
        return;
    }
    let mut ended = app.gate.ended();
    let mut looks = tokio::time::interval(access::LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        look(&app).await;
        if ended.has_changed().unwrap_or_default() {
            ended.borrow_and_update();
            app.fanout.grants_ended();
        }
    }
}

async fn look(app: &App) {
    let gate = Arc::clone(&app.gate);
    // What goes wrong in there has been logged.
    let _ = tokio::task::spawn_blocking(move || gate.look()).await;
}

/// The feed loop once it has opened what there is; it may take as long as a database is slow.
async fn started(mut feed_loop: FeedLoop) -> anyhow::Result<FeedLoop> {
    let started = tokio::task::spawn_blocking(move || {
        feed_loop.start();
        feed_loop
    });
    started.await.context("the feed loop could not start")
}

/// Everything that serves clients, and hears of the hub's moves.
fn assemble(
    config: &Config,
    hub: &Arc<Hub>,
    metrics: Arc<Metrics>,
    gate: &Arc<Gate>,
    (wake, open_connections): (&Arc<Wake>, &Arc<OpenConnections>),
    draining: watch::Receiver<bool>,
) -> anyhow::Result<Arc<App>> {
    let catchup = CatchUp::new(
        ReadPool::new(
            config.database.clone(),
            config.limits.replays,
            Arc::clone(open_connections),
            metrics.reads_waiting.clone(),
        ),
        Arc::clone(&metrics),
    );
    let write_timeout = Arc::new(Mutex::new(config.limits.write_timeout));
    let fanout = Fanout::start(
        fanout::Context {
            hub: Arc::clone(hub),
            catchup: catchup.clone(),
            metrics: Arc::clone(&metrics),
            write_timeout: Arc::clone(&write_timeout),
        },
        std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_SHARDS),
    )?;
    let moves = Moves::new(hub.feeds.most());
    hub.set_listeners(vec![fanout.listener(), moves.listener()]);
    Ok(App::new(http::Parts {
        hub: Arc::clone(hub),
        catchup,
        metrics,
        fanout,
        ingest: Ingest::new(
            Writer::new(
                config.database.clone(),
                Arc::clone(wake),
                Arc::clone(open_connections),
            ),
            open_connections,
        ),
        connections: Connections::new(bounds(config)),
        moves,
        access: HostAndOrigin::new(&config.access),
        gate: Arc::clone(gate),
        write_timeout,
        draining,
        history: config.limits.history.clone(),
    }))
}
