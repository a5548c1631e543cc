//! `walcast token`: makes, changes, lists and revokes tokens. A daemon that runs sees the file change.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};

use crate::access::{
    FeedGrant, Gate, NewToken, Owners, PresentedToken, TokenEntry, TokenFile, check_name,
    parse_time, shown_time,
};
use crate::cli::{GrantArgs, ServeArgs, TokenArgs, TokenCommand, TokenFileArgs};
use crate::config::{Config, FeedConfig, FeedScope};
use crate::model::filter::{Scope, ScopeValue};
use crate::os::users::Owned;
use crate::text::nearest::did_you_mean;

/// Does what is asked with the file of tokens.
///
/// # Errors
/// No file is named, it can't be read or written, or there is no such token.
pub fn token(args: &TokenArgs) -> anyhow::Result<()> {
    match &args.command {
        TokenCommand::Add {
            name,
            grant,
            link,
            file,
        } => add(name, grant, link.as_deref(), &TokensAt::of(file)?),
        TokenCommand::Set { name, grant, file } => set(name, grant, &TokensAt::of(file)?),
        TokenCommand::List { file } => list(&TokensAt::of(file)?),
        TokenCommand::Revoke { name, file } => revoke(name, &TokensAt::of(file)?),
        TokenCommand::Show { token, file } => show(token, file),
    }
}

/// The file, and the configuration that names it.
struct TokensAt {
    path: PathBuf,
    config: Option<Config>,
}

impl TokensAt {
    fn of(args: &TokenFileArgs) -> anyhow::Result<TokensAt> {
        let config = configuration(args)?;
        let configured = config
            .as_ref()
            .and_then(|config| config.auth.tokens.clone());
        let path = args.tokens.clone().or(configured).ok_or_else(|| {
            anyhow!(
                "no file of tokens is named; give the daemon's configuration with --config, which must have \
                 [auth] tokens = \"…\", or the file itself with --tokens"
            )
        })?;
        Ok(TokensAt { path, config })
    }

    /// Refuses what would never be good, as far as the configuration tells.
    fn check(&self, token: &TokenEntry) -> anyhow::Result<()> {
        if token.feeds.is_empty() && !token.metrics {
            bail!(
                "the token would be good for nothing; name a feed with --feed, or give --metrics"
            );
        }
        let Some(config) = self.config.as_ref().filter(|config| !config.all_tables) else {
            return Ok(());
        };
        let names: Vec<&str> = config.feeds.iter().map(|feed| feed.name.as_str()).collect();
        for name in &token.feeds {
            let Some(feed) = config.feeds.iter().find(|feed| feed.name == *name) else {
                let hint = did_you_mean(name, names.iter().copied());
                bail!(
                    "--feed {name}: there is no such feed{hint}; there are {}",
                    names.join(", ")
                );
            };
            if let Some(column) = feed.scope.missing_in(&token.scope())
                && !token.edge
            {
                bail!("feed {name} tells by {column} whose rows are whose; say --where {column}=…");
            }
            if token.ingest && !feed.ingest {
                bail!("--ingest: feed {name} takes no rows; set `ingest = true` in [feeds.{name}]");
            }
        }
        Ok(())
    }
}

/// The configuration that is named, where one is.
fn configuration(args: &TokenFileArgs) -> anyhow::Result<Option<Config>> {
    let named = args.config.as_ref();
    let named = named.filter(|file| !file.as_os_str().is_empty());
    let config = named.map(|file| Config::load(&ServeArgs::of_config(&file.to_string_lossy())));
    Ok(config.transpose()?)
}

fn add(name: &str, grant: &GrantArgs, link: Option<&str>, tokens: &TokensAt) -> anyhow::Result<()> {
    check_name(name).map_err(anyhow::Error::msg)?;
    let made = NewToken::make()?;
    let token = granted(
        TokenEntry {
            id: made.id.clone(),
            name: name.to_owned(),
            hash: made.hash,
            feeds: Vec::new(),
            columns: Default::default(),
            ingest: false,
            metrics: false,
            edge: false,
            expires: None,
        },
        grant,
    )?;
    tokens.check(&token)?;
    let was_there = tokens.path.exists();
    TokenFile::change(&tokens.path, |file| {
        if file.named(name).is_some() {
            bail!(
                "there is a token {name} already; change it with `walcast token set {name} …`, or choose another name"
            );
        }
        file.tokens.push(token.clone());
        Ok(())
    })?;
    match link {
        Some(url) => println!("{}#token={}", url.trim_end_matches('#'), made.text()),
        None => println!("{}", made.text()),
    }
    eprintln!(
        "walcast: {}; it is shown only now, so keep it",
        described(&token)
    );
    if !was_there {
        say_whose(&tokens.path);
    }
    Ok(())
}

