//! How the daemon is told to stop or to read its configuration again, and what it tells systemd about itself.

use std::time::Duration;

use sd_notify::NotifyState;
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
pub struct Control {
    pub stop: watch::Receiver<Stop>,
    /// Configurations read again, or why they could not be.
    pub reload: mpsc::Receiver<Result<Config, ConfigError>>,
}

/// SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reads the configuration again.
pub fn signals(args: ServeArgs) -> std::io::Result<Control> {
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
    Ok(Control {
        stop: stop_receiver,
        reload: reload_receiver,
    })
}

/// Tells systemd, where it listens. What it does not hear it will find out.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {e}");
    }
}

/// Feeds the watchdog of systemd each time it is called, as often as systemd wants to hear.
pub fn watchdog() -> Box<dyn FnMut() + Send> {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return Box::new(|| {});
    };
    let mut last = None::<std::time::Instant>;
    Box::new(move || {
        // Twice as often as needed, as its documentation recommends.
        let due = last.is_none_or(|last| {
            last.elapsed() >= period / 2 - Duration::from_millis(1).min(period / 4)
        });
        if due {
            last = Some(std::time::Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
    })
}
