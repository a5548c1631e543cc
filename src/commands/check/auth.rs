//! `[auth]`: whether its files can be used, and whether what credentials say is what feeds ask for.

use std::path::Path;
use std::time::SystemTime;

use super::report::Report;
use crate::access::{self, Owners, TokenFile};
use crate::config::{
    Anonymous, ClaimSource, Config, FeedConfig, FeedScope, JwtKeys, Listen, TrustedProxy,
};
use crate::os::users::Owned;

/// Reports who may come in with what.
pub(super) fn look(config: &Config, report: &mut Report) {
    scopes(config, report);
    tokens(config, report);
    jwt(config, report);
    proxy(config, report);
}

/// The columns by which a feed tells whose rows are whose, with where each is said.
fn sources(feed: &FeedConfig) -> &[(String, ClaimSource)] {
    match &feed.scope {
        FeedScope::Columns(columns) => columns,
        FeedScope::Unsaid | FeedScope::Everything => &[],
    }
}

fn is_claim(source: &ClaimSource) -> bool {
    matches!(source, ClaimSource::Claim(_))
}

/// Scopes that hold nobody back, or that nobody satisfies.
fn scopes(config: &Config, report: &mut Report) {
    let auth = &config.auth;
    let says_claims = auth.tokens.is_some() || auth.jwt.is_some() || auth.mtls.is_some();
    for feed in config.feeds.iter().filter(|feed| !sources(feed).is_empty()) {
        let label = format!("feed {}", feed.name);
        let all = |is: bool| {
            sources(feed)
                .iter()
                .all(|(_, source)| is_claim(source) == is)
        };
        if !auth.asks() {
            let text = "it has a scope, but nobody is asked who they are: whoever can connect reads all of it";
            let remedy = "say who may come in, e.g. [auth] tokens = \"/etc/walcast/tokens.toml\"";
            report.warn(&label, text, &[remedy.to_owned()]);
        } else if auth.anonymous == Anonymous::Everything {
            let text = "it has a scope, but auth.anonymous = true: whoever presents nothing reads all of it";
            let remedy =
                "name what is everybody's: anonymous = { feeds = [\"status\"] }, or leave it out";
            report.warn(&label, text, &[remedy.to_owned()]);
        } else if !all(true) && !all(false) {
            let text = "its scope asks for claims and for headers, and nobody has both: only tokens read it";
            report.warn(&label, text, &[]);
        } else if all(true) && !says_claims {
            let text = "its scope asks for claims, and neither auth.jwt nor auth.tokens lets anybody make them";
            report.warn(&label, text, &[]);
        }
    }
}

/// Whether somebody may read a feed who is not named by a token: where it says so, or where this makes all its claims.
fn is_readable(config: &Config, says: fn(&ClaimSource) -> bool) -> bool {
    let readable = |feed: &FeedConfig| match &feed.scope {
        FeedScope::Unsaid => false,
        FeedScope::Everything => true,
        FeedScope::Columns(columns) => columns.iter().all(|(_, source)| says(source)),
    };
    config.feeds.iter().any(readable)
}

/// Whether the tokens can be read, and say what the feeds' scopes ask for.
fn tokens(config: &Config, report: &mut Report) {
    const LABEL: &str = "tokens";
    let Some(path) = &config.auth.tokens else {
        return;
    };
    let file = match TokenFile::read(path, Owners::Administered) {
        Ok(file) => file,
        Err(error) => return report.problem(LABEL, error.to_string(), &[]),
    };
    let now = SystemTime::now();
    let expired = file
        .tokens
        .iter()
        .filter(|token| token.expires.is_some_and(|end| end <= now));
    let (count, expired) = (file.tokens.len(), expired.count());
    report.ok(
        LABEL,
        format!(
            "{}{} has {count}, of which {expired} have expired",
            path.display(),
            whose(path)
        ),
    );
    for token in &file.tokens {
        for name in token.feeds.iter().filter(|_| !config.all_tables) {
            let Some(feed) = config.feeds.iter().find(|feed| feed.name == *name) else {
                let problem = format!("{} is for the feed {name}, which is not there", token.name);
                report.warn(LABEL, problem, &[]);
                continue;
            };
            // An edge has all rows without a word of whose they are: it asks its own clients.
            let missing = match token.edge {
                true => None,
                false => feed.scope.missing_in(&token.scope()),
            };
            if let Some(column) = missing {
                let problem = format!(
                    "{} reads nothing of {name}: it does not say which {column} it is for",
                    token.name
                );
                let remedy = format!("walcast token set {} … --where {column}=…", token.name);
                report.warn(LABEL, problem, &[remedy]);
            }
        }
    }
}

