//! Query strings: reserved words and column filters, each parameter checked and named where it is wrong.

use percent_encoding::percent_decode_str;
use warp::http::StatusCode;

use crate::http::error::HttpError;
use crate::model::filter::{Filter, FilterColumn, MAX_VALUES, RESERVED};
use crate::model::position::Cursor;
use crate::session::{Request, Since};
use crate::sqlite::reader::HistoryQuery;
use crate::sqlite::table::Schema;
use crate::text::nearest::did_you_mean;

/// Most rows `last=<n>` may ask for.
const MAX_LAST: u32 = 10_000;
/// Rows a history answer holds where `limit` is not given, and at most.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 500;
/// JSON that the rows of one answer may be together. Each has an equal share, and what does not fit is cut.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// A share is never smaller.
const MIN_ITEM_BYTES: usize = 16 * 1024;

/// What the name of a parameter begins with that keeps a cache from answering, and says nothing to walcast where no
/// column has that name.
const IGNORED: char = '_';

/// What consoles ask a history of other makes for. The newest rows are the answer all the same (`before` leads to older
/// ones), unless columns have these names.
const OF_OTHER_HISTORIES: [&str; 2] = ["offset", "page"];

/// The parameters of a request, decoded.
#[derive(Debug)]
struct Params(Vec<(String, String)>);

impl Params {
    fn parse(raw: &str, schema: Option<&Schema>) -> Result<Params, HttpError> {
        let mut params = Vec::new();
        for part in raw.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (decode(name)?, Some(decode(value)?)),
                None => (decode(part)?, None),
            };
            // Without a table nobody knows its columns: then a filter is only what has a value.
            let is_column = schema.map_or(value.is_some(), |schema| schema.place(&name).is_some());
            if name.starts_with(IGNORED) && !is_column {
                continue;
            }
            let value = value.ok_or_else(|| {
                HttpError::bad_parameter(format!(
                    "parameter \"{part}\" has no value; write {part}=…"
                ))
            })?;
            params.push((name, value));
        }
        Ok(Params(params))
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

    /// Takes a parameter out that others may have added to an address that had it already.
    fn take_last(&mut self, word: &str) -> Option<String> {
        let found = self.0.extract_if(.., |(name, _)| name == word);
        found.last().map(|(_, value)| value)
    }

    /// Drops parameters that say nothing to walcast, but for columns of these names.
    fn ignore(&mut self, words: &[&str], schema: Option<&Schema>) {
        self.0.retain(|(name, _)| {
            let is_column = || schema.is_some_and(|schema| schema.place(name).is_some());
            !words.contains(&name.as_str()) || is_column()
        });
    }

    /// Returns the filter that the remaining parameters make up.
    fn filter(self, schema: Option<&Schema>) -> Result<Filter, HttpError> {
        let mut filter = Filter::default();
        for (name, value) in self.0 {
            if RESERVED.contains(&name.as_str()) {
                return Err(HttpError::bad_parameter(format!(
                    "parameter \"{name}\" has no meaning here"
                )));
            }
            if let Some(schema) = schema
                && schema.place_of(FilterColumn::Asked(&name)).is_none()
            {
                return Err(unknown_column(&name, schema));
            }
            filter.accept(&name, &value);
        }
        let values = filter.value_count();
        if values > MAX_VALUES {
            return Err(HttpError::bad_parameter(format!(
                "the filter has {values} values; it may have {MAX_VALUES} at most, so ask for fewer, or for all and choose"
            )));
        }
        Ok(filter)
    }
}

/// Refuses a filter on a column that can't be asked for, naming those that can.
fn unknown_column(name: &str, schema: &Schema) -> HttpError {
    let names = schema.filterable();
    let there = names.join(", ");
    let message = match schema.place(name) {
        // Only changes can't be filtered by all that is shown.
        Some(_) => format!(
            "changes can't be filtered on \"{name}\", for it is not recorded what it was before; there are {there} (the \
             operator has others recorded by `capture_filters`)"
        ),
        None => {
            let hint = did_you_mean(name, names.iter().copied());
            format!("there is no column \"{name}\" to filter on{hint}; there are {there}")
        }
    };
    HttpError::new(StatusCode::BAD_REQUEST, "unknown_column", message)
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

/// Reads what a WebSocket request subscribes to from its query string.
pub(crate) fn subscription(raw: &str, schema: Option<&Schema>) -> Result<Request, HttpError> {
    request(Params::parse(raw, schema)?, schema)
}

/// What a message asks for: parameters as a query string would have them, and apart from these the filter's columns.
pub(super) fn message(
    parameters: Vec<(&'static str, String)>,
    filters: Vec<(String, String)>,
    schema: Option<&Schema>,
) -> Result<Request, HttpError> {
    let reserved = |name: &str| RESERVED.contains(&name);
    if let Some((name, _)) = filters.iter().find(|(name, _)| reserved(name)) {
        return Err(HttpError::bad_parameter(format!(
            "\"{name}\" is a reserved word and can't be filtered on"
        )));
    }
    let parameters = parameters.into_iter();
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value));
    request(Params(parameters.chain(filters).collect()), schema)
}

/// Refuses parameters where there are to be none but a token.
pub(super) fn nothing(raw: &str) -> Result<(), HttpError> {
    let mut params = Params::parse(raw, None)?;
    params.take("token")?;
    match params.0.first() {
        None => Ok(()),
        Some((name, _)) => Err(HttpError::bad_parameter(format!(
            "parameter \"{name}\" has no meaning here: what a subscription asks for stands in its message"
        ))),
    }
}

