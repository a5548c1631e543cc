//! Rows that came over HTTP on their way into the file: the room for their bodies, their turns, and the lock left to others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::http::StatusCode;

use crate::http::error::HttpError;
use crate::model::filter::Scope;
use crate::sqlite::error::Unavailable;
use crate::sqlite::ingest_rows::{BadRows, MAX_ROWS, NewRow, parse_rows};
use crate::sqlite::open_connections::OpenConnections;
use crate::sqlite::table::Schema;
use crate::sqlite::writer::{IngestError, Writer};

const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long an ingest waits for those before it and for other processes, together.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests that may wait to write, each with its rows.
const MAX_WAITING: usize = 16;
/// Bytes of all bodies that are on their way.
const MAX_HELD_BYTES: usize = MAX_WAITING * MAX_BODY_BYTES;
/// Larger bodies are parsed where it holds up no other request; that takes some milliseconds.
const PARSED_AT_ONCE: usize = 16 * 1024;

/// The writing connection, one request at a time.
pub struct Ingest {
    writer: Arc<Mutex<Writer>>,
    /// Taken in the order of asking.
    turn: Arc<tokio::sync::Mutex<Pace>>,
    waiting: Arc<Semaphore>,
    /// A permit for each byte.
    bodies: Arc<Semaphore>,
    /// What was logged.
    fault: Mutex<Option<Unavailable>>,
}

impl Ingest {
    /// Closes the connection when `open_connections` says so.
    pub fn new(writer: Writer, open_connections: &OpenConnections) -> Ingest {
        let writer = Arc::new(Mutex::new(writer));
        let idle = Arc::downgrade(&writer);
        open_connections.on_close(Box::new(move || {
            // Who is writing closes it afterwards.
            if let Some(writer) = idle.upgrade()
                && let Some(mut writer) = writer.try_lock()
            {
                writer.close_stale();
            }
        }));
        Ingest {
            writer,
            turn: Arc::new(tokio::sync::Mutex::new(Pace::new(Instant::now()))),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            bodies: Arc::new(Semaphore::new(MAX_HELD_BYTES)),
            fault: Mutex::default(),
        }
    }

    /// Closes the connection, once nobody writes any more.
    pub fn close(&self) {
        self.writer.lock().close();
    }

    /// Reads a body, where there is room for it among all that are on their way.
    pub(super) async fn collect(
        &self,
        body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    ) -> Result<HeldBody, HttpError> {
        collect(body, &self.bodies).await
    }

    /// Inserts the rows of a body, in its turn; returns their ids.
    pub(super) async fn take_in(
        &self,
        batch: Arc<InsertRequest>,
        body: HeldBody,
    ) -> Result<Vec<i64>, HttpError> {
        let deadline = Instant::now() + PATIENCE;
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return Err(HttpError::unavailable(
                "too many requests are waiting to write",
            ));
        };
        let rows = parsed(&batch, body).await?;
        let turn = Arc::clone(&self.turn).lock_owned();
        let turn = tokio::time::timeout_at(deadline.into(), turn).await;
        let Some(mut pace) = turn.ok().filter(|pace| pace.theirs_until < deadline) else {
            return Err(HttpError::unavailable(
                "the requests before this one wait for the database, which others hold",
            ));
        };
        let writer = Arc::clone(&self.writer);
        let insert = tokio::task::spawn_blocking(move || {
            // The thread takes the place and the turn, and goes on when its client is gone.
            let _place = place;
            // Mostly a fraction of a millisecond, which the runtime's own timer can't do.
            std::thread::sleep(pace.owed(Instant::now()));
            let mut writer = writer.lock();
            let result = writer.insert(&batch.schema, &batch.scope, &rows, deadline);
            pace.leave(writer.held(), Instant::now());
            result
        });
        match insert.await {
            Ok(Ok(ids)) => {
                *self.fault.lock() = None;
                Ok(ids)
            }
            Ok(Err(IngestError::Invalid(message))) => Err(invalid(message)),
            Ok(Err(IngestError::OutOfScope(message))) => {
                let status = StatusCode::FORBIDDEN;
                Err(HttpError::new(status, "out_of_scope", message))
            }
            Ok(Err(IngestError::Unavailable(reason))) => {
                let answer = HttpError::unavailable(reason.public_message());
                self.tell(reason);
                Err(answer)
            }
            Err(_) => Err(aborted()),
        }
    }

    /// Logs why rows can't be written, once for as long as it stays so. Waiting for a lock is no fault.
    fn tell(&self, reason: Unavailable) {
        let mut told = self.fault.lock();
        if matches!(reason, Unavailable::Broken { .. }) && told.as_ref() != Some(&reason) {
            tracing::warn!("rows that come by HTTP can't be written: {reason}");
            *told = Some(reason);
        }
    }
}

