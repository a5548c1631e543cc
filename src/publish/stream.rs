//! The stream of a feed: made where it is missing, told apart from what others made, and where it ends.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, LastRawMessageError, LastRawMessageErrorKind, RetentionPolicy,
    State, StorageType, Stream,
};
use async_nats::jetstream::{Error as JetStreamError, ErrorCode};

use super::broker::{Connection, root};
use super::link::Link;
use crate::config::PublishRules;

/// What the descriptions of walcast's streams begin with.
const OURS: &str = "walcast: ";
/// A repeat is refused by the chain. The server's own memory of repeats would swallow a message that was deleted and is sent
/// again, so it is as short as a server lets it be.
const REPEATS: Duration = Duration::from_millis(100);
/// Messages at its end that may have been deleted, and it is still found where the stream ends.
const LOOK_BACK: u64 = 256;
/// The error of a server that is alone and is asked for several replicas.
const NO_CLUSTER: u64 = 10_074;
/// The error of a stream whose subjects are also another's.
const SUBJECTS_OVERLAP: u64 = 10_065;

/// The names of a feed at the servers.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) stream: String,
    /// Of what the stream holds.
    pub(crate) subject: String,
    /// On which the publisher says where it stands; no stream keeps that.
    pub(crate) standing: String,
}

impl Names {
    pub(crate) fn of(prefix: &str, feed: &str) -> Names {
        Names {
            stream: format!("{prefix}_{feed}"),
            subject: format!("{prefix}.{feed}"),
            standing: format!("{prefix}.{feed}.standing"),
        }
    }
}

/// Why a stream can't be published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble(pub(super) String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a stream ends.
#[derive(Debug)]
pub(super) struct End {
    /// The sequence number that was given last.
    pub(super) sequence: u64,
    /// The link that it holds last; `None`: it holds none.
    pub(super) link: Option<Link>,
}

/// The stream of a feed.
pub(super) struct FeedStream {
    pub(super) names: Names,
    stream: Stream<Info>,
}

