//! Who is who: turns what a request presents into a grant, and keeps the tokens as their file has them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use warp::http::HeaderMap;

use super::credential::{Presented, parameter};
use super::failures::Failures;
use super::grant::{FeedGrant, Grant};
use super::token::{PresentedToken, SecretHash, TokenId};
use super::token_file::{TokenEntry, TokenFile, TokenFileError};
use crate::config::{AuthRules, FeedConfig, FeedScope};
use crate::model::filter::Scope;

/// How often the file of tokens is looked at. What is revoked has to be gone within a second.
pub const LOOK: Duration = Duration::from_millis(250);

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthFailure {
    /// It presents nothing, and nobody may come in so.
    Missing,
    /// It presents something that is not good, or not any more.
    Invalid,
    Expired,
    /// The credential does not say what the scope of the feed compares this column with.
    ClaimMissing(String),
    /// It presents two credentials that differ.
    Differ,
    /// It presents one in its address, where that is not allowed.
    InAddress,
    /// Too many were wrong that came from there.
    TooMany(Duration),
}

impl AuthFailure {
    /// Returns the code of the error, which is also the label of `walcast_auth_failures_total`.
    pub fn code(&self) -> &'static str {
        match self {
            AuthFailure::Missing => "token_missing",
            AuthFailure::Invalid | AuthFailure::InAddress => "token_invalid",
            AuthFailure::Expired => "token_expired",
            AuthFailure::ClaimMissing(_) => "claim_missing",
            AuthFailure::Differ => "credentials_differ",
            AuthFailure::TooMany(_) => "too_many_failures",
        }
    }

    /// Returns what whoever asked has to do.
    pub fn message(&self) -> String {
        match self {
            AuthFailure::Missing => {
                "send a token: `Authorization: Bearer …`, or from a page the WebSocket subprotocol \
                                 `walcast.bearer.…`"
                    .to_owned()
            }
            AuthFailure::Invalid => "the token is not good here; ask for another".to_owned(),
            AuthFailure::Expired => "the token has expired; come back with a fresh one".to_owned(),
            AuthFailure::ClaimMissing(column) => {
                format!("the token does not say which {column} it is for; ask for one that does")
            }
            AuthFailure::Differ => {
                "the request presents two different credentials; send one".to_owned()
            }
            AuthFailure::InAddress => {
                "tokens are not taken from the address (`auth.query_token`); send `Authorization: \
                                   Bearer …`, or the WebSocket subprotocol `walcast.bearer.…`"
                    .to_owned()
            }
            AuthFailure::TooMany(_) => {
                "too many credentials from this address were wrong; wait, and send a good one"
                    .to_owned()
            }
        }
    }
}

/// All labels of `walcast_auth_failures_total`.
pub const AUTH_FAILURES: [&str; 6] = [
    "claim_missing",
    "credentials_differ",
    "token_expired",
    "token_invalid",
    "token_missing",
    "too_many_failures",
];

/// What of a request tells who asks.
#[derive(Debug, Clone, Copy)]
pub struct Presenter<'r> {
    pub headers: &'r HeaderMap,
    pub query: &'r str,
    /// Where it came from; `None` over a Unix socket.
    pub address: Option<IpAddr>,
}

/// Lets requests in.
pub struct Gate {
    rules: AuthRules,
    /// How the feeds of the configuration tell whose rows are whose.
    feeds: Vec<(String, FeedScope)>,
    /// What whoever presents nothing may do; `None`: nothing.
    anonymous: Option<Arc<Grant>>,
    /// Nothing: with what everybody may see nobody is asked.
    public: Arc<Grant>,
    tokens: Mutex<Arc<Tokens>>,
    failures: Failures,
    /// Moves when grants have ended.
    ended: watch::Sender<()>,
}

/// The tokens in force.
#[derive(Debug, Default)]
struct Tokens {
    known: HashMap<TokenId, KnownToken>,
    /// Of the file they are from.
    stamp: Option<Stamp>,
    /// What was last said to be wrong with it.
    trouble: Option<String>,
}

