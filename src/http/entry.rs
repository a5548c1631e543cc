//! What comes before a subscription or a history begins: which rows it may have, whether there is a table to read, and what
//! was committed up to then.

use std::sync::Arc;

use crate::access::{AuthFailure, FeedGrant, Grant};
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::hub::{Absence, Cause, Feed, Presence, TooManyValues};
use crate::model::filter::{FilterColumn, Scope};
use crate::model::position::Cursor;
use crate::session::{Request, Session};
use crate::sqlite::highest_id;

/// The rows of a feed that a grant allows.
pub(super) fn scope_of(app: &App, feed: &Feed, grant: &Grant) -> Result<Scope, HttpError> {
    let name = &feed.config.name;
    match grant.feed(name) {
        Some(FeedGrant::Rows(scope)) => {
            let schema = feed.schema();
            let gone = |column: &&str| {
                let column = FilterColumn::Scope(column);
                schema
                    .as_ref()
                    .is_some_and(|schema| schema.place_of(column).is_none())
            };
            let missing = scope.columns().find(gone).map(str::to_owned);
            match missing {
                Some(column) => {
                    tracing::warn!(
                        feed = name,
                        credential = grant.name(),
                        "the grant compares the column {column:?}, which the feed does not have; where it is not shown, \
                         name it in `scope`"
                    );
                    Err(HttpError::unavailable(
                        "a column that tells whose rows are whose is not there; the daemon's log says which",
                    ))
                }
                None => Ok(scope),
            }
        }
        Some(FeedGrant::ClaimMissing(column)) => {
            let failure = AuthFailure::ClaimMissing(column);
            app.metrics.auth_failure(&failure);
            tracing::info!(
                reason = failure.code(),
                credential = grant.name(),
                "a credential was refused"
            );
            Err(failure.into())
        }
        // Taken away since the request came in.
        None => Err(HttpError::not_found("there is no such feed")),
    }
}

/// Refuses subscriptions of a table that can't be a feed as it is, naming the remedy. One that is only not there yet is
/// waited for.
pub(super) fn refuse_unfit(feed: &Feed) -> Result<(), HttpError> {
    match feed.presence() {
        Presence::Away(Absence {
            cause: Cause::Unfit | Cause::OutOfReach | Cause::Uncaptured,
            message,
        }) => Err(HttpError::unavailable(&*message)),
        _ => Ok(()),
    }
}

/// Waits until the feed loop has seen what was committed up to now. Where that takes too long, for it reads a huge
/// transaction or somebody holds the file: up to which id rows were committed, as far as can be told.
async fn committed_before(app: &App, feed: &Arc<Feed>) -> Option<Cursor> {
    if app.hub.caught_up().await {
        return None;
    }
    let schema = feed.schema()?;
    let path = app.catchup.pool.path().to_owned();
    let _turn = app.glimpses.acquire().await.ok()?;
    let read = tokio::task::spawn_blocking(move || highest_id::highest(&path, &schema.table));
    // A panic there has been logged; the feed's own head serves as well.
    read.await.ok().flatten().map(Cursor)
}

/// Enters a subscriber for whom all else is in order.
///
/// # Errors
/// The daemon shuts down, or there is no room for the filter.
pub(super) async fn enter(
    app: &App,
    feed: &Arc<Feed>,
    request: Request,
    peer: &Peer,
) -> Result<Session, HttpError> {
    if *app.draining.borrow() {
        return Err(HttpError::unavailable("the daemon is shutting down"));
    }
    // What was committed before this request is history to the subscriber, what comes after it is news. Both are
    // certain only when the feed loop has seen everything up to now.
    let committed = committed_before(app, feed).await;
    let session = Session::begin(feed, request).map_err(too_many_values)?;
    let grant = app.gate.asks().then(|| Arc::clone(&peer.grant));
    Ok(session
        .on_behalf_of(peer.client)
        .above(committed)
        .under(grant))
}

/// Refuses a filter for which there is no room.
fn too_many_values(error: TooManyValues) -> HttpError {
    HttpError::at_capacity(error.to_string())
}
