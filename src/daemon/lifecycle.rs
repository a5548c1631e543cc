//! The life of a daemon that serves: it reloads while it runs, and drains when it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::Instant;

use super::signals::{Signals, Stop};
use super::systemd::tell;
use crate::config::Config;
use crate::http::{App, HostAndOrigin};
use crate::net::connection_limits::{ConnectionLimits, raise_descriptor_limit};
use crate::net::tls_server::TlsServer;
use crate::telemetry::logging::LogLevel;

pub(super) fn shown(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// What a reload reaches.
#[derive(Clone, Copy)]
pub(super) struct Running<'d> {
    pub app: &'d App,
    pub tls: Option<&'d TlsServer>,
    pub log: &'d LogLevel,
}

/// Reloads while running, drains when told to stop. Returns how long the drain took.
pub(super) async fn serve_until_stopped(
    running: Running<'_>,
    config: &Config,
    mut control: Signals,
    drain: &watch::Sender<bool>,
) -> Duration {
    let app = running.app;
    let mut config = config.clone();
    let mut restart = app.edge.as_ref().map(|edge| edge.must_restart());
    loop {
        let restart_demanded = async {
            match &mut restart {
                Some(restart) => restart.wait_for(Option::is_some).await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = restart_demanded => break,
            // No one left who could say stop: then this is it.
            stopped = control.stop.wait_for(|stop| *stop != Stop::No) => {
                drop(stopped);
                break;
            }
            Some(read) = control.reload.recv() => match read {
                Ok(new) => config = reload(running, &config, &new),
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
fn reload(Running { app, tls, log }: Running<'_>, config: &Config, new: &Config) -> Config {
    let reload = config.reloaded_from(new);
    let config = reload.config;
    *app.access.lock() = Arc::new(HostAndOrigin::new(&config.access));
    *app.write_timeout.lock() = config.limits.write_timeout;
    app.connections.set_bounds(bounds(&config));
    app.gate.forget_files();
    if let Some(tls) = tls {
        tls.forget_files();
    }
    if let Err(e) = log.set(&config.log.level) {
        tracing::error!("log level {}: {e}", config.log.level);
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

pub(super) fn bounds(config: &Config) -> ConnectionLimits {
    let allowed = raise_descriptor_limit();
    let wanted = config.limits.max_connections.unwrap_or(allowed);
    if wanted > allowed {
        tracing::warn!(
            "max_connections = {wanted}: the descriptor limit leaves room for {allowed}; raise it (LimitNOFILE=, ulimit -n)"
        );
    }
    ConnectionLimits {
        total: wanted.min(allowed),
        per_ip: config.limits.max_connections_per_ip,
    }
}
