//! Who is who: turns what a request presents into a grant, and keeps the tokens as their file has them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use warp::http::HeaderMap;

use super::claims::{self, Said};
use super::credential::{Presented, parameter};
use super::failures::Failures;
use super::files::{AccessFileError, WatchedFile};
use super::grant::{FeedGrant, Grant};
use super::jwt::JwtGate;
use super::refusal::{AuthFailure, Refusal};
use super::token::{PresentedToken, SecretHash, TokenId};
use super::token_file::{TokenEntry, TokenFile};
use crate::config::{AuthRules, FeedConfig, FeedScope};
use crate::model::filter::Scope;

/// How often the files are looked at. What is revoked has to be gone within a second.
pub const LOOK: Duration = Duration::from_millis(250);

/// Characters of a user's name that the log shows.
const SHOWN: usize = 64;

/// What of a request tells who asks.
#[derive(Debug, Clone, Copy)]
pub struct Presenter<'r> {
    pub headers: &'r HeaderMap,
    pub query: &'r str,
    /// Where it came from; `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether the other end of its connection is believed when it says whom it asks for.
    pub through_proxy: bool,
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
    /// What is counted, and nothing else.
    metrics: Arc<Grant>,
    token_file: Option<WatchedFile>,
    tokens: Mutex<Arc<Tokens>>,
    jwt: Option<JwtGate>,
    /// Headers in which only proxies may say who somebody is.
    proxy_headers: Vec<String>,
    failures: Failures,
    /// Moves when grants have ended.
    ended: watch::Sender<()>,
}

/// The tokens in force.
type Tokens = HashMap<TokenId, KnownToken>;

#[derive(Debug, Clone)]
struct KnownToken {
    hash: SecretHash,
    grant: Arc<Grant>,
}

impl Gate {
    /// Reads the files that say who may come in.
    ///
    /// # Errors
    /// One can't be read, or something is wrong with it; the error names the key of the configuration.
    pub fn new(rules: &AuthRules, feeds: &[FeedConfig]) -> Result<Gate, AccessFileError> {
        let jwt = rules.jwt.as_ref().map(JwtGate::open).transpose()?;
        let mut gate = Gate {
            anonymous: anonymous(rules).map(Arc::new),
            public: Arc::new(Grant::of("public", HashMap::new())),
            metrics: Arc::new(Grant::of("metrics", HashMap::new()).with_metrics(true)),
            rules: rules.clone(),
            feeds: feeds
                .iter()
                .map(|feed| (feed.name.clone(), feed.scope.clone()))
                .collect(),
            token_file: None,
            tokens: Mutex::default(),
            jwt,
            proxy_headers: proxy_headers(rules, feeds),
            failures: Failures::default(),
            ended: watch::Sender::new(()),
        };
        if let Some(path) = &rules.tokens {
            let (file, tokens) = WatchedFile::open("auth.tokens", path, "tokens", TokenFile::read)?;
            gate.token_file = Some(file);
            gate.tokens = Mutex::new(Arc::new(gate.taken(&tokens, &Tokens::default())));
        }
        Ok(gate)
    }

    /// Returns whether anybody is asked who he is.
    pub fn asks(&self) -> bool {
        self.rules.asks()
    }

