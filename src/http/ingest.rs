//! `POST /api/feeds/<feed>/events`: rows over HTTP, for feeds that allow it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use warp::http::{HeaderMap, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::change::Cursor;
use crate::http::App;
use crate::http::error::{HttpError, json_response};
use crate::hub::{Feed, Presence};
use crate::sqlite::openings::Openings;
use crate::sqlite::table::Schema;
use crate::sqlite::writer::{IngestError, NewRow, Writer, parse_rows};

const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The whole body must be here this soon after the request's head.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// How long an ingest waits for those before it. The first of them waits no longer for other processes, so who waits
/// in vain here would have waited in vain there.
const TURN_PATIENCE: Duration = Duration::from_secs(5);
/// Requests that may wait for the one writing connection. Each holds a body and a thread, so not for ever more.
const MAX_WAITING: usize = 16;

/// The writing connection, one request at a time.
pub struct Ingest {
    writer: Arc<Mutex<Writer>>,
    waiting: Arc<Semaphore>,
}

impl Ingest {
    /// Closes the connection when `openings` says so.
    pub fn new(writer: Writer, openings: &Openings) -> Ingest {
        let writer = Arc::new(Mutex::new(writer));
        let idle = Arc::downgrade(&writer);
        openings.on_close(Box::new(move || {
            // Who is writing closes it afterwards.
            if let Some(writer) = idle.upgrade()
                && let Some(mut writer) = writer.try_lock()
            {
                writer.close_stale();
            }
        }));
        Ingest {
            writer,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    /// Closes the connection, once nobody writes any more.
    pub fn close(&self) {
        self.writer.lock().close();
    }

    async fn insert(&self, schema: Arc<Schema>, rows: Vec<NewRow>) -> Result<Vec<i64>, HttpError> {
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return Err(HttpError::unavailable(
                "too many requests are waiting to write",
            ));
        };
        let writer = Arc::clone(&self.writer);
        let insert = tokio::task::spawn_blocking(move || {
            // The thread takes the place, and goes on when its client is gone.
            let _place = place;
            let mut writer = writer.try_lock_for(TURN_PATIENCE)?;
            Some(writer.insert(&schema, &rows))
        });
        match insert.await {
            Ok(Some(Ok(ids))) => Ok(ids),
            Ok(Some(Err(IngestError::Invalid(message)))) => Err(invalid(message)),
            Ok(Some(Err(IngestError::Unavailable(reason)))) => {
                Err(HttpError::unavailable(reason.to_string()))
            }
            Ok(None) => Err(HttpError::unavailable(
                "the requests before this one wait for the database, which others hold",
            )),
            Err(_) => Err(HttpError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the write was aborted",
            )),
        }
    }
}

fn invalid(message: String) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, "invalid_row", message)
}

pub async fn post(
    name: String,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    app: Arc<App>,
) -> Response {
    match ingest(&name, &headers, body, &app).await {
        Ok(ids) => {
            let ids: Vec<Cursor> = ids.into_iter().map(Cursor).collect();
            json_response(StatusCode::CREATED, json!({ "ids": ids }).to_string())
        }
        Err(error) => error.into_response(),
    }
}

async fn ingest(
    name: &str,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    app: &App,
) -> Result<Vec<i64>, HttpError> {
    let feed = app.feed(name)?;
    if !feed.config.ingest {
        let message = format!(
            "feed \"{name}\" takes no rows over HTTP; set `ingest = true` in [feeds.{name}] to allow it"
        );
        return Err(HttpError::new(StatusCode::FORBIDDEN, "ingest_off", message));
    }
    if !is_json(headers) {
        let message =
            "rows are taken as JSON only; send them with `Content-Type: application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(HttpError::new(status, "not_json", message));
    }
    let body = tokio::time::timeout(BODY_PATIENCE, collect(body))
        .await
        .unwrap_or_else(|_| Err(body_too_slow()))?;
    let schema = feed
        .schema()
        .ok_or_else(|| HttpError::unavailable(why_closed(&feed)))?;
    let rows = parse_rows(&schema, &body).map_err(invalid)?;
    app.ingest.insert(schema, rows).await
}

/// Whether the body is said to be JSON. A form of any web page can post the types that need no preflight.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = only.to_str().ok().and_then(|text| text.split(';').next());
    essence.is_some_and(|text| text.trim().eq_ignore_ascii_case("application/json"))
}

fn body_too_slow() -> HttpError {
    let seconds = BODY_PATIENCE.as_secs();
    let message = format!(
        "the body was not here {seconds} s after the request's head; send fewer rows at a time"
    );
    HttpError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
}

fn why_closed(feed: &Feed) -> String {
    match feed.presence() {
        Presence::Away(absence) => absence.message.to_string(),
        Presence::Open => "the table is being opened".to_owned(),
    }
}

async fn collect(
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::new();
    let mut body = std::pin::pin!(body);
    while let Some(chunk) = body.next().await {
        let mut chunk =
            chunk.map_err(|e| HttpError::bad_parameter(format!("the body broke off: {e}")))?;
        if bytes.len() + chunk.remaining() > MAX_BODY_BYTES {
            let message = format!(
                "the body is larger than {MAX_BODY_BYTES} bytes; send fewer rows at a time"
            );
            return Err(HttpError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                message,
            ));
        }
        while chunk.has_remaining() {
            let part = chunk.chunk();
            bytes.extend_from_slice(part);
            let taken = part.len();
            chunk.advance(taken);
        }
    }
    Ok(bytes)
}
