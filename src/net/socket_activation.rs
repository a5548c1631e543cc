//! Socket activation: listeners that systemd holds and passes in (sd_listen_fds(3)). Clients queue in the kernel while
//! the daemon restarts, so none is refused, and the daemon itself needs no network of its own.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, anyhow, bail};
use socket2::{Socket, Type};

use crate::config::{Config, Listen};
use crate::net::listener::Listener;

/// The descriptors belong to whoever takes them first.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The listeners that were passed in, in the order of the socket units; empty where there are none, and after the first
/// call. Must be called within a Tokio runtime.
///
/// # Errors
/// A descriptor is not a listening stream socket of TCP or Unix, or listens beyond loopback, which `config` does not
/// allow. The error names the descriptor and the remedy.
pub fn listeners(config: &Config) -> anyhow::Result<Vec<Listener>> {
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds_with_names()
        .context("LISTEN_FDS names descriptors that can't be used")?;
    // All are taken before any is judged, so that an error closes the rest too.
    let passed: Vec<(Descriptor, Socket)> = passed
        .map(|(number, unit)| (Descriptor { number, unit }, take(number)))
        .collect();
    let listeners: Vec<Listener> = passed
        .into_iter()
        .map(|(descriptor, socket)| listener(&descriptor, socket, config.auth.may_be_reached()))
        .collect::<anyhow::Result<_>>()?;
    say_what_is_unused(config, &listeners);
    Ok(listeners)
}

fn take(number: RawFd) -> Socket {
    // SAFETY: LISTEN_PID says that the descriptor was opened for this process, fcntl has found it open, and `TAKEN`
    // keeps anyone from taking it again.
    Socket::from(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor as errors name it.
struct Descriptor {
    number: RawFd,
    /// The socket unit, or its `FileDescriptorName=`.
    unit: String,
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "descriptor {} ({})", self.number, self.unit)
    }
}

fn listener(
    descriptor: &Descriptor,
    socket: Socket,
    may_be_reached: bool,
) -> anyhow::Result<Listener> {
    let address = socket.local_addr().map_err(|e| {
        anyhow!("{descriptor} was passed in, but it is not a socket: {e}; pass ListenStream= sockets only")
    })?;
    if socket.r#type()? != Type::STREAM {
        bail!(
            "{descriptor} was passed in, but it is not a stream socket; use ListenStream= in its unit"
        );
    }
    if !listens(&socket)? {
        bail!("{descriptor} was passed in, but it does not listen; set Accept=no in its unit");
    }
    socket.set_nonblocking(true)?;
    if let Some(address) = address.as_socket() {
        check_reach(descriptor, address, may_be_reached)?;
        let listener = tokio::net::TcpListener::from_std(socket.into())?;
        return Ok(Listener::Tcp(listener));
    }
    if address.is_unix() {
        // Its file is systemd's to remove.
        let listener = tokio::net::UnixListener::from_std(socket.into())?;
        return Ok(Listener::Unix(listener, None));
    }
    bail!(
        "{descriptor} was passed in, but it is of address family {}; only TCP and Unix sockets are served",
        address.family()
    )
}

/// Returns whether the socket accepts connections.
fn listens(socket: &Socket) -> std::io::Result<bool> {
    #[cfg(not(target_vendor = "apple"))]
    return socket.is_listener();
    // Can't be asked there; the first attempt to accept tells.
    #[cfg(target_vendor = "apple")]
    return socket.local_addr().map(|_| true);
}

/// The rule for `listen` holds for sockets from outside, too.
fn check_reach(
    descriptor: &Descriptor,
    address: SocketAddr,
    may_be_reached: bool,
) -> anyhow::Result<()> {
    if may_be_reached || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    bail!(
        "{descriptor} listens on {address}, which is reachable from other machines, and no authentication is \
         configured, so anyone there could read every row; ask for tokens ([auth] tokens = \"…\", made by \
         `walcast token add`), serve anyone with auth.anonymous = true (--anonymous), or use ListenStream=127.0.0.1:{}",
        address.port()
    )
}

/// Passed-in listeners take the place of `listen`; addresses only named there would be missed in vain.
fn say_what_is_unused(config: &Config, listeners: &[Listener]) {
    if listeners.is_empty() {
        return;
    }
    // TLS is not spoken on them yet.
    let urls: Vec<String> = listeners.iter().map(Listener::url).collect();
    let url = |listen: &Listen| match listen {
        Listen::Tcp(address) => format!("http://{address}"),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    };
    let unused = config
        .listen
        .iter()
        .filter(|listen| !urls.contains(&url(listen)));
    for listen in unused {
        tracing::info!("{listen} is not listened on: the listeners are passed in by systemd");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    fn passed(socket: impl Into<OwnedFd>) -> anyhow::Result<Listener> {
        let descriptor = Descriptor {
            number: 3,
            unit: "test.socket".to_owned(),
        };
        listener(&descriptor, Socket::from(socket.into()), false)
    }

    fn refusal(socket: impl Into<OwnedFd>) -> String {
        match passed(socket) {
            Ok(listener) => panic!("{} was taken", listener.url()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn tcp_and_unix_listeners_are_served() {
        let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", tcp.local_addr().unwrap());
        assert_eq!(passed(tcp).unwrap().url(), url);

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let listener = passed(unix).unwrap();
        assert_eq!(listener.url(), format!("unix:{}", path.display()));
        drop(listener);
        assert!(
            path.exists(),
            "the file belongs to whoever passed the socket in"
        );
    }

    #[tokio::test]
    async fn a_descriptor_of_the_wrong_kind_is_named() {
        let file = tempfile::tempfile().unwrap();
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (connected, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        for (error, reason) in [
            (refusal(file), "not a socket"),
            (refusal(datagrams), "not a stream socket"),
            (refusal(connected), "does not listen"),
        ] {
            assert!(
                error.contains("descriptor 3 (test.socket)") && error.contains(reason),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn beyond_loopback_it_must_have_been_asked_for() {
        let everywhere = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let error = refusal(everywhere);
        assert!(
            error.contains("0.0.0.0:") && error.contains("auth.anonymous"),
            "{error}"
        );
        // A machine without IPv6 has nothing to pass in.
        if let Ok(everywhere) = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
            let error = refusal(everywhere);
            assert!(error.contains("[::]:"), "{error}");
        }
    }
}
