//! The daemon that an edge has its feeds from: asked for the list of them, and for a WebSocket of each.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize;
use tungstenite::WebSocket;

use crate::cli::ClientToken;
use crate::config::EdgeRules;
use crate::net::feed_socket::{ConnectError, connect, request};
use crate::net::http_question::{Answer, converse};
use crate::net::remote_daemon::{DaemonStream, RemoteDaemon, Unreachable};
use crate::sqlite::spool::SpoolPosition;
use crate::wire::EDGE_SUBPROTOCOL;
use crate::wire::id::Id;

/// How long the origin may take to accept, and to answer what is asked beside its feeds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a feed of changes is listed as.
const CHANGES: &str = "changes";

/// The origin, and what it is asked with.
#[derive(Clone)]
pub(super) struct Origin {
    daemon: RemoteDaemon,
    token: ClientToken,
}

/// A feed as the origin lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Listed {
    pub name: String,
    pub table: String,
    #[serde(default)]
    pub kind: Option<String>,
    pub epoch: String,
    pub head: Id,
    pub ws: Vec<String>,
}

#[derive(Deserialize)]
struct List {
    feeds: Vec<Listed>,
}

impl Listed {
    /// Why an edge can't serve it, whatever it is granted; `None` where it can.
    pub(super) fn unfit(&self) -> Option<String> {
        match (self.kind.as_deref(), self.ws.first()) {
            (Some(kind), _) if kind != CHANGES => Some(format!(
                "it is one of {kind}, which this version does not know"
            )),
            (_, None) => Some("it has no WebSocket".to_owned()),
            (_, Some(_)) => None,
        }
    }
}

impl Origin {
    /// The origin that is configured. Blocks: over TLS it reads the certificates of the authorities.
    ///
    /// # Errors
    /// None is, or it can't be asked, whoever answers there.
    pub(super) fn of(rules: &EdgeRules) -> anyhow::Result<Origin> {
        let Some(url) = &rules.upstream else {
            bail!("no edge.upstream is configured");
        };
        // Beside streams the file may be there for their servers alone.
        let is_for_it = url.is_tls() || rules.nats.is_empty();
        let daemon = RemoteDaemon::new(url, rules.ca.as_deref().filter(|_| is_for_it));
        Ok(Origin {
            daemon: daemon.map_err(|e| anyhow!("edge.upstream = {url}: {e}"))?,
            token: ClientToken::in_file(rules.token_file.clone()),
        })
    }

    /// The token as it is now; `None` where there is none.
    pub(super) fn token(&self) -> anyhow::Result<Option<String>> {
        self.token.read()
    }

    /// For people: where it is.
    pub(super) fn shown(&self) -> String {
        self.daemon.url().to_string()
    }

    /// Asks which feeds there are. Blocks.
    ///
    /// # Errors
    /// It does not answer, refuses, or is no walcast; in words for the log.
    pub(super) fn feeds(&self) -> anyhow::Result<Vec<Listed>> {
        let url = self.daemon.url();
        let token = self.token()?;
        let path = format!("{}/api/feeds", url.path());
        let answer = self
            .daemon
            .connect(PATIENCE)
            .and_then(|stream| Ok(converse(stream, &url.authority(), &path, token.as_deref())?));
        let answer = answer.map_err(|e| match e {
            Unreachable::Io(e) => anyhow::Error::new(e).context(format!("{url} does not answer")),
            Unreachable::Tls(_) => anyhow!("{url}: {e}"),
        })?;
        let Some(Answer { status, line, body }) = Answer::parse(&answer) else {
            bail!("{url} answers what is not HTTP");
        };
        if status != 200 {
            let said = body["error"]["message"].as_str().unwrap_or("nothing more");
            bail!("{url} answers {line}: {said}");
        }
        let list: List = serde_json::from_value(body)
            .with_context(|| format!("what answers at {url} is no walcast of this kind"))?;
        Ok(list.feeds)
    }

    /// Why a feed can't be had; `None` where it can. Blocks.
    pub(super) fn try_feed(&self, feed: &Listed) -> Option<String> {
        match self.subscribe(feed.ws.first()?, None) {
            Ok(_) => None,
            Err(ConnectError::Unreachable(e)) => Some(e.to_string()),
            Err(ConnectError::Later { why, .. } | ConnectError::Refused { why, .. }) => Some(why),
        }
    }

    /// Subscribes to a feed from where the spool has it, for its rows whole. Blocks.
    pub(super) fn subscribe(
        &self,
        path: &str,
        position: Option<&SpoolPosition>,
    ) -> Result<WebSocket<DaemonStream>, ConnectError> {
        let from = match position {
            // Ids below zero can't be asked for; what comes again is taken in again.
            Some(SpoolPosition {
                epoch,
                id: Some(id @ 1..),
                ..
            }) => {
                // An epoch is made of letters, digits and hyphens.
                format!("since={id}&epoch={epoch}")
            }
            _ => "since=earliest".to_owned(),
        };
        let shown = format!("{}{path}", self.shown());
        let token = self.token().map_err(|e| ConnectError::Later {
            why: format!("{e:#}"),
            after: None,
        })?;
        let url = format!("{shown}?{from}");
        connect(
            &self.daemon,
            request(&url, token.as_deref(), Some(EDGE_SUBPROTOCOL))?,
            &shown,
        )
    }
}
