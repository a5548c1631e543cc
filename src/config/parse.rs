//! What single values mean: from text, numbers and lists to typed settings. The error says what is wrong and how to mend it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::written::WrittenValue;
use super::{CompressionMode, JournalMode, Listen, LogFormat, WatchMode, parse_age};
use crate::address::NatsServer;

/// The longest duration a setting may have. Nobody waits longer, and sums with a clock's time stay far from overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn text(value: &WrittenValue) -> Result<String, String> {
    match value {
        WrittenValue::Text(text) | WrittenValue::Argument(text) if text.is_empty() => {
            Err("is empty; give a value or leave it out".to_owned())
        }
        WrittenValue::Text(text) | WrittenValue::Argument(text) if text.contains('\0') => {
            Err("holds a NUL character; remove it".to_owned())
        }
        WrittenValue::Text(text) | WrittenValue::Argument(text) => Ok(text.clone()),
        _ => Err("is not text; put it in quotes".to_owned()),
    }
}

pub(super) fn path(value: &WrittenValue) -> Result<PathBuf, String> {
    text(value).map(PathBuf::from)
}

/// The path of one file, or a list of them.
pub(super) fn paths(value: &WrittenValue) -> Result<Vec<PathBuf>, String> {
    let paths = texts(value)?;
    Ok(paths.into_iter().map(PathBuf::from).collect())
}

/// One text or a list of them.
pub(super) fn texts(value: &WrittenValue) -> Result<Vec<String>, String> {
    match value {
        WrittenValue::List(items) => items
            .iter()
            .map(|item| text(item).map_err(|problem| format!("{item} {problem}")))
            .collect(),
        WrittenValue::Text(_) | WrittenValue::Argument(_) => Ok(vec![text(value)?]),
        _ => Err("is neither text nor a list of texts; write [\"…\", \"…\"]".to_owned()),
    }
}

pub(super) fn boolean(value: &WrittenValue) -> Result<bool, String> {
    match value {
        WrittenValue::Boolean(truth) => Ok(*truth),
        WrittenValue::Argument(text) if text == "true" || text == "1" => Ok(true),
        WrittenValue::Argument(text) if text == "false" || text == "0" => Ok(false),
        _ => Err("is not a truth value; write true or false, without quotes".to_owned()),
    }
}

/// A whole number above zero.
pub(super) fn count(value: &WrittenValue) -> Result<usize, String> {
    let number = match value {
        WrittenValue::Integer(number) => Some(*number),
        WrittenValue::Argument(text) => text.parse().ok(),
        _ => None,
    };
    match number.map(usize::try_from) {
        Some(Ok(number)) if number > 0 => Ok(number),
        _ => Err(
            "is not a whole number above 0; write it in digits, without quotes and units"
                .to_owned(),
        ),
    }
}

/// Units of sizes, and how many bytes each is.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A number of bytes above zero: `4GiB`, `512MiB`, or the number alone.
pub(super) fn size(value: &WrittenValue) -> Result<u64, String> {
    let bytes = match value {
        WrittenValue::Integer(bytes) => u64::try_from(*bytes).ok(),
        WrittenValue::Text(text) | WrittenValue::Argument(text) => sized(text.trim()),
        _ => None,
    };
    // Servers and SQLite count in signed numbers.
    match bytes.filter(|bytes| i64::try_from(*bytes).is_ok()) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(
            "is not a size; write e.g. \"512MiB\", \"4GiB\", or a number of bytes above 0"
                .to_owned(),
        ),
    }
}

fn sized(text: &str) -> Option<u64> {
    let of_unit = |(unit, bytes): (&str, u64)| text.strip_suffix(unit).map(|rest| (rest, bytes));
    let (number, unit) = SIZE_UNITS
        .into_iter()
        .find_map(of_unit)
        .unwrap_or((text, 1));
    number.trim_end().parse::<u64>().ok()?.checked_mul(unit)
}

