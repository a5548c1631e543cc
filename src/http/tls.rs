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

/// Shakes hands. A client that speaks HTTP without TLS is told so. The server's part of each handshake is computed in turn:
/// those who are connected do not wait for many who come at once.
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
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let handshake = {
        // The semaphore is never closed.
        let _turn = server.turns().acquire().await.map_err(io::Error::other)?;
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
