//! A daemon that asks for tokens, and `walcast token` that makes them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::http::Response;
use crate::common::secrets;
use crate::common::settings::{self, Settings};
use crate::common::{Daemon, EventSource, Subscriber};
use tempfile::TempDir;

/// Orders of customers who must not know of each other. Whose a row is is not shown.
const TABLES: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT, item TEXT, branch INTEGER);
    CREATE TABLE news(id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT, public INTEGER)";
const FEEDS: &str = r#"
[feeds.orders]
exclude = ["customer"]
ingest = true
scope = { customer = "claim:customer" }
[feeds.news]
"#;

/// The daemon, its files, and the tokens that were made.
pub struct Office {
    pub daemon: Daemon,
    tokens: PathBuf,
    metrics_token: String,
    _directory: TempDir,
}

/// A configuration with tokens in this directory; `auth` are further keys of `[auth]`.
pub fn settings(directory: &Path, auth: &str) -> Settings {
    let tokens = directory.join("tokens.toml");
    Settings::on(directory).toml(format!(
        "[auth]\ntokens = {:?}\n{auth}\n{FEEDS}",
        tokens.to_str().expect("the path is text")
    ))
}

impl Office {
    pub fn open() -> Office {
        Office::open_with("")
    }

    /// The same; `auth` are further keys of `[auth]`.
    pub fn open_with(auth: &str) -> Office {
        Office::open_in(crate::common::directory(), auth)
    }

    /// The same, in a directory in which files may be already.
    pub fn open_in(directory: TempDir, auth: &str) -> Office {
        let settings = settings(directory.path(), auth).with_tables(TABLES);
        let tokens = directory.path().join("tokens.toml");
        let metrics_token = add(&tokens, &["first", "--metrics"]);
        let daemon = settings.metrics_by(&metrics_token).start();
        Office {
            daemon,
            tokens,
            metrics_token,
            _directory: directory,
        }
    }

    /// A token that can read what is counted.
    pub fn metrics_token(&self) -> &str {
        &self.metrics_token
    }

    /// Makes a token and waits until the daemon takes it.
    #[track_caller]
    pub fn token(&self, name: &str, grant: &[&str]) -> String {
        let before = self.times_read();
        let token = add(&self.tokens, &[&[name], grant].concat());
        crate::common::wait_until("the token is taken", || self.times_read() > before);
        token
    }

    /// How often the daemon has read its tokens again.
    pub fn times_read(&self) -> usize {
        self.daemon.log().matches("tokens read again").count()
    }

    /// A token for a customer's orders.
    #[track_caller]
    pub fn customer(&self, name: &str) -> String {
        let only = format!("customer={name}");
        self.token(name, &["--feed", "orders", "--where", &only, "--ingest"])
    }

    /// Runs `walcast token` on the daemon's tokens; gives what it printed.
    #[track_caller]
    pub fn command(&self, args: &[&str]) -> String {
        command(&self.tokens, args).expect("the command works")
    }

    pub fn tokens(&self) -> &Path {
        &self.tokens
    }

    pub fn get(&self, path: &str, token: Option<&str>) -> Response {
        let bearer = token.map(bearer);
        let headers: Vec<(&str, &str)> = bearer
            .iter()
            .map(|value| ("Authorization", value.as_str()))
            .collect();
        self.daemon.request("GET", path, &headers, b"")
    }

    pub fn post(&self, path: &str, token: &str, body: &Value) -> Response {
        let bearer = bearer(token);
        let headers = [
            ("Authorization", bearer.as_str()),
            crate::common::http::JSON,
        ];
        self.daemon
            .request("POST", path, &headers, body.to_string().as_bytes())
    }

    #[track_caller]
    pub fn subscribe(&self, path: &str, query: &str, token: &str) -> Subscriber {
        let bearer = bearer(token);
        let headers = [("Authorization", bearer.as_str())];
        Subscriber::connect_with(self.daemon.address(), path, query, &headers)
    }

    /// As a page does, which can send no header of its own.
    #[track_caller]
    pub fn subscribe_from_page(&self, path: &str, query: &str, token: Option<&str>) -> Subscriber {
        let offers = token.map(|token| format!("walcast.v1, walcast.bearer.{token}"));
        let offers = offers.unwrap_or_else(|| "walcast.v1".to_owned());
        let headers = [
            ("Origin", "http://localhost:3000"),
            ("Host", "localhost"),
            ("Sec-WebSocket-Protocol", offers.as_str()),
        ];
        Subscriber::connect_with(self.daemon.address(), path, query, &headers)
    }

    /// The status of a handshake with this token.
    pub fn upgrade_status(&self, token: &str) -> u16 {
        let bearer = bearer(token);
        let headers = [("Authorization", bearer.as_str())];
        self.daemon.upgrade("/ws/orders", &headers).status
    }

    /// How many orders the table holds, whosever they are.
    pub fn orders_stored(&self) -> i64 {
        self.daemon.database().number("SELECT count(*) FROM orders")
    }

    #[track_caller]
    pub fn event_source(&self, path: &str, token: &str) -> EventSource {
        let bearer = bearer(token);
        self.daemon
            .event_source(path, &[("Authorization", &bearer)])
    }
}

/// Of a token the file keeps nothing that would be one.
impl Drop for Office {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let kept = fs::read_to_string(&self.tokens).unwrap_or_default();
            secrets::assert_none_in("the file of tokens", &kept);
        }
    }
}

/// The same token with another secret.
pub fn with_another_secret(token: &str) -> String {
    let secret = secrets::secret_of(token);
    let other = if secret.starts_with('A') { 'B' } else { 'A' };
    token.replace(secret, &format!("{other}{}", &secret[1..]))
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[track_caller]
fn add(tokens: &Path, args: &[&str]) -> String {
    let made = command(tokens, &[&["add"], args].concat());
    made.expect("a token is made").trim().to_owned()
}

/// What `walcast token` printed; else what it complained of. A token is printed where it is made, and never again.
#[track_caller]
pub fn command(tokens: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = settings::program();
    command.arg("token").args(args).arg("--tokens").arg(tokens);
    let output = command.output().expect("walcast can be run");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    secrets::assert_none_in("what it printed", &format!("{printed}{complaint}"));
    secrets::keep_those_in(&printed);
    secrets::assert_none_in("stderr", &complaint);
    match output.status.success() {
        true => Ok(printed),
        false => Err(complaint),
    }
}
