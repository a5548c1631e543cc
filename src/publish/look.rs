//! What servers and streams are like, for whoever wants to know before anything is published.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{AccountErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::Config;

use super::PreparedPublish;
use super::broker::{Connection, connect, root};
use super::feed::LEAST_PAYLOAD;
use super::findings::{ServerFindings, StreamFinding};
use super::stream::{JETSTREAM_OFF, Names, not_ours, refused, silent};

/// Connects, and looks at the streams of these feeds. Nothing is made or changed.
///
/// # Errors
/// No server is reached, or none that could be published to; in words, with the remedy.
pub async fn look_at_servers(
    prepared: PreparedPublish,
    feeds: &[&str],
) -> Result<ServerFindings, String> {
    let (connection, _lost) = connect(&prepared.servers).await?;
    let info = connection.client.server_info();
    if info.max_payload < LEAST_PAYLOAD {
        return Err(too_small(info.max_payload));
    }
    let server = server(&connection).await?;
    let mut streams = Vec::with_capacity(feeds.len());
    for feed in feeds {
        streams.push((
            (*feed).to_owned(),
            look_at(&connection, &prepared, feed).await,
        ));
    }
    Ok(ServerFindings { server, streams })
}

/// Which server answers, and how it is.
///
/// # Errors
/// It has no JetStream; in words, with the remedy.
pub(crate) async fn server(connection: &Connection) -> Result<String, String> {
    let info = connection.client.server_info();
    let room = room(connection).await?;
    Ok(format!(
        "the NATS server {} (version {}) is reached, messages of {} bytes{room}",
        info.server_name, info.version, info.max_payload
    ))
}

/// Why a request had no answer, and what can be done.
pub(crate) fn unanswered(connection: &Connection, said: &str) -> String {
    silent(connection, said).0
}

/// Returns whether walcast made a stream of this configuration for a feed.
pub(crate) fn is_ours(config: &Config, names: &Names) -> bool {
    not_ours(config, names).is_none()
}

/// What is wrong with a server that takes messages of no more than so many bytes.
pub(super) fn too_small(bytes: usize) -> String {
    format!(
        "the NATS server takes messages of {bytes} bytes at most; raise max_payload in its configuration to \
         {LEAST_PAYLOAD} or more (1MB is its default)"
    )
}

/// How much JetStream has stored for the account, as far as its credentials may know.
async fn room(connection: &Connection) -> Result<String, String> {
    match connection.jetstream.query_account().await {
        Ok(account) => {
            let of = match account.limits.max_storage {
                Some(most) => format!(" of {most}"),
                None => String::new(),
            };
            Ok(format!(
                ", {} bytes{of} stored in {} streams",
                account.storage, account.streams
            ))
        }
        Err(error) => match error.kind() {
            AccountErrorKind::JetStreamUnavailable => {
                Err(format!("the NATS server has no JetStream; {JETSTREAM_OFF}"))
            }
            AccountErrorKind::JetStream(error) => Err(format!(
                "the NATS server refuses: {error}; enable JetStream for the account of the credentials"
            )),
            // That is no right that walcast needs.
            AccountErrorKind::TimedOut | AccountErrorKind::Other => {
                connection.forgive_violation();
                Ok(String::new())
            }
        },
    }
}

async fn look_at(connection: &Connection, prepared: &PreparedPublish, feed: &str) -> StreamFinding {
    let rules = &prepared.rules;
    let names = Names::of(&rules.stream_prefix, feed);
    let stream = match connection.jetstream.get_stream(&names.stream).await {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    StreamFinding::Missing
                }
                GetStreamErrorKind::JetStream(error) => {
                    StreamFinding::Unfit(refused(&error, &names, rules).0)
                }
                _ => StreamFinding::Unfit(silent(connection, &root(&error)).0),
            };
        }
    };
    let info = stream.cached_info();
    match not_ours(&info.config, &names) {
        Some(trouble) => StreamFinding::Unfit(trouble.0),
        None => StreamFinding::Ours(format!(
            "holds {} messages, {} bytes of {} kept on {} servers",
            info.state.messages, info.state.bytes, info.config.max_bytes, info.config.num_replicas
        )),
    }
}
