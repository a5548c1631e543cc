//! What an edge has its feeds from: another daemon, or the streams of NATS servers.

#[cfg(feature = "nats")]
use std::sync::Arc;
#[cfg(feature = "nats")]
use std::time::Duration;
use std::time::Instant;

#[cfg(feature = "nats")]
use tokio::runtime::Runtime;

#[cfg(feature = "nats")]
use super::nats_origin::{NatsList, NatsOrigin};
use super::origin::{Listed, Origin};
#[cfg(feature = "nats")]
use super::upstream::Upstream;
use crate::model::position::{Cursor, Epoch};

/// What a publisher says may have been on its way for so long.
#[cfg(feature = "nats")]
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A feed that is there to be had.
pub(super) struct Feed {
    pub name: String,
    /// The table's name at the origin.
    pub table: String,
    /// Its history and its head, where somebody says so; and what that is no older than, where it was not asked for now.
    pub standing: Option<(Epoch, Cursor)>,
    pub said_at: Option<Instant>,
    pub from: From,
}

/// Where one feed is had.
pub(super) enum From {
    /// At this path of a daemon.
    Path(Origin, String),
    /// In its stream, and what that has no more at a daemon.
    #[cfg(feature = "nats")]
    Stream(NatsOrigin, Option<Upstream>, Arc<Runtime>),
}

/// Why a feed is not to be had.
pub(super) struct LeftOut {
    pub feed: String,
    pub why: String,
}

/// Where an edge has its feeds from.
#[cfg_attr(
    feature = "nats",
    expect(clippy::large_enum_variant, reason = "there is one in a program")
)]
pub(super) enum Source {
    Daemon(Origin),
    #[cfg(feature = "nats")]
    Nats {
        origin: NatsOrigin,
        list: NatsList,
        /// Asked for what streams have no more.
        upstream: Option<Upstream>,
        runtime: Arc<Runtime>,
    },
}

impl Source {
    /// For people: where it is.
    pub(super) fn shown(&self) -> String {
        match self {
            Source::Daemon(origin) => origin.shown(),
            #[cfg(feature = "nats")]
            Source::Nats { origin, .. } => origin.shown(),
        }
    }

    /// Asks which feeds there are. Blocks.
    ///
    /// # Errors
    /// It does not answer, or not as it should; in words for the log.
    pub(super) fn feeds(&mut self) -> Result<(Vec<Feed>, Vec<LeftOut>), String> {
        match self {
            Source::Daemon(origin) => {
                let listed = origin.feeds().map_err(|e| format!("{e:#}"))?;
                Ok(of_daemon(origin, listed))
            }
            #[cfg(feature = "nats")]
            Source::Nats {
                origin,
                list,
                upstream,
                runtime,
            } => {
                let feeds = runtime.block_on(list.feeds())?;
                let feeds = feeds.into_iter().map(|feed| Feed {
                    table: feed.name.clone(),
                    said_at: feed.standing.as_ref().map(|(_, heard)| *heard - ON_ITS_WAY),
                    standing: feed.standing.map(|(standing, _)| {
                        (Epoch::new(standing.epoch.as_str()), Cursor(standing.head))
                    }),
                    from: From::Stream(origin.clone(), upstream.clone(), Arc::clone(runtime)),
                    name: feed.name,
                });
                Ok((feeds.collect(), Vec::new()))
            }
        }
    }
}

fn of_daemon(origin: &Origin, listed: Vec<Listed>) -> (Vec<Feed>, Vec<LeftOut>) {
    let (mut feeds, mut left_out) = (Vec::new(), Vec::new());
    for feed in listed {
        let (why, path) = (feed.unfit(), feed.ws.first());
        match (why, path) {
            (None, Some(path)) => feeds.push(Feed {
                said_at: None,
                standing: Some((Epoch::new(feed.epoch.as_str()), Cursor(feed.head.0))),
                from: From::Path(origin.clone(), path.clone()),
                table: feed.table,
                name: feed.name,
            }),
            (why, _) => left_out.push(LeftOut {
                feed: feed.name,
                why: why.unwrap_or_default(),
            }),
        }
    }
    (feeds, left_out)
}
