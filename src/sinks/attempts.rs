//! Attempts to post rows: signed, judged by their answers, and how long to wait for the next.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::PreparedSink;
use super::body::MOST_BYTES;
use super::pauses::Pauses;
use super::receiver::{Answer, Delivery, Failed};
use super::signature::Secrets;
use super::state::{SinkActivity, SinkState};
use crate::model::position::Cursor;
use crate::telemetry::metrics::{SinkFailure, SinkMetrics};

/// The file of secrets is looked at again for an attempt this long after the last look.
const LOOK: Duration = Duration::from_secs(1);

/// What was posted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posted {
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// The id of the last row.
    pub(super) last: Cursor,
}

/// What comes of an attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    Taken,
    /// The receiver wants no rows any more.
    Gone,
    /// It has to be tried again after this pause.
    Again {
        pause: Duration,
    },
}

/// How the receiver of one sink fares, attempt by attempt.
pub(super) struct Attempts {
    prepared: Arc<PreparedSink>,
    secrets: Arc<Secrets>,
    /// When the file of secrets was looked at.
    looked: Instant,
    pauses: Pauses,
    /// Bytes of a body beyond which no row is added: fewer, once a receiver finds one too large.
    most_bytes: usize,
    /// What was posted and not taken ends here, so that it goes under the same id again.
    upto: Option<Cursor>,
    /// Why it failed when that was last logged; `None`: it works.
    told: Option<SinkFailure>,
}

impl Attempts {
    pub(super) fn new(prepared: Arc<PreparedSink>) -> Attempts {
        Attempts {
            secrets: Arc::clone(&prepared.secrets),
            prepared,
            looked: Instant::now(),
            pauses: Pauses::default(),
            most_bytes: MOST_BYTES,
            upto: None,
            told: None,
        }
    }

    pub(super) fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// Returns the last row of what is to be posted again; `None`: nothing was posted in vain.
    pub(super) fn upto(&self) -> Option<Cursor> {
        self.upto
    }

    /// What was posted before is of no matter any more: the stream begins anew.
    pub(super) fn forget(&mut self) {
        self.upto = None;
    }

    /// Reads the file of secrets again where it has changed, and the last look is a while ago.
    pub(super) async fn renew_secrets(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        let prepared = Arc::clone(&self.prepared);
        let read = tokio::task::spawn_blocking(move || prepared.secret_file.changed()).await;
        self.looked = Instant::now();
        // A panic there has been logged; the secrets stay as they were.
        if let Ok(Some(secrets)) = read {
            tracing::info!("sink {}: {secrets:?} read again", self.name());
            self.secrets = Arc::new(secrets);
        }
    }

    /// Posts a body once, under this id.
    pub(super) fn post(&self, id: String, body: Bytes) -> impl Future<Output = Answer> + use<> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 is refused by any receiver, which will say so.
        let timestamp = now.unwrap_or_default().as_secs();
        let signature = self.secrets.sign(&id, timestamp, &body);
        let prepared = Arc::clone(&self.prepared);
        async move {
            let delivery = Delivery {
                body,
                id,
                timestamp,
                signature,
            };
            prepared.receiver.post(delivery).await
        }
    }

    /// Counts an answer, tells of it where it is news, and says what follows.
    pub(super) fn judge(
        &mut self,
        answer: Answer,
        posted: Posted,
        state: &SinkState,
        metrics: &SinkMetrics,
    ) -> Outcome {
        let name = self.prepared.config.name.as_str();
        let count = |failure: SinkFailure| {
            let labels = [name, failure.label()];
            metrics.failures.with_label_values(&labels).inc();
        };
        match answer {
            Answer::Taken => {
                metrics.deliveries.with_label_values(&[name]).inc();
                let rows = posted.rows as u64;
                metrics.rows.with_label_values(&[name]).inc_by(rows);
                self.taken(state);
                Outcome::Taken
            }
            Answer::Gone => {
                count(SinkFailure::Gone);
                self.ended(state);
                Outcome::Gone
            }
            Answer::Failed(failed) => {
                count(failed.reason);
                self.failed(failed, posted, state)
            }
        }
    }

    fn taken(&mut self, state: &SinkState) {
        self.pauses.reset();
        self.upto = None;
        state.answered(None);
        if self.told.take().is_some() {
            let receiver = self.prepared.receiver.url();
            tracing::info!("sink {}: {receiver} takes rows again", self.name());
        }
    }

    fn ended(&self, state: &SinkState) {
        const WHY: &str = "it answers 410: it wants no rows any more";
        state.set(SinkActivity::Ended, Some(WHY.to_owned()));
        let receiver = self.prepared.receiver.url();
        tracing::warn!(
            "sink {} has ended, as {receiver} answers 410: it wants no rows any more; those not delivered wait in the table, \
             and a restart of the daemon tries again",
            self.name()
        );
    }

    fn failed(&mut self, failed: Failed, posted: Posted, state: &SinkState) -> Outcome {
        let receiver = self.prepared.receiver.url();
        if self.told != Some(failed.reason) {
            tracing::warn!(
                "sink {}: {receiver} does not take rows: {}; it is tried again until it does",
                self.name(),
                failed.why
            );
            self.told = Some(failed.reason);
        }
        self.upto = Some(posted.last);
        if failed.too_large && posted.rows > 1 {
            self.most_bytes = posted.bytes / 2;
        }
        state.answered(Some(failed.why));
        let pause = self.pauses.after_failure(failed.retry_after);
        Outcome::Again { pause }
    }

    fn name(&self) -> &str {
        &self.prepared.config.name
    }
}
