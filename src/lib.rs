//! walcast turns the tables of a SQLite file into live feeds: it sees each commit, reads the new rows and sends every
//! one of them to the subscribers that asked for it.
//!
//! ```text
//! commit ─▶ Wake ─▶ Reader ─▶ Block ─▶ Hub ─▶ Session ─▶ socket
//! ```
//!
//! Every subscriber is a position in a table, and the table is the log: live delivery, catch-up after a reconnect, a
//! slow client and history are all "rows above this id, a page at a time", from memory when they are recent and from
//! SQLite when they are not.

// Whatever can fail here is told or handled; where it can't fail, the line that allows it says why.
#![warn(clippy::unwrap_used, clippy::expect_used)]
// What only this crate uses says so. In the crates of tests and benches that would tell nothing.
#![warn(unreachable_pub)]

pub mod access;
pub mod accounts;
pub mod activation;
pub mod address;
pub mod asker;
pub mod catchup;
pub mod change;
mod chase;
pub mod cli;
pub mod commands;
pub mod config;
pub mod connection_span;
pub mod fanout;
pub mod feed_loop;
pub mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod harmless;
pub mod http;
pub mod hub;
mod json;
pub mod logging;
pub mod metrics;
mod moderation;
pub mod named_file;
mod nearest;
mod opening;
mod probe;
pub mod protocol;
pub mod session;
pub mod shutdown;
mod socket_state;
pub mod sqlite;
pub mod status_text;
mod tracked;
pub mod wake;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use access::Gate;
use catchup::CatchUp;
use config::{Config, Listen};
use fanout::Fanout;
use feed_loop::FeedLoop;
use http::limits::{Bounds, Connections, raise_descriptor_limit};
use http::listener::Listener;
use http::server;
use http::{Access, App, Ingest, Moves};
use hub::Hub;
use logging::LogLevel;
use metrics::Metrics;
use shutdown::{Control, Stop, tell};
use sqlite::discovery::MAX_FEEDS;
use sqlite::openings::Openings;
use sqlite::pool::ReadPool;
use sqlite::writer::Writer;
use wake::{Waiter, Wake, Wakes};

/// Threads that write to sockets. More than two bring nothing to a machine whose feed loop and writers run too.
const MAX_SHARDS: usize = 4;

/// Binds every address of the configuration. The error names the address and the remedy.
pub async fn bind(addresses: &[Listen]) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let bound = match address {
            Listen::Tcp(address) => Listener::bind_tcp(*address).await,
            Listen::Unix(path) => Listener::bind_unix(path).await,
        };
        let bound = bound.map_err(|e| match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                anyhow!("can't listen on {address}: it is in use; stop what listens there or choose another with --listen")
            }
            _ if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => anyhow!(
                "can't listen on {address}: this sandbox has no network of its own, and systemd passed no listener in; \
                 systemctl start walcast-listen.socket, or see own-listener.conf to let walcast bind by itself"
            ),
            _ => anyhow!("can't listen on {address}: {e}"),
        });
        listeners.push(bound?);
    }
    Ok(listeners)
}

/// Serves `config` on `listeners` until `control` says stop. An error means that it never began to.
pub async fn run(
    config: Config,
    listeners: Vec<Listener>,
    control: Control,
    log: &LogLevel,
) -> anyhow::Result<()> {
    let config = Arc::new(usable(config));
    let waiter = Waiter::new().context("no pipe for the feed loop")?;
    let wake = Arc::clone(waiter.wake());
    let metrics = Metrics::new().context("the metrics contradict each other")?;
    let hub = Arc::new(Hub::new(
        config.feeds.clone(),
        if config.all_tables { MAX_FEEDS } else { 0 },
        &config.limits,
        Arc::clone(&wake),
    ));
    let openings = Arc::new(Openings::default());
    let feed_loop = FeedLoop::new(
        Arc::clone(&config),
        Arc::clone(&hub),
        waiter,
        Arc::clone(&metrics),
        Arc::clone(&openings),
        shutdown::watchdog(),
    );
    let feed_loop = started(feed_loop).await?;
    let (drain, draining) = watch::channel(false);
    let gate = Arc::new(gate(&config)?);
    let app = assemble(&config, &hub, metrics, &gate, (&wake, &openings), draining)?;
    let feed_thread = std::thread::Builder::new()
        .name("walcast-feed".into())
        .spawn(move || fanout::or_abort(|| feed_loop.run()))?;

    opening::announce(&config, &hub, &listeners);
    let routes = http::routes(&app);
    for listener in listeners {
        tokio::spawn(server::serve(listener, Arc::clone(&app), routes.clone()));
    }
    tokio::spawn(keep_tokens(Arc::clone(&app)));
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

/// Who may come in; the tokens are read.
fn gate(config: &Config) -> anyhow::Result<Gate> {
    Gate::new(&config.auth, &config.feeds).context("auth.tokens")
}

/// Reads the tokens again when their file changes, and ends what is not granted any more.
async fn keep_tokens(app: Arc<App>) {
    if app.gate.token_file().is_none() {
        return;
    }
    let mut ended = app.gate.ended();
    let mut looks = tokio::time::interval(access::LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        read_tokens(&app).await;
        if ended.has_changed().unwrap_or_default() {
            ended.borrow_and_update();
            app.fanout.grants_ended();
        }
    }
}

async fn read_tokens(app: &App) {
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
    (wake, openings): (&Arc<Wake>, &Arc<Openings>),
    draining: watch::Receiver<bool>,
) -> anyhow::Result<Arc<App>> {
    let catchup = CatchUp::new(
        ReadPool::new(
            config.database.clone(),
            config.limits.replays,
            Arc::clone(openings),
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
                Arc::clone(openings),
            ),
            openings,
        ),
        connections: Connections::new(bounds(config)),
        moves,
        access: Access::new(&config.access),
        gate: Arc::clone(gate),
        write_timeout,
        draining,
        history: config.limits.history.clone(),
    }))
}

