//! The receiver of a webhook: one request, and what its answer means.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connector::{InTime, TookTooLong};
use crate::address::WebhookUrl;
use crate::net::tls_client::{TlsClientError, client_config};
use crate::telemetry::metrics::SinkFailure;
use crate::text::harmless::harmless;

/// How long the whole of a request and its answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes that are read of an answer. Nothing in it matters but its status; a connection whose answer was read to its end
/// can be used again.
const READ: usize = 64 * 1024;
/// Bytes of an answer that says why rows are not taken that the log repeats.
const REPEATED: usize = 200;

/// Connections to one receiver.
pub(super) struct Receiver {
    url: WebhookUrl,
    client: Connections,
}

enum Connections {
    Plain(Client<InTime<HttpConnector>, Full<Bytes>>),
    Tls(Client<InTime<HttpsConnector<HttpConnector>>, Full<Bytes>>),
}

/// What is posted, and what says who sends it.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) body: Bytes,
    /// `webhook-id`
    pub(super) id: String,
    /// `webhook-timestamp`, in seconds since 1970.
    pub(super) timestamp: u64,
    /// `webhook-signature`
    pub(super) signature: String,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answer {
    /// The receiver has the rows.
    Taken,
    /// The receiver wants no rows any more.
    Gone,
    /// It has to be tried again.
    Failed(Failed),
}

/// Why it has to be tried again.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: SinkFailure,
    /// In words, harmless in a log and on a page.
    pub(super) why: String,
    /// Whether the receiver finds what was posted too large.
    pub(super) too_large: bool,
    /// How long the receiver asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Failed {
    fn of(reason: SinkFailure, why: impl Into<String>) -> Failed {
        let why: String = why.into();
        Failed {
            reason,
            why: harmless(&why).into_owned(),
            too_large: false,
            retry_after: None,
        }
    }
}

impl Receiver {
    /// The receiver at `url`, whose certificate the `authorities` of a PEM file vouch for, or the system's where none is
    /// named. Blocks: it reads files.
    ///
    /// # Errors
    /// TLS is spoken there, and there is no authority to trust.
    pub(super) fn new(
        url: WebhookUrl,
        authorities: Option<&Path>,
    ) -> Result<Receiver, TlsClientError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        // Rows are posted one after the other.
        builder
            .pool_max_idle_per_host(1)
            .pool_timer(TokioTimer::new());
        let client = if url.is_tls() {
            tcp.enforce_http(false);
            let tls = HttpsConnectorBuilder::new()
                .with_tls_config((*client_config(authorities)?).clone())
                .https_only()
                .enable_http1()
                .wrap_connector(tcp);
            Connections::Tls(builder.build(InTime(tls)))
        } else {
            Connections::Plain(builder.build(InTime(tcp)))
        };
        Ok(Receiver { url, client })
    }

    pub(super) fn url(&self) -> &WebhookUrl {
        &self.url
    }

    /// Posts it once, and reads the answer.
    pub(super) async fn post(&self, delivery: Delivery) -> Answer {
        let request = match self.request(delivery) {
            Ok(request) => request,
            Err(e) => return Answer::Failed(Failed::of(SinkFailure::Protocol, e.to_string())),
        };
        let answered = tokio::time::timeout(ANSWER, async {
            let response = match &self.client {
                Connections::Plain(client) => client.request(request).await,
                Connections::Tls(client) => client.request(request).await,
            };
            match response {
                Ok(response) => understand(response).await,
                Err(e) => Answer::Failed(no_answer(&e)),
            }
        });
        answered.await.unwrap_or_else(|_| {
            let why = format!("no answer within {} s", ANSWER.as_secs());
            Answer::Failed(Failed::of(SinkFailure::Timeout, why))
        })
    }

    fn request(&self, delivery: Delivery) -> http::Result<Request<Full<Bytes>>> {
        Request::post(self.url.uri())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("walcast/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", delivery.id)
            .header("webhook-timestamp", delivery.timestamp)
            .header("webhook-signature", delivery.signature)
            .body(Full::new(delivery.body))
    }
}

/// What an answer means. Redirects are not followed: rows go to the address of the configuration, and nowhere else.
async fn understand(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let status = head.status;
    // Where it breaks off, its status counts all the same.
    let text = Limited::new(body, READ).collect();
    let text = text.await.map(|text| text.to_bytes()).unwrap_or_default();
    let reason = match status {
        _ if status.is_success() => return Answer::Taken,
        StatusCode::GONE => return Answer::Gone,
        _ if status.is_redirection() => SinkFailure::Redirect,
        _ if status.is_client_error() => SinkFailure::ClientError,
        _ if status.is_server_error() => SinkFailure::ServerError,
        _ => SinkFailure::Protocol,
    };
    let mut why = format!("it answers {}", status.as_u16());
    if status.is_redirection() {
        why.push_str(", and redirects are not followed");
    }
    let said = String::from_utf8_lossy(&text[..text.len().min(REPEATED)]);
    if !said.trim().is_empty() {
        why.push_str(&format!(": {}", said.trim()));
    }
    Answer::Failed(Failed {
        too_large: status == StatusCode::PAYLOAD_TOO_LARGE,
        retry_after: retry_after(&head.headers, SystemTime::now()),
        ..Failed::of(reason, why)
    })
}

/// How long a receiver asks to be left alone: in seconds, or until a date.
fn retry_after(headers: &HeaderMap<HeaderValue>, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

/// Why there is no answer, from what hyper says and the causes below it.
fn no_answer(error: &hyper_util::client::legacy::Error) -> Failed {
    let mut causes: Vec<&(dyn Error + 'static)> = vec![error];
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    let tls = causes.iter().find_map(|cause| tls_error(*cause));
    let io = || {
        causes
            .iter()
            .find_map(|cause| cause.downcast_ref::<std::io::Error>())
    };
    if let Some(tls) = tls {
        Failed::of(SinkFailure::Tls, format!("TLS: {tls}"))
    } else if let Some(late) = causes
        .iter()
        .find_map(|cause| cause.downcast_ref::<TookTooLong>())
    {
        Failed::of(SinkFailure::Connect, late.to_string())
    } else if error.is_connect() {
        let why = io().map_or_else(|| error.to_string(), ToString::to_string);
        Failed::of(SinkFailure::Connect, format!("no connection: {why}"))
    } else {
        let why = causes
            .last()
            .map_or_else(|| error.to_string(), ToString::to_string);
        Failed::of(SinkFailure::Protocol, format!("no whole answer: {why}"))
    }
}

/// What is wrong with TLS, which comes inside an error of input and output, and that inside another.
fn tls_error<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let inner = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
    inner.downcast_ref().or_else(|| tls_error(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_time_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            of("Tue, 14 Nov 2023 22:13:30 GMT"),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            of("Tue, 14 Nov 2023 22:00:00 GMT"),
            Some(Duration::ZERO),
            "over"
        );
        for text in ["soon", "-3", "1.5", ""] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