#[derive(Debug, Clone)]
struct KnownToken {
    hash: SecretHash,
    grant: Arc<Grant>,
}

/// What tells a file from the one that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    rights: (u32, u32),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            rights: (meta.mode(), meta.uid()),
        })
    }
}

impl Gate {
    /// Reads the tokens, where there are to be any.
    ///
    /// # Errors
    /// They can't be read, or something is wrong with them.
    pub fn new(rules: &AuthRules, feeds: &[FeedConfig]) -> Result<Gate, TokenFileError> {
        let gate = Gate {
            anonymous: anonymous(rules).map(Arc::new),
            public: Arc::new(Grant::of("public", HashMap::new())),
            rules: rules.clone(),
            feeds: feeds
                .iter()
                .map(|feed| (feed.name.clone(), feed.scope.clone()))
                .collect(),
            tokens: Mutex::default(),
            failures: Failures::default(),
            ended: watch::Sender::new(()),
        };
        if let Some(path) = &gate.rules.tokens {
            let stamp = Stamp::of(path);
            let file = TokenFile::read(path)?;
            *gate.tokens.lock() = Arc::new(gate.taken(&file, &Tokens::default(), stamp));
        }
        Ok(gate)
    }

    /// Returns whether anybody is asked who he is.
    pub fn asks(&self) -> bool {
        self.rules.asks()
    }

    /// Returns the file whose tokens are in force.
    pub fn token_file(&self) -> Option<PathBuf> {
        self.rules.tokens.clone()
    }

    /// Hears when grants have ended.
    pub fn ended(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }

    /// Returns what whoever asks for what is everybody's may do besides; nothing.
    pub fn public(&self) -> Arc<Grant> {
        Arc::clone(if self.asks() {
            &self.public
        } else {
            self.anonymous.as_ref().unwrap_or(&self.public)
        })
    }

    /// Returns the grant of a request.
    ///
    /// # Errors
    /// What it presents is not good, or it presents nothing and has to.
    pub fn grant(&self, asked: Presenter<'_>) -> Result<Arc<Grant>, AuthFailure> {
        if !self.asks() {
            // `anonymous` is everything then.
            return self.anonymous.clone().ok_or(AuthFailure::Missing);
        }
        self.known(asked).map_err(|(refusal, name)| {
            // That nothing was presented is how pages find out that they have to.
            let is_wrong = refusal != AuthFailure::Missing;
            let over = is_wrong.then(|| self.failures.count(asked.address, Instant::now()));
            if let Some(wait) = over.flatten() {
                return AuthFailure::TooMany(wait);
            }
            if is_wrong {
                tracing::info!(
                    reason = refusal.code(),
                    credential = name.as_deref().unwrap_or("unknown"),
                    "a credential was refused"
                );
            }
            refusal
        })
    }

    /// The grant, or why not and whose the credential is, as far as that is known.
    fn known(&self, asked: Presenter<'_>) -> Result<Arc<Grant>, (AuthFailure, Option<String>)> {
        let nobody = |refusal| (refusal, None);
        let in_address = parameter(asked.query).map_err(nobody)?;
        if in_address.is_some() && !self.rules.query_token {
            return Err(nobody(AuthFailure::InAddress));
        }
        let cookie = self.rules.cookie.as_deref();
        let presented = Presented::find(asked.headers, cookie, in_address.as_deref());
        let Some(presented) = presented.map_err(nobody)? else {
            return self.anonymous.clone().ok_or(nobody(AuthFailure::Missing));
        };
        let token = PresentedToken::parse(presented.text()).ok_or(nobody(AuthFailure::Invalid))?;
        let tokens = Arc::clone(&self.tokens.lock());
        let known = tokens.known.get(&token.id);
        let known = known
            .filter(|known| token.is(&known.hash))
            .ok_or(nobody(AuthFailure::Invalid))?;
        match known.grant.is_expired(SystemTime::now()) {
            true => Err((AuthFailure::Expired, Some(known.grant.name().to_owned()))),
            false => Ok(Arc::clone(&known.grant)),
        }
    }

