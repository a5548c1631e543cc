//! History: rows newest first, by feed name or by the alias paths of the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use warp::Rejection;
use warp::http::{HeaderValue, StatusCode, header};
use warp::path::FullPath;
use warp::reply::{Reply, Response};

use crate::catchup::reader_pool::{PooledReader, Work};
use crate::http::entry::scope_of;
use crate::http::error::{HttpError, json_response};
use crate::http::gzip::{gzip_from, varies_by_encoding};
use crate::http::held_answers::Held;
use crate::http::history_limits::Full;
use crate::http::params;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::hub::Feed;
use crate::model::filter::Filter;
use crate::model::position::{Cursor, Epoch};
use crate::model::read_owner::ReadOwner;
use crate::sqlite::error::Unavailable;
use crate::sqlite::reader::{
    HistoryPage, HistoryQuery, HistoryRead, Progress, TOTAL_CAP, index_for,
};
use crate::sqlite::table::Schema;

/// In a table of so few ids a filter is looked for as quickly as a page is read without one.
const FEW_IDS: i64 = 4096;

/// The feed whose history is served at this path.
pub(super) async fn alias_of(path: FullPath, app: Arc<App>) -> Result<Arc<Feed>, Rejection> {
    app.feed_at_history(path.as_str())
        .ok_or_else(warp::reject::not_found)
}

/// `GET /api/feeds/<feed>/events`
pub(super) async fn of_feed(name: String, raw: String, peer: Peer, app: Arc<App>) -> Response {
    match app.feed(&name, &peer.grant) {
        Ok(feed) => read(feed, raw, peer, app).await,
        Err(error) => error.into_response(),
    }
}

pub(super) async fn read(feed: Arc<Feed>, raw: String, peer: Peer, app: Arc<App>) -> Response {
    match answer(&feed, &raw, &peer, &app).await {
        Ok(body) => in_best_form(body, &feed, &peer, &app).await,
        Err(error) => error.into_response(),
    }
}

/// The answer with this body, compressed where the client takes it so and that is worth it.
async fn in_best_form(body: Bytes, feed: &Feed, peer: &Peer, app: &App) -> Response {
    let compressed = match gzip_from(app, feed, peer) {
        Some(smallest) if body.len() >= smallest => compressed(&body, app).await,
        _ => None,
    };
    let mut response = match compressed {
        Some(compressed) => {
            let mut response = json_response(StatusCode::OK, compressed);
            let gzip = HeaderValue::from_static("gzip");
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, gzip);
            response
        }
        None => json_response(StatusCode::OK, body),
    };
    varies_by_encoding(&mut response);
    response
}

/// The body compressed, and held in its place; `None` where there is no room or no time for that.
async fn compressed(body: &Bytes, app: &App) -> Option<Bytes> {
    let compressed = app.gzip.answer(body).await?;
    let mut held = app.answers.begin();
    if !held.grow(compressed.len()) {
        return None;
    }
    app.gzip.saved(body.len() - compressed.len());
    Some(held.of(compressed))
}

async fn answer(feed: &Arc<Feed>, raw: &str, peer: &Peer, app: &App) -> Result<Bytes, HttpError> {
    let mut query = params::history(raw, feed.schema().as_deref())?;
    query.filter = query.filter.within(scope_of(app, feed, &peer.grant)?);
    let refused = |reason| app.metrics.histories_refused.with_label_values(&[reason]);
    let work = work_of(feed, &query);
    let _place = app.history_queue.enter(peer.client, work).map_err(|full| {
        refused("waiting").inc();
        HttpError::at_capacity(match full {
            Full::All => "as many requests for history wait as may wait (`history.waiting`)",
            Full::Client => {
                "as many requests of this client wait as may wait (`history.waiting_per_client`)"
            }
        })
    })?;
    // So that `head` is not below the rows that are shown.
    app.hub.caught_up().await;
    let standing = feed.standing();
    // Goes with this future, which hyper drops when the client leaves.
    let read_owner = ReadOwner::new(peer.client);
    let read = read_page(feed, (query, work), &read_owner, app);
    let (found, held) = tokio::select! {
        read = read => read?,
        () = peer.timeouts.client_is_gone() => return Err(HttpError::unavailable("the client is gone")),
    };
    let page = match found {
        HistoryOutcome::Page(page) => page,
        HistoryOutcome::FilterGone => {
            return Err(HttpError::bad_parameter("a column of the filter is gone"));
        }
        HistoryOutcome::NoRoom => {
            refused("answers").inc();
            return Err(HttpError::at_capacity(
                "answers that other clients have not taken yet leave no room for this one (`history.answers`); \
                 ask again later, or for fewer rows",
            ));
        }
        HistoryOutcome::Nothing { advice } => {
            refused("time").inc();
            return Err(HttpError::search_too_long(advice));
        }
    };
    if feed.standing().generation != standing.generation {
        return Err(HttpError::unavailable(
            "the history was replaced while it was read",
        ));
    }
    let head = standing.head.max(newest(feed, &page));
    Ok(held.of(json(page, head, standing.epoch)))
}

/// What a request for history ended with.
enum HistoryOutcome {
    Page(HistoryPage),
    FilterGone,
    NoRoom,
    /// No rows were found in time, for this reason.
    Nothing {
        advice: String,
    },
}

