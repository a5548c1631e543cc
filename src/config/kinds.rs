//! Kinds of values: what settings of them take and mean, and how they are written.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::access::{self, TrustedProxy};
use super::declaration::{Declaration, Takes};
use super::log::LogFormat;
use super::parse;
use super::written::WrittenValue;
use super::{CompressionMode, JournalMode, Listen, WatchMode, written_age};
use crate::address::{AllowedOrigin, HostName, NatsServer};

/// Some text, not empty.
pub(super) fn text() -> Declaration<String> {
    Declaration::new("TEXT", parse::text, |text| WrittenValue::Text(text.clone()))
}

fn list<T: Display>(items: &Vec<T>) -> WrittenValue {
    WrittenValue::texts(items)
}

/// One text or a list of them.
pub(super) fn texts() -> Declaration<Vec<String>> {
    Declaration::new("TEXT", parse::texts, list).takes(Takes::Texts)
}

/// `true` or `false`.
pub(super) fn boolean() -> Declaration<bool> {
    let write = |truth: &bool| WrittenValue::Boolean(*truth);
    Declaration::new("true|false", parse::boolean, write).takes(Takes::Truth)
}

/// A path of the file system.
pub(super) fn path() -> Declaration<PathBuf> {
    Declaration::new("FILE", parse::path, |path: &PathBuf| {
        WrittenValue::path(path)
    })
    .takes(Takes::File)
}

/// Paths of the file system.
pub(super) fn paths() -> Declaration<Vec<PathBuf>> {
    Declaration::new("FILE", parse::paths, |paths: &Vec<PathBuf>| {
        WrittenValue::List(paths.iter().map(|path| WrittenValue::path(path)).collect())
    })
    .takes(Takes::Files)
}

/// A whole number, 1 or more.
pub(super) fn count() -> Declaration<usize> {
    Declaration::new("N", parse::count, |count| WrittenValue::count(*count))
}

/// A number of bytes, 1 or more.
pub(super) fn bytes() -> Declaration<usize> {
    count().called("BYTES")
}

/// A number of bytes, 1 or more, that may be written with a unit.
pub(super) fn size() -> Declaration<u64> {
    Declaration::new("BYTES", parse::size, |bytes| {
        WrittenValue::Text(parse::written_size(*bytes))
    })
}

/// An age of a second to ten years.
pub(super) fn age() -> Declaration<Duration> {
    Declaration::new("AGE", parse::age, |age: &Duration| {
        WrittenValue::Text(written_age(*age))
    })
}

/// Addresses of NATS servers, one at least.
pub(super) fn nats_servers() -> Declaration<Vec<NatsServer>> {
    Declaration::new("URL", parse::nats_servers, list).takes(Takes::Texts)
}

/// A time of 1 ms to 24 hours.
pub(super) fn time() -> Declaration<Duration> {
    Declaration::new("TIME", parse::duration, written_time)
}

/// A time of up to 24 hours.
pub(super) fn time_or_zero() -> Declaration<Duration> {
    Declaration::new("TIME", parse::duration_or_zero, written_time)
}

fn written_time(time: &Duration) -> WrittenValue {
    WrittenValue::Text(parse::written(*time))
}

pub(super) fn journal_mode() -> Declaration<JournalMode> {
    let write = |mode: &JournalMode| WrittenValue::Text(mode.as_str().to_owned());
    Declaration::new("MODE", parse::journal_mode, write).takes(Takes::OneOf(&["wal", "keep"]))
}

/// How it is heard of writes.
pub(super) fn watch() -> Declaration<WatchMode> {
    let write = |mode: &WatchMode| WrittenValue::Text(mode.as_str().to_owned());
    Declaration::new("HOW", parse::watch, write).takes(Takes::OneOf(&["auto", "notify", "poll"]))
}

/// What is compressed.
pub(super) fn compression() -> Declaration<CompressionMode> {
    let write = |mode: &CompressionMode| WrittenValue::Text(mode.as_str().to_owned());
    let modes = Takes::OneOf(&["off", "auto", "on"]);
    Declaration::new("MODE", parse::compression, write).takes(modes)
}

/// Directives of the log's filter.
pub(super) fn log_level() -> Declaration<String> {
    let write = |level: &String| WrittenValue::Text(level.clone());
    Declaration::new("LEVEL", parse::log_level, write).takes(Takes::Offered(&parse::LOG_LEVELS))
}

pub(super) fn log_format() -> Declaration<LogFormat> {
    let write = |format: &LogFormat| WrittenValue::Text(format.as_str().to_owned());
    let formats = Takes::OneOf(&["auto", "text", "json"]);
    Declaration::new("FORMAT", parse::log_format, write).takes(formats)
}

/// Places to listen, one at least.
pub(super) fn listen() -> Declaration<Vec<Listen>> {
    Declaration::new("ADDR", parse::listen, list).takes(Takes::Texts)
}

/// Origins of browsers.
pub(super) fn origins() -> Declaration<Vec<AllowedOrigin>> {
    Declaration::new("ORIGIN", access::origins, list).takes(Takes::Texts)
}

/// Names of hosts.
pub(super) fn hosts() -> Declaration<Vec<HostName>> {
    Declaration::new("NAME", access::hosts, list).takes(Takes::Texts)
}

/// Addresses and networks, and `unix`.
pub(super) fn trusted_proxies() -> Declaration<Vec<TrustedProxy>> {
    let kind = Declaration::new("NETWORK", access::trusted_proxies, list);
    kind.takes(Takes::Texts)
}

/// Paths of URLs, one at least.
pub(super) fn url_paths() -> Declaration<Vec<String>> {
    Declaration::new("PATH", parse::url_paths, list)
}

/// Paths of URLs, perhaps none.
pub(super) fn alias_paths() -> Declaration<Vec<String>> {
    Declaration::new("PATH", parse::alias_paths, list)
}

/// Names of columns, one at least.
pub(super) fn columns() -> Declaration<Vec<String>> {
    Declaration::new("COLUMN", parse::columns, list)
}

/// A key beside `type`.
pub(super) fn message_body() -> Declaration<String> {
    Declaration::new("NAME", parse::message_body, |name| {
        WrittenValue::Text(name.clone())
    })
}

/// Columns and the number of characters that their texts are cut to.
pub(super) fn cuts() -> Declaration<Vec<(String, usize)>> {
    let write = |cuts: &Vec<(String, usize)>| {
        let cuts = cuts.iter();
        WrittenValue::columns(
            cuts.map(|(column, cut)| (column.as_str(), WrittenValue::count(*cut))),
        )
    };
    Declaration::new("TABLE", parse::truncate, write)
}
