//! The daemon that an edge may ask for rows that are not to be had otherwise: that a stream has no more, or its spool.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tungstenite::WebSocket;

use super::origin::Origin;
use crate::net::feed_socket::ConnectError;
use crate::net::remote_daemon::DaemonStream;
use crate::sqlite::spool::SpoolPosition;

/// That daemon. Cloning it clones a handle.
#[derive(Clone)]
pub(super) struct Upstream {
    origin: Origin,
    /// Where the WebSockets of its feeds are, as it has said.
    paths: Arc<Mutex<HashMap<String, String>>>,
}

impl Upstream {
    pub(super) fn new(origin: Origin) -> Upstream {
        Upstream {
            origin,
            paths: Arc::default(),
        }
    }

    /// The daemon itself.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// For people: where it is.
    pub(super) fn shown(&self) -> String {
        self.origin.shown()
    }

    /// Subscribes to a feed from a position, or from its beginning, for its rows whole. Blocks.
    pub(super) fn subscribe(
        &self,
        feed: &str,
        position: Option<&SpoolPosition>,
    ) -> Result<WebSocket<DaemonStream>, ConnectError> {
        let known = self.paths.lock().get(feed).cloned();
        let path = match known {
            Some(path) => path,
            None => self.ask_for_path(feed)?,
        };
        let subscribed = self.origin.subscribe(&path, position);
        if let Err(ConnectError::Refused {
            status: Some(404), ..
        }) = &subscribed
        {
            // It may have the feed elsewhere by now.
            self.paths.lock().remove(feed);
        }
        subscribed
    }

    fn ask_for_path(&self, feed: &str) -> Result<String, ConnectError> {
        let listed = self.origin.feeds().map_err(|e| {
            let why = format!("{e:#}");
            match e.downcast::<std::io::Error>() {
                Ok(e) => ConnectError::Unreachable(e),
                Err(_) => ConnectError::Later { why, after: None },
            }
        })?;
        let mut paths = self.paths.lock();
        paths.clear();
        for feed in listed.into_iter().filter(|feed| feed.unfit().is_none()) {
            if let Some(path) = feed.ws.into_iter().next() {
                paths.insert(feed.name, path);
            }
        }
        paths.get(feed).cloned().ok_or_else(|| {
            let shown = self.shown();
            ConnectError::refused(format!("{shown} has no feed {feed}, or does not grant it"))
        })
    }
}
