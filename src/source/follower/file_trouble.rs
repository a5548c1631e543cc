//! What is wrong with the file, as it was told last: to the log once, to `/readyz` and the metrics always.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::hub::Hub;
use crate::sqlite::error::Unavailable;
use crate::sqlite::lock_holder;
use crate::telemetry::metrics::Metrics;

/// A lock that lasts so long is worth a line in the log.
const LOCKED_FOR_LONG: Duration = Duration::from_millis(250);

/// What is wrong with the file, as it was told last.
#[derive(Default)]
pub(super) struct FileTrouble {
    told: Option<Unavailable>,
    /// Since when a lock keeps the file from being read, and whether that was said.
    locked: Option<(Instant, bool)>,
}

impl FileTrouble {
    /// Logs what is wrong when it changes, and tells `/readyz` and the metrics.
    pub(super) fn report(&mut self, reason: Unavailable, hub: &Hub, metrics: &Metrics) {
        if let Some(kind) = reason.error_kind() {
            metrics.database_errors.with_label_values(&[kind]).inc();
            hub.beat(Some(reason.public_message()));
        } else {
            hub.beat(None);
        }
        if self.told.as_ref() == Some(&reason) {
            return;
        }
        match reason {
            // Common and short; `/readyz` and the metric tell when it is not.
            Unavailable::Busy(_) => tracing::debug!("{reason}"),
            Unavailable::NoFile(_)
            | Unavailable::Empty(_)
            | Unavailable::NoTable(_)
            | Unavailable::Filling
            | Unavailable::OutOfReach
            | Unavailable::Upstream => {
                tracing::warn!("{reason}");
            }
            Unavailable::Broken { .. } => tracing::error!("{reason}"),
        }
        self.told = Some(reason);
    }

    /// Says, once it has lasted for a while, who keeps the file locked. Returns for how long that has been.
    pub(super) fn tell_locked(&mut self, reason: &str, database: &Path) -> Duration {
        let (since, told) = self.locked.get_or_insert((Instant::now(), false));
        let waited = since.elapsed();
        if waited >= LOCKED_FOR_LONG && !std::mem::replace(told, true) {
            let holder = lock_holder::of(database);
            let holder = holder.map_or_else(String::new, |holder| format!(", held by {holder}"));
            tracing::warn!("{reason}{holder}; rows are read as soon as the lock is gone");
        }
        waited
    }

    /// A read worked: nothing is wrong any more.
    pub(super) fn clear(&mut self, database: &Path, hub: &Hub) {
        hub.beat(None);
        // A lock that passed at once was not told of either.
        let was_locked = self.locked.take().is_some_and(|(_, told)| told);
        let was_broken = self.told.take().is_some_and(|trouble| {
            !matches!(trouble, Unavailable::Busy(_)) && trouble.error_kind().is_some()
        });
        if was_locked || was_broken {
            tracing::info!("{} can be read again", database.display());
        }
    }
}
