//! How the daemon is told to stop or to read its configuration again.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::cli::ServeArgs;
use crate::config::{Config, ConfigError};

/// Whether the daemon runs, drains, or ends at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    No,
    /// Say goodbye, then go.
    Drain,
    /// Go.
    Now,
}

/// What the outside wants of a running daemon.
pub struct Signals {
    pub stop: watch::Receiver<Stop>,
    /// Configurations read again, or why they could not be.
    pub reload: mpsc::Receiver<Result<Config, ConfigError>>,
}

/// SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reads the configuration again.
pub fn signals(args: ServeArgs) -> std::io::Result<Signals> {
    let (stop, stop_receiver) = watch::channel(Stop::No);
    let (reload, reload_receiver) = mpsc::channel(1);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    let args = args.clone();
                    let read = tokio::task::spawn_blocking(move || Config::load(&args)).await;
                    if let Ok(config) = read
                        && let Err(e) = reload.try_send(config)
                    {
                        tracing::warn!("a reload is under way or too late: {e}");
                    }
                    continue;
                }
            }
            stop.send_modify(|stop| {
                *stop = if *stop == Stop::No {
                    Stop::Drain
                } else {
                    Stop::Now
                }
            });
        }
    });
    Ok(Signals {
        stop: stop_receiver,
        reload: reload_receiver,
    })
}
