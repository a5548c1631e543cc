//! The connection to the NATS servers: made, and made again, with pauses, for as long as the daemon runs.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::chain::MOST_MESSAGES;
use super::servers::PreparedServers;
use crate::sinks::Pauses;

/// How long a connection may take to be made, TLS and credentials included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// How often a server is asked whether it is there: one that is frozen is given up after two questions.
const PING: Duration = Duration::from_secs(5);
/// Commands that wait for the socket at most: what is in flight, with some more for requests.
const COMMANDS: usize = 2 * MOST_MESSAGES;

/// Messages of a subscription that wait for their reader, at most: 32 MiB of a stream. A server that sends more is told to
/// begin again.
const MESSAGES: usize = 512;

/// A connection that was made.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    violation: Arc<Mutex<Option<String>>>,
}

impl Connection {
    /// Returns what the server has last said that the credentials may not do.
    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.lock().clone()
    }

    /// What was tried last can be done without.
    pub(super) fn forgive_violation(&self) {
        *self.violation.lock() = None;
    }
}

/// How it stands with the servers.
#[derive(Clone)]
pub(super) enum Reach {
    Connected(Arc<Connection>),
    /// Not connected, for this reason.
    Away(Arc<str>),
}

/// What hears of it.
pub(super) type Reaches = watch::Receiver<Reach>;

/// Keeps connected until nobody listens any more.
pub(super) async fn keep_connected(servers: Arc<PreparedServers>, reaches: watch::Sender<Reach>) {
    let mut pauses = Pauses::default();
    let mut told: Option<String> = None;
    while !reaches.is_closed() {
        let ended = match connect(&servers).await {
            Ok((connection, lost)) => {
                let info = connection.client.server_info();
                tracing::info!(
                    "publish: connected to the NATS server {} (version {})",
                    info.server_name,
                    info.version
                );
                told = None;
                pauses.reset();
                reaches.send_replace(Reach::Connected(Arc::new(connection)));
                lost_or_unwanted(lost, &reaches).await;
                "the connection to the NATS server was lost".to_owned()
            }
            Err(error) => error,
        };
        if reaches.is_closed() {
            return;
        }
        if told.as_ref() != Some(&ended) {
            tracing::warn!(
                "publish: {ended}; it is tried again until it works, and clients are served as ever"
            );
            told = Some(ended.clone());
        }
        reaches.send_replace(Reach::Away(ended.into()));
        let pause = pauses.after_failure(None);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = reaches.closed() => return,
        }
    }
}

/// Resolves when the connection is lost, or nobody wants it any more.
async fn lost_or_unwanted(mut lost: watch::Receiver<bool>, reaches: &watch::Sender<Reach>) {
    tokio::select! {
        // Without its sender the connection has ended, too.
        _ = lost.wait_for(|lost| *lost) => {}
        () = reaches.closed() => {}
    }
}

/// Connects once; the receiver turns true when the connection is lost.
pub(crate) async fn connect(
    servers: &Arc<PreparedServers>,
) -> Result<(Connection, watch::Receiver<bool>), String> {
    let (lost, hears) = watch::channel(false);
    let credentials = servers.credentials().await;
    let mut options = ConnectOptions::new();
    if let Some(credentials) = &credentials {
        options = credentials.apply(options);
    }
    let named = &servers.named;
    if let Some(path) = &named.authorities {
        options = options.add_root_certificates(path.clone());
    }
    let demands_tls =
        named.authorities.is_some() || named.servers.iter().any(|server| server.demands_tls());
    let lost = Arc::new(lost);
    let violation = Arc::<Mutex<Option<String>>>::default();
    let violations = Arc::clone(&violation);
    let options = options
        .name("walcast")
        .require_tls(demands_tls)
        .connection_timeout(CONNECT)
        .request_timeout(Some(ANSWER))
        .ping_interval(PING)
        .client_capacity(COMMANDS)
        .subscription_capacity(MESSAGES)
        // Each server once: what is lost is given up, and the next connection begins with nothing of it.
        .max_reconnects(named.servers.len())
        .event_callback(move |event| {
            match event {
                Event::Disconnected | Event::Closed => _ = lost.send_replace(true),
                Event::ServerError(ServerError::Other(said))
                    if said.to_lowercase().contains("permissions violation") =>
                {
                    *violations.lock() = Some(said);
                }
                _ => {}
            }
            std::future::ready(())
        });
    let addresses = named.servers.iter();
    let addresses: Vec<ServerAddr> = addresses
        .filter_map(|server| server.to_string().parse().ok())
        .collect();
    let client = options.connect(addresses).await;
    let client = client.map_err(|error| why(servers, &error))?;
    if client.connection_state() != State::Connected {
        return Err("the connection to the NATS server was lost".to_owned());
    }
    let jetstream = jetstream::context::ContextBuilder::new()
        .timeout(ANSWER)
        .ack_timeout(ANSWER)
        .max_ack_inflight(MOST_MESSAGES)
        .backpressure_on_inflight(true)
        .build(client.clone());
    let connection = Connection {
        client,
        jetstream,
        violation,
    };
    Ok((connection, hears))
}

/// Why there is no connection, and what can be done.
fn why(servers: &PreparedServers, error: &ConnectError) -> String {
    let (shown, named) = (servers.shown(), &servers.named);
    let table = named.table;
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            match &named.credentials {
                Some(path) => format!(
                    "{shown}: the server refuses the credentials of {}; put good ones there",
                    path.display()
                ),
                None => format!(
                    "{shown}: the server wants credentials; name a file of them with {table}.credentials"
                ),
            }
        }
        ConnectErrorKind::Tls => format!(
            "{shown}: TLS failed ({}); where the server's certificate is of an authority of your own, name it with {table}.{}",
            root(error),
            named.authorities_key
        ),
        _ => format!("{shown}: no connection ({})", root(error)),
    }
}

/// What lies at the bottom of an error.
pub(crate) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