/// Whose the file is, in parentheses.
fn whose(path: &Path) -> String {
    let meta = path.metadata();
    meta.map_or(String::new(), |meta| {
        format!(" ({})", Owned::of(&meta).shown())
    })
}

/// Whether the keys fit, and somebody's JWT could read something.
fn jwt(config: &Config, report: &mut Report) {
    const LABEL: &str = "jwt";
    let Some(rules) = &config.auth.jwt else {
        return;
    };
    let (JwtKeys::KeyFile(path) | JwtKeys::JwksFile(path)) = &rules.keys;
    match access::jwt_keys(rules, Owners::Administered) {
        Ok(count) => {
            let algorithms: Vec<String> = rules
                .algorithms
                .iter()
                .map(|one| format!("{one:?}"))
                .collect();
            let keys = if count == 1 {
                "the key".to_owned()
            } else {
                format!("{count} keys")
            };
            let text = format!(
                "those of {} for {} are good, signed with {keys} of {} by {}",
                rules.issuer,
                rules.audience,
                path.display(),
                algorithms.join(", ")
            );
            report.ok(LABEL, text);
        }
        Err(error) => report.problem(LABEL, error.to_string(), &[]),
    }
    if !is_readable(config, is_claim) {
        let text = "there is no feed that a JWT could read: none has a scope by claims";
        let remedy =
            "say whose rows are whose, in [feeds.NAME]: scope = { customer = \"claim:customer\" }";
        report.warn(LABEL, text, &[remedy.to_owned()]);
    }
}

/// Whom is believed who somebody is.
fn proxy(config: &Config, report: &mut Report) {
    const LABEL: &str = "proxy";
    let Some(proxy) = &config.auth.proxy else {
        return;
    };
    let trusted = &config.access.trusted_proxies;
    let everything = |proxy: &TrustedProxy| match proxy {
        TrustedProxy::Network(network) => network.is_everything(),
        TrustedProxy::Unix => false,
    };
    let sockets = config
        .listen
        .iter()
        .filter(|listen| matches!(listen, Listen::Unix(_)));
    let mut believed: Vec<String> = sockets.map(Listen::to_string).collect();
    believed.extend(trusted.iter().map(TrustedProxy::to_string));
    let user = &proxy.user;
    if trusted.iter().any(everything) {
        let text = format!(
            "trusted_proxies names every address there is, so anybody may say in {user} who they are"
        );
        let remedy = "name the address of the proxy: trusted_proxies = [\"127.0.0.1\"]".to_owned();
        report.problem(LABEL, text, &[remedy]);
    } else if believed.is_empty() {
        let text = format!(
            "nobody may send {user}: there is no Unix socket, and trusted_proxies names nobody"
        );
        let remedy =
            "name the address of the proxy: trusted_proxies = [\"127.0.0.1\"]; or listen on \
                      unix:/run/walcast/walcast.sock"
                .to_owned();
        report.warn(LABEL, text, &[remedy]);
    } else {
        report.ok(
            LABEL,
            format!("{user} is believed from {}", believed.join(", ")),
        );
    }
    if !is_readable(config, |source| !is_claim(source)) {
        let text = "there is no feed that its users could read: none has a scope by headers";
        let remedy =
            "say whose rows are whose, in [feeds.NAME]: scope = { customer = \"header:X-Tenant\" }";
        report.warn(LABEL, text, &[remedy.to_owned()]);
    }
}
