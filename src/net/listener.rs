//! Bound listeners, and the connections that come to them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Bytes the kernel may hold for a client that does not read. Without a bound it is up to 2.8 MB each; this is
/// several hundred rows, enough to keep a client on another continent busy between two writes.
const SEND_BUFFER: usize = 128 * 1024;

/// A bound listener. Whoever runs the daemon binds it, or has it passed in.
pub enum Listener {
    Tcp(TcpListener),
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
    /// Where clients reach it: `http://127.0.0.1:8010`, `unix:/run/walcast.sock`.
    pub fn url(&self) -> String {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map_or_else(
                |e| format!("unknown ({e})"),
                |address| format!("http://{address}"),
            ),
            Listener::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                format!("unix:{}", path.unwrap_or(Path::new("")).display())
            }
        }
    }

    pub async fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
        TcpListener::bind(address).await.map(Listener::Tcp)
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
    Unix(UnixStream),
}

impl Listener {
    /// Waits for the next connection and returns it.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                bound_send_buffer(&stream)?;
                Ok(Accepted::Tcp(stream, peer.ip()))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                bound_send_buffer(&stream)?;
                Ok(Accepted::Unix(stream))
            }
        }
    }
}

fn bound_send_buffer(socket: &impl AsFd) -> io::Result<()> {
    socket2::SockRef::from(socket).set_send_buffer_size(SEND_BUFFER)
}

/// A descriptor to be given up when there are no others, so that those who come then are not left without an answer.
#[derive(Default)]
pub struct Reserve(Option<std::fs::File>);

impl Reserve {
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