/// How much reading a page is expected to take.
fn work_of(feed: &Feed, query: &HistoryQuery) -> Work {
    match query.filter.is_empty() || feed.head().0 <= FEW_IDS {
        true => Work::Quick,
        false => Work::Search,
    }
}

/// Reads a page in steps, with others in between; waits for its turn and searches no longer than it may.
async fn read_page(
    feed: &Arc<Feed>,
    (query, work): (HistoryQuery, Work),
    read_owner: &ReadOwner,
    app: &App,
) -> Result<(HistoryOutcome, Held), HttpError> {
    let begun = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begun);
    let mut reading = RunningHistory {
        feed: Arc::clone(feed),
        time: app.history_time,
        began: None,
        schema: None,
        read: HistoryRead::new(query),
        held: Some(app.answers.begin()),
    };
    let read = app.catchup.pool.run(read_owner, work, move |reader| {
        begins.store(true, Ordering::Relaxed);
        reading.step(reader)
    });
    let mut read = std::pin::pin!(read);
    let waited = tokio::time::timeout(app.history_wait, read.as_mut()).await;
    let read = match waited {
        Ok(read) => read,
        Err(_) if begun.load(Ordering::Relaxed) => read.await,
        Err(_) => {
            let refused = &app.metrics.histories_refused;
            refused.with_label_values(&["waiting"]).inc();
            return Err(HttpError::at_capacity(
                "other reads take all the time there is (`history.wait`)",
            ));
        }
    };
    read.map_err(|reason| HttpError::unavailable(reason.public_message()))
}

/// A request for history that is being read, step by step.
struct RunningHistory {
    feed: Arc<Feed>,
    /// How long it may take.
    time: Duration,
    began: Option<Instant>,
    /// Version of the schema under which the page was begun.
    schema: Option<i64>,
    read: HistoryRead,
    /// Taken away by the last step.
    held: Option<Held>,
}

impl RunningHistory {
    /// `None`: another step is needed.
    fn step(
        &mut self,
        reader: &mut PooledReader,
    ) -> Result<Option<(HistoryOutcome, Held)>, Unavailable> {
        let RunningHistory {
            feed,
            time,
            began,
            schema,
            read,
            held,
        } = self;
        let Some(room) = held else {
            return Ok(None);
        };
        let late = began.get_or_insert_with(Instant::now).elapsed() >= *time;
        let found = reader.with_feed(feed, |open| {
            let Some((connection, rows)) = open else {
                return Ok(Some(HistoryOutcome::Page(HistoryPage::default())));
            };
            if late {
                let advice = advice(&rows.schema, read.filter());
                return Ok(Some(HistoryOutcome::Nothing { advice }));
            }
            if schema.replace(rows.schema.version) != Some(rows.schema.version) {
                // What was read under another schema is not of the same shape.
                read.start_over();
                room.clear();
            }
            let progress = read.step(connection, rows, &mut |bytes| room.grow(bytes))?;
            Ok(match progress {
                Progress::More => None,
                Progress::Done => Some(HistoryOutcome::Page(read.take())),
                Progress::NoRoom => Some(HistoryOutcome::NoRoom),
                Progress::FilterGone => Some(HistoryOutcome::FilterGone),
            })
        })?;
        Ok(found.and_then(|found| Some((found, held.take()?))))
    }
}

/// What kept the rows from being found in time, and what helps.
fn advice(schema: &Schema, filter: &Filter) -> String {
    const FEWER: &str = "ask for fewer ids with before= and after=";
    const LATE: &str = "took too long (`history.time`)";
    if filter.is_empty() {
        return format!(
            "reading {LATE}: the machine or its disk is busy; ask again later, or for fewer rows"
        );
    }
    if schema.changes.is_some() {
        return format!("so many changes are kept that looking through them {LATE}; {FEWER}");
    }
    let index = match filter.scope().is_everything() {
        true => index_for(&schema.table.name, filter),
        // By which columns callers are kept to their own rows is not theirs to know.
        false => "the operator makes one that begins with the columns of the scope".to_owned(),
    };
    format!(
        "no index answers this filter, and looking for its rows {LATE}; either {index}, or {FEWER}"
    )
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

/// The fields of the answer beside `items`.
#[derive(Serialize)]
struct Beside {
    total: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    total_is_capped: bool,
    head: Cursor,
    epoch: Epoch,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    truncated: HashMap<String, Vec<String>>,
}

/// The answer. Items are let go of as they are put into it, so that they are not held twice.
fn json(page: HistoryPage, head: Cursor, epoch: Epoch) -> Vec<u8> {
    let beside = Beside {
        total: page.total.min(TOTAL_CAP),
        total_is_capped: page.total > TOTAL_CAP,
        head,
        epoch,
        truncated: page.truncated.into_iter().collect(),
    };
    // Strings and numbers: nothing in it can fail to serialise.
    let beside = serde_json::to_vec(&beside).unwrap_or_default();
    let items: usize = page.items.iter().map(|item| item.get().len() + 1).sum();
    let mut json = Vec::with_capacity(items + beside.len() + 16);
    json.extend_from_slice(b"{\"items\":[");
    for (index, item) in page.items.into_iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(item.get().as_bytes());
    }
    json.extend_from_slice(b"],");
    json.extend_from_slice(beside.get(1..).unwrap_or_default());
    json
}