impl FeedStream {
    /// Finds the stream, or makes it, and has it keep what `rules` say.
    pub(super) async fn open(
        connection: &Connection,
        rules: &PublishRules,
        feed: &str,
    ) -> Result<FeedStream, Trouble> {
        let names = Names::of(&rules.stream_prefix, feed);
        let found = match connection.jetstream.get_stream(&names.stream).await {
            Ok(stream) => Some(stream),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    None
                }
                GetStreamErrorKind::JetStream(error) => {
                    return Err(refused(&error, &names, rules));
                }
                _ => return Err(silent(connection, &root(&error))),
            },
        };
        let stream = match found {
            Some(stream) => adopted(connection, stream, &names, rules).await?,
            None => made(connection, &names, rules, feed).await?,
        };
        Ok(FeedStream { names, stream })
    }

    /// Returns where it ends.
    pub(super) async fn end(&mut self, connection: &Connection) -> Result<End, Trouble> {
        let info = self.stream.info().await;
        let info = info.map_err(|error| silent(connection, &root(&error)))?;
        let state = info.state.clone();
        let last = match state.messages {
            0 => None,
            _ => self.last(connection, &state).await?,
        };
        let link = last.map(|last| Link::of(&last.headers).ok_or_else(|| self.stranger()));
        Ok(End {
            sequence: state.last_sequence,
            link: link.transpose()?,
        })
    }

    /// The last message that it holds.
    async fn last(
        &self,
        connection: &Connection,
        state: &State,
    ) -> Result<Option<StreamMessage>, Trouble> {
        let found = self
            .stream
            .get_last_raw_message_by_subject(&self.names.subject);
        if let Some(last) = held(connection, found.await)? {
            return Ok(Some(last));
        }
        // Where the last one was deleted, servers before 2.10 find none of the subject.
        let oldest = state
            .first_sequence
            .max(state.last_sequence.saturating_sub(LOOK_BACK));
        for sequence in (oldest..=state.last_sequence).rev() {
            if let Some(last) = held(connection, self.stream.get_raw_message(sequence).await)? {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    fn stranger(&self) -> Trouble {
        Trouble(format!(
            "the last message of the stream {0} was not published by walcast; find out who publishes to {1}, take that \
             right from them, and remove what they left: nats stream purge {0}",
            self.names.stream, self.names.subject
        ))
    }

    /// Removes what is older than the message of this sequence number.
    pub(super) async fn purge_below(&self, sequence: u64) -> Result<(), String> {
        let purged = self.stream.purge().sequence(sequence).await;
        purged.map(drop).map_err(|error| root(&error))
    }
}

/// A message, or none where the stream does not hold it.
fn held(
    connection: &Connection,
    found: Result<StreamMessage, LastRawMessageError>,
) -> Result<Option<StreamMessage>, Trouble> {
    match found {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            _ => Err(silent(connection, &root(&error))),
        },
    }
}

/// What a stream of walcast's is like.
fn wanted(names: &Names, rules: &PublishRules, feed: &str) -> Config {
    Config {
        name: names.stream.clone(),
        subjects: vec![names.subject.clone()],
        description: Some(format!("{OURS}the rows of the feed {feed}")),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        max_bytes: limit(rules.keep.bytes),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        max_age: rules.keep.age,
        num_replicas: rules.replicas,
        duplicate_window: REPEATS,
        ..Config::default()
    }
}

fn limit(bytes: u64) -> i64 {
    // The configuration takes no more.
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

async fn made(
    connection: &Connection,
    names: &Names,
    rules: &PublishRules,
    feed: &str,
) -> Result<Stream<Info>, Trouble> {
    let created = connection
        .jetstream
        .create_stream(wanted(names, rules, feed));
    match created.await {
        Ok(stream) => {
            tracing::info!(
                "publish: made the stream {} of {} replicas",
                names.stream,
                rules.replicas
            );
            Ok(stream)
        }
        Err(error) => Err(match error.kind() {
            CreateStreamErrorKind::JetStream(error) => refused(&error, names, rules),
            _ => silent(connection, &root(&error)),
        }),
    }
}

/// A stream of this name that is there: ours, and brought to keep what is wanted; or somebody else's, and left alone.
async fn adopted(
    connection: &Connection,
    mut stream: Stream<Info>,
    names: &Names,
    rules: &PublishRules,
) -> Result<Stream<Info>, Trouble> {
    let config = stream.cached_info().config.clone();
    if let Some(trouble) = not_ours(&config, names) {
        return Err(trouble);
    }
    let changed = Config {
        max_bytes: limit(rules.keep.bytes),
        max_age: rules.keep.age,
        num_replicas: rules.replicas,
        ..config.clone()
    };
    if changed == config {
        return Ok(stream);
    }
    let updated = connection.jetstream.update_stream(&changed).await;
    updated.map_err(|error| match error.kind() {
        CreateStreamErrorKind::JetStream(error) => refused(&error, names, rules),
        _ => silent(connection, &root(&error)),
    })?;
    tracing::info!(
        "publish: the stream {} keeps what the configuration says now",
        names.stream
    );
    let info = stream.info().await;
    info.map_err(|error| silent(connection, &root(&error)))?;
    Ok(stream)
}

/// Why a stream is not one of walcast's, and what can be done; `None`: it is.
pub(super) fn not_ours(config: &Config, names: &Names) -> Option<Trouble> {
    let described = config.description.as_deref().unwrap_or_default();
    let copies = config.mirror.is_some() || config.sources.is_some();
    let why = if !described.starts_with(OURS) {
        format!("its description does not begin with \"{OURS}\"")
    } else if config.subjects != [names.subject.as_str()] {
        format!("its subjects are {}", config.subjects.join(", "))
    } else if copies {
        "it takes its messages from other streams".to_owned()
    } else {
        return None;
    };
    Some(Trouble(format!(
        "the stream {0} is not one that walcast made: {why}. Nothing in it is touched. Publish under other names with \
         publish.stream_prefix, or, where nobody needs it, remove it: nats stream rm {0}",
        names.stream
    )))
}

/// What a server's refusal means, and what can be done.
pub(super) fn refused(error: &JetStreamError, names: &Names, rules: &PublishRules) -> Trouble {
    let said = error.to_string();
    let remedy = match error.error_code() {
        ErrorCode::JETSTREAM_NOT_ENABLED => JETSTREAM_OFF.to_owned(),
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            "enable JetStream for the account of the credentials".to_owned()
        }
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STREAM_LIMITS
        | ErrorCode::NO_LIMITS => format!(
            "the stream {} may take {} bytes on each of {} servers; lower publish.keep.bytes, or give JetStream more room \
             (max_file_store, or the limits of the account)",
            names.stream, rules.keep.bytes, rules.replicas
        ),
        ErrorCode::MAXIMUM_STREAMS_LIMIT => "raise the account's limit of streams".to_owned(),
        code if code.0 == NO_CLUSTER => format!(
            "the server is alone: set publish.replicas = 1, or name the servers of a cluster of {}",
            rules.replicas
        ),
        code if code.0 == SUBJECTS_OVERLAP => format!(
            "another stream takes messages of {}: find it with `nats stream ls --subject {}`, or choose another \
             publish.stream_prefix",
            names.subject, names.subject
        ),
        _ => {
            return Trouble(format!(
                "the stream {}: the NATS server refuses: {said}",
                names.stream
            ));
        }
    };
    Trouble(format!("the NATS server refuses: {said}; {remedy}"))
}

pub(super) const JETSTREAM_OFF: &str =
    "enable JetStream (jetstream { store_dir = … } in the server's configuration, or its flag -js)";

/// A request that had no answer: for want of a right, as far as the server has said so, of JetStream, or of the server.
pub(super) fn silent(connection: &Connection, said: &str) -> Trouble {
    if let Some(violation) = connection.violation() {
        return Trouble(format!(
            "the credentials lack a right: {violation}; docs/nats.md lists those that walcast needs"
        ));
    }
    Trouble(
        match said.contains("resource does not exist") || said.contains("no responders") {
            true => format!("the NATS server has no JetStream; {JETSTREAM_OFF}"),
            false => format!("the NATS server does not answer ({said})"),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            stream: "walcast_orders".to_owned(),
            subject: "walcast.orders".to_owned(),
            standing: "walcast.orders.standing".to_owned(),
        }
    }

    #[test]
    fn only_what_walcast_made_is_its_own() {
        let ours = Config {
            description: Some("walcast: the rows of the feed orders".to_owned()),
            subjects: vec!["walcast.orders".to_owned()],
            ..Config::default()
        };
        assert_eq!(not_ours(&ours, &names()), None);
        let others = [
            Config {
                description: None,
                ..ours.clone()
            },
            Config {
                subjects: vec!["walcast.>".to_owned()],
                ..ours.clone()
            },
            Config {
                sources: Some(vec![]),
                ..ours.clone()
            },
        ];
        for config in others {
            assert!(not_ours(&config, &names()).is_some(), "{config:?}");
        }
    }
}
