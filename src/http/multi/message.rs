//! What the client of a socket with several subscriptions says, and what it is told beside the frames of those.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use warp::http::StatusCode;

use crate::http::error::HttpError;
use crate::http::params;
use crate::session::Request;
use crate::sqlite::table::Schema;

/// Most bytes in the name that a client gives a subscription: it goes out with every row.
const MAX_ID_BYTES: usize = 64;

/// What a client asks for.
#[derive(Debug)]
pub(super) enum ClientMessage {
    Subscribe(Subscribe),
    Unsubscribe { id: String },
}

/// A subscription that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    #[serde(rename = "type")]
    _kind: String,
    /// The name the client gives it.
    pub id: String,
    pub feed: String,
    since: Option<Value>,
    last: Option<Value>,
    epoch: Option<String>,
    #[serde(default)]
    filters: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    #[serde(rename = "type")]
    _kind: String,
    id: String,
}

/// A message that can't be taken, and whose subscription it is about, where that can be told.
#[derive(Debug)]
pub(super) struct BadMessage {
    pub id: Option<String>,
    pub error: HttpError,
}

impl ClientMessage {
    /// Reads a message of text.
    ///
    /// # Errors
    /// It is none that there is, or a field of it is wrong.
    pub(super) fn parse(text: &str) -> Result<ClientMessage, BadMessage> {
        let nobody = |error| BadMessage { id: None, error };
        let json: Value = serde_json::from_str(text)
            .map_err(|e| nobody(bad_message(format!("not JSON: {e}"))))?;
        let id = json.get("id").and_then(Value::as_str);
        let bad = |error| BadMessage {
            id: id.filter(|id| id.len() <= MAX_ID_BYTES).map(str::to_owned),
            error,
        };
        let malformed = |e: serde_json::Error| bad(bad_message(e.to_string()));
        let message = match json.get("type").and_then(Value::as_str) {
            Some("subscribe") => serde_json::from_str(text)
                .map(ClientMessage::Subscribe)
                .map_err(malformed)?,
            Some("unsubscribe") => serde_json::from_str(text)
                .map(|Unsubscribe { id, .. }| ClientMessage::Unsubscribe { id })
                .map_err(malformed)?,
            _ => {
                let message = "\"type\" must be \"subscribe\", \"unsubscribe\" or \"ping\"";
                return Err(bad(bad_message(message)));
            }
        };
        let (ClientMessage::Subscribe(Subscribe { id: named, .. })
        | ClientMessage::Unsubscribe { id: named }) = &message;
        match named.len() {
            1..=MAX_ID_BYTES => Ok(message),
            _ => Err(bad(bad_message(format!(
                "\"id\" must have 1 to {MAX_ID_BYTES} bytes"
            )))),
        }
    }
}

impl Subscribe {
    /// Returns what is asked for of a feed of this schema.
    ///
    /// # Errors
    /// A field is wrong, as a parameter of its name would be.
    pub(super) fn request(self, schema: Option<&Schema>) -> Result<Request, HttpError> {
        if self.since.is_none() && self.last.is_none() {
            return Err(HttpError::bad_parameter(
                "\"since\" or \"last\" is missing: a subscription begins after an id, with \"earliest\" or \"now\", or with the \
                 last rows",
            ));
        }
        let mut parameters = Vec::new();
        for (name, value) in [("since", self.since), ("last", self.last)] {
            if let Some(value) = value {
                parameters.push((name, scalar(name, value)?));
            }
        }
        parameters.extend(self.epoch.map(|epoch| ("epoch", epoch)));
        let mut filters = Vec::new();
        for (column, values) in self.filters {
            let values = match values {
                Value::Array(values) if values.is_empty() => {
                    return Err(HttpError::bad_parameter(format!(
                        "the filter on \"{column}\" has no value; leave it out to have all rows"
                    )));
                }
                Value::Array(values) => values,
                one => vec![one],
            };
            for value in values {
                let value = scalar(&column, value)?;
                filters.push((column.clone(), value));
            }
        }
        params::message(parameters, filters, schema)
    }
}

/// A value as a query string would have it.
fn scalar(name: &str, value: Value) -> Result<String, HttpError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(HttpError::bad_parameter(format!(
            "\"{name}\" is {other}; it must be a string or a number"
        ))),
    }
}

/// Refuses a message that is not of the protocol.
pub(super) fn bad_message(message: impl Into<String>) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, "bad_message", message)
}

/// What stands before each frame of a subscription; `}` follows it.
pub(super) fn envelope(id: &str) -> Vec<u8> {
    format!("{{\"id\":{},\"message\":", Value::from(id)).into_bytes()
}

/// Words about one subscription, or about a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Told<'t> {
    /// It has ended, and its name is free.
    Closed {
        id: &'t str,
        code: u16,
        reason: &'t str,
    },
    /// There is none, for what was asked can't be done.
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'t str>,
        status: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u32>,
        error: Error<'t>,
    },
}

/// An error as over HTTP.
#[derive(Debug, Serialize)]
struct Error<'t> {
    code: &'static str,
    message: &'t str,
}

