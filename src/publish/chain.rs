//! Links on their way to a stream: sent one after the other without waiting for each answer, a bounded number of them, and
//! each refused by the server unless it follows the one before.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;

use super::broker::root;
use super::link::{Expected, Link};

/// Messages that are not answered yet, at most: enough to keep a server busy over a link of some milliseconds.
pub(super) const MOST_MESSAGES: usize = 256;
/// Bytes of them, at most.
const MOST_BYTES: usize = 8 << 20;

type Answer = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

/// The end of a stream, as far as this process has made it.
pub(super) struct Chain {
    jetstream: Context,
    subject: String,
    /// What the next link is to follow.
    expected: Expected,
    sent: VecDeque<Sent>,
    bytes: usize,
}

struct Sent {
    answer: Answer,
    link: Link,
    rows: usize,
    bytes: usize,
}

/// A link that the server has stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) link: Link,
    pub(super) sequence: u64,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// Why the chain can't go on from where it is.
#[derive(Debug)]
pub(super) enum Broken {
    /// The stream ends elsewhere.
    Elsewhere(String),
    /// The server takes no message of this size.
    TooLarge(usize),
    /// The server did not answer, or not as it should.
    Failed(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Elsewhere(why) => write!(f, "the stream ends elsewhere ({why})"),
            Broken::TooLarge(bytes) => {
                write!(
                    f,
                    "the server takes no message of {bytes} bytes; raise its max_payload"
                )
            }
            Broken::Failed(why) => f.write_str(why),
        }
    }
}

impl Chain {
    /// A chain whose next link is the first after the stream's message of this sequence number.
    pub(super) fn after(jetstream: Context, subject: String, sequence: u64) -> Chain {
        Chain {
            jetstream,
            subject,
            expected: Expected::LastSequence(sequence),
            sent: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Returns whether nothing more may be sent until an answer has come.
    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= MOST_MESSAGES || self.bytes >= MOST_BYTES
    }

    /// Returns whether everything that was sent is stored.
    pub(super) fn is_settled(&self) -> bool {
        self.sent.is_empty()
    }

    /// Sends a link of so many rows.
    pub(super) async fn send(
        &mut self,
        link: Link,
        body: Bytes,
        rows: usize,
    ) -> Result<(), Broken> {
        let bytes = body.len();
        let message = PublishMessage::build()
            .payload(body)
            .headers(link.headers(&self.expected));
        let answer = self
            .jetstream
            .send_publish(self.subject.clone(), message)
            .await
            .map_err(|error| broken(&error, bytes))?;
        self.expected = Expected::LastId(link.id());
        self.bytes += bytes;
        self.sent.push_back(Sent {
            answer: answer.into_future(),
            link,
            rows,
            bytes,
        });
        Ok(())
    }

    /// Resolves when the oldest link that was sent is answered; never where there is none. May be dropped and asked for
    /// again.
    pub(super) async fn answered(&mut self) -> Result<Stored, Broken> {
        let Some(oldest) = self.sent.front_mut() else {
            return std::future::pending().await;
        };
        let answer = oldest.answer.as_mut().await;
        let bytes = oldest.bytes;
        let ack = answer.map_err(|error| broken(&error, bytes))?;
        if ack.duplicate {
            // The server knows the id, and has not stored the message: something that was there is gone.
            return Err(Broken::Elsewhere(format!(
                "{} was there before",
                oldest.link.id()
            )));
        }
        let Some(Sent { link, rows, .. }) = self.sent.pop_front() else {
            return std::future::pending().await;
        };
        self.bytes -= bytes;
        Ok(Stored {
            link,
            sequence: ack.sequence,
            rows,
            bytes,
        })
    }
}

fn broken(error: &PublishError, bytes: usize) -> Broken {
    match error.kind() {
        PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence => {
            Broken::Elsewhere(root(error))
        }
        PublishErrorKind::MaxPayloadExceeded => Broken::TooLarge(bytes),
        PublishErrorKind::TimedOut => {
            Broken::Failed("the NATS server does not answer in time".to_owned())
        }
        PublishErrorKind::StreamNotFound => Broken::Failed("the stream is gone".to_owned()),
        _ => Broken::Failed(format!(
            "the NATS server takes no messages: {}",
            root(error)
        )),
    }
}
