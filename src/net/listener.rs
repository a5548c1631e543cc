//! Bound listeners, and the connections that come to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::tls_server::TlsServer;

/// Bytes the kernel may hold for a client that does not read. Without a bound it is up to 2.8 MB each; this is
/// several hundred rows, enough to keep a client on another continent busy between two writes.
const SEND_BUFFER: usize = 128 * 1024;

/// Connections that may wait to be accepted, as far as the system allows: `net.core.somaxconn` on Linux. Whom it has no room
/// for hears nothing, and asks again after a second or more.
const WAITING: u32 = 65_535;

/// A bound listener. Whoever runs the daemon binds it, or has it passed in.
pub enum Listener {
    Tcp(TcpListener),
    /// TCP on which TLS is spoken.
    Tls(TcpListener, Arc<TlsServer>),
    Unix(UnixListener, Option<SocketFile>),
}

/// A socket file that is ours to remove.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Where clients reach it: `http://127.0.0.1:8010`, `https://127.0.0.1:8443`, `unix:/run/walcast.sock`.
    pub fn url(&self) -> String {
        let at = |scheme: &str, listener: &TcpListener| {
            listener.local_addr().map_or_else(
                |e| format!("unknown ({e})"),
                |address| format!("{scheme}://{address}"),
            )
        };
        match self {
            Listener::Tcp(listener) => at("http", listener),
            Listener::Tls(listener, _) => at("https", listener),
            Listener::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                format!("unix:{}", path.unwrap_or(Path::new("")).display())
            }
        }
    }

    /// Returns the port, where TLS is spoken.
    pub fn tls_port(&self) -> Option<u16> {
        match self {
            Listener::Tls(listener, _) => Some(listener.local_addr().ok()?.port()),
            Listener::Tcp(_) | Listener::Unix(..) => None,
        }
    }

    /// Where a client on this machine asks for it: a listener on every address by loopback, and one with TLS by a name
    /// that its certificate is for.
    pub fn url_here(&self) -> String {
        let here = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        match self {
            Listener::Tcp(listener) => listener.local_addr().map_or_else(
                |_| self.url(),
                |address| {
                    let here = SocketAddr::new(here(address), address.port());
                    format!("http://{here}")
                },
            ),
            Listener::Tls(listener, server) => match listener.local_addr() {
                Ok(address) => match server.name_at(here(address)) {
                    Some(name) => format!("https://{name}:{}", address.port()),
                    None => self.url(),
                },
                Err(_) => self.url(),
            },
            Listener::Unix(..) => self.url(),
        }
    }

    /// The listener, with TLS spoken on it where it is TCP: a Unix socket is for those on this machine.
    pub fn over_tls(self, server: &Arc<TlsServer>) -> Listener {
        match self {
            Listener::Tcp(listener) => Listener::Tls(listener, Arc::clone(server)),
            other => other,
        }
    }

    /// Binds an address.
    pub async fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
        // As `TcpListener::bind` does it, but for the queue, which has room for 128 there.
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(WAITING).map(Listener::Tcp)
    }

    /// Binds a Unix socket. A socket left behind by a daemon that was killed is replaced; one somebody listens on is
    /// not, and neither is a file of another kind.
    pub async fn bind_unix(path: &Path) -> io::Result<Listener> {
        if let Ok(there) = std::fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a file that is no socket; remove it or choose another path",
                ));
            }
            match UnixStream::connect(path).await {
                Ok(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "another process listens on it",
                    ));
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Listener::Unix(
            UnixListener::bind(path)?,
            Some(SocketFile(path.to_owned())),
        ))
    }
}

/// A connection that a listener accepted.
pub enum Accepted {
    Tcp(TcpStream, IpAddr),
    /// Nothing was said yet, not even the handshake of TLS.
    Tls(TcpStream, IpAddr, Arc<TlsServer>),
    Unix(UnixStream),
}

impl Listener {
    /// Waits for the next connection and returns it.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = accept_tcp(listener).await?;
                Ok(Accepted::Tcp(stream, peer))
            }
            Listener::Tls(listener, server) => {
                let (stream, peer) = accept_tcp(listener).await?;
                Ok(Accepted::Tls(stream, peer, Arc::clone(server)))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                bound_send_buffer(&stream)?;
                Ok(Accepted::Unix(stream))
            }
        }
    }
}

async fn accept_tcp(listener: &TcpListener) -> io::Result<(TcpStream, IpAddr)> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    bound_send_buffer(&stream)?;
    Ok((stream, peer.ip()))
}

fn bound_send_buffer(socket: &impl AsFd) -> io::Result<()> {
    socket2::SockRef::from(socket).set_send_buffer_size(SEND_BUFFER)
}

/// A descriptor to be given up when there are no others, so that those who come then are not left without an answer.
#[derive(Default)]
pub struct Reserve(Option<std::fs::File>);

impl Reserve {
    /// Takes a descriptor where none is held and one is to be had.
    pub fn fill(&mut self) {
        if self.0.is_none() {
            // Where there is none to be had it is tried again.
            self.0 = std::fs::File::open("/dev/null").ok();
        }
    }

    /// Gives it up; returns whether there was one.
    pub fn release(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// Returns whether a connection can't be accepted because the process or the system has no descriptor for it.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Returns whether only this connection failed, most likely because its client is gone already: the next may be had at
/// once.
pub fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    let kind = error.kind();
    matches!(
        kind,
        ConnectionAborted | ConnectionReset | InvalidInput | NotConnected
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    /// How many connections wait at a listener that is asked for this many; less than any system's bound on it today.
    const CROWD: usize = 1_000;

    #[tokio::test]
    async fn a_crowd_waits_to_be_accepted() {
        let bound = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let bound = bound.ok().and_then(|text| text.trim().parse().ok());
        // Elsewhere, and where the system allows less, as many as are sure to have room.
        let crowd = bound.unwrap_or(100).min(CROWD);
        let listener = Listener::bind_tcp((Ipv4Addr::LOCALHOST, 0).into()).await;
        let Ok(Listener::Tcp(listener)) = listener else {
            panic!("a port is free");
        };
        let address = listener.local_addr().unwrap();
        // Nobody accepts them: whom the queue has no room for is never connected.
        let waiting: Vec<TcpStream> = (0..crowd)
            .map_while(|_| TcpStream::connect_timeout(&address, Duration::from_secs(20)).ok())
            .collect();
        assert_eq!(waiting.len(), crowd);
    }
}