/// What a stream of server-sent events asks for. What the client remembers goes before what its page asked for at first:
/// `last_id` is its `Last-Event-ID`, which polyfills that can't set a header send as a parameter.
pub(crate) fn stream(
    raw: &str,
    schema: Option<&Schema>,
    last_id: Option<&str>,
) -> Result<Request, HttpError> {
    let mut params = Params::parse(raw, schema)?;
    let parameter = params.take_last("lastEventId");
    let remembered = [last_id, parameter.as_deref()];
    let resume = remembered.into_iter().flatten().find(|id| !id.is_empty());
    let request = request(params, schema)?;
    Ok(Request {
        since: resume.map(resume_from).or(request.since),
        ..request
    })
}

/// `<epoch>:<id>`, as every event carries it. What is not of that form belongs to no history known here.
fn resume_from(last_id: &str) -> Since {
    let (epoch, id) = match last_id.rsplit_once(':') {
        Some((epoch, id)) => (epoch, id.parse().ok()),
        None => (last_id, None),
    };
    match id {
        Some(id) => Since::Id {
            id: Cursor(id),
            epoch: Some(epoch.to_owned()),
        },
        None => Since::Id {
            id: Cursor(0),
            epoch: Some(last_id.to_owned()),
        },
    }
}

fn request(mut params: Params, schema: Option<&Schema>) -> Result<Request, HttpError> {
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
        since,
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

/// Reads what a request for history asks for from its query string.
pub(crate) fn history(raw: &str, schema: Option<&Schema>) -> Result<HistoryQuery, HttpError> {
    let mut params = Params::parse(raw, schema)?;
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
    params.ignore(&OF_OTHER_HISTORIES, schema);
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

    fn schema() -> Schema {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, _own TEXT, page TEXT)")
            .unwrap();
        let table = crate::sqlite::table::Table::introspect(&db, "t", None).unwrap();
        let exposed = table.columns.iter().map(|c| crate::sqlite::table::Exposed {
            name: c.name.clone(),
            json: false,
            truncate: None,
        });
        Schema {
            version: 1,
            exposed: exposed.collect(),
            table,
            key_place: 0,
            hidden: Vec::new(),
            changes: None,
            written: None,
        }
    }

    fn since(raw: &str) -> Option<Since> {
        subscription(raw, None).unwrap().since
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
            let error = subscription(raw, None).unwrap_err();
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
    fn what_keeps_caches_from_answering_is_ignored() {
        for raw in ["_=17", "_", "_cache=&_", "&_t=a=b&"] {
            let request = subscription(&format!("{raw}&since=5"), Some(&schema())).unwrap();
            assert_eq!(request.filter, Filter::default(), "{raw}");
            assert!(request.since.is_some());
            assert!(history(raw, Some(&schema())).is_ok(), "{raw}");
        }
        let filter = subscription("_own=x&_other=y", Some(&schema()))
            .unwrap()
            .filter;
        let mut wanted = Filter::default();
        wanted.accept("_own", "x");
        assert_eq!(filter, wanted, "a column's name may begin so, too");
        assert!(subscription("_own", Some(&schema())).is_err());
        assert!(subscription("lastEventId=e:5", Some(&schema())).is_err());
    }

    #[test]
    fn a_history_takes_what_others_are_asked_for() {
        let filter = |raw: &str| history(raw, Some(&schema())).unwrap().filter;
        assert_eq!(filter("limit=10&offset=20&_=17"), Filter::default());
        let mut wanted = Filter::default();
        wanted.accept("page", "2");
        assert_eq!(
            filter("page=2&offset="),
            wanted,
            "a column may have the name"
        );
        assert!(history("page=2&offset=20", None).unwrap().filter.is_empty());
        assert!(subscription("offset=20", Some(&schema())).is_err());
    }

    #[test]
    fn a_stream_goes_on_where_the_client_remembers_to_have_been() {
        let since = |raw: &str, header| stream(raw, Some(&schema()), header).unwrap().since;
        let id = |id, epoch: &str| {
            let epoch = Some(epoch.to_owned());
            let id = Cursor(id);
            Some(Since::Id { id, epoch })
        };
        assert_eq!(since("", None), None);
        assert_eq!(since("lastEventId=", Some("")), None);
        assert_eq!(since("since=now&lastEventId=", None), Some(Since::Now));
        assert_eq!(since("lastEventId=e%3A5", None), id(5, "e"));
        assert_eq!(since("last=1&lastEventId=e:5", None), id(5, "e"));
        assert_eq!(since("lastEventId=e:5&lastEventId=e:6", None), id(6, "e"));
        assert_eq!(since("lastEventId=e:5", Some("f:-7")), id(-7, "f"));
        assert_eq!(since("", Some(":0")), id(0, ""));
        assert_eq!(since("", Some("nonsense")), id(0, "nonsense"));
    }

    #[test]
    fn filters_are_decoded() {
        let filter = subscription("tenant=a+b%26c&tenant=d&%C3%A9=", None)
            .unwrap()
            .filter;
        let mut wanted = Filter::default();
        wanted.accept("tenant", "a b&c");
        wanted.accept("tenant", "d");
        wanted.accept("é", "");
        assert_eq!(filter, wanted);
    }
}
