//! `POST /api/feeds/<feed>/events`: rows over HTTP, for feeds that allow it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use serde_json::json;
use warp::http::{HeaderMap, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::http::entry::scope_of;
use crate::http::error::{HttpError, json_response};
use crate::http::ingest_queue::InsertRequest;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::hub::{Feed, Presence};
use crate::model::position::Cursor;

/// The whole body must be here this soon after the request's head.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn post(
    name: String,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    peer: Peer,
    app: Arc<App>,
) -> Response {
    match ingest(&name, &headers, body, &peer, &app).await {
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
    peer: &Peer,
    app: &App,
) -> Result<Vec<i64>, HttpError> {
    let feed = app.feed(name, &peer.grant)?;
    if !feed.config.ingest {
        let message = format!(
            "feed \"{name}\" takes no rows over HTTP; set `ingest = true` in [feeds.{name}] to allow it"
        );
        return Err(HttpError::new(StatusCode::FORBIDDEN, "ingest_off", message));
    }
    if !peer.grant.may_ingest() {
        let message = "rows are taken with a token made with --ingest only";
        let status = StatusCode::FORBIDDEN;
        return Err(HttpError::new(status, "ingest_not_granted", message));
    }
    let scope = scope_of(app, &feed, &peer.grant)?;
    if !is_json(headers) {
        let message =
            "rows are taken as JSON only; send them with `Content-Type: application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(HttpError::new(status, "not_json", message));
    }
    let body = tokio::time::timeout(BODY_PATIENCE, app.ingest.collect(body))
        .await
        .unwrap_or_else(|_| Err(body_too_slow()))?;
    let schema = feed
        .schema()
        .ok_or_else(|| HttpError::unavailable(why_closed(&feed)))?;
    let schema = match (&schema.changes, &schema.written) {
        (Some(_), Some(written)) => Arc::clone(written),
        (Some(_), None) => {
            return Err(HttpError::bad_parameter(
                "the table has no integer primary key, so rows can't be sent to it over HTTP",
            ));
        }
        (None, _) => schema,
    };
    let batch = InsertRequest { schema, scope };
    app.ingest.take_in(Arc::new(batch), body).await
}

/// Returns whether the body is said to be JSON. A form of any web page can post the types that need no preflight.
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