fn shown(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Reloads while running, drains when told to stop. Returns how long the drain took.
async fn serve_until_stopped(
    app: &Arc<App>,
    config: &Config,
    mut control: Control,
    log: &LogLevel,
    drain: &watch::Sender<bool>,
) -> Duration {
    let mut config = config.clone();
    loop {
        tokio::select! {
            // No one left who could say stop: then this is it.
            stopped = control.stop.wait_for(|stop| *stop != Stop::No) => {
                drop(stopped);
                break;
            }
            Some(read) = control.reload.recv() => match read {
                Ok(new) => config = reload(app, &config, &new, log),
                Err(e) => tracing::error!("the configuration was not reloaded, the old one stays in force: {e}"),
            },
        }
    }
    let begun = Instant::now();
    tell(&[NotifyState::Stopping]);
    let open = app.connections.open();
    tracing::info!(
        "stopping: draining {open} connections for up to {}",
        shown(config.limits.drain_timeout)
    );
    // Nobody may be listening any more; the flag is for those who are.
    let _ = drain.send(true);
    app.fanout.drain(open);
    let deadline = begun + config.limits.drain_timeout;
    let drained = async {
        while app.connections.open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = drained => {}
        () = tokio::time::sleep_until(deadline) => {
            tracing::warn!("{} connections did not go in time", app.connections.open());
        }
        _ = control.stop.wait_for(|stop| *stop == Stop::Now) => tracing::warn!("told again to stop: stopping now"),
    }
    begun.elapsed()
}

/// Applies what can change while running and says what can't.
fn reload(app: &App, running: &Config, new: &Config, log: &LogLevel) -> Config {
    let reload = running.reloaded_from(new);
    let config = reload.config;
    *app.access.lock() = Arc::new(Access::new(&config.access));
    *app.write_timeout.lock() = config.limits.write_timeout;
    app.connections.set_bounds(bounds(&config));
    if let Err(e) = log.set(&config.log_level) {
        tracing::error!("log level {}: {e}", config.log_level);
    }
    match reload.applied.as_slice() {
        [] => tracing::info!("configuration read again: nothing to apply"),
        applied => tracing::info!("configuration read again: applied {}", applied.join(", ")),
    }
    if !reload.refused.is_empty() {
        tracing::warn!(
            "these take effect only after a restart: {}",
            reload.refused.join(", ")
        );
    }
    config
}

fn bounds(config: &Config) -> Bounds {
    let allowed = raise_descriptor_limit();
    let wanted = config.limits.max_connections.unwrap_or(allowed);
    if wanted > allowed {
        tracing::warn!(
            "max_connections = {wanted}: the descriptor limit leaves room for {allowed}; raise it (LimitNOFILE=, ulimit -n)"
        );
    }
    Bounds {
        total: wanted.min(allowed),
        per_ip: config.limits.max_connections_per_ip,
    }
}

/// The configuration with a state directory that can be written, or none.
fn usable(mut config: Config) -> Config {
    let Some(directory) = &config.state_dir else {
        tracing::warn!("{}", no_state("none is configured"));
        return config;
    };
    if let Err(e) = writable(directory) {
        tracing::warn!(
            "{}",
            no_state(&format!("{} can't be written: {e}", directory.display()))
        );
        config.state_dir = None;
    }
    config
}

fn no_state(why: &str) -> String {
    format!(
        "no state directory ({why}): the identity of each history is derived from the file, so a restore in place \
         while the daemon is down goes unnoticed; set `state_dir` to a directory the daemon may write"
    )
}

fn writable(directory: &PathBuf) -> std::io::Result<()> {
    let mut made = std::fs::DirBuilder::new();
    made.recursive(true).mode(0o700).create(directory)?;
    let probe = directory.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(&probe)
}
