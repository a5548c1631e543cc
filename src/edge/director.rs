//! Has the list of feeds from the origin, and a feeder for each; and asks it on behalf of subscribers that know of more than
//! has come here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::connections::keep_connected;
use super::feeder::Feeder;
#[cfg(feature = "nats")]
use super::gap::Gaps;
use super::intake::Intake;
#[cfg(feature = "nats")]
use super::nats_feeder::NatsFeeder;
use super::source::{Feed, From, LeftOut, Source};
use super::status::EdgeStatus;
use super::taking::Taking;
use crate::hub::{Hub, SourceDesk, SourceWord};
use crate::net::backoff::Backoff;
use crate::os::thread::or_abort;
use crate::sqlite::spool::SpoolItem;

/// How often the origin is asked which feeds it has.
const EVERY: Duration = Duration::from_secs(5);
/// How often it is asked while subscribers wait for its word.
const WAITED_FOR: Duration = Duration::from_millis(100);
/// A feeder has little on its stack, and there may be hundreds.
const STACK: usize = 256 * 1024;

/// The one who knows which feeds there are.
pub(super) struct Director {
    source: Source,
    intake: Arc<Intake>,
    status: Arc<EdgeStatus>,
    desk: Arc<SourceDesk>,
    hub: Arc<Hub>,
    feeders: HashMap<Arc<str>, Arc<AtomicBool>>,
    /// Feeds that are not had, as the log has told.
    told: HashSet<String>,
}

impl Director {
    pub(super) fn new(
        source: Source,
        (intake, status): (Arc<Intake>, Arc<EdgeStatus>),
        (desk, hub): (Arc<SourceDesk>, Arc<Hub>),
    ) -> Director {
        Director {
            source,
            intake,
            status,
            desk,
            hub,
            feeders: HashMap::new(),
            told: HashSet::new(),
        }
    }

    pub(super) fn run(mut self) {
        let mut backoff = Backoff::new();
        while !self.intake.is_closed() {
            if let Some(older) = self.desk.older() {
                older.forget_idle();
            }
            let asked_at = Instant::now();
            let pause = match self.source.feeds() {
                Ok((feeds, left_out)) => {
                    self.answer(&feeds, asked_at);
                    for LeftOut { feed, why } in left_out {
                        self.leave_out(&feed, &why);
                    }
                    self.have(feeds);
                    backoff.reset();
                    EVERY
                }
                Err(e) => {
                    self.status.unlisted(e);
                    backoff.next_pause()
                }
            };
            let is_waited_for = self.desk.wait(pause);
            if is_waited_for {
                // Who has waited for as long as anybody does is answered, too.
                for feed in self.hub.feeds.iter() {
                    self.hub.announce(feed.index);
                }
                std::thread::sleep(WAITED_FOR);
            }
        }
        for stopped in self.feeders.values() {
            stopped.store(true, Ordering::Relaxed);
        }
        for feed in self.feeders.keys() {
            self.status.send_back(feed);
        }
    }

    /// Tells subscribers that wait what the origin knows.
    fn answer(&self, feeds: &[Feed], asked_at: Instant) {
        for feed in feeds {
            let Some((epoch, head)) = &feed.standing else {
                continue;
            };
            let word = SourceWord {
                asked_at: feed.said_at.unwrap_or(asked_at),
                epoch: epoch.clone(),
                head: *head,
            };
            self.desk.tell(&feed.name, word);
        }
    }

    /// Has each feed that is listed, and lets those go that are not any more.
    fn have(&mut self, mut feeds: Vec<Feed>) {
        feeds.sort_by(|a, b| a.name.cmp(&b.name));
        let mut tables: HashSet<String> = HashSet::new();
        let mut listed: HashSet<Arc<str>> = HashSet::new();
        for feed in feeds {
            let name: Arc<str> = feed.name.as_str().into();
            // Two feeds of one table have one each here, for each has columns of its own.
            let table = match tables.insert(feed.table.to_lowercase()) {
                true => feed.table.clone(),
                false => format!("{}@{name}", feed.table),
            };
            listed.insert(Arc::clone(&name));
            if !self.feeders.contains_key(&name) {
                self.status.listed(std::iter::once(Arc::clone(&name)));
                self.begin(name, feed.from, table);
            }
        }
        self.status.listed(listed.iter().cloned());
        let gone = self.feeders.keys().filter(|feed| !listed.contains(*feed));
        for feed in gone.cloned().collect::<Vec<_>>() {
            self.end(&feed);
        }
    }

    fn leave_out(&mut self, feed: &str, why: &str) {
        if self.told.insert(feed.to_owned()) {
            tracing::warn!("the feed {feed} of the origin is not served here: {why}");
        }
    }

    fn begin(&mut self, feed: Arc<str>, from: From, table: String) {
        let stopped = Arc::new(AtomicBool::new(false));
        let (intake, status) = (Arc::clone(&self.intake), Arc::clone(&self.status));
        let taking = Taking::new(Arc::clone(&feed), table, intake, status);
        let ends = Arc::clone(&stopped);
        let run: Box<dyn FnOnce() + Send> = match from {
            From::Path(origin, path) => {
                let feeder = Feeder {
                    taking,
                    path,
                    origin,
                    desk: Arc::clone(&self.desk),
                };
                Box::new(move || keep_connected(feeder, &ends))
            }
            #[cfg(feature = "nats")]
            From::Stream(origin, upstream, runtime) => {
                let feeder = NatsFeeder {
                    taking,
                    origin,
                    upstream,
                    gaps: Gaps::default(),
                    runtime,
                    stopped: Arc::clone(&ends),
                };
                Box::new(move || keep_connected(feeder, &ends))
            }
        };
        let thread = std::thread::Builder::new()
            .name("walcast-feeder".to_owned())
            .stack_size(STACK);
        match thread.spawn(move || or_abort(run)) {
            Ok(_) => {
                self.feeders.insert(feed, stopped);
            }
            // It is tried again with the next list.
            Err(e) => tracing::error!("feed {feed}: no thread to have it with: {e}"),
        }
    }

    /// The origin does not have the feed any more: it goes here too.
    fn end(&mut self, feed: &Arc<str>) {
        if let Some(stopped) = self.feeders.remove(feed) {
            stopped.store(true, Ordering::Relaxed);
        }
        tracing::info!("the origin does not have the feed {feed} any more, or grants it no more");
        self.status.send_back(feed);
        self.status.forget(feed);
        // Where the edge ends, the spool keeps it until it is asked again.
        let _ = self.intake.push(feed, SpoolItem::Removed, 0);
    }
}
