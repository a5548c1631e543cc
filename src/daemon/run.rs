//! Everything put together: what serves is started, and stopped in the end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::lifecycle::{Running, bounds, serve_until_stopped, shown};
use super::listen::Listeners;
use super::signals::Signals;
use super::systemd::tell;
use super::{announce, certificates, state_dir, status_text, systemd};
use crate::access::Gate;
use crate::catchup::CatchUp;
use crate::catchup::reader_pool::ReadPool;
use crate::config::Config;
use crate::edge::{Edge, PreparedEdge};
use crate::fanout::Fanout;
use crate::http::{self, App, HostAndOrigin, Ingest, Offer};
use crate::hub::{Hub, Moves, SourceDesk};
use crate::model::wakeup::{Waiter, Wake, Wakes};
use crate::net::connection_limits::Connections;
use crate::net::listener::Listener;
use crate::os::thread::or_abort;
use crate::publish::{PreparedPublish, Publishing};
use crate::sinks::{PreparedSink, Sinks, Surroundings};
use crate::source::capture_upkeep::CaptureUpkeep;
use crate::source::follower::FeedLoop;
use crate::sqlite::discovery::MAX_FEEDS;
use crate::sqlite::open_connections::OpenConnections;
use crate::sqlite::writer::Writer;
use crate::telemetry::logging::LogLevel;
use crate::telemetry::metrics::Metrics;
use crate::{access, fanout};

/// Threads that write to sockets. More than two bring nothing to a machine whose feed loop and writers run too.
const MAX_SHARDS: usize = 4;

/// How long an edge waits for its origin before it serves what it has: clients that come meanwhile find nothing.
const FILLING: Duration = Duration::from_secs(3);

