//! Who is who: turns what a request presents into a grant, and keeps the tokens as their file has them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use warp::http::HeaderMap;

use super::claims::{self, Said};
use super::credential::{Presented, parameter};
use super::failures::Failures;
use super::files::{AccessFileError, Owners, ReloadedFile};
use super::grant::{FeedGrant, Grant};
use super::jwt::JwtGate;
use super::mtls::{ClientCertificate, ClientEntry, ClientGate};
use super::refusal::{AuthFailure, Refusal};
use super::token::{PresentedToken, TokenId};
use super::token_file::{TokenEntry, TokenFile};
use crate::config::{Anonymous, AuthRules, FeedConfig, FeedScope};
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
    /// The certificate with which its connection was made.
    pub certificate: Option<&'r ClientCertificate>,
}

/// Lets requests in.
pub struct Gate {
    rules: AuthRules,
    /// Whose its files may be.
    owners: Owners,
    /// How feeds tell whose rows are whose.
    feeds: Mutex<Arc<KnownFeeds>>,
    /// What whoever presents nothing may do; `None`: nothing.
    anonymous: Option<Arc<Grant>>,
    /// Nothing: with what everybody may see nobody is asked.
    public: Arc<Grant>,
    /// What is counted, and nothing else.
    metrics: Arc<Grant>,
    token_file: Option<ReloadedFile>,
    tokens: Mutex<Arc<Tokens>>,
    jwt: Option<JwtGate>,
    clients: Option<ClientGate>,
    failures: Failures,
    /// Moves when grants have ended.
    ended: watch::Sender<()>,
}

/// The tokens in force.
type Tokens = HashMap<TokenId, KnownToken>;

#[derive(Debug, Clone)]
struct KnownToken {
    entry: TokenEntry,
    grant: Arc<Grant>,
}

/// What the feeds there are make of what somebody presents.
#[derive(Debug, PartialEq)]
struct KnownFeeds {
    scopes: Vec<(String, FeedScope)>,
    /// Headers in which only proxies may say who somebody is.
    proxy_headers: Vec<String>,
}

impl KnownFeeds {
    fn of<'f>(rules: &AuthRules, feeds: impl Iterator<Item = &'f FeedConfig>) -> KnownFeeds {
        let scopes: Vec<(String, FeedScope)> = feeds
            .map(|feed| (feed.name.clone(), feed.scope.clone()))
            .collect();
        KnownFeeds {
            proxy_headers: proxy_headers(rules, &scopes),
            scopes,
        }
    }
}

impl Gate {
    /// Reads the files that say who may come in.
    ///
    /// # Errors
    /// One can't be read, or something is wrong with it; the error names the key of the configuration.
    pub fn new(
        rules: &AuthRules,
        feeds: &[FeedConfig],
        owners: Owners,
    ) -> Result<Gate, AccessFileError> {
        let jwt = rules.jwt.as_ref();
        let jwt = jwt.map(|jwt| JwtGate::open(jwt, owners)).transpose()?;
        let clients = rules.mtls.as_ref();
        let clients = clients.map(|mtls| ClientGate::open(&mtls.clients, owners));
        let mut gate = Gate {
            clients: clients.transpose()?,
            anonymous: anonymous(rules).map(Arc::new),
            public: Arc::new(Grant::of("public", HashMap::new())),
            metrics: Arc::new(Grant::of("metrics", HashMap::new()).with_metrics(true)),
            rules: rules.clone(),
            owners,
            feeds: Mutex::new(Arc::new(KnownFeeds::of(rules, feeds.iter()))),
            token_file: None,
            tokens: Mutex::default(),
            jwt,
            failures: Failures::default(),
            ended: watch::Sender::new(()),
        };
        if let Some(path) = &rules.tokens {
            let read = |path: &Path| TokenFile::read(path, owners);
            let (file, tokens) = ReloadedFile::open("auth.tokens", path, "tokens", read)?;
            gate.token_file = Some(file);
            gate.tokens = Mutex::new(Arc::new(gate.taken(&tokens, &Tokens::default())));
        }
        Ok(gate)
    }

