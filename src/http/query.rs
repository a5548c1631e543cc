//! Query strings: reserved words and column filters, each parameter checked and named where it is wrong.

use percent_encoding::percent_decode_str;

use crate::change::Cursor;
use crate::filter::{Filter, MAX_VALUES, RESERVED};
use crate::http::error::HttpError;
use crate::session::{Request, Since};
use crate::sqlite::reader::HistoryQuery;
use crate::sqlite::table::Schema;

/// Most rows `last=<n>` may ask for.
const MAX_LAST: u32 = 10_000;
/// Rows a history answer holds where `limit` is not given, and at most.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 500;
/// JSON that the rows of one answer may be together. Each has an equal share, and what does not fit is cut.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// A share is never smaller.
const MIN_ITEM_BYTES: usize = 16 * 1024;

/// The parameters of a request, decoded.
#[derive(Debug)]
struct Params(Vec<(String, String)>);

impl Params {
    fn parse(raw: &str) -> Result<Params, HttpError> {
        raw.split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (name, value) = part.split_once('=').ok_or_else(|| {
                    HttpError::bad_parameter(format!(
                        "parameter \"{part}\" has no value; write {part}=…"
                    ))
                })?;
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<_, _>>()
            .map(Params)
    }

    /// Takes a reserved word out; once at most.
    fn take(&mut self, word: &str) -> Result<Option<String>, HttpError> {
        let mut found = self.0.extract_if(.., |(name, _)| name == word);
        let first = found.next().map(|(_, value)| value);
        if found.next().is_some() {
            return Err(HttpError::bad_parameter(format!(
                "parameter \"{word}\" is given more than once"
            )));
        }
        Ok(first)
    }

    /// What is left are filters.
    fn filter(self, schema: Option<&Schema>) -> Result<Filter, HttpError> {
        let mut filter = Filter::default();
        for (name, value) in self.0 {
            if RESERVED.contains(&name.as_str()) {
                return Err(HttpError::bad_parameter(format!(
                    "parameter \"{name}\" has no meaning here"
                )));
            }
            if let Some(schema) = schema
                && schema.place(&name).is_none()
            {
                let there = schema.column_names().join(", ");
                return Err(HttpError::new(
                    warp::http::StatusCode::BAD_REQUEST,
                    "unknown_column",
                    format!("there is no column \"{name}\" to filter on; there are {there}"),
                ));
            }
            filter.accept(&name, &value);
        }
        if filter.value_count() > MAX_VALUES {
            return Err(HttpError::bad_parameter(format!(
                "a filter may have {MAX_VALUES} values at most"
            )));
        }
        Ok(filter)
    }
}

fn decode(text: &str) -> Result<String, HttpError> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| {
            HttpError::bad_parameter(format!("parameter \"{text}\" is not UTF-8 when decoded"))
        })
}

/// What a subscription asks for. `resume` is what the client remembers by other means than the query (SSE's
/// `Last-Event-ID`), which goes before `since`.
pub fn subscription(
    raw: &str,
    schema: Option<&Schema>,
    resume: Option<Since>,
) -> Result<Request, HttpError> {
    let mut params = Params::parse(raw)?;
    let (since, last) = (params.take("since")?, params.take("last")?);
    let epoch = params.take("epoch")?;
    params.take("token")?;
    let since = match (since, last) {
        (Some(_), Some(_)) => {
            return Err(HttpError::bad_parameter(
                "parameters \"since\" and \"last\" exclude each other",
            ));
        }
        (Some(since), None) => Some(parse_since(&since, epoch)?),
        (None, Some(last)) => Some(parse_last(&last)?),
        (None, None) => None,
    };
    Ok(Request {
        since: resume.or(since),
        filter: params.filter(schema)?,
    })
}

fn parse_since(text: &str, epoch: Option<String>) -> Result<Since, HttpError> {
    match text {
        "earliest" | "0" => Ok(Since::Earliest),
        "now" => Ok(Since::Now),
        _ => match parse_id(text) {
            Some(id) => Ok(Since::Id { id, epoch }),
            None => Err(HttpError::bad_parameter(format!(
                "since={text}: must be an id (the last one received), \"earliest\" or \"now\""
            ))),
        },
    }
}

