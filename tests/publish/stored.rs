//! What a stream holds, read by another client.

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::common::{PATIENCE, wait_until};
use crate::server::Server;
use crate::setup::STREAM;

/// A client of the server.
pub struct Client {
    runtime: Runtime,
    pub jetstream: Context,
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub sequence: u64,
    pub id: String,
    pub kind: String,
    pub epoch: String,
    pub prev: i64,
    pub first: i64,
    pub last: i64,
    /// `number/of`; empty for a message that is whole.
    pub part: String,
    pub body: Vec<u8>,
}

impl Message {
    /// Its lines: the description, then rows. A reset has the description alone.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).expect("a line is JSON"))
            .collect()
    }

    pub fn rows(&self) -> Vec<Value> {
        self.lines()
            .into_iter()
            .skip(1)
            .map(|line| line["row"].clone())
            .collect()
    }
}

impl Client {
    pub fn of(server: &Server) -> Client {
        Client::with(server, async_nats::ConnectOptions::new())
    }

    pub fn with(server: &Server, options: async_nats::ConnectOptions) -> Client {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let url = server.url();
        let client = runtime
            .block_on(options.connect(url))
            .expect("the server can be connected to");
        let within = runtime.enter();
        let jetstream = jetstream::new(client);
        drop(within);
        Client { runtime, jetstream }
    }

    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, work)
                .await
                .expect("the server answers in time")
        })
    }

    pub fn stream(&self, name: &str) -> Stream {
        self.run(self.jetstream.get_stream(name))
            .expect("the stream is there")
    }

    pub fn config(&self, name: &str) -> Config {
        self.stream(name).cached_info().config.clone()
    }

    pub fn delete_stream(&self, name: &str) {
        self.run(self.jetstream.delete_stream(name))
            .expect("a stream can be deleted");
    }

    pub fn delete_message(&self, name: &str, sequence: u64) {
        let stream = self.stream(name);
        self.run(stream.delete_message(sequence))
            .expect("a message can be deleted");
    }

    /// The server that leads a stream of a cluster.
    pub fn leader(&self, name: &str) -> Option<String> {
        let stream = self.run(self.jetstream.get_stream(name)).ok()?;
        stream.cached_info().cluster.as_ref()?.leader.clone()
    }

    /// The last message, with all its headers.
    pub fn newest(&self, name: &str) -> StreamMessage {
        let stream = self.stream(name);
        let sequence = stream.cached_info().state.last_sequence;
        let newest = self.run(async move { stream.get_raw_message(sequence).await });
        newest.expect("a stream has a last message")
    }

    /// Publishes as anybody could.
    pub fn publish(&self, subject: &str, headers: HeaderMap, payload: Bytes) {
        let published = self.run(async {
            let sent = self
                .jetstream
                .publish_with_headers(subject.to_owned(), headers, payload);
            sent.await.expect("a message can be sent").await
        });
        published.expect("a message is stored");
    }

    /// Says something on a subject that no stream keeps.
    pub fn say(&self, subject: &str, what: &Value) {
        self.run(async {
            let payload = Bytes::from(what.to_string());
            let client = self.jetstream.client();
            let said = client.publish(subject.to_owned(), payload).await;
            said.expect("something can be said");
            client.flush().await.expect("the server takes it");
        });
    }

    /// Waits until something was said so often on a subject.
    pub fn hear(&self, subject: &str, times: usize) {
        for _ in 0..times {
            self.run(async {
                let client = self.jetstream.client();
                let heard = client.subscribe(subject.to_owned()).await;
                let mut heard = heard.expect("a subject can be listened to");
                heard.next().await.expect("something is said");
            });
        }
    }

    /// Removes all messages but the last.
    pub fn purge_all_but_one(&self, name: &str) {
        let stream = self.stream(name);
        let purged = self.run(async move { stream.purge().keep(1).await });
        purged.expect("a stream can be purged");
    }

    pub fn make_stream(&self, config: Config) {
        self.run(self.jetstream.create_stream(config))
            .expect("a stream can be made");
    }

    /// All messages of a stream, oldest first; none where it is not there.
    pub fn messages(&self, name: &str) -> Vec<Message> {
        self.run(async {
            let Ok(stream) = self.jetstream.get_stream(name).await else {
                return vec![];
            };
            let state = stream.cached_info().state.clone();
            let mut found = vec![];
            for sequence in state.first_sequence..=state.last_sequence {
                if let Ok(message) = stream.get_raw_message(sequence).await {
                    found.push(read(&message));
                }
            }
            found
        })
    }

    /// Waits until the stream holds the row of this id, and gives all its messages.
    #[track_caller]
    pub fn wait_for_row(&self, name: &str, id: i64) -> Vec<Message> {
        let subject = name.replacen('_', ".", 1);
        wait_until(&format!("the stream {name} ends with row {id}"), || {
            self.run(async {
                let Ok(stream) = self.jetstream.get_stream(name).await else {
                    return false;
                };
                let last = stream.get_last_raw_message_by_subject(&subject).await;
                last.is_ok_and(|last| read(&last).last >= id)
            })
        });
        self.messages(name)
    }

    /// Waits until the stream of the stock feed ends with this row, and holds it to have all rows up to there.
    #[track_caller]
    pub fn expect_rows_to(&self, last: i64) {
        let held = ledger(&self.wait_for_row(STREAM, last));
        assert_eq!(held, (1..=last).collect::<Vec<i64>>());
    }
}

fn read(message: &StreamMessage) -> Message {
    let header = |name: &str| {
        let value = message
            .headers
            .get(name)
            .map(|value| value.as_str().to_owned());
        value.unwrap_or_default()
    };
    let number = |name: &str| header(name).parse().unwrap_or(i64::MIN);
    Message {
        sequence: message.sequence,
        id: header("Nats-Msg-Id"),
        kind: header("Walcast-Kind"),
        epoch: header("Walcast-Epoch"),
        prev: number("Walcast-Prev"),
        first: number("Walcast-First"),
        last: number("Walcast-Last"),
        part: header("Walcast-Part"),
        body: message.payload.to_vec(),
    }
}

/// What a reader of the stream holds who heeds its chain: the ids of rows in the newest history. Panics where a link does
/// not follow, or ids do not rise.
#[track_caller]
pub fn ledger(messages: &[Message]) -> Vec<i64> {
    let (mut ids, mut at) = (vec![], None::<(String, i64)>);
    for message in messages {
        match message.kind.as_str() {
            "reset" => ids.clear(),
            _ => {
                let (epoch, last) = at.expect("a stream begins with a reset");
                assert_eq!(
                    (&message.epoch, message.prev),
                    (&epoch, last),
                    "{message:?} follows {epoch}:{last}"
                );
            }
        }
        if matches!(message.kind.as_str(), "rows") && message.part.is_empty() {
            for row in message.rows() {
                let id = row[0].as_i64().expect("a row has an id");
                assert!(
                    ids.last().is_none_or(|before| *before < id),
                    "{id} came after {ids:?}"
                );
                assert!(
                    id > message.prev && id >= message.first && id <= message.last,
                    "{message:?}"
                );
                ids.push(id);
            }
        }
        assert_eq!(message.id, format!("{}:{}", message.epoch, message.last));
        at = Some((message.epoch.clone(), message.last));
    }
    ids
}
