//! The beginning of a connection over TLS.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use warp::http::StatusCode;

use crate::access::ClientCertificate;
use crate::http::error::HttpError;
use crate::http::refused::written;
use crate::http::timeouts::WatchedSocket;
use crate::net::tls_server::{HTTP_2, TlsServer};

/// What a record of TLS begins with that opens a connection (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// Bytes of a request without TLS that are taken, so that its answer is not lost to a reset.
const DISCARDED: usize = 4096;

/// The socket of a connection over TLS. The clock hears of what the kernel is given: of the bytes that were encrypted.
pub(super) type TlsSocket = TlsStream<WatchedSocket<TcpStream>>;

/// Shakes hands. A client that speaks HTTP without TLS is told so. The server's part of each handshake is computed in turn,
/// first come first served: those who are connected do not wait for many who come at once. Who waits for its turn does so
/// at the daemon's expense, and who has gone meanwhile is passed over: or the turns of thousands who gave up would keep
/// waiting those who have come again.
///
/// # Errors
/// The client went away, or can't be agreed with; it has been told as far as TLS can.
pub(super) async fn handshake(
    stream: WatchedSocket<TcpStream>,
    server: &TlsServer,
    config: Arc<ServerConfig>,
) -> io::Result<TlsSocket> {
    let mut first = [0];
    if stream.socket().peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        return Err(without_tls(stream, first[0]).await);
    }
    let timeouts = Arc::clone(stream.timeouts());
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let handshake = {
        let turn = timeouts.wait_in_line(server.turns().acquire()).await;
        // The semaphore is never closed.
        let _turn = turn.map_err(io::Error::other)?;
        if timeouts.has_client_gone() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        hello.into_stream(config)
    };
    handshake.await
}

/// Returns whether HTTP/2 was agreed on.
pub(super) fn speaks_http_2(socket: &TlsSocket) -> bool {
    let (_, session) = socket.get_ref();
    session.alpn_protocol() == Some(HTTP_2)
}

/// Returns the certificate that a client has shown, which its authority vouches for.
pub(super) fn client_certificate(socket: &TlsSocket) -> Option<ClientCertificate> {
    let (_, session) = socket.get_ref();
    ClientCertificate::read(session.peer_certificates()?.first()?)
}

/// Answers a client that speaks no TLS.
async fn without_tls(mut stream: WatchedSocket<TcpStream>, first: u8) -> io::Error {
    if first.is_ascii_uppercase() {
        // It may be gone; then it needs no answer.
        let _ = say_that_tls_is_spoken(&mut stream).await;
    }
    io::Error::new(io::ErrorKind::InvalidData, "the client speaks no TLS")
}

async fn say_that_tls_is_spoken(stream: &mut WatchedSocket<TcpStream>) -> io::Result<()> {
    let mut request = [0; DISCARDED];
    // What it asks for does not matter.
    let _ = stream.read(&mut request).await?;
    let message =
        "TLS is spoken at this address: ask for https:// or wss:// instead of http:// or ws://";
    let error = HttpError::new(StatusCode::BAD_REQUEST, "tls_required", message);
    stream.write_all(written(error).as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use parking_lot::Mutex;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::net::TcpListener;
    use tokio::time::sleep;

    use super::*;
    use crate::access::Owners;
    use crate::config::TlsRules;
    use crate::http::timeouts::{Lapse, Timeouts};

    fn server() -> Arc<TlsServer> {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let [cert, secret] = ["cert", "key"].map(|name| directory.path().join(name));
        std::fs::write(&cert, made.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let rules = TlsRules {
            cert: vec![cert],
            key: vec![secret],
            ..TlsRules::default()
        };
        let server = TlsServer::open(&rules, None, Owners::RootAndSelf);
        server.unwrap().unwrap()
    }

    /// What a client says first.
    fn hello() -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        hello
    }

    /// Has a client say hello whose turn does not come, then does what is to be done while it waits, and lets its turn come.
    async fn with_a_client_in_line(
        meanwhile: impl AsyncFnOnce(std::net::TcpStream, &Timeouts),
    ) -> Result<io::Result<TlsSocket>, Lapse> {
        let server = server();
        let turn = server.turns().acquire().await.unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(&hello()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let timeouts = Timeouts::start(&stream, Arc::new(Mutex::new(Duration::from_secs(60))));
        let stream = WatchedSocket::new(stream, Arc::clone(&timeouts));
        let shaking = std::pin::pin!(handshake(stream, &server, server.config()));
        let meanwhile = async {
            while !timeouts.is_in_line() {
                sleep(Duration::from_millis(1)).await;
            }
            meanwhile(client, &timeouts).await;
            drop(turn);
        };
        let mut shaken = std::pin::pin!(timeouts.run(shaking));
        tokio::select! {
            biased;
            _ = &mut shaken => panic!("it ended while the client waited"),
            () = meanwhile => {}
        }
        shaken.await
    }

    #[tokio::test]
    async fn the_wait_for_a_turn_is_not_the_clients() {
        let mut held = None;
        let shaken = with_a_client_in_line(async |client, timeouts| {
            timeouts.run_out();
            // A clock that went on would end the connection here.
            sleep(Duration::from_millis(50)).await;
            assert!(timeouts.is_in_line());
            held = Some(client);
        });
        // Once it has had its turn, one that says no more has had its time.
        assert!(matches!(shaken.await, Err(Lapse::Idle)));
    }

    #[tokio::test]
    async fn who_has_gone_meanwhile_is_passed_over() {
        let shaken = with_a_client_in_line(async |client, timeouts| {
            drop(client);
            timeouts.client_is_gone().await;
        });
        let Ok(Err(error)) = shaken.await else {
            panic!("nobody is there to shake hands with");
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
