//! The resolved configuration as TOML, each value with its source.

use std::fmt::Display;

use super::feeds::ALL_TABLES;
use super::layers::{ValueSource, quoted};
use super::{
    AnonymousPart, AuthRules, Config, FeedConfig, FeedScope, JournalMode, JwtKeys, JwtRules,
    Listen, LogFormat, Resolved, WatchMode, parse,
};
use crate::model::filter::ScopeValue;

impl Resolved {
    /// TOML that loads to the same configuration. What has no value is a comment that says what happens instead.
    pub(super) fn describe(&self) -> String {
        let Config {
            database,
            listen,
            metrics_listen,
            journal_mode,
            watch,
            state_dir,
            all_tables,
            feeds,
            auth,
            access,
            limits,
            log_level,
            log_format,
            open: _,
        } = &self.config;
        let mut out = Out {
            resolved: self,
            section: String::new(),
            text: self.heading(),
        };
        out.value("database", quoted(&database.to_string_lossy()));
        out.value("listen", list(listen.iter().map(Listen::to_string)));
        out.value("journal_mode", quoted(journal_mode.as_str()));
        let directory = state_dir
            .as_ref()
            .map(|path| quoted(&path.to_string_lossy()));
        out.optional("state_dir", directory, "no place for it was found");
        out.value("origins", list(texts(&access.origins)));
        out.value("hosts", list(texts(&access.hosts)));
        out.value("trusted_proxies", list(texts(&access.trusted_proxies)));
        out.value("frame_ancestors", list(texts(&access.frame_ancestors)));
        out.optional(
            "max_connections",
            limits.max_connections,
            "the descriptor limit less 64",
        );
        out.value("max_connections_per_ip", limits.max_connections_per_ip);
        out.value(
            "write_timeout",
            quoted(&parse::written(limits.write_timeout)),
        );
        out.value(
            "drain_timeout",
            quoted(&parse::written(limits.drain_timeout)),
        );
        out.value("watch", quoted(watch.as_str()));
        out.value(
            "poll_interval",
            quoted(&parse::written(limits.poll_interval)),
        );
        out.value("replays", limits.replays);
        out.value("max_row_bytes", limits.max_row_bytes);
        if *all_tables {
            out.value("feeds", quoted(ALL_TABLES));
        }
        out.section("ring");
        out.value("rows", limits.ring_rows);
        out.value("bytes", limits.ring_bytes);
        out.section("history");
        let history = &limits.history;
        out.value("waiting", history.waiting);
        out.value("waiting_per_client", history.waiting_per_client);
        out.value("wait", quoted(&parse::written(history.wait)));
        out.value("time", quoted(&parse::written(history.time)));
        out.value("answers", history.answers);
        out.section("auth");
        out.auth(auth);
        if let Some(jwt) = &auth.jwt {
            out.section("auth.jwt");
            out.jwt(jwt);
        }
        if let Some(proxy) = &auth.proxy {
            out.section("auth.proxy");
            out.value("user", quoted(&proxy.user));
        }
        out.section("metrics");
        let addresses = metrics_listen.iter().map(Listen::to_string);
        let addresses = (!metrics_listen.is_empty()).then(|| list(addresses));
        out.optional("listen", addresses, "with everything else");
        out.section("log");
        out.value("level", quoted(log_level));
        out.value("format", quoted(log_format.as_str()));
        for feed in feeds {
            out.feed(feed);
        }
        out.text
    }

    fn heading(&self) -> String {
        match &self.file {
            Some(file) => format!(
                "# The configuration of walcast, each value with its source. The file is {file:?}.\n"
            ),
            None => {
                "# The configuration of walcast, each value with its source. No file is read.\n"
                    .to_owned()
            }
        }
    }
}

struct Out<'a> {
    resolved: &'a Resolved,
    section: String,
    text: String,
}