    /// Takes in which feeds there are by now, where they come while the daemon runs: what credentials stand for may be another
    /// by that. Grants that are, end, and are given anew.
    pub fn learn<'f>(&self, feeds: impl Iterator<Item = &'f FeedConfig>) {
        let known = KnownFeeds::of(&self.rules, feeds);
        let mut feeds = self.feeds.lock();
        if **feeds == known {
            return;
        }
        *feeds = Arc::new(known);
        drop(feeds);
        let mut tokens = self.tokens.lock();
        let renewed = tokens.iter().map(|(id, known)| {
            let grant = self.grant_of(&known.entry);
            let mut known = known.clone();
            if !known.grant.allows_the_same_as(&grant) {
                known.grant.end(Some(&grant));
                known.grant = Arc::new(grant);
            }
            (id.clone(), known)
        });
        let renewed: Tokens = renewed.collect();
        *tokens = Arc::new(renewed);
        drop(tokens);
        self.ended.send_replace(());
    }

    /// Returns whether anybody is asked who he is.
    pub fn asks(&self) -> bool {
        self.rules.asks()
    }

    /// Returns whether there are files to be looked at.
    pub fn has_files(&self) -> bool {
        self.token_file.is_some() || self.jwt.is_some() || self.clients.is_some()
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
            (None, None) => self.of_connection(asked.certificate),
        }
    }

    /// What whoever sends no credential may do: what the certificate of the connection stands for. A client may have to show
    /// one for its network's sake, so what it sends counts before that.
    fn of_connection(
        &self,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Arc<Grant>, Refusal> {
        match (&self.clients, certificate) {
            (Some(clients), Some(certificate)) => {
                clients.grant(certificate, SystemTime::now(), |client| {
                    self.grant_of_client(client)
                })
            }
            _ => self.anonymous.clone().ok_or(AuthFailure::Missing.into()),
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
            .filter(|known| token.is(&known.entry.hash))
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
        let feeds = Arc::clone(&self.feeds.lock());
        let sent = feeds.proxy_headers.iter();
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
        let feeds = Arc::clone(&self.feeds.lock());
        feeds.scopes.iter().filter_map(granted).collect()
    }

    /// Reads again what has changed, and ends what is not granted any more. Blocks. Where a file can't be read, all stays
    /// as it was, and that is said once.
    pub fn look(&self) {
        let file = self.token_file.as_ref();
        if let Some(file) =
            file.and_then(|file| file.changed(|path| TokenFile::read(path, self.owners)))
        {
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
        let clients = self.clients.as_ref();
        if clients.is_some_and(|clients| clients.look(|client| self.grant_of_client(client))) {
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
        if let Some(clients) = &self.clients {
            clients.forget();
        }
    }

    /// The tokens of the file. Those that are as they were keep their grants; others' grants end.
    fn taken(&self, file: &TokenFile, before: &Tokens) -> Tokens {
        let mut known = Tokens::new();
        for token in &file.tokens {
            let grant = self.grant_of(token);
            let kept = before.get(&token.id);
            let kept = kept.filter(|old| old.entry.hash == token.hash);
            let same = kept.filter(|old| old.grant.allows_the_same_as(&grant));
            let grant = match (same, kept) {
                (Some(same), _) => Arc::clone(&same.grant),
                (None, Some(old)) => {
                    old.grant.end(Some(&grant));
                    Arc::new(grant)
                }
                (None, None) => Arc::new(grant),
            };
            let entry = token.clone();
            known.insert(token.id.clone(), KnownToken { entry, grant });
        }
        for (id, old) in before {
            // Of the same id with another secret: the old one is good for nothing.
            if known
                .get(id)
                .is_none_or(|new| new.entry.hash != old.entry.hash)
            {
                old.grant.end(None);
            }
        }
        known
    }

    fn grant_of(&self, token: &TokenEntry) -> Grant {
        // An edge serves others, of whom it asks themselves whose rows they may have.
        let feeds = self.rows_of(&token.feeds, &token.scope(), token.edge);
        Grant::of(&token.name, feeds)
            .with_ingest(token.ingest)
            .with_metrics(token.metrics)
            .with_edge(token.edge)
            .until(token.expires)
    }

    /// What a client may do that is known by its certificate, for as long as that is good.
    fn grant_of_client(&self, client: &ClientEntry) -> Grant {
        Grant::of(
            &client.name,
            self.rows_of(&client.feeds, &client.scope, false),
        )
        .with_ingest(client.ingest)
        .with_metrics(client.metrics)
    }

    /// The rows of these feeds that `scope` allows, where it says what they are compared with, or need not.
    fn rows_of(
        &self,
        feeds: &[String],
        scope: &Scope,
        need_not: bool,
    ) -> HashMap<String, FeedGrant> {
        let granted = |feed: &String| {
            let missing = self.missing_column(feed, scope).filter(|_| !need_not);
            let granted = match missing {
                Some(column) => FeedGrant::ClaimMissing(column),
                None => FeedGrant::Rows(scope.clone()),
            };
            (feed.clone(), granted)
        };
        feeds.iter().map(granted).collect()
    }

    /// A column that the feed's scope compares and this one says nothing of.
    fn missing_column(&self, feed: &str, scope: &Scope) -> Option<String> {
        let feeds = Arc::clone(&self.feeds.lock());
        let (_, wanted) = feeds.scopes.iter().find(|(name, _)| name == feed)?;
        wanted.missing_in(scope).map(str::to_owned)
    }
}

/// The headers in which proxies say who somebody is, and which rows are theirs.
fn proxy_headers(rules: &AuthRules, feeds: &[(String, FeedScope)]) -> Vec<String> {
    let Some(proxy) = &rules.proxy else {
        return Vec::new();
    };
    let mut names = vec![proxy.user.clone()];
    for name in feeds.iter().flat_map(|(_, scope)| scope.headers()) {
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
    let part = match &rules.anonymous {
        Anonymous::Nothing => return None,
        // Whoever writes, sees what is counted, or serves others says who he is.
        Anonymous::Everything => {
            let everything = Grant::everything().with_ingest(false);
            return Some(everything.with_metrics(false).with_edge(false));
        }
        Anonymous::Part(part) => part,
    };
    let granted = |feed: &String| (feed.clone(), FeedGrant::Rows(part.scope.clone()));
    Some(Grant::of(
        "anonymous",
        part.feeds.iter().map(granted).collect(),
    ))
}