/// The shortest way to write a size that [`size`] reads back.
pub(super) fn written_size(bytes: u64) -> String {
    let whole = |(_, unit): &(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match SIZE_UNITS.into_iter().find(whole) {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => format!("{bytes}B"),
    }
}

/// An age above zero: as a time in seconds, minutes, hours or days.
pub(super) fn age(value: &WrittenValue) -> Result<Duration, String> {
    match value {
        WrittenValue::Integer(seconds) => parse_age(&format!("{seconds}s")),
        _ => parse_age(&text(value)?),
    }
}

/// Addresses of NATS servers, one at least.
pub(super) fn nats_servers(value: &WrittenValue) -> Result<Vec<NatsServer>, String> {
    let server = |text: &String| {
        // What stands before an @ may be a secret.
        let shown = text.rsplit('@').next().unwrap_or_default();
        NatsServer::parse(text).map_err(|problem| format!("{shown} {problem}"))
    };
    let servers: Vec<NatsServer> = texts(value)?.iter().map(server).collect::<Result<_, _>>()?;
    match servers.is_empty() {
        true => Err("names no server; write e.g. [\"nats://127.0.0.1:4222\"]".to_owned()),
        false => Ok(servers),
    }
}

/// A time above zero.
pub(super) fn duration(value: &WrittenValue) -> Result<Duration, String> {
    match duration_or_zero(value)? {
        Duration::ZERO => Err("must be 1ms or more".to_owned()),
        duration => Ok(duration),
    }
}

/// A time: `250ms`, `30s`, `1m`, `1h`, or a number of seconds. Kept in whole milliseconds.
pub(super) fn duration_or_zero(value: &WrittenValue) -> Result<Duration, String> {
    let seconds = match value {
        WrittenValue::Integer(seconds) => Some(*seconds as f64),
        WrittenValue::Float(seconds) => Some(*seconds),
        WrittenValue::Text(text) | WrittenValue::Argument(text) => seconds(text.trim()),
        _ => None,
    };
    let time =
        seconds.and_then(|seconds| Duration::try_from_secs_f64((seconds * 1e3).round() / 1e3).ok());
    match time {
        Some(time) if time <= LONGEST => Ok(time),
        Some(_) => Err("is too long; at most 24h".to_owned()),
        None => Err(
            "is not a time; write \"250ms\", \"30s\", \"1m\", or a number of seconds".to_owned(),
        ),
    }
}

fn seconds(text: &str) -> Option<f64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

/// The shortest way to write a time that [`duration`] reads back.
pub(super) fn written(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

pub(super) fn journal_mode(value: &WrittenValue) -> Result<JournalMode, String> {
    match value {
        WrittenValue::Text(text) | WrittenValue::Argument(text) if text == "wal" => {
            Ok(JournalMode::Wal)
        }
        WrittenValue::Text(text) | WrittenValue::Argument(text) if text == "keep" => {
            Ok(JournalMode::Keep)
        }
        _ => Err(
            "is not a journal mode; write \"wal\" (switch the file to WAL) or \"keep\"".to_owned(),
        ),
    }
}

/// What is compressed.
pub(super) fn compression(value: &WrittenValue) -> Result<CompressionMode, String> {
    let (WrittenValue::Text(text) | WrittenValue::Argument(text)) = value else {
        return Err(NO_COMPRESSION.to_owned());
    };
    match text.as_str() {
        "off" => Ok(CompressionMode::Off),
        "auto" => Ok(CompressionMode::Auto),
        "on" => Ok(CompressionMode::On),
        _ => Err(NO_COMPRESSION.to_owned()),
    }
}

const NO_COMPRESSION: &str = "does not say what to compress; write \"off\", \"auto\" (what is larger than \
                              compress_above) or \"on\" (all that gets smaller)";

/// How it is heard of writes, as far as this system can.
pub(super) fn watch(value: &WrittenValue) -> Result<WatchMode, String> {
    let (WrittenValue::Text(text) | WrittenValue::Argument(text)) = value else {
        return Err(NO_WATCH_MODE.to_owned());
    };
    match text.as_str() {
        "auto" => Ok(WatchMode::Auto),
        "poll" => Ok(WatchMode::Poll),
        "notify" if HAS_NOTIFY => Ok(WatchMode::Notify),
        "notify" => Err(
            "is not to be had on this system: its file events would cost SQLite the locks of this process; write \"poll\" \
             or \"auto\", which is the same here"
                .to_owned(),
        ),
        _ => Err(NO_WATCH_MODE.to_owned()),
    }
}

const NO_WATCH_MODE: &str =
    "is not a way to hear of writes; write \"auto\", \"notify\" or \"poll\"";

/// Whether `notify` is compiled in: see Cargo.toml.
const HAS_NOTIFY: bool = cfg!(any(target_os = "linux", target_os = "macos"));

pub(super) fn log_format(value: &WrittenValue) -> Result<LogFormat, String> {
    match value {
        WrittenValue::Text(text) | WrittenValue::Argument(text) => match text.as_str() {
            "auto" => Some(LogFormat::Auto),
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        },
        _ => None,
    }
    .ok_or_else(|| "is not a log format; write \"auto\", \"text\" or \"json\"".to_owned())
}

/// What is logged, the least first.
pub(super) const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Filter directives. A lone word must be a level: as a target, which the filter's own grammar allows, a mistyped level would
/// silence the log.
pub(super) fn log_level(value: &WrittenValue) -> Result<String, String> {
    let levels = texts(value)?.join(",");
    for directive in levels.split(',') {
        let (target, level) = directive
            .rsplit_once('=')
            .map_or((None, directive), |(target, level)| (Some(target), level));
        let is_level = LOG_LEVELS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(level.trim()));
        if !is_level || target.is_some_and(|target| target.trim().is_empty()) {
            return Err(format!(
                "`{directive}` is not a log level; write off, error, warn, info, debug or trace, or e.g. \"info,walcast=debug\""
            ));
        }
    }
    Ok(levels)
}

pub(super) fn listen(value: &WrittenValue) -> Result<Vec<Listen>, String> {
    let mut places = Vec::new();
    for address in texts(value)? {
        let place = listen_place(&address).map_err(|problem| format!("{address} {problem}"))?;
        if places.contains(&place) {
            return Err(format!("{address} is named twice; name it once"));
        }
        places.push(place);
    }
    if places.is_empty() {
        return Err("names no address; write e.g. [\"127.0.0.1:8010\"] or leave it out".to_owned());
    }
    Ok(places)
}

fn listen_place(address: &str) -> Result<Listen, String> {
    if let Some(path) = address.strip_prefix("unix:") {
        return match path.starts_with('/') && !path.ends_with('/') {
            true => Ok(Listen::Unix(path.into())),
            false => Err(
                "is not an absolute path of a socket; write e.g. unix:/run/walcast/walcast.sock"
                    .to_owned(),
            ),
        };
    }
    // Never asked of a resolver: what `localhost` means must not depend on the network.
    let local = address
        .strip_prefix("localhost:")
        .or_else(|| address.strip_prefix(':'))
        .unwrap_or(address);
    let port = Some(local).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let parsed = match port {
        Some(port) => port
            .parse()
            .ok()
            .map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => address.parse().ok(),
    };
    parsed.map(Listen::Tcp).ok_or_else(|| {
        "is not an address to listen on; write IP:PORT such as 127.0.0.1:8010 or [::1]:8010, PORT, :PORT or localhost:PORT for this machine alone, or unix:/PATH"
            .to_owned()
    })
}

/// Returns whether only this machine can reach the address.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// One URL path at least.
pub(super) fn url_paths(value: &WrittenValue) -> Result<Vec<String>, String> {
    match alias_paths(value)? {
        paths if paths.is_empty() => {
            Err("names no path; write e.g. \"/ws/orders\" or leave it out".to_owned())
        }
        paths => Ok(paths),
    }
}

/// URL paths, perhaps none.
pub(super) fn alias_paths(value: &WrittenValue) -> Result<Vec<String>, String> {
    let paths = texts(value)?;
    for path in &paths {
        url_path(path).map_err(|problem| format!("{path} {problem}"))?;
    }
    Ok(paths)
}

fn url_path(path: &str) -> Result<(), String> {
    const BUILT_IN: [&str; 7] = [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api",
        "/sse",
        "/walcast.js",
    ];
    if !path.starts_with('/') {
        return Err(format!("does not begin with a slash; write \"/{path}\""));
    }
    // Clients and proxies rewrite all of these on the way, so such a path would never be asked for.
    let odd = |c: char| !c.is_ascii_graphic() || "?#%\"<>\\^`{|}".contains(c);
    let parted = path.split('/').any(|part| part == "." || part == "..") || path.contains("//");
    if path.contains(odd) || parted {
        return Err(
            "is not a plain path; leave out blanks, ?, #, %, quotes, braces, doubled slashes and dot segments"
                .to_owned(),
        );
    }
    if BUILT_IN.contains(&path) || path.starts_with("/api/") || path.starts_with("/sse/") {
        return Err("is a path of walcast itself; choose one outside /, /healthz, /readyz, /metrics, /walcast.js, /api/ and /sse/".to_owned());
    }
    Ok(())
}

/// Names of columns, one at least.
pub(super) fn columns(value: &WrittenValue) -> Result<Vec<String>, String> {
    match texts(value)? {
        columns if columns.is_empty() => {
            Err("names no column; leave it out to expose all of them".to_owned())
        }
        columns => Ok(columns),
    }
}

/// The key that holds the row. `type` and `truncated` stand beside it in the same object.
pub(super) fn message_body(value: &WrittenValue) -> Result<String, String> {
    match text(value)?.as_str() {
        taken @ ("type" | "truncated") => Err(format!(
            "the message has a key `{taken}` already; choose another name, e.g. \"event\""
        )),
        body => Ok(body.to_owned()),
    }
}

/// Columns and the number of code points their text is cut to.
pub(super) fn truncate(value: &WrittenValue) -> Result<Vec<(String, usize)>, String> {
    let WrittenValue::Table(entries) = value else {
        return Err(
            "is not a table; write { column = characters }, e.g. { details = 500 }".to_owned(),
        );
    };
    let cut = |(column, node): &(String, super::written::Node)| {
        let length =
            count(&node.value).map_err(|problem| format!("{column} = {} {problem}", node.value))?;
        Ok((column.clone(), length))
    };
    entries.iter().map(cut).collect()
}
