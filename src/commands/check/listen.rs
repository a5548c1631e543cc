//! Whether each address could be bound, and if not, who has it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Access;

use super::report::{Report, quoted};
use crate::config::{Config, Listen};
use crate::net::remote_daemon::{connect_tcp, connect_to_anyone};
use crate::os::users::may;
use crate::sqlite::file::directory_of;

/// How long whoever has the address may take to say who it is.
const ANSWER: Duration = Duration::from_secs(1);
/// What walcast's metrics begin with is found within this.
const ANSWER_BYTES: u64 = 256 * 1024;

/// Reports every address of the configuration. `token` is for a daemon that runs there and asks for one.
pub(super) fn look(config: &Config, token: Option<&str>, report: &mut Report) {
    let feeds = config.listen.iter();
    let feeds = feeds.map(|address| (address, config.tls.is_on()));
    let metrics = config.metrics.listen.iter().map(|address| (address, false));
    for (address, over_tls) in feeds.chain(metrics) {
        match address {
            Listen::Tcp(address) => tcp(*address, over_tls, token, report),
            Listen::Unix(path) => unix(path, token, report),
        }
    }
}

fn tcp(address: SocketAddr, over_tls: bool, token: Option<&str>, report: &mut Report) {
    let label = "listen";
    let error = match TcpListener::bind(address) {
        Ok(_) => return report.ok(label, format!("{address} is free")),
        Err(error) => error,
    };
    match error.kind() {
        // A socket unit holds it for us: asking who is there would start what is about to be started.
        ErrorKind::AddrInUse if under_systemd() => {
            report.note(label, format!("{address} is in use; right where a socket unit of walcast holds it"));
        }
        ErrorKind::AddrInUse => match running_at(address, over_tls, token) {
            Some(walcast) => report.note(label, format!("{address} is served by a running {walcast}")),
            None => {
                let see = format!("see who has it: ss -ltnp 'sport = :{}'", address.port());
                report.problem(
                    label,
                    format!("{address} is in use by {}", holder(address).unwrap_or_else(|| "another process".to_owned())),
                    &[see, "stop that process, or choose another address with --listen".to_owned()],
                );
            }
        },
        ErrorKind::PermissionDenied => report.problem(
            label,
            format!("{address}: this user may not bind ports below 1024"),
            &["AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or choose a higher port behind a proxy".to_owned()],
        ),
        ErrorKind::AddrNotAvailable => report.problem(
            label,
            format!("{address} is not an address of this machine"),
            &["see them: ip -brief address; then choose one with --listen".to_owned()],
        ),
        // A sandbox without network of its own, where the listeners are passed in.
        _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) && under_systemd() => {
            report.note(label, format!("{address} can't be tried in this sandbox; right where a socket unit passes it in"));
        }
        _ => report.problem(label, format!("{address} can't be bound: {error}"), &[]),
    }
}

fn unix(path: &Path, token: Option<&str>, report: &mut Report) {
    let label = "listen";
    let shown = format!("unix:{}", path.display());
    let directory = directory_of(path);
    if path.exists() {
        match UnixStream::connect(path) {
            Ok(_) if under_systemd() => {
                report.note(
                    label,
                    format!("{shown} is in use; right where a socket unit of walcast holds it"),
                );
            }
            Ok(_) => match running_on(path, token) {
                Some(walcast) => {
                    report.note(label, format!("{shown} is served by a running {walcast}"))
                }
                None => report.problem(
                    label,
                    format!("{shown} is in use by another process"),
                    &[format!(
                        "see who has it: ss -lxp src {}; stop it, or choose another with --listen",
                        quoted(path)
                    )],
                ),
            },
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                report.problem(
                    label,
                    format!("{shown} is another user's socket"),
                    &[format!("rm {}", quoted(path))],
                );
            }
            Err(_) => report.ok(
                label,
                format!("{shown} was left behind; it is replaced at start"),
            ),
        }
    } else if !directory.is_dir() {
        report.problem(
            label,
            format!("{shown}: its directory does not exist"),
            &[format!(
                "mkdir -p {}, or RuntimeDirectory= in the unit",
                quoted(directory)
            )],
        );
    } else if !may(directory, Access::WRITE_OK | Access::EXEC_OK) {
        report.problem(
            label,
            format!(
                "{shown}: this user can't create a socket in {}",
                directory.display()
            ),
            &["RuntimeDirectory= in the unit, or a directory of its own".to_owned()],
        );
    } else {
        report.ok(label, format!("{shown} is free"));
    }
}

