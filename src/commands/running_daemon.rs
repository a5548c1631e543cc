//! Asks a running daemon for the list of its feeds, and whether it is ready.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;

use super::BadUsage;
use crate::address::DaemonUrl;
use crate::cli::ClientTls;
use crate::config::Listen;
use crate::net::http_question::{Answer, converse};
use crate::net::remote_daemon::{
    RemoteDaemon, RemoteDaemonError, Unreachable, connect_tcp, connect_to_anyone,
};

/// How long a daemon may take to accept, and to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The daemon there, whose certificate is judged as the arguments say.
///
/// # Errors
/// There are no certificates to believe, or some are named for a URL that is without TLS.
pub(super) fn remote(url: &DaemonUrl, tls: &ClientTls) -> Result<RemoteDaemon, BadUsage> {
    RemoteDaemon::new(url, tls.ca.as_deref()).map_err(|e| {
        BadUsage(match e {
            RemoteDaemonError::Authorities(problem) => format!("--ca: {problem}"),
            RemoteDaemonError::WithoutTls => format!("--ca {e}"),
            RemoteDaemonError::Name(_) => e.to_string(),
        })
    })
}

/// Returns what `daemon` says of each of its feeds, `token` being presented where there is one.
///
/// # Errors
/// Nobody answers there, the daemon refuses, or it is no walcast.
pub(super) fn feeds_of(daemon: &RemoteDaemon, token: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let door = Door::Url(daemon.clone());
    let Answer { status, line, body } = door.get("/api/feeds", token)?;
    if status != 200 {
        let said = body["error"]["message"].as_str().unwrap_or("nothing more");
        bail!("{door} answers {line}: {said}");
    }
    match body {
        Value::Object(mut list) => match list.remove("feeds") {
            Some(Value::Array(feeds)) => Ok(feeds),
            _ => bail!("what answers at {door} is not walcast"),
        },
        _ => bail!("what answers at {door} is not walcast"),
    }
}

/// Returns why the daemon there can't serve rows right now; `None` where it can. No token is needed.
///
/// # Errors
/// Nobody answers there, or it is no walcast.
pub(super) fn not_ready(door: &Door) -> anyhow::Result<Option<String>> {
    let Answer { status, line, body } = door.get("/readyz", None)?;
    match (status, body["reason"].as_str()) {
        (200, _) => Ok(None),
        (503, Some(reason)) => Ok(Some(reason.to_owned())),
        _ => bail!("what answers at {door} is not walcast: {line}"),
    }
}

/// Where a daemon can be asked.
pub(super) enum Door {
    Url(RemoteDaemon),
    /// And whether TLS is spoken there.
    Address(SocketAddr, bool),
    Socket(PathBuf),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Url(daemon) => f.write_str(&daemon.url().authority()),
            Door::Address(address, _) => address.fmt(f),
            Door::Socket(path) => path.display().fmt(f),
        }
    }
}

impl Door {
    /// Where a daemon that listens there, on TCP perhaps with TLS, is reached from this machine.
    pub(super) fn of_listener(listen: &Listen, over_tls: bool) -> Door {
        match listen {
            Listen::Unix(path) => Door::Socket(path.clone()),
            Listen::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    ip => ip,
                };
                Door::Address(SocketAddr::new(ip, address.port()), over_tls)
            }
        }
    }

    fn get(&self, path: &str, token: Option<&str>) -> anyhow::Result<Answer> {
        let answer = self.ask(path, token).map_err(|e| match e {
            Unreachable::Io(e) => {
                anyhow!("no daemon answers at {self}: {e}; is walcast running there?")
            }
            Unreachable::Tls(_) => anyhow!("{self}: {e}"),
        })?;
        Answer::parse(&answer).ok_or_else(|| {
            let first = answer.split(|byte| *byte == b'\r').next();
            let first = String::from_utf8_lossy(first.unwrap_or_default());
            anyhow!("{self} answers {first:?}, which is not HTTP")
        })
    }

    fn ask(&self, path: &str, token: Option<&str>) -> Result<Vec<u8>, Unreachable> {
        let answer = match self {
            Door::Url(daemon) => {
                let host = daemon.url().authority();
                converse(daemon.connect(PATIENCE)?, &host, path, token)
            }
            Door::Address(address, false) => {
                let stream = connect_tcp(address, PATIENCE)?;
                converse(stream, &address.to_string(), path, token)
            }
            Door::Address(address, true) => {
                let stream = connect_to_anyone(*address, PATIENCE)?;
                converse(stream, &address.to_string(), path, token)
            }
            Door::Socket(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                converse(stream, "localhost", path, token)
            }
        };
        Ok(answer?)
    }
}
