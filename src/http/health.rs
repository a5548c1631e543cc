//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use serde_json::{Value, json};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::http::error::{HttpError, json_response};
use crate::http::peer::Peer;
use crate::http::state::App;

/// Answers `GET /healthz`: 200, for the process works.
pub(super) async fn healthz() -> Response {
    json_response(StatusCode::OK, json!({ "status": "ok" }).to_string())
}

/// Rows can be seen, or why not.
pub(super) async fn readyz(app: Arc<App>) -> Response {
    if *app.draining.borrow() {
        return json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "status": "draining", "reason": "the daemon is shutting down" }).to_string(),
        );
    }
    match app.hub.not_ready() {
        None => json_response(StatusCode::OK, ready(&app).to_string()),
        // It may name feeds, which not everybody may know of.
        Some(_) if app.gate.asks() => json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "status": "not ready", "reason": "rows can't be served; the daemon's log says why" })
                .to_string(),
        ),
        Some(reason) => json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "status": "not ready", "reason": reason }).to_string(),
        ),
    }
}

/// What is said where rows can be seen. Of an edge how old they may be, which is no reason to send clients elsewhere: there
/// they may be as old.
fn ready(app: &App) -> Value {
    let mut ready = json!({ "status": "ready" });
    if let Some(edge) = &app.edge {
        let report = edge.status().report();
        let lag = report.lag.as_millis() as f64 / 1000.0;
        ready["edge"] = json!({ "lag_seconds": lag });
        // It names the origin, and perhaps feeds.
        if let Some(trouble) = report.trouble.filter(|_| !app.gate.asks()) {
            ready["edge"]["trouble"] = trouble.into();
        }
    }
    ready
}

/// Answers `GET /metrics` with the Prometheus text format.
pub(super) async fn metrics(peer: Peer, app: Arc<App>) -> Response {
    if !peer.grant.may_see_metrics() {
        let message = "what is counted tells of all feeds; it needs a token made with --metrics";
        let status = StatusCode::FORBIDDEN;
        return HttpError::new(status, "metrics_not_granted", message).into_response();
    }
    for feed in app.hub.feeds.iter() {
        let subscribers = i64::try_from(feed.subscribers()).unwrap_or(i64::MAX);
        app.metrics
            .feed_subscribers
            .with_label_values(&[&feed.config.name])
            .set(subscribers);
    }
    app.sinks.measure();
    app.publishing.measure();
    if let Some(edge) = &app.edge {
        edge.status().measure();
    }
    match app.metrics.text() {
        Ok(text) => {
            let mut response = text.into_response();
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(e) => HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", e.to_string())
            .into_response(),
    }
}