/// Says of a file that was just made who can read it: a daemon of another user may have to.
fn say_whose(path: &Path) {
    let Ok(meta) = path.metadata() else { return };
    let (owned, path) = (Owned::of(&meta), path.display());
    let remedy = match owned.uid == 0 && owned.mode & 0o040 == 0 {
        true => format!(
            "; only root may read it, so for a daemon of another user: chgrp GROUP {path} && chmod 0640 {path}"
        ),
        false => String::new(),
    };
    eprintln!("walcast: {path} is new, {}{remedy}", owned.shown());
}

fn set(name: &str, grant: &GrantArgs, tokens: &TokensAt) -> anyhow::Result<()> {
    let changed = TokenFile::change(&tokens.path, |file| {
        let unknown = unknown(name, file);
        let found = file.tokens.iter_mut().find(|token| token.name == name);
        let token = found.ok_or(unknown)?;
        let changed = granted(token.clone(), grant)?;
        tokens.check(&changed)?;
        *token = changed.clone();
        Ok(changed)
    })?;
    println!("{}", described(&changed));
    Ok(())
}

fn list(tokens: &TokensAt) -> anyhow::Result<()> {
    let file = TokenFile::read(&tokens.path, Owners::Administered)?;
    if file.tokens.is_empty() {
        // Beside the list, which is for programs too.
        eprintln!(
            "walcast: there are no tokens in {}; make one with: walcast token add NAME --feed FEED",
            tokens.path.display()
        );
    }
    for token in &file.tokens {
        println!("{}", described(token));
    }
    Ok(())
}

fn revoke(name: &str, tokens: &TokensAt) -> anyhow::Result<()> {
    TokenFile::change(&tokens.path, |file| {
        let there = file.tokens.len();
        let unknown = unknown(name, file);
        file.tokens.retain(|token| token.name != name);
        match file.tokens.len() < there {
            true => Ok(()),
            false => Err(unknown),
        }
    })?;
    println!("{name} is revoked");
    Ok(())
}

fn show(credential: &str, args: &TokenFileArgs) -> anyhow::Result<()> {
    let text = given(credential)?;
    let text = text.trim();
    match configuration(args)? {
        Some(config) if config.auth.jwt.is_some() && PresentedToken::parse(text).is_none() => {
            show_jwt(text, &config)
        }
        _ => show_token(text, &TokensAt::of(args)?),
    }
}

