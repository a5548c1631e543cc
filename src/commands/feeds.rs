//! `walcast feeds`: which feeds a file has, or a running daemon serves.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::shapes::shapes;
use crate::cli::ClientToken;
use crate::commands::named_file::existing;
use crate::config::Config;
use crate::text::harmless::harmless;

/// How long a daemon may take to accept, and to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than a list of as many feeds as there can be.
const LONGEST_ANSWER: u64 = 16 << 20;

/// Prints the feeds of the daemon at `target` where it is a URL, else those of the configured file, and what can't be
/// one. `false` where some feed can't be read.
///
/// # Errors
/// There is no daemon, or no database that can be read.
pub fn feeds(target: Option<&str>, config: &Config, token: &ClientToken) -> anyhow::Result<bool> {
    match target.filter(|target| target.contains("://")) {
        Some(url) => of_daemon(url, token.read()?.as_deref()),
        None => of_file(target.is_some(), config),
    }
}

/// Lines of cells.
type Table = Vec<Vec<String>>;

fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn of_file(named: bool, config: &Config) -> anyhow::Result<bool> {
    if named {
        existing(&config.database)?;
    }
    let found = shapes(config)?;
    let mut table = vec![heading(&["FEED", "TABLE", "KEY", "HEAD", "PATH"])];
    for shape in &found.feeds {
        table.push(vec![
            shape.feed.name.clone(),
            shape.schema.table.name.clone(),
            shape.schema.table.key_name().to_owned(),
            shape.head.to_string(),
            shape.feed.ws.join(" "),
        ]);
    }
    print(&table)?;
    for unfit in &found.unfit {
        eprintln!(
            "walcast: the table {} is not a feed: {}",
            harmless(&unfit.table),
            harmless(&unfit.reason)
        );
    }
    Ok(!found.feeds.is_empty())
}

fn of_daemon(url: &str, token: Option<&str>) -> anyhow::Result<bool> {
    let answer = ask(url, token)?;
    let feeds = answer["feeds"]
        .as_array()
        .with_context(|| format!("what answers at {url} is not walcast"))?;
    let mut table = vec![heading(&[
        "FEED",
        "TABLE",
        "KEY",
        "HEAD",
        "SUBSCRIBERS",
        "PATH",
        "STATUS",
    ])];
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mut sound = true;
    for feed in feeds {
        let status = match &feed["reason"] {
            Value::String(reason) => format!("{}: {reason}", text(&feed["status"])),
            _ => text(&feed["status"]),
        };
        sound &= feed["status"] != "error";
        let mut line: Vec<String> = ["name", "table", "key", "head", "subscribers"]
            .iter()
            .map(|key| text(&feed[*key]))
            .collect();
        line.extend([text(&feed["ws"][0]), status]);
        table.push(line);
    }
    print(&table)?;
    Ok(sound)
}

/// Asks the daemon for its feeds.
fn ask(url: &str, token: Option<&str>) -> anyhow::Result<Value> {
    let authority = match url.split_once("://") {
        Some(("http" | "ws", rest)) => rest.split(['/', '?', '#']).next().unwrap_or_default(),
        _ => bail!("{url}: give the daemon's own address, e.g. http://127.0.0.1:8010"),
    };
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    let address = match after_host.contains(':') {
        true => authority.to_owned(),
        false => format!("{authority}:80"),
    };
    let unreachable = |e: io::Error| anyhow!("no daemon answers at {authority}: {e}");
    let mut stream = connect(&address).map_err(unreachable)?;
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "GET /api/feeds HTTP/1.1\r\nHost: {authority}\r\n{}Connection: close\r\n\r\n",
        bearer.unwrap_or_default()
    );
    let mut answer = Vec::new();
    stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.take(LONGEST_ANSWER).read_to_end(&mut answer))
        .map_err(unreachable)?;
    parse(&answer).ok_or_else(|| {
        let first = answer
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        anyhow!(
            "{authority} answers {:?}, which is no list of feeds",
            String::from_utf8_lossy(first)
        )
    })
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// The body of a good answer. A proxy may send it in chunks: then what is between the braces is put together again.
fn parse(answer: &[u8]) -> Option<Value> {
    let split = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (&answer[..split], &answer[split + 4..]);
    let head = std::str::from_utf8(head).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?;
    if status != "200" {
        return None;
    }
    match head.contains("transfer-encoding: chunked") {
        true => serde_json::from_slice(&joined(body)?).ok(),
        false => serde_json::from_slice(body).ok(),
    }
}

fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&chunks[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let from = end + 2;
        body.extend_from_slice(chunks.get(from..from.checked_add(size)?)?);
        chunks = chunks.get(from + size + 2..)?;
    }
}

/// Prints lines with their cells in columns. Where nobody reads it any more, nobody needs the rest.
fn print(table: &Table) -> io::Result<()> {
    let columns = table.iter().map(Vec::len).max().unwrap_or_default();
    let cell = |line: &[String], column: usize| harmless(&line[column]).into_owned();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            table
                .iter()
                .map(|line| cell(line, column).chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for line in table {
        let cells: Vec<String> = (0..line.len())
            .map(|column| format!("{:<width$}", cell(line, column), width = widths[column]))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_in_chunks() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"feeds\":[]}";
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"fee\r\n7\r\nds\":[]}\r\n0\r\n\r\n";
        for answer in [&whole[..], chunked] {
            assert_eq!(parse(answer), Some(serde_json::json!({"feeds": []})));
        }
        for other in [
            &b"HTTP/1.1 404 Not Found\r\n\r\n{}"[..],
            b"",
            b"SSH-2.0\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n<p>",
        ] {
            assert_eq!(parse(other), None);
        }
    }
}
