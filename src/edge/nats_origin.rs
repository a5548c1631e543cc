//! The NATS servers that an edge has its feeds from, and what publishers say there of where they stand.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::publish::{Connection, Names, PreparedServers, Standing, connect, root};

/// What was heard longer ago than this is no word of a publisher that is there.
const FRESH: Duration = Duration::from_secs(12);

/// The servers, and how feeds are called there.
#[derive(Clone)]
pub(super) struct NatsOrigin {
    servers: Arc<PreparedServers>,
    prefix: Arc<str>,
}

impl NatsOrigin {
    pub(super) fn new(servers: PreparedServers, prefix: &str) -> NatsOrigin {
        NatsOrigin {
            servers: Arc::new(servers),
            prefix: prefix.into(),
        }
    }

    /// For people: where they are.
    pub(super) fn shown(&self) -> String {
        self.servers.shown()
    }

    pub(super) fn names(&self, feed: &str) -> Names {
        Names::of(&self.prefix, feed)
    }

    /// Connects; the receiver turns true when the connection is lost.
    pub(super) async fn connect(&self) -> Result<(Connection, watch::Receiver<bool>), String> {
        connect(&self.servers).await
    }
}

/// Which feeds there are, and what their publishers say.
pub(super) struct NatsList {
    origin: NatsOrigin,
    connected: Option<(Connection, watch::Receiver<bool>)>,
    heard: Arc<Mutex<HashMap<String, (Standing, Instant)>>>,
    /// Feeds that had a stream at some time. A stream that is gone is made and filled again: no reason to end its feed.
    known: BTreeSet<String>,
}

/// A feed that has a stream.
pub(super) struct StreamedFeed {
    pub name: String,
    /// What its publisher said last, and when that was heard, where that is not long ago.
    pub standing: Option<(Standing, Instant)>,
}

impl NatsList {
    pub(super) fn new(origin: NatsOrigin) -> NatsList {
        NatsList {
            origin,
            connected: None,
            heard: Arc::default(),
            known: BTreeSet::new(),
        }
    }

    /// Asks which feeds have streams.
    pub(super) async fn feeds(&mut self) -> Result<Vec<StreamedFeed>, String> {
        let connection = self.connection().await?;
        let names = connection.jetstream.stream_names();
        let names: Result<Vec<String>, _> = names.try_collect().await;
        let names = names.map_err(|error| match connection.violation() {
            Some(violation) => format!("the credentials lack a right: {violation}"),
            None => format!(
                "{}: streams are not told: {}",
                self.origin.shown(),
                root(&error)
            ),
        })?;
        let prefix = format!("{}_", self.origin.prefix);
        let feeds = names.iter().filter_map(|name| name.strip_prefix(&prefix));
        self.known.extend(feeds.map(str::to_owned));
        let heard = self.heard.lock();
        let feed = |name: &String| StreamedFeed {
            name: name.clone(),
            standing: heard
                .get(name)
                .filter(|(_, at)| at.elapsed() < FRESH)
                .cloned(),
        };
        Ok(self.known.iter().map(feed).collect())
    }

    async fn connection(&mut self) -> Result<Connection, String> {
        if let Some((connection, lost)) = &self.connected
            && !*lost.borrow()
        {
            return Ok(connection.clone());
        }
        let (connection, lost) = self.origin.connect().await?;
        let subject = self.origin.names("*").standing;
        let said = connection.client.subscribe(subject).await;
        let mut said = said.map_err(|error| error.to_string())?;
        let heard = Arc::clone(&self.heard);
        let prefix = format!("{}.", self.origin.prefix);
        // It ends with the connection.
        tokio::spawn(async move {
            while let Some(message) = said.next().await {
                let feed = message
                    .subject
                    .strip_prefix(&prefix)
                    .and_then(|rest| rest.strip_suffix(".standing"));
                if let (Some(feed), Ok(standing)) = (feed, serde_json::from_slice(&message.payload))
                {
                    heard
                        .lock()
                        .insert(feed.to_owned(), (standing, Instant::now()));
                }
            }
        });
        self.connected = Some((connection.clone(), lost));
        Ok(connection)
    }
}
