//! Up to where was delivered, and when that is written down.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::position_file::{PositionFile, Reached};

/// Time between two writes. What was delivered since the last one comes twice when the daemon is killed; written after each
/// delivery it would have writers of the database wait for the disk.
const APART: Duration = Duration::from_secs(1);

/// Up to where a sink has delivered. With a file it outlives the daemon.
pub(super) struct KeptPosition {
    file: Option<Arc<PositionFile>>,
    reached: Option<Reached>,
    /// There is something new to be written.
    changed: bool,
    /// When it may be written.
    next: Instant,
    /// It was said that it can't be written.
    complained: bool,
}

impl KeptPosition {
    /// What `file` says; without one nothing is known. What can't be read counts as nothing delivered.
    pub(super) async fn load(name: &str, file: Option<Arc<PositionFile>>) -> KeptPosition {
        let reached = match &file {
            None => None,
            Some(file) => {
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || file.load()).await;
                match read {
                    Ok(Ok(reached)) => reached,
                    Ok(Err(e)) => {
                        tracing::error!(
                            "sink {name}: its position can't be read ({e}), so everything is delivered again"
                        );
                        Some(Reached::Nothing)
                    }
                    // A panic there has been logged.
                    Err(_) => Some(Reached::Nothing),
                }
            }
        };
        KeptPosition {
            file,
            reached,
            changed: false,
            next: Instant::now(),
            complained: false,
        }
    }

    /// Returns up to where was delivered; `None` before the first start.
    pub(super) fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    pub(super) fn set(&mut self, reached: Reached) {
        if self.reached.as_ref() != Some(&reached) {
            self.reached = Some(reached);
            self.changed = true;
        }
    }

    /// Returns when it is to be written; `None` where nothing is new.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.changed && self.file.is_some()).then_some(self.next)
    }

    /// Writes it down where that is due.
    pub(super) async fn store_if_due(&mut self, name: &str) {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.store(name).await;
        }
    }

    /// Writes it down where something is new. That it can't be is said once, until it can.
    pub(super) async fn store(&mut self, name: &str) {
        let (Some(file), Some(reached), true) = (&self.file, &self.reached, self.changed) else {
            return;
        };
        let (file, reached) = (Arc::clone(file), reached.clone());
        let written = tokio::task::spawn_blocking(move || file.store(&reached)).await;
        self.next = Instant::now() + APART;
        match written {
            Ok(Ok(())) => {
                self.changed = false;
                if std::mem::take(&mut self.complained) {
                    tracing::info!("sink {name}: its position can be kept again");
                }
            }
            Ok(Err(e)) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::error!(
                        "sink {name}: its position can't be kept ({e}); a restart would deliver again what was delivered since"
                    );
                }
            }
            // A panic there has been logged; the next write may work.
            Err(_) => {}
        }
    }
}