impl Out<'_> {
    fn section(&mut self, name: &str) {
        self.text.push_str(&format!("\n[{name}]\n"));
        self.section = format!("{name}.");
    }

    fn value(&mut self, key: &str, value: impl Display) {
        let place = self
            .resolved
            .places
            .get(&format!("{}{key}", self.section))
            .unwrap_or(&ValueSource::Default);
        self.text.push_str(&format!("{key} = {value}  # {place}\n"));
    }

    fn optional(&mut self, key: &str, value: Option<impl Display>, otherwise: &str) {
        match value {
            Some(value) => self.value(key, value),
            None => self
                .text
                .push_str(&format!("# {key}: {otherwise}  # default\n")),
        }
    }

    fn auth(&mut self, auth: &AuthRules) {
        match &auth.anonymous_part {
            None => self.value("anonymous", auth.anonymous),
            Some(part) => self.value("anonymous", anonymous_part(part)),
        }
        let tokens = auth.tokens.as_ref();
        let tokens = tokens.map(|path| quoted(&path.to_string_lossy()));
        self.optional("tokens", tokens, "no tokens are asked for");
        self.value("query_token", auth.query_token);
        let cookie = auth.cookie.as_deref().map(quoted);
        self.optional("cookie", cookie, "no cookie carries a token");
    }

    fn jwt(&mut self, jwt: &JwtRules) {
        let algorithms = jwt.algorithms.iter();
        self.value("algorithms", list(algorithms.map(|one| format!("{one:?}"))));
        let (key, file) = match &jwt.keys {
            JwtKeys::KeyFile(file) => ("key_file", file),
            JwtKeys::JwksFile(file) => ("jwks_file", file),
        };
        self.value(key, quoted(&file.to_string_lossy()));
        self.value("issuer", quoted(&jwt.issuer));
        self.value("audience", quoted(&jwt.audience));
        self.value("leeway", quoted(&parse::written(jwt.leeway)));
        let revoked = jwt.revoked_file.as_ref();
        let revoked = revoked.map(|path| quoted(&path.to_string_lossy()));
        self.optional("revoked_file", revoked, "they are good until they expire");
    }

    fn feed(&mut self, feed: &FeedConfig) {
        self.section(&format!("feeds.{}", feed.name));
        self.value("table", quoted(&feed.table));
        self.optional(
            "key",
            feed.key.as_deref().map(quoted),
            "the integer primary key",
        );
        self.value("ws", list(&feed.ws));
        self.value("history", list(&feed.history));
        self.value("message.type", quoted(&feed.message_type));
        self.value("message.body", quoted(&feed.message_body));
        self.optional("columns", feed.columns.as_ref().map(list), "all");
        self.value("exclude", list(&feed.exclude));
        self.value("json", list(&feed.json));
        let cuts: Vec<_> = feed
            .truncate
            .iter()
            .map(|(column, length)| format!("{} = {length}", quoted(column)))
            .collect();
        self.value(
            "truncate",
            if cuts.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", cuts.join(", "))
            },
        );
        self.value("ingest", feed.ingest);
        let scope = scope(&feed.scope);
        self.optional("scope", scope, "only tokens that name the feed read it");
        self.value("create", feed.create);
    }
}

fn anonymous_part(part: &AnonymousPart) -> String {
    let columns = part.scope.terms().map(|(column, values)| {
        // An integer stands beside the text that it is written as.
        let texts = values.iter().filter_map(|value| match value {
            ScopeValue::Text(text) => Some(text),
            ScopeValue::Integer(_) => None,
        });
        format!("{} = {}", quoted_key(column), list(texts))
    });
    let columns: Vec<String> = columns.collect();
    let feeds = list(&part.feeds);
    match columns.is_empty() {
        true => format!("{{ feeds = {feeds} }}"),
        false => format!(
            "{{ feeds = {feeds}, where = {{ {} }} }}",
            columns.join(", ")
        ),
    }
}

fn scope(scope: &FeedScope) -> Option<String> {
    match scope {
        FeedScope::Unsaid => None,
        FeedScope::Everything => Some(quoted("none")),
        FeedScope::Columns(columns) => {
            let columns = columns.iter().map(|(column, source)| {
                let source = quoted(&source.to_string());
                format!("{} = {source}", quoted_key(column))
            });
            Some(format!("{{ {} }}", columns.collect::<Vec<_>>().join(", ")))
        }
    }
}

/// Any name as a key of TOML, which escapes as JSON does.
fn quoted_key(key: &str) -> String {
    serde_json::Value::from(key).to_string()
}

fn texts<T: Display>(values: &[T]) -> impl Iterator<Item = String> {
    values.iter().map(T::to_string)
}

fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<_> = texts
        .into_iter()
        .map(|text| quoted(text.as_ref()))
        .collect();
    format!("[{}]", texts.join(", "))
}

/// As it is written in the configuration.
impl Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl JournalMode {
    /// As it is written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Keep => "keep",
        }
    }
}

impl WatchMode {
    /// As it is written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Notify => "notify",
            Self::Poll => "poll",
        }
    }
}

impl LogFormat {
    /// As it is written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