/// Serves `config` on `listeners` to whom `gate` lets in, has `sinks` post what they are to, `publish` take all feeds and `edge`
/// feed what is served, until `control` says stop.
///
/// # Errors
/// It never began to; or it ended, to be started again as its origin is by now.
pub async fn run(
    config: Config,
    gate: Gate,
    (sinks, publish, edge): (
        Vec<PreparedSink>,
        Option<PreparedPublish>,
        Option<PreparedEdge>,
    ),
    listeners: Listeners,
    control: Signals,
    log: &LogLevel,
) -> anyhow::Result<()> {
    let config = Arc::new(state_dir::usable(config));
    let waiter = Waiter::new().context("no pipe for the feed loop")?;
    let wake = Arc::clone(waiter.wake());
    let metrics = Metrics::new().context("the metrics contradict each other")?;
    let desk = edge.is_some().then(Arc::<SourceDesk>::default);
    let hub = Arc::new(Hub::with_source(
        config.feeds.clone(),
        if config.all_tables { MAX_FEEDS } else { 0 },
        &config.limits,
        Arc::clone(&wake),
        desk.clone(),
    ));
    let edge = match edge.zip(desk) {
        Some((edge, desk)) => Some(fed(edge, desk, (&hub, &wake, &metrics)).await?),
        None => None,
    };
    let open_connections = Arc::new(OpenConnections::default());
    let captures = CaptureUpkeep::of(&config, &open_connections);
    if let Some(captures) = &captures {
        let captures = Arc::clone(captures);
        // What can't be done now is tried again by its own thread.
        let _ = tokio::task::spawn_blocking(move || captures.look()).await;
    }
    let feed_loop = FeedLoop::new(
        Arc::clone(&config),
        Arc::clone(&hub),
        waiter,
        Arc::clone(&metrics),
        Arc::clone(&open_connections),
        systemd::watchdog(),
        captures.clone(),
    );
    let feed_loop = started(feed_loop).await?;
    let (drain, draining) = watch::channel(false);
    let gate = Arc::new(gate);
    let app = assemble(
        &config,
        &hub,
        metrics,
        (&gate, sinks),
        (publish, edge),
        (&wake, &open_connections),
        draining,
    )?;
    let feed_thread = std::thread::Builder::new()
        .name("walcast-feed".into())
        .spawn(move || or_abort(|| feed_loop.run()))?;

    let capture_thread = match captures.clone() {
        Some(captures) => {
            captures.look_again();
            let thread = std::thread::Builder::new().name("walcast-capture".into());
            Some(thread.spawn(move || captures.run())?)
        }
        None => None,
    };
    announce::announce(&config, &hub, &listeners.feeds);
    let routes = http::routes(&app);
    let tls_port = listeners.feeds.iter().find_map(Listener::tls_port);
    for listener in listeners.redirect {
        let Some(port) = tls_port else {
            // Systemd has passed in Unix sockets alone.
            tracing::warn!(
                "{} leads nowhere: no address with TLS is listened on",
                listener.url()
            );
            continue;
        };
        tracing::info!("{} leads to https, port {port}", listener.url());
        let offer = Offer::redirect(&routes, port);
        tokio::spawn(http::serve(listener, Arc::clone(&app), offer));
    }
    for listener in listeners.feeds {
        let offer = Offer::everything(&routes);
        tokio::spawn(http::serve(listener, Arc::clone(&app), offer));
    }
    for listener in listeners.metrics {
        tracing::info!("metrics alone at {}/metrics", listener.url());
        let offer = Offer::metrics_alone(&routes);
        tokio::spawn(http::serve(listener, Arc::clone(&app), offer));
    }
    app.sinks.start();
    app.publishing.start();
    tokio::spawn(keep_grants(Arc::clone(&app)));
    if let Some(server) = &listeners.tls {
        for certificate in server.certificates().iter() {
            tracing::info!("TLS is spoken with {certificate}");
        }
        let metrics = Arc::clone(&app.metrics);
        tokio::spawn(certificates::keep_current(Arc::clone(server), metrics));
    }
    tokio::spawn(status_text::keep_current(Arc::clone(&hub)));
    tell(&[NotifyState::Ready]);

    let running = Running {
        app: &app,
        tls: listeners.tls.as_deref(),
        log,
    };
    let drained_for = serve_until_stopped(running, &config, control, &drain).await;
    app.sinks.ended().await;
    app.publishing.ended().await;
    tracing::info!("stopped after {} of drain", shown(drained_for));
    let restart = app
        .edge
        .as_ref()
        .and_then(|edge| edge.must_restart().borrow().clone());
    tokio::task::spawn_blocking(move || {
        if let Some(edge) = &app.edge {
            edge.stop();
        }
        app.fanout.stop();
        app.catchup.pool.close();
        app.ingest.close();
        if let (Some(captures), Some(thread)) = (captures, capture_thread) {
            captures.stop();
            // One that panicked has said so, and installs nothing any more.
            let _ = thread.join();
        }
        wake.signal(Wakes::STOP);
        // A feed loop that panicked has said so; there is nothing left to wait for.
        let _ = feed_thread.join();
    })
    .await
    .context("the threads could not be stopped")?;
    restart.map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
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

/// The edge once it is fed, and has what there is to be had in a moment.
async fn fed(
    edge: PreparedEdge,
    desk: Arc<SourceDesk>,
    (hub, wake, metrics): (&Arc<Hub>, &Arc<Wake>, &Arc<Metrics>),
) -> anyhow::Result<Arc<Edge>> {
    let edge = Arc::new(edge.start(desk, hub, wake, metrics)?);
    let filling = Arc::clone(&edge);
    let filled = tokio::task::spawn_blocking(move || filling.wait_until_filled(FILLING));
    filled.await.context("the edge could not start")?;
    Ok(edge)
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
    (gate, sinks): (&Arc<Gate>, Vec<PreparedSink>),
    (publish, edge): (Option<PreparedPublish>, Option<Arc<Edge>>),
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
    let around = Surroundings {
        hub: Arc::clone(hub),
        catchup: catchup.clone(),
        moves: Arc::clone(&moves),
        metrics: Arc::clone(&metrics),
        draining: draining.clone(),
    };
    let publishing = Publishing::new(publish, around.clone());
    let directory = config.state_dir.as_deref();
    let sinks = Sinks::new(sinks, around, directory, &config.database);
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
        sinks,
        publishing,
        edge,
        access: HostAndOrigin::new(&config.access),
        gate: Arc::clone(gate),
        write_timeout,
        max_subscriptions: config.limits.max_subscriptions,
        draining,
        hsts: config.tls.hsts,
        history: config.limits.history.clone(),
        compression: config.compression.clone(),
    }))
}