/// What was given, or what stands on stdin in its place.
fn given(credential: &str) -> anyhow::Result<String> {
    if credential != "-" {
        return Ok(credential.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut text)
        .context("stdin can't be read")?;
    Ok(text)
}

fn show_jwt(text: &str, config: &Config) -> anyhow::Result<()> {
    let gate = Gate::new(&config.auth, &config.feeds, Owners::Administered)?;
    let grant = gate.examine(text).map_err(|refusal| {
        let name = refusal.name.unwrap_or_else(|| "the JWT".to_owned());
        let why = refusal.detail.unwrap_or("it is not good here");
        anyhow!("{name} is refused ({}): {why}", refusal.failure.code())
    })?;
    let until = grant.expires().map(shown_time).unwrap_or_default();
    println!("{} (a JWT), until {until}", grant.name());
    show_feeds(config, |feed| grant.feed(&feed.name));
    Ok(())
}

/// Says of each feed what may be read of it, or why nothing.
fn show_feeds(config: &Config, granted: impl Fn(&FeedConfig) -> Option<FeedGrant>) {
    for feed in &config.feeds {
        let what = match granted(feed) {
            Some(FeedGrant::Rows(scope)) => rows(&scope),
            Some(FeedGrant::ClaimMissing(column)) => format!(
                "nothing, for it does not say which {column} it is for{}",
                source(feed, &column)
            ),
            None if feed.scope == FeedScope::Unsaid => {
                "nothing, for only tokens that name it read it".to_owned()
            }
            None => "nothing, for it does not name the feed".to_owned(),
        };
        println!("  {}: {what}", feed.name);
    }
}

/// Where the value for this column would have to be said.
fn source(feed: &FeedConfig, column: &str) -> String {
    let FeedScope::Columns(columns) = &feed.scope else {
        return String::new();
    };
    let found = columns.iter().find(|(name, _)| name == column);
    found.map_or(String::new(), |(_, source)| format!(" ({source})"))
}

/// Which rows, in words.
fn rows(scope: &Scope) -> String {
    if scope.is_everything() {
        return "all rows".to_owned();
    }
    let terms: Vec<String> = scope
        .terms()
        .map(|(column, values)| match values.is_empty() {
            true => format!("{column} is nothing at all"),
            false => format!("{column} = {}", alternatives(values)),
        })
        .collect();
    format!("rows where {}", terms.join(" and "))
}

fn alternatives(values: &BTreeSet<ScopeValue>) -> String {
    let has_text = |integer: i64| values.contains(&ScopeValue::Text(integer.to_string()));
    let shown = values.iter().filter_map(|value| match value {
        // Beside the text that it is written as it says nothing more.
        ScopeValue::Integer(integer) if has_text(*integer) => None,
        ScopeValue::Integer(integer) => Some(integer.to_string()),
        ScopeValue::Text(text) => Some(format!("{text:?}")),
    });
    shown.collect::<Vec<_>>().join(" or ")
}

fn show_token(text: &str, tokens: &TokensAt) -> anyhow::Result<()> {
    let file = TokenFile::read(&tokens.path, Owners::Administered)?;
    let presented = PresentedToken::parse(text)
        .ok_or_else(|| anyhow!("that is not of the form of a token, wct_<id>_<secret>"))?;
    let known = file.tokens.iter().find(|token| token.id == presented.id);
    let known = known.ok_or_else(|| {
        anyhow!(
            "there is no token {} in {}; it was revoked, or is of another daemon",
            presented.id,
            tokens.path.display()
        )
    })?;
    if !presented.is(&known.hash) {
        bail!(
            "the id is that of {}, but the secret is another",
            known.name
        );
    }
    println!("{}", described(known));
    if let Some(config) = &tokens.config {
        let scope = known.scope();
        show_feeds(config, |feed| {
            known.feeds.contains(&feed.name).then_some(())?;
            Some(match feed.scope.missing_in(&scope) {
                Some(column) if !known.edge => FeedGrant::ClaimMissing(column.to_owned()),
                _ => FeedGrant::Rows(scope.clone()),
            })
        });
    }
    match known.expires {
        Some(expires) if expires <= SystemTime::now() => bail!("{} has expired", known.name),
        _ => Ok(()),
    }
}

fn unknown(name: &str, file: &TokenFile) -> anyhow::Error {
    let names = file.tokens.iter().map(|token| token.name.as_str());
    anyhow!("there is no token {name}{}", did_you_mean(name, names))
}

/// The token with what the arguments say, in place of what it could do before.
fn granted(token: TokenEntry, grant: &GrantArgs) -> anyhow::Result<TokenEntry> {
    let mut columns = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (column, value) in &grant.columns {
        columns
            .entry(column.clone())
            .or_default()
            .push(value.clone());
    }
    let expires = grant.expires.as_deref().map(expiry).transpose()?;
    Ok(TokenEntry {
        feeds: grant.feeds.clone(),
        columns,
        ingest: grant.ingest,
        metrics: grant.metrics,
        edge: grant.edge,
        expires,
        ..token
    })
}

/// When something ends that lasts for so long from now on, or until then.
fn expiry(text: &str) -> anyhow::Result<SystemTime> {
    let wrong = || {
        anyhow!(
            "--expires {text}: is not a time; write 90d, 12h or 30m, or e.g. 2027-01-31T00:00:00Z"
        )
    };
    if let Some(time) = parse_time(text) {
        return Ok(time);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    // A hundred years are enough, and far from what a clock can't hold.
    let lasts = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(seconds));
    let lasts = lasts.filter(|lasts| (1..=36_525 * 86_400).contains(lasts));
    Ok(SystemTime::now() + Duration::from_secs(lasts.ok_or_else(wrong)?))
}

/// A token in one line, without its secret, which nobody knows.
fn described(token: &TokenEntry) -> String {
    let mut text = format!("{} (wct_{}…)", token.name, token.id);
    if !token.feeds.is_empty() {
        text.push_str(&format!(" reads {}", token.feeds.join(", ")));
    }
    for (column, values) in &token.columns {
        text.push_str(&format!(" where {column} = {}", values.join(" or ")));
    }
    for (may, what) in [
        (token.ingest, "ingest"),
        (token.metrics, "metrics"),
        (token.edge, "edge"),
    ] {
        if may {
            text.push_str(&format!(", {what}"));
        }
    }
    if let Some(expires) = token.expires {
        text.push_str(&format!(", until {}", shown_time(expires)));
    }
    text
}