    /// Returns whether there are files to be looked at.
    pub fn has_files(&self) -> bool {
        self.token_file.is_some() || self.jwt.is_some()
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

    /// Returns what whoever connects where only what is counted is served may do.
    pub fn metrics(&self) -> Arc<Grant> {
        Arc::clone(&self.metrics)
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
        self.known(asked).map_err(|refusal| {
            // That nothing was presented is how pages find out that they have to.
            let is_wrong = refusal.failure != AuthFailure::Missing;
            let over = is_wrong.then(|| self.failures.count(asked.address, Instant::now()));
            if let Some(wait) = over.flatten() {
                return AuthFailure::TooMany(wait);
            }
            if is_wrong {
                tracing::info!(
                    reason = refusal.failure.code(),
                    credential = refusal.name.as_deref().unwrap_or("unknown"),
                    detail = refusal.detail,
                    "a credential was refused"
                );
            }
            refusal.failure
        })
    }

    fn known(&self, asked: Presenter<'_>) -> Result<Arc<Grant>, Refusal> {
        let in_address = parameter(asked.query)?;
        if in_address.is_some() && !self.rules.query_token {
            return Err(AuthFailure::InAddress.into());
        }
        let cookie = self.rules.cookie.as_deref();
        let presented = Presented::find(asked.headers, cookie, in_address.as_deref())?;
        match (presented, self.proxy_user(asked)?) {
            (Some(_), Some(_)) => Err(AuthFailure::Differ.into()),
            (Some(presented), None) => self.examine(presented.text()),
            (None, Some(user)) => Ok(Arc::new(self.proxy_grant(user, asked.headers))),
            (None, None) => self.anonymous.clone().ok_or(AuthFailure::Missing.into()),
        }
    }

    /// Returns what a token or JWT stands for.
    ///
    /// # Errors
    /// It is not good here.
    pub fn examine(&self, credential: &str) -> Result<Arc<Grant>, Refusal> {
        let now = SystemTime::now();
        let Some(token) = PresentedToken::parse(credential) else {
            let Some(jwt) = &self.jwt else {
                return Err(AuthFailure::Invalid.into());
            };
            return jwt.grant(credential, now, |token| {
                let feeds = self.feeds_for(Said::Claims(&token.claims));
                Grant::of(&token.name, feeds).until(Some(token.expires))
            });
        };
        let tokens = Arc::clone(&self.tokens.lock());
        let known = tokens.get(&token.id);
        let known = known
            .filter(|known| token.is(&known.hash))
            .ok_or(AuthFailure::Invalid)?;
        match known.grant.is_expired(now) {
            true => Err(Refusal {
                name: Some(known.grant.name().to_owned()),
                ..AuthFailure::Expired.into()
            }),
            false => Ok(Arc::clone(&known.grant)),
        }
    }

    /// The user whom a proxy asks for; `None` where it does not say.
    fn proxy_user<'h>(&self, asked: Presenter<'h>) -> Result<Option<&'h str>, Refusal> {
        let Some(proxy) = &self.rules.proxy else {
            return Ok(None);
        };
        let sent = self.proxy_headers.iter();
        let mut sent = sent
            .filter(|name| asked.headers.contains_key(name.as_str()))
            .peekable();
        let says_something = sent.peek().is_some();
        for name in sent {
            if !asked.through_proxy {
                return Err(AuthFailure::NotFromProxy(name.clone()).into());
            }
            claims::header(asked.headers, name)?;
        }
        match claims::header(asked.headers, &proxy.user)? {
            // A customer of nobody: it is not taken for anonymous.
            None if says_something => Err(Refusal::unnamed(
                AuthFailure::Invalid,
                "the proxy does not say in auth.proxy.user whom it asks for",
            )),
            user => Ok(user),
        }
    }

    fn proxy_grant(&self, user: &str, headers: &HeaderMap) -> Grant {
        let name: String = user.chars().take(SHOWN).collect();
        Grant::of(&name, self.feeds_for(Said::Headers(headers)))
    }

    /// What whoever says this may read.
    fn feeds_for(&self, said: Said<'_>) -> HashMap<String, FeedGrant> {
        let granted = |(name, scope): &(String, FeedScope)| {
            Some((name.clone(), claims::feed_grant(scope, said)?))
        };
        self.feeds.iter().filter_map(granted).collect()
    }

    /// Reads again what has changed, and ends what is not granted any more. Blocks. Where a file can't be read, all stays
    /// as it was, and that is said once.
    pub fn look(&self) {
        let file = self.token_file.as_ref();
        if let Some(file) = file.and_then(|file| file.changed(TokenFile::read)) {
            let before = Arc::clone(&self.tokens.lock());
            let tokens = self.taken(&file, &before);
            let count = tokens.len();
            *self.tokens.lock() = Arc::new(tokens);
            self.ended.send_replace(());
            tracing::info!("tokens read again: {count} are in force");
        }
        if self.jwt.as_ref().is_some_and(JwtGate::look) {
            self.ended.send_replace(());
        }
    }

    /// Has the files read again at the next look, changed or not.
    pub fn forget_files(&self) {
        if let Some(file) = &self.token_file {
            file.forget();
        }
        if let Some(jwt) = &self.jwt {
            jwt.forget();
        }
    }

    /// The tokens of the file. Those that are as they were keep their grants; others' grants end.
    fn taken(&self, file: &TokenFile, before: &Tokens) -> Tokens {
        let mut known = Tokens::new();
        for token in &file.tokens {
            let grant = self.grant_of(token);
            let kept = before.get(&token.id).filter(|old| old.hash == token.hash);
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
        for (id, old) in before {
            // Of the same id with another secret: the old one is good for nothing.
            if known.get(id).is_none_or(|new| new.hash != old.hash) {
                old.grant.end(None);
            }
        }
        known
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

/// The headers in which proxies say who somebody is, and which rows are theirs.
fn proxy_headers(rules: &AuthRules, feeds: &[FeedConfig]) -> Vec<String> {
    let Some(proxy) = &rules.proxy else {
        return Vec::new();
    };
    let mut names = vec![proxy.user.clone()];
    for name in feeds.iter().flat_map(|feed| feed.scope.headers()) {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    }
    names
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