/// Leaves the database's lock to other writers for as long as an ingest held it.
#[derive(Debug)]
struct Pace {
    /// Until then the lock is theirs.
    theirs_until: Instant,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { theirs_until: now }
    }

    /// How long the next ingest has to wait.
    fn owed(&self, now: Instant) -> Duration {
        self.theirs_until.saturating_duration_since(now)
    }

    /// An ingest has ended that held the lock for this long.
    fn leave(&mut self, held: Duration, now: Instant) {
        self.theirs_until = now + held;
    }
}

/// What the rows of a request have to fit.
pub(super) struct InsertRequest {
    pub(super) schema: Arc<Schema>,
    pub(super) scope: Scope,
}

async fn parsed(batch: &Arc<InsertRequest>, body: HeldBody) -> Result<Vec<NewRow>, HttpError> {
    let rows = if body.bytes.len() <= PARSED_AT_ONCE {
        parse_rows(&batch.schema, &batch.scope, &body.bytes)
    } else {
        let batch = Arc::clone(batch);
        let parse = move || parse_rows(&batch.schema, &batch.scope, &body.bytes);
        tokio::task::spawn_blocking(parse)
            .await
            .map_err(|_| aborted())?
    };
    rows.map_err(|bad| match bad {
        BadRows::Invalid(message) => invalid(message),
        BadRows::TooMany => too_large(format!("there are more than {MAX_ROWS} rows")),
    })
}

fn aborted() -> HttpError {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    HttpError::new(status, "internal", "the write was aborted")
}

fn invalid(message: String) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, "invalid_row", message)
}

/// A body, counted for as long as it is held.
pub(super) struct HeldBody {
    bytes: Vec<u8>,
    _counted: Option<OwnedSemaphorePermit>,
}

async fn collect(
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    held: &Arc<Semaphore>,
) -> Result<HeldBody, HttpError> {
    let mut bytes = Vec::new();
    let mut counted: Option<OwnedSemaphorePermit> = None;
    let mut body = std::pin::pin!(body);
    while let Some(chunk) = body.next().await {
        let mut chunk =
            chunk.map_err(|e| HttpError::bad_parameter(format!("the body broke off: {e}")))?;
        if bytes.len() + chunk.remaining() > MAX_BODY_BYTES {
            return Err(too_large(format!(
                "the body is larger than {MAX_BODY_BYTES} bytes"
            )));
        }
        let more = u32::try_from(chunk.remaining()).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(held).try_acquire_many_owned(more) else {
            return Err(HttpError::unavailable("too many requests are sending rows"));
        };
        match &mut counted {
            Some(counted) => counted.merge(more),
            None => counted = Some(more),
        }
        while chunk.has_remaining() {
            let part = chunk.chunk();
            bytes.extend_from_slice(part);
            let taken = part.len();
            chunk.advance(taken);
        }
    }
    Ok(HeldBody {
        bytes,
        _counted: counted,
    })
}

fn too_large(what: String) -> HttpError {
    HttpError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        format!("{what}; send fewer rows at a time"),
    )
}
