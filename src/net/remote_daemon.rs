//! A daemon at a URL, and the connections to it: plain, or over TLS, to itself or a proxy before it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::tls_anyone::config_for_anyone;
use super::tls_client::{TlsClientError, client_config};
use crate::address::{DaemonUrl, HostName};

/// Where a daemon is, and whose certificates are good for it.
#[derive(Debug, Clone)]
pub struct RemoteDaemon {
    url: DaemonUrl,
    /// `None`: without TLS.
    tls: Option<Tls>,
}

#[derive(Debug, Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    /// Whom the certificate must be for.
    name: ServerName<'static>,
}

/// What webpki, which rustls asks, calls a server that shows the certificate of an authority. Rustls has no word for it.
const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";

/// Why there is no connection.
#[derive(Debug)]
pub enum Unreachable {
    /// Nobody answers.
    Io(io::Error),
    /// Whoever answers speaks no TLS, or can't prove to be the one that is meant: to try again would change nothing.
    Tls(rustls::Error),
}

impl From<io::Error> for Unreachable {
    fn from(error: io::Error) -> Unreachable {
        // rustls says through the stream what is wrong with what came through it.
        let tls = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) => Unreachable::Tls(tls.clone()),
            None => Unreachable::Io(error),
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use rustls::{CertificateError, Error};
        match self {
            Unreachable::Io(error) => error.fmt(f),
            // The signature is not good where an authority was made anew under its old name, and can't be where its key is
            // of another kind.
            Unreachable::Tls(Error::InvalidCertificate(
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            )) => f.write_str(
                "no authority that is known here has signed its certificate; name the file of the one that did with --ca",
            ),
            Unreachable::Tls(Error::InvalidCertificate(CertificateError::Other(problem)))
                if problem.0.to_string() == AUTHORITY_AS_SERVER =>
            {
                f.write_str(
                    "its certificate is one of an authority (CA:TRUE), and none of a server, as `openssl req -x509` makes them unless told otherwise; make it anew with -addext basicConstraints=critical,CA:FALSE",
                )
            }
            Unreachable::Tls(Error::InvalidCertificate(problem)) => {
                write!(f, "its certificate is not good: {problem}")
            }
            Unreachable::Tls(Error::InvalidMessage(_)) => {
                f.write_str("what answers there speaks no TLS; without it the URL begins with http or ws")
            }
            Unreachable::Tls(problem) => write!(f, "TLS: {problem}"),
        }
    }
}

/// Why a daemon can't be asked, whoever answers there.
#[derive(Debug)]
pub enum RemoteDaemonError {
    /// There are no certificates to believe.
    Authorities(TlsClientError),
    /// A file of certificates was named for a URL that is without TLS.
    WithoutTls,
    /// No certificate can be for this name.
    Name(String),
}

impl std::error::Error for RemoteDaemonError {}

impl fmt::Display for RemoteDaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteDaemonError::Authorities(problem) => problem.fmt(f),
            RemoteDaemonError::WithoutTls => {
                f.write_str("is for URLs of https and wss; leave it out, or give such a URL")
            }
            RemoteDaemonError::Name(name) => {
                write!(f, "{name}: no certificate can be for this name")
            }
        }
    }
}

impl RemoteDaemon {
    /// The daemon there, whose certificate the `authorities` of a PEM file vouch for, or those of the system. Blocks: over
    /// TLS it reads the certificates of the authorities.
    ///
    /// # Errors
    /// There are none, or some are named for a URL that is without TLS.
    pub fn new(
        url: &DaemonUrl,
        authorities: Option<&Path>,
    ) -> Result<RemoteDaemon, RemoteDaemonError> {
        let tls = match (url.is_tls(), authorities) {
            (true, authorities) => Some(Tls {
                config: client_config(authorities).map_err(RemoteDaemonError::Authorities)?,
                name: server_name(url)?,
            }),
            (false, None) => None,
            (false, Some(_)) => return Err(RemoteDaemonError::WithoutTls),
        };
        Ok(RemoteDaemon {
            url: url.clone(),
            tls,
        })
    }

    /// Returns where it is.
    pub fn url(&self) -> &DaemonUrl {
        &self.url
    }

    /// Connects. Each of its addresses may take `patience` to accept, and every read and write as long.
    ///
    /// # Errors
    /// Nobody accepts in time, or whoever does is not to be trusted.
    pub fn connect(&self, patience: Duration) -> Result<DaemonStream, Unreachable> {
        let stream = connect_tcp(self.url.address(), patience)?;
        stream.set_nodelay(true)?;
        let Some(Tls { config, name }) = &self.tls else {
            return Ok(DaemonStream::Plain(stream));
        };
        let stream = shake_hands(Arc::clone(config), name.clone(), stream)?;
        Ok(DaemonStream::Tls(Box::new(stream)))
    }
}

/// A connection over TLS.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Connects over TLS to a listener of this machine, whatever certificate it shows. Accepting may take `patience`, and every
/// read and write as long.
///
/// # Errors
/// Nobody accepts in time, or whoever does speaks no TLS.
pub fn connect_to_anyone(
    address: SocketAddr,
    patience: Duration,
) -> Result<TlsStream, Unreachable> {
    let stream = connect_tcp(address, patience)?;
    let config = config_for_anyone().map_err(Unreachable::Tls)?;
    shake_hands(config, address.ip().into(), stream)
}

fn shake_hands(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
) -> Result<TlsStream, Unreachable> {
    let session = ClientConnection::new(config, name).map_err(Unreachable::Tls)?;
    let mut stream = StreamOwned::new(session, stream);
    // Now, so that nothing is sent before it is known to whom.
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Whom a certificate has to be for. Blanks and the like are no host of a URL, but an underscore is.
fn server_name(url: &DaemonUrl) -> Result<ServerName<'static>, RemoteDaemonError> {
    match url.host() {
        HostName::Ip(IpAddr::V4(address)) => Ok(IpAddr::V4(*address).into()),
        HostName::Ip(IpAddr::V6(address)) => Ok(IpAddr::V6(*address).into()),
        HostName::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|_| RemoteDaemonError::Name(name.clone()))
        }
    }
}

/// Connects to the first address that accepts.
///
/// # Errors
/// None does in time, or there is none.
pub fn connect_tcp(address: impl ToSocketAddrs, patience: Duration) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

/// A connection.
#[derive(Debug)]
pub enum DaemonStream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl DaemonStream {
    /// The socket beneath, for who is to end the connection from elsewhere.
    pub fn socket(&self) -> &TcpStream {
        match self {
            DaemonStream::Plain(stream) => stream,
            DaemonStream::Tls(stream) => &stream.sock,
        }
    }

    /// How long a read may wait.
    ///
    /// # Errors
    /// As for a socket.
    pub fn set_read_timeout(&self, time: Duration) -> io::Result<()> {
        self.socket().set_read_timeout(Some(time))
    }
}

impl Read for DaemonStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            DaemonStream::Plain(stream) => stream.read(buffer),
            DaemonStream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for DaemonStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            DaemonStream::Plain(stream) => stream.write(bytes),
            DaemonStream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            DaemonStream::Plain(stream) => stream.flush(),
            DaemonStream::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, Error};

    use super::*;

    #[test]
    fn an_authority_of_the_same_name_with_another_kind_of_key_is_another() {
        let problem = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: vec![6, 8],
            public_key_algorithm_id: vec![6, 9],
        };
        let said = Unreachable::Tls(Error::InvalidCertificate(problem)).to_string();
        assert!(said.contains("with --ca"), "{said}");
    }
}
