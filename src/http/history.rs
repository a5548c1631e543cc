//! History: rows newest first, by feed name or by the alias paths of the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use warp::Rejection;
use warp::http::StatusCode;
use warp::path::FullPath;
use warp::reply::{Reply, Response};

use crate::change::{Cursor, Epoch};
use crate::http::error::{HttpError, json_response};
use crate::http::{App, feed_at, query};
use crate::hub::Feed;
use crate::sqlite::reader::{HistoryPage, TOTAL_CAP};

/// Reads of history that run at once. Further ones wait, so that large answers are not all made at the same time and
/// catch-up keeps threads to read with.
pub const CONCURRENT_READS: usize = 4;

/// The feed whose history is served at this path.
pub async fn alias_of(path: FullPath, app: Arc<App>) -> Result<Arc<Feed>, Rejection> {
    feed_at(&path, &app.paths.history)
}

/// `GET /api/feeds/<feed>/events`
pub async fn of_feed(name: String, raw: String, app: Arc<App>) -> Response {
    match app.feed(&name) {
        Ok(feed) => read(feed, raw, app).await,
        Err(error) => error.into_response(),
    }
}

pub async fn read(feed: Arc<Feed>, raw: String, app: Arc<App>) -> Response {
    match page(&feed, &raw, &app).await {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(error) => error.into_response(),
    }
}

async fn page(feed: &Arc<Feed>, raw: &str, app: &App) -> Result<String, HttpError> {
    let query = query::history(raw, feed.schema().as_deref())?;
    let turn = Arc::clone(&app.history_reads)
        .acquire_owned()
        .await
        .map_err(|_| HttpError::unavailable("the daemon is shutting down"))?;
    // So that `head` is not below the rows that are shown.
    app.hub.caught_up().await;
    let standing = feed.standing();
    let of = Arc::clone(feed);
    // Goes with this future, which hyper drops when the client leaves.
    let asking = Arc::new(());
    let asked = Arc::downgrade(&asking);
    let read = app.catchup.pool.run(move |reader| {
        // The read keeps its turn until it ends, however long its client stays.
        let _turn = turn;
        let cancelled = || asked.strong_count() == 0;
        reader.with_feed(&of, |open| match open {
            Some((connection, rows)) => rows.history(connection, &query, &cancelled),
            None => Ok(Some(HistoryPage::default())),
        })
    });
    let page = read
        .await
        .map_err(|reason| HttpError::unavailable(reason.to_string()))?;
    drop(asking);
    let page = page.ok_or_else(|| HttpError::bad_parameter("a column of the filter is gone"))?;
    if feed.standing().generation != standing.generation {
        return Err(HttpError::unavailable(
            "the history was replaced while it was read",
        ));
    }
    let head = standing.head.max(newest(feed, &page));
    Ok(Body::new(page, head, standing.epoch).json())
}

/// The highest id of a page. What was committed after the head was looked at may be in it already.
fn newest(feed: &Feed, page: &HistoryPage) -> Cursor {
    let id = || {
        let schema = feed.schema()?;
        let newest: HashMap<String, &RawValue> =
            serde_json::from_str(page.items.first()?.get()).ok()?;
        let id = newest.get(schema.table.key_name())?;
        id.get().trim_matches('"').parse().ok()
    };
    // A page without rows, or a key that is not shown: nothing contradicts the head.
    Cursor(id().unwrap_or(i64::MIN))
}

#[derive(Serialize)]
struct Body {
    items: Vec<Box<RawValue>>,
    total: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    total_is_capped: bool,
    head: Cursor,
    epoch: Epoch,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    truncated: HashMap<String, Vec<String>>,
}

impl Body {
    fn new(page: HistoryPage, head: Cursor, epoch: Epoch) -> Body {
        Body {
            items: page.items,
            total: page.total.min(TOTAL_CAP),
            total_is_capped: page.total > TOTAL_CAP,
            head,
            epoch,
            truncated: page.truncated.into_iter().collect(),
        }
    }

    fn json(&self) -> String {
        // Strings, numbers and JSON that is JSON already: nothing in it can fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}