/// Digits, nothing else: `+5` would have been a space.
fn parse_id(text: &str) -> Option<Cursor> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().map(Cursor)
}

fn parse_last(text: &str) -> Result<Since, HttpError> {
    number_within(text, MAX_LAST)
        .map(Since::Last)
        .ok_or_else(|| {
            HttpError::bad_parameter(format!(
                "last={text}: must be a number from 1 to {MAX_LAST}"
            ))
        })
}

fn number_within(text: &str, max: u32) -> Option<u32> {
    parse_id(text)
        .and_then(|id| u32::try_from(id.0).ok())
        .filter(|n| (1..=max).contains(n))
}

/// What a history request asks for.
pub fn history(raw: &str, schema: Option<&Schema>) -> Result<HistoryQuery, HttpError> {
    let mut params = Params::parse(raw)?;
    params.take("token")?;
    let limit = match params.take("limit")? {
        None => DEFAULT_LIMIT,
        Some(text) => number_within(&text, MAX_LIMIT).ok_or_else(|| {
            HttpError::bad_parameter(format!(
                "limit={text}: must be a number from 1 to {MAX_LIMIT}"
            ))
        })?,
    };
    let bound = |word: &str, text: Option<String>| {
        text.map(|text| {
            parse_id(&text)
                .ok_or_else(|| HttpError::bad_parameter(format!("{word}={text}: must be an id")))
        })
        .transpose()
    };
    let before = bound("before", params.take("before")?)?;
    let after = bound("after", params.take("after")?)?;
    Ok(HistoryQuery {
        limit,
        item_bytes: (PAGE_BYTES / limit as usize).max(MIN_ITEM_BYTES),
        before,
        after,
        filter: params.filter(schema)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(raw: &str) -> Option<Since> {
        subscription(raw, None, None).unwrap().since
    }

    #[test]
    fn subscriptions_are_plain_or_say_where_to_begin() {
        let id = |id, epoch: Option<&str>| {
            Some(Since::Id {
                id: Cursor(id),
                epoch: epoch.map(str::to_owned),
            })
        };
        assert_eq!(since(""), None);
        assert_eq!(since("tenant=acme&epoch=e"), None);
        assert_eq!(since("since=5"), id(5, None));
        assert_eq!(since("since=5&epoch=a%2Db"), id(5, Some("a-b")));
        assert_eq!(since("since=9223372036854775807"), id(i64::MAX, None));
        assert_eq!(since("since=0"), Some(Since::Earliest));
        assert_eq!(since("since=earliest&epoch=e"), Some(Since::Earliest));
        assert_eq!(since("since=now"), Some(Since::Now));
        assert_eq!(since("last=10000"), Some(Since::Last(10_000)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (raw, name) in [
            ("since=abc", "since"),
            ("since=", "since"),
            ("since=1.5", "since"),
            ("since=%2B5", "since"),
            ("since=9223372036854775808", "since"),
            ("since=1&since=2", "since"),
            ("last=0", "last"),
            ("last=10001", "last"),
            ("last=-1", "last"),
            ("last=5&last=5", "last"),
            ("since=1&last=5", "last"),
            ("epoch=a&epoch=b", "epoch"),
            ("tenant", "tenant"),
            ("tenant=%ff", "%ff"),
            ("limit=5", "limit"),
        ] {
            let error = subscription(raw, None, None).unwrap_err();
            assert!(format!("{error:?}").contains(name), "{raw}: {error:?}");
        }
        for (raw, name) in [
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("before=x", "before"),
            ("since=1", "since"),
        ] {
            let error = history(raw, None).unwrap_err();
            assert!(format!("{error:?}").contains(name), "{raw}: {error:?}");
        }
    }

    #[test]
    fn filters_are_decoded() {
        let filter = subscription("tenant=a+b%26c&tenant=d&%C3%A9=", None, None)
            .unwrap()
            .filter;
        let mut wanted = Filter::default();
        wanted.accept("tenant", "a b&c");
        wanted.accept("tenant", "d");
        wanted.accept("é", "");
        assert_eq!(filter, wanted);
    }
}
