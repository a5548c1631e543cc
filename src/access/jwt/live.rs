//! The grants of JWTs by which somebody is connected, so that they can be ended.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;

use super::super::grant::Grant;
use super::JwtIdentity;
use super::keys::Fingerprint;

/// Fewer are kept without a look at which of them are still used.
const LEAST: usize = 64;

/// The SHA-256 of a token.
pub(super) type TokenName = [u8; 32];

pub(super) fn name_of(token: &str) -> TokenName {
    let mut name = [0; 32];
    name.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    name
}

/// At most about twice as many as there are connections that hold one.
#[derive(Debug, Default)]
pub(super) struct LiveGrants(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    grants: HashMap<TokenName, LiveGrant>,
    /// Above so many it is looked which of them are still used.
    most: usize,
}

#[derive(Debug)]
struct LiveGrant {
    grant: Weak<Grant>,
    identity: JwtIdentity,
    key: Fingerprint,
}

impl LiveGrants {
    /// Returns the grant that others have who came with the same token, while it holds.
    pub(super) fn get(&self, name: &TokenName, now: SystemTime) -> Option<Arc<Grant>> {
        let entries = self.0.lock();
        let grant = entries.grants.get(name)?.grant.upgrade()?;
        grant.holds(now).then_some(grant)
    }

    /// Keeps a grant for as long as somebody holds it; returns it. `None` where it is not `good`, which is asked under the
    /// lock that [`end`](Self::end) takes.
    pub(super) fn keep(
        &self,
        name: TokenName,
        identity: JwtIdentity,
        key: Fingerprint,
        grant: Arc<Grant>,
        good: impl FnOnce(&JwtIdentity, &Fingerprint) -> bool,
    ) -> Option<Arc<Grant>> {
        let mut entries = self.0.lock();
        if !good(&identity, &key) {
            return None;
        }
        if entries.grants.len() >= entries.most.max(LEAST) {
            entries
                .grants
                .retain(|_, live| live.grant.strong_count() > 0);
            entries.most = 2 * entries.grants.len();
        }
        let live = LiveGrant {
            grant: Arc::downgrade(&grant),
            identity,
            key,
        };
        // Of two requests that came at once with the same token, the later takes the grant of the earlier.
        if let Some(other) = entries
            .grants
            .get(&name)
            .and_then(|live| live.grant.upgrade())
            && other.holds(SystemTime::now())
        {
            return Some(other);
        }
        entries.grants.insert(name, live);
        Some(grant)
    }

    /// Goes through all that somebody holds.
    pub(super) fn end(&self, mut end: impl FnMut(&JwtIdentity, &Fingerprint, &Grant)) {
        for live in self.0.lock().grants.values() {
            if let Some(grant) = live.grant.upgrade() {
                end(&live.identity, &live.key, &grant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(live: &LiveGrants, token: &str, good: bool) -> Option<Arc<Grant>> {
        let identity = JwtIdentity {
            id: Some(token.to_owned()),
            subject: None,
            issued: None,
        };
        let grant = Arc::new(Grant::of(token, HashMap::new()));
        live.keep(name_of(token), identity, [0; 32], grant, |_, _| good)
    }

    #[test]
    fn one_token_has_one_grant_while_it_is_held() {
        let live = LiveGrants::default();
        let now = SystemTime::now();
        let first = keep(&live, "a", true).unwrap();
        let again = live.get(&name_of("a"), now).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(Arc::ptr_eq(&first, &keep(&live, "a", true).unwrap()));
        assert!(keep(&live, "b", false).is_none());
        live.end(|identity, _, grant| {
            assert_eq!(identity.id.as_deref(), Some("a"));
            grant.end(None);
        });
        assert!(live.get(&name_of("a"), now).is_none());
        drop((first, again));
        assert!(live.get(&name_of("a"), now).is_none());
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let live = LiveGrants::default();
        let held = keep(&live, "held", true);
        for n in 0..10_000 {
            keep(&live, &n.to_string(), true);
        }
        assert!(live.0.lock().grants.len() <= 2 * LEAST);
        assert!(held.is_some() && live.get(&name_of("held"), SystemTime::now()).is_some());
    }
}
