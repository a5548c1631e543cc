//! A client that speaks TLS itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::common::{Daemon, Response, http};

/// A connection over TLS on which the handshake was made.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands with the daemon under this name.
pub fn try_connect(
    daemon: &Daemon,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<Connection> {
    shake_hands(http::connect(daemon.own_address()), name, config)
}

/// Shakes hands with whoever is at the other end.
pub fn shake_hands(
    stream: TcpStream,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<Connection> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut connection = StreamOwned::new(session, stream);
    while connection.conn.is_handshaking() {
        connection.conn.complete_io(&mut connection.sock)?;
    }
    Ok(connection)
}

/// The same, which must come about.
#[track_caller]
pub fn connect(daemon: &Daemon, name: &str, config: &Arc<ClientConfig>) -> Connection {
    try_connect(daemon, name, config).expect("the handshake is made")
}

/// As whoever believes the authority of the daemon's certificate.
pub fn believer(daemon: &Daemon) -> Arc<ClientConfig> {
    Arc::new(daemon.settings().authority().client())
}

/// Asks on a connection that stays open.
#[track_caller]
pub fn get(connection: &mut (impl Read + Write), path: &str) -> Response {
    http::ask(connection, path);
    http::read_response(connection)
}

/// The certificate that was shown.
#[track_caller]
pub fn shown(connection: &Connection) -> CertificateDer<'static> {
    let chain = connection.conn.peer_certificates();
    chain.expect("a chain")[0].clone().into_owned()
}