fn under_systemd() -> bool {
    std::env::var_os("INVOCATION_ID").is_some()
}

/// Which walcast answers there, as far as it says; `None` where it is something else.
fn running_at(address: SocketAddr, over_tls: bool, token: Option<&str>) -> Option<String> {
    match over_tls {
        true => running_walcast(connect_to_anyone(address, ANSWER).ok()?, token),
        false => running_walcast(connect_tcp(address, ANSWER).ok()?, token),
    }
}

fn running_on(path: &Path, token: Option<&str>) -> Option<String> {
    let stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    stream.set_write_timeout(Some(ANSWER)).ok()?;
    running_walcast(stream, token)
}

fn running_walcast(mut stream: impl Read + Write, token: Option<&str>) -> Option<String> {
    let presented = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let presented = presented.unwrap_or_default();
    let head =
        format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{presented}\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // Whatever came before an error or the time limit may tell enough.
    let _ = stream.take(ANSWER_BYTES).read_to_end(&mut answer);
    walcast_in(&String::from_utf8_lossy(&answer))
}

/// The walcast that gave this answer for its metrics.
fn walcast_in(answer: &str) -> Option<String> {
    if let Some((_, rest)) = answer.split_once("walcast_build_info{version=\"") {
        return Some(format!("walcast {}", rest.split_once('"')?.0));
    }
    // Of the version it tells only those whom it knows.
    let codes = [
        "token_missing",
        "certificate_unknown",
        "token_invalid",
        "token_expired",
        "metrics_not_granted",
    ];
    let refused = |code: &&str| answer.contains(&format!("{{\"error\":{{\"code\":\"{code}\""));
    let asks =
        "walcast; it tells more to a token made with --metrics (--token-file, WALCAST_TOKEN)";
    codes.iter().any(refused).then(|| asks.to_owned())
}

/// Which process listens there, where this user may know.
fn holder(address: SocketAddr) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .find_map(|table| listening_inode(&table, address.port()))?;
    let socket = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let id = process.file_name().to_string_lossy().into_owned();
        if !id.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = |descriptor: &std::fs::DirEntry| {
            std::fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == &*socket)
        };
        if descriptors.flatten().any(|descriptor| holds(&descriptor)) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {id})", name.trim()));
        }
    }
    None
}

/// The inode of a listening socket (state 0A) on `port`, in the format of /proc/net/tcp.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, hex) = fields.get(1)?.rsplit_once(':')?;
        let listens = *fields.get(3)? == "0A" && u16::from_str_radix(hex, 16) == Ok(port);
        if listens {
            fields.get(9)?.parse().ok()
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walcast_is_known_by_its_metrics_or_by_how_it_refuses_them() {
        let text = "# TYPE walcast_build_info gauge\nwalcast_build_info{version=\"0.1.0\"} 1\n";
        assert_eq!(walcast_in(text).as_deref(), Some("walcast 0.1.0"));
        let refused = r#"{"error":{"code":"token_missing","message":"…"}}"#;
        assert!(walcast_in(refused).is_some_and(|told| told.contains("--token-file")));
        assert_eq!(walcast_in("<html>"), None);
        assert_eq!(walcast_in(r#"{"error":{"code":"unauthorized"}}"#), None);
    }

    #[test]
    fn who_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = holder(listener.local_addr().unwrap()).unwrap();
        assert!(
            found.ends_with(&format!("(process {})", std::process::id())),
            "{found}"
        );
    }
}