    /// Reads the tokens again where their file is another one, or has been changed. Blocks. Where it can't be read the
    /// tokens stay as they are, and it is said once.
    pub fn look(&self) {
        let Some(path) = &self.rules.tokens else {
            return;
        };
        let before = Arc::clone(&self.tokens.lock());
        let stamp = Stamp::of(path);
        if stamp.is_some() && stamp == before.stamp {
            return;
        }
        match TokenFile::read(path) {
            Ok(file) => {
                let tokens = self.taken(&file, &before, stamp);
                let count = tokens.known.len();
                *self.tokens.lock() = Arc::new(tokens);
                self.ended.send_replace(());
                tracing::info!("tokens read again: {count} are in force");
            }
            Err(error) => {
                let trouble = Some(error.to_string());
                if before.trouble != trouble {
                    tracing::error!("the tokens stay as they were: {error}");
                }
                *self.tokens.lock() = Arc::new(Tokens {
                    known: before.known.clone(),
                    // Looked at again until it can be read.
                    stamp: before.stamp.filter(|_| stamp.is_none()),
                    trouble,
                });
            }
        }
    }

    /// The tokens of the file. Those that are as they were keep their grants; others' grants end.
    fn taken(&self, file: &TokenFile, before: &Tokens, stamp: Option<Stamp>) -> Tokens {
        let mut known: HashMap<TokenId, KnownToken> = HashMap::new();
        for token in &file.tokens {
            let grant = self.grant_of(token);
            let kept = before
                .known
                .get(&token.id)
                .filter(|old| old.hash == token.hash);
            let same = kept.filter(|old| old.grant.allows_the_same_as(&grant));
            let grant = match (same, kept) {
                (Some(same), _) => Arc::clone(&same.grant),
                (None, Some(old)) => {
                    old.grant.end(Some(&grant));
                    Arc::new(grant)
                }
                (None, None) => Arc::new(grant),
            };
            let hash = token.hash;
            known.insert(token.id.clone(), KnownToken { hash, grant });
        }
        for (id, old) in &before.known {
            // Of the same id with another secret: the old one is good for nothing.
            if known.get(id).is_none_or(|new| new.hash != old.hash) {
                old.grant.end(None);
            }
        }
        Tokens {
            known,
            stamp,
            trouble: None,
        }
    }

    fn grant_of(&self, token: &TokenEntry) -> Grant {
        let scope = token.scope();
        let feeds = token.feeds.iter().map(|feed| {
            let missing = self.missing_column(feed, &scope);
            let granted = match missing {
                Some(column) => FeedGrant::ClaimMissing(column),
                None => FeedGrant::Rows(scope.clone()),
            };
            (feed.clone(), granted)
        });
        Grant::of(&token.name, feeds.collect())
            .with_ingest(token.ingest)
            .with_metrics(token.metrics)
            .until(token.expires)
    }

    /// A column that the feed's scope compares and this one says nothing of.
    fn missing_column(&self, feed: &str, scope: &Scope) -> Option<String> {
        let (_, wanted) = self.feeds.iter().find(|(name, _)| name == feed)?;
        wanted.missing_in(scope).map(str::to_owned)
    }
}

fn anonymous(rules: &AuthRules) -> Option<Grant> {
    if !rules.asks() {
        return Some(Grant::everything());
    }
    if rules.anonymous {
        // Whoever writes, or sees what is counted, says who he is.
        return Some(Grant::everything().with_ingest(false).with_metrics(false));
    }
    let part = rules.anonymous_part.as_ref()?;
    let granted = |feed: &String| (feed.clone(), FeedGrant::Rows(part.scope.clone()));
    Some(Grant::of(
        "anonymous",
        part.feeds.iter().map(granted).collect(),
    ))
}
