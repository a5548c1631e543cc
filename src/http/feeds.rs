//! `GET /api/feeds`: which feeds there are, where they stand and where to find them.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use crate::access::FeedGrant;
use crate::catchup::reader_pool::{PooledReader, Work};
use crate::http::error::json_response;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::hub::{Feed, Presence};
use crate::model::position::Cursor;
use crate::model::read_owner::ReadOwner;
use crate::sinks::SinkReport;
use crate::wire::control::FeedKind;

pub(super) async fn list(peer: Peer, app: Arc<App>) -> Response {
    let read_owner = ReadOwner::new(peer.client);
    app.hub.caught_up().await;
    // How they fare is told in metrics as well.
    let (sinks, published) = match peer.grant.may_see_metrics() {
        true => (app.sinks.reports(), app.publishing.reports()),
        false => Default::default(),
    };
    let mut feeds = Vec::with_capacity(app.hub.feeds.len());
    for feed in app.hub.feeds.listed() {
        if let Some(FeedGrant::Rows(scope)) = peer.grant.feed(&feed.config.name) {
            let mut described = describe(&app, &read_owner, feed).await;
            if !scope.is_everything() {
                // How many others there are is none of theirs.
                described
                    .as_object_mut()
                    .and_then(|feed| feed.remove("subscribers"));
            }
            let of_feed = sinks.iter().filter(|sink| sink.feed == feed.config.name);
            let of_feed: Vec<Value> = of_feed.map(sink).collect();
            if !of_feed.is_empty() {
                described["sinks"] = of_feed.into();
            }
            let name = &feed.config.name;
            // A feed that took another's place came after it.
            if let Some(report) = published.iter().rfind(|report| report.feed == *name) {
                described["published"] = sink(report);
            }
            feeds.push(described);
        }
    }
    json_response(StatusCode::OK, json!({ "feeds": feeds }).to_string())
}

fn sink(report: &SinkReport) -> Value {
    json!({
        "name": report.name,
        "receiver": report.receiver,
        "state": report.activity.word(),
        "trouble": report.trouble,
        "lag_rows": Cursor(report.lag_rows),
        // To the millisecond: it is known no better.
        "lag_seconds": report.lag.as_millis() as f64 / 1000.0,
    })
}

async fn describe(app: &App, read_owner: &ReadOwner, feed: &Arc<Feed>) -> Value {
    let standing = feed.standing();
    let schema = feed.schema();
    let (status, reason) = match standing.presence {
        Presence::Open => ("open", None),
        Presence::Away(absence) => match absence.cause.is_unmade() {
            true => ("waiting", Some(absence.message)),
            false => ("error", Some(absence.message)),
        },
    };
    let config = &feed.config;
    let columns: Vec<String> = schema
        .iter()
        .flat_map(|s| s.column_names())
        .map(str::to_owned)
        .collect();
    let types: Map<String, Value> = schema
        .iter()
        .flat_map(|s| s.declared_types())
        .map(|(name, declared)| (name.to_owned(), declared.into()))
        .collect();
    let key = schema
        .as_ref()
        .map(|s| s.table.key_name().to_owned())
        .or_else(|| config.key.clone());
    let changes = schema.as_ref().and_then(|schema| schema.changes.as_ref());
    let mut described = json!({
        "name": config.name,
        "table": config.table,
        "key": key,
        "columns": columns,
        "types": types,
        "epoch": standing.epoch,
        "head": standing.head,
        "earliest": earliest(app, read_owner, feed).await,
        "subscribers": feed.subscribers(),
        "status": status,
        "reason": reason.as_deref(),
        "ws": config.ws,
        "sse": format!("/sse/{}", config.name),
        "events": format!("/api/feeds/{}/events", config.name),
        "history": config.history,
        "message": { "type": config.message_type, "body": config.message_body },
        "ingest": config.ingest,
    });
    if let (Some(changes), Some(described)) = (changes, described.as_object_mut()) {
        let filters = schema.as_ref().map(|schema| schema.filterable());
        described.insert("kind".to_owned(), json!(FeedKind::Changes));
        described.insert("key_columns".to_owned(), json!(changes.key));
        described.insert("filters".to_owned(), json!(filters));
    }
    described
}

/// The lowest id there is; null for none, and where it can't be read (the status says so).
async fn earliest(app: &App, read_owner: &ReadOwner, feed: &Arc<Feed>) -> Option<Cursor> {
    let of = Arc::clone(feed);
    let step = move |reader: &mut PooledReader| {
        reader.with_feed(&of, |open| match open {
            Some((connection, rows)) => rows.schema.table.min_key(connection).map(Some),
            None => Ok(Some(None)),
        })
    };
    let read = app.catchup.pool.run(read_owner, Work::Quick, step);
    read.await.ok().flatten().map(Cursor)
}
