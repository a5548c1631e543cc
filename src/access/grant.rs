//! What a credential stands for.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::model::filter::Scope;
use crate::wire::control::CloseCode;

/// What may be read of one feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedGrant {
    /// The rows that this allows.
    Rows(Scope),
    /// Nothing, for the credential does not say what the feed's scope compares this column with.
    ClaimMissing(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    Everything,
    Feeds(HashMap<String, FeedGrant>),
}

/// What whoever asks may do. One is shared by all connections of a credential.
#[derive(Debug)]
pub struct Grant {
    name: Arc<str>,
    reach: Reach,
    ingest: bool,
    metrics: bool,
    edge: bool,
    expires: Option<SystemTime>,
    fate: OnceLock<Fate>,
}

/// What became of a credential whose connections are to end.
#[derive(Debug)]
enum Fate {
    Revoked,
    /// It stands for something else now, in these feeds.
    Changed(HashSet<String>),
}

impl Grant {
    /// Everything there is, where nobody is asked who he is.
    pub fn everything() -> Grant {
        Grant {
            reach: Reach::Everything,
            ..Grant::of("anonymous", HashMap::new())
        }
        .with_ingest(true)
        .with_metrics(true)
        .with_edge(true)
    }

    /// These feeds, and nothing else. `name` is who holds the credential, as the log calls it.
    pub fn of(name: &str, feeds: HashMap<String, FeedGrant>) -> Grant {
        Grant {
            name: name.into(),
            reach: Reach::Feeds(feeds),
            ingest: false,
            metrics: false,
            edge: false,
            expires: None,
            fate: OnceLock::new(),
        }
    }

    /// Also rows may be written, in feeds that take any.
    pub fn with_ingest(self, ingest: bool) -> Grant {
        Grant { ingest, ..self }
    }

    /// Also `/metrics`, which tells of all feeds.
    pub fn with_metrics(self, metrics: bool) -> Grant {
        Grant { metrics, ..self }
    }

    /// Also rows as an edge takes them: whole, with columns that are shown to nobody but that scopes compare.
    pub fn with_edge(self, edge: bool) -> Grant {
        Grant { edge, ..self }
    }

    /// No longer than until then.
    pub fn until(self, expires: Option<SystemTime>) -> Grant {
        Grant { expires, ..self }
    }

    /// As the log calls who holds it: the token's name, the JWT's subject, the proxy's user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what may be read of a feed; `None` where it is to be as if it were not there.
    pub fn feed(&self, name: &str) -> Option<FeedGrant> {
        match &self.reach {
            Reach::Everything => Some(FeedGrant::Rows(Scope::default())),
            Reach::Feeds(feeds) => feeds.get(name).cloned(),
        }
    }

    /// Returns whether a feed is there for whoever holds this.
    pub fn knows(&self, feed: &str) -> bool {
        match &self.reach {
            Reach::Everything => true,
            Reach::Feeds(feeds) => feeds.contains_key(feed),
        }
    }

    /// Returns whether rows may be written to the feeds that can be read, where these take any.
    pub fn may_ingest(&self) -> bool {
        self.ingest
    }

    /// Returns whether `/metrics` is answered.
    pub fn may_see_metrics(&self) -> bool {
        self.metrics
    }

    /// Returns whether an edge may be fed.
    pub fn may_feed_an_edge(&self) -> bool {
        self.edge
    }

    /// When it ends by itself; `None` where it does not.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Returns whether it has expired by then.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Returns whether it has neither been ended nor expired by then.
    pub fn holds(&self, now: SystemTime) -> bool {
        self.fate.get().is_none() && !self.is_expired(now)
    }

    /// Returns whether both allow the same, under the same name.
    pub fn allows_the_same_as(&self, other: &Grant) -> bool {
        self.name == other.name
            && self.reach == other.reach
            && self.ingest == other.ingest
            && self.metrics == other.metrics
            && self.edge == other.edge
            && self.expires == other.expires
    }

    /// Ends it; `successor` is what its credential stands for from now on, `None` where it was revoked.
    pub fn end(&self, successor: Option<&Grant>) {
        let fate = match successor.map(|grant| &grant.reach) {
            None => Fate::Revoked,
            Some(Reach::Everything) => Fate::Changed(HashSet::new()),
            Some(Reach::Feeds(feeds)) => Fate::Changed(feeds.keys().cloned().collect()),
        };
        // What it became first is what its connections are told.
        let _ = self.fate.set(fate);
    }

    /// Returns why a connection to several feeds has to end by then; `None` where it may go on.
    pub fn ended(&self, now: SystemTime) -> Option<CloseCode> {
        match self.fate.get() {
            Some(Fate::Revoked) => Some(CloseCode::Revoked),
            Some(Fate::Changed(_)) => Some(CloseCode::Expired),
            None => self.is_expired(now).then_some(CloseCode::Expired),
        }
    }

    /// Returns why a connection to this feed has to end by then; `None` where it may go on.
    pub fn close_code(&self, feed: &str, now: SystemTime) -> Option<CloseCode> {
        match self.fate.get() {
            Some(Fate::Revoked) => Some(CloseCode::Revoked),
            Some(Fate::Changed(feeds)) => Some(match feeds.contains(feed) {
                true => CloseCode::Expired,
                false => CloseCode::FeedGone,
            }),
            None => self.is_expired(now).then_some(CloseCode::Expired),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reads(feeds: &[&str]) -> Grant {
        let all = FeedGrant::Rows(Scope::default());
        let feeds = feeds.iter().map(|feed| ((*feed).to_owned(), all.clone()));
        Grant::of("x", feeds.collect())
    }

    #[test]
    fn connections_learn_what_became_of_their_grant() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let good = reads(&["a"]).until(Some(now + Duration::from_secs(1)));
        assert_eq!(good.close_code("a", now), None);
        let later = now + Duration::from_secs(1);
        assert_eq!(good.close_code("a", later), Some(CloseCode::Expired));
        let revoked = reads(&["a"]);
        revoked.end(None);
        assert_eq!(revoked.close_code("a", now), Some(CloseCode::Revoked));
        let changed = reads(&["a", "b"]);
        changed.end(Some(&reads(&["b"]).with_ingest(true)));
        assert_eq!(changed.close_code("a", now), Some(CloseCode::FeedGone));
        assert_eq!(changed.close_code("b", now), Some(CloseCode::Expired));
        assert!(!reads(&["a"]).allows_the_same_as(&reads(&["b"])));
        assert!(reads(&["a"]).allows_the_same_as(&reads(&["a"])));
    }
}