impl Told<'_> {
    fn json(&self) -> String {
        // Strings, numbers and options only: nothing in it can fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Returns the word that a subscription has ended.
pub(super) fn closed(id: &str, code: u16, reason: &str) -> String {
    Told::Closed { id, code, reason }.json()
}

/// Returns the word that something can't be done.
pub(super) fn error(id: Option<&str>, error: &HttpError) -> String {
    Told::Error {
        id,
        status: error.status().as_u16(),
        retry_after_ms: error.retry_after().map(|seconds| seconds * 1000),
        error: Error {
            code: error.code(),
            message: error.message(),
        },
    }
    .json()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filter::Filter;
    use crate::model::position::Cursor;
    use crate::session::Since;

    fn request(members: &str) -> Result<Request, HttpError> {
        let text = format!("{{\"type\":\"subscribe\",\"id\":\"a\",\"feed\":\"orders\"{members}}}");
        match ClientMessage::parse(&text) {
            Ok(ClientMessage::Subscribe(subscribe)) => subscribe.request(None),
            Ok(other) => panic!("{other:?}"),
            Err(bad) => Err(bad.error),
        }
    }

    #[test]
    fn a_subscription_says_where_it_begins_and_what_it_takes() {
        let since = |members: &str| request(members).unwrap().since;
        let id = |id, epoch: Option<&str>| {
            let epoch = epoch.map(str::to_owned);
            let id = Cursor(id);
            Some(Since::Id { id, epoch })
        };
        assert_eq!(since(r#","since":5"#), id(5, None));
        assert_eq!(since(r#","since":"5","epoch":"e1""#), id(5, Some("e1")));
        assert_eq!(since(r#","since":"now","epoch":null"#), Some(Since::Now));
        assert_eq!(since(r#","since":0"#), Some(Since::Earliest));
        assert_eq!(since(r#","last":20,"since":null"#), Some(Since::Last(20)));
        let filter =
            request(r#","last":1,"filters":{"tenant":["a","b"],"n":5,"name":"x"}"#).unwrap();
        let mut wanted = Filter::default();
        for (column, value) in [("tenant", "b"), ("tenant", "a"), ("n", "5"), ("name", "x")] {
            wanted.accept(column, value);
        }
        assert_eq!(filter.filter, wanted);
    }

    #[test]
    fn what_is_wrong_with_a_message_is_named() {
        for (members, code, name) in [
            ("", "bad_parameter", "since"),
            (r#","since":1,"last":1"#, "bad_parameter", "exclude"),
            (r#","since":1.5"#, "bad_parameter", "1.5"),
            (r#","since":true"#, "bad_parameter", "true"),
            (r#","last":0"#, "bad_parameter", "last=0"),
            (r#","since":1,"since":2"#, "bad_message", "duplicate"),
            (r#","since":1,"until":2"#, "bad_message", "until"),
            (r#","since":1,"filters":[]"#, "bad_message", "map"),
            (r#","since":1,"filters":{"a":[]}"#, "bad_parameter", "\"a\""),
            (
                r#","since":1,"filters":{"a":null}"#,
                "bad_parameter",
                "\"a\"",
            ),
            (
                r#","since":1,"filters":{"last":1}"#,
                "bad_parameter",
                "\"last\"",
            ),
        ] {
            let error = request(members).unwrap_err();
            assert_eq!(error.code(), code, "{members}: {error:?}");
            assert!(error.message().contains(name), "{members}: {error:?}");
        }
        let long = format!("{{\"type\":\"unsubscribe\",\"id\":\"{}\"}}", "x".repeat(65));
        for (text, id) in [
            ("hello", None),
            ("[]", None),
            (r#"{"type":"subscribe","id":5}"#, None),
            (r#"{"type":"subscribe","id":"","feed":"x"}"#, Some("")),
            (r#"{"type":"subscribe","id":"a"}"#, Some("a")),
            (r#"{"type":"fetch","id":"a"}"#, Some("a")),
            (r#"{"type":"unsubscribe","id":"a","feed":"x"}"#, Some("a")),
            (long.as_str(), None),
        ] {
            let bad = ClientMessage::parse(text).unwrap_err();
            assert_eq!(bad.error.code(), "bad_message", "{text}");
            assert_eq!(bad.id.as_deref(), id, "{text}");
        }
    }

    #[test]
    fn words_are_as_promised() {
        assert_eq!(
            closed("a\"", 4504, "gone"),
            r#"{"type":"closed","id":"a\"","code":4504,"reason":"gone"}"#
        );
        assert_eq!(
            error(Some("a"), &HttpError::not_found("no")),
            r#"{"type":"error","id":"a","status":404,"error":{"code":"not_found","message":"no"}}"#
        );
        assert_eq!(
            error(None, &HttpError::unavailable("no")),
            r#"{"type":"error","status":503,"retry_after_ms":1000,"error":{"code":"unavailable","message":"no"}}"#
        );
        assert_eq!(envelope("a\""), br#"{"id":"a\"","message":"#);
    }
}
