//! What clients of every kind ask of a daemon.

use std::net::TcpStream;

use serde_json::Value;

use super::daemon::Daemon;
use super::event_source::EventSource;
use super::http::{self, Response};
use super::subscriber::Subscriber;

/// The WebSocket of the stock feed.
pub const STOCK_FEED: &str = "/ws/remediation";
/// Its history, and where rows are posted to.
pub const STOCK_EVENTS: &str = "/api/feeds/remediation/events";
/// Its history under the name of its own.
pub const STOCK_HISTORY: &str = "/ops/remediate/history";
/// Its server-sent events.
pub const STOCK_SSE: &str = "/sse/remediation";

impl Daemon {
    /// A subscriber of the stock feed; `query` may be empty.
    #[track_caller]
    pub fn subscribe(&self, query: &str) -> Subscriber {
        self.subscribe_to(STOCK_FEED, query)
    }

    #[track_caller]
    pub fn subscribe_to(&self, path: &str, query: &str) -> Subscriber {
        Subscriber::connect(self.address(), path, query)
    }

    /// A subscriber of the stock feed that has been told hello; and the hello.
    #[track_caller]
    pub fn resume(&self, query: &str) -> (Subscriber, Value) {
        let mut subscriber = self.subscribe(query);
        let hello = subscriber.expect("hello");
        (subscriber, hello)
    }

    /// A resumable subscriber of the stock feed that has nothing to wait for but new rows.
    #[track_caller]
    pub fn subscribe_live(&self) -> Subscriber {
        let (mut subscriber, _) = self.resume("since=now");
        subscriber.expect("live");
        subscriber
    }

    /// A subscriber for which the kernel keeps little, so that not to read is soon felt.
    #[track_caller]
    pub fn subscribe_slow(&self, path: &str, query: &str) -> Subscriber {
        Subscriber::connect_with_small_buffer(self.address(), path, query, &[])
    }

    /// A connection on which nothing was said yet.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        http::connect(self.address())
    }

    /// A stream of server-sent events.
    #[track_caller]
    pub fn event_source(&self, path: &str, headers: &[(&str, &str)]) -> EventSource {
        EventSource::open(self.address(), path, headers)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.post_text(path, &body.to_string())
    }

    /// Posts what may be no JSON as if it were.
    #[track_caller]
    pub fn post_text(&self, path: &str, body: &str) -> Response {
        self.request("POST", path, &[http::JSON], body.as_bytes())
    }

    #[track_caller]
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        http::request(self.address(), method, path, headers, body)
    }

    /// Asks for an upgrade to WebSocket, with these headers too.
    #[track_caller]
    pub fn upgrade(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        http::upgrade(self.address(), path, headers)
    }

    /// Asks for an upgrade that is to be refused, and gives the refusal.
    #[track_caller]
    pub fn refused_upgrade(&self, path: &str) -> Response {
        let response = self.upgrade(path, &[]);
        assert_ne!(response.status, 101, "{path} was not refused");
        response
    }

    /// What `/api/feeds` says of the first feed.
    #[track_caller]
    pub fn feed(&self) -> Value {
        self.get("/api/feeds").json()["feeds"][0].take()
    }

    /// The epoch of the first feed.
    #[track_caller]
    pub fn epoch(&self) -> String {
        let feed = self.feed();
        feed["epoch"].as_str().expect("an epoch").to_owned()
    }

    /// What is counted, asked for with the token for that where there is one.
    #[track_caller]
    pub fn metrics(&self) -> Response {
        let bearer = self.settings().token_for_metrics();
        let bearer = bearer.map(|token| format!("Bearer {token}"));
        let header = bearer.as_deref().map(|value| ("Authorization", value));
        self.request("GET", "/metrics", header.as_slice(), b"")
    }

    /// The value of a metric, given with its labels as Prometheus writes them; 0 where it does not exist yet.
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().text();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    /// How many connections were refused or ended for this reason.
    #[track_caller]
    pub fn connection_errors(&self, reason: &str) -> f64 {
        self.metric(&format!(
            "walcast_connection_errors_total{{reason=\"{reason}\"}}"
        ))
    }
}
