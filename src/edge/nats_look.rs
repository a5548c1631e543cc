//! What an edge would find at its NATS servers, for whoever wants to know before it is started.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::push::Config as ConsumerConfig;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, Stream};
use futures_util::TryStreamExt as _;

use super::nats_feeder::described;
use crate::publish::{
    Connection, Link, Names, PreparedServers, ServerFindings, StreamFinding, connect, is_ours,
    root, server, unanswered,
};
use crate::sqlite::error::OUT_OF_REACH;

/// How long a server keeps a consumer that was made to see whether one may be.
const TRIED: Duration = Duration::from_secs(1);

/// Connects, and looks at the streams whose names begin with `prefix`, as an edge would that has an upstream beside them or
/// not: no message is published or removed.
///
/// # Errors
/// No server is reached, or it does not tell of streams; in words, with the remedy.
pub(super) async fn look(
    servers: &Arc<PreparedServers>,
    prefix: &str,
    has_upstream: bool,
) -> Result<ServerFindings, String> {
    let (connection, _lost) = connect(servers).await?;
    let server = server(&connection).await?;
    let names: Result<Vec<String>, _> = connection.jetstream.stream_names().try_collect().await;
    let names = names.map_err(|error| unanswered(&connection, &root(&error)))?;
    let begins = format!("{prefix}_");
    let feeds = names.iter().filter_map(|name| name.strip_prefix(&begins));
    let mut streams = Vec::new();
    for feed in feeds {
        let found = look_at(&connection, &Names::of(prefix, feed), has_upstream).await;
        let lacks_a_right = connection.violation().is_some();
        let finding = found.map_or_else(StreamFinding::Unfit, StreamFinding::Ours);
        streams.push((feed.to_owned(), finding));
        if lacks_a_right {
            // It is said once, not after a wait for each stream.
            break;
        }
    }
    Ok(ServerFindings { server, streams })
}

/// How a stream is, if an edge can read it; else why not.
async fn look_at(
    connection: &Connection,
    names: &Names,
    has_upstream: bool,
) -> Result<String, String> {
    let unread = |error: &(dyn std::error::Error + 'static)| unanswered(connection, &root(error));
    let stream = connection.jetstream.get_stream(&names.stream).await;
    let stream = stream.map_err(|error| unread(&error))?;
    let info = stream.cached_info();
    if !is_ours(&info.config, names) {
        return Err("is not one that walcast made: nothing in it is served".to_owned());
    }
    let last = stream.get_last_raw_message_by_subject(&names.subject).await;
    let last = match last {
        Ok(message) => Link::of(&message.headers).map(|link| (link, message.sequence)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => None,
        Err(error) => return Err(unread(&error)),
    };
    let of_changes = match &last {
        Some((link, sequence)) => is_of_changes(&stream, link, *sequence).await,
        None => false,
    };
    try_reading(connection, &stream, names).await?;
    let reaches = match last {
        Some((link, _)) => format!(", up to id {}", link.last),
        None => String::new(),
    };
    let changes = match (of_changes, has_upstream) {
        (true, false) => return Err(OUT_OF_REACH.to_owned()),
        (true, true) => "; of changes, the table as it is comes from edge.upstream",
        (false, _) => "",
    };
    Ok(format!(
        "can be read: {} messages, {} bytes{reaches}{changes}",
        info.state.messages, info.state.bytes
    ))
}

/// Returns whether what a link is of is the changes of a table. It is said in the first of its parts.
async fn is_of_changes(stream: &Stream<Info>, link: &Link, sequence: u64) -> bool {
    let first = sequence.saturating_sub(u64::from(link.part.number - 1));
    // One that is not there says nothing.
    let Ok(message) = stream.get_raw_message(first).await else {
        return false;
    };
    described(&message.payload).is_ok_and(|(_, table, _)| table.changes.is_some())
}

/// Does what reading the stream takes.
async fn try_reading(
    connection: &Connection,
    stream: &Stream<Info>,
    names: &Names,
) -> Result<(), String> {
    let unread = |error: &(dyn std::error::Error + 'static)| unanswered(connection, &root(error));
    let standings = connection.client.subscribe(names.standing.clone()).await;
    let _standings = standings.map_err(|error| unread(&error))?;
    let consumer = stream.create_consumer(ConsumerConfig {
        deliver_subject: connection.client.new_inbox(),
        deliver_policy: DeliverPolicy::New,
        inactive_threshold: TRIED,
        ..ConsumerConfig::default()
    });
    let consumer = consumer.await.map_err(|error| unread(&error))?;
    let name = &consumer.cached_info().name;
    let deleted = stream.delete_consumer(name).await;
    deleted.map_err(|error| unread(&error))?;
    // What the server says of the subscription has come by now.
    match connection.violation() {
        Some(_) => Err(unanswered(connection, "")),
        None => Ok(()),
    }
}
