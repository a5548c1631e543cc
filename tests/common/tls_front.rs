//! Has clients without TLS reach a daemon that speaks it, so that every test can be run over TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What the kernel keeps of a connection on each side: so little that a client that takes nothing is felt behind it.
const BUFFER: u32 = 16 * 1024;
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Takes TLS off, or puts it on. It ends when it is dropped.
#[derive(Debug)]
pub struct Front {
    pub address: SocketAddr,
    _runtime: Runtime,
}

/// What a front does with each connection.
#[derive(Clone)]
enum Task {
    /// Speaks TLS to clients, and none behind it.
    TakeOff(TlsAcceptor),
    /// Speaks none to clients, and TLS behind it.
    PutOn(TlsConnector),
}

impl Front {
    /// What stands before a daemon and speaks TLS, as a proxy does.
    pub fn with_tls(daemon: SocketAddr, server: Arc<ServerConfig>) -> Front {
        Front::start(ANYWHERE, daemon, Task::TakeOff(server.into()))
    }

    /// What stands before a daemon that speaks TLS, for clients that don't.
    pub fn without_tls(daemon: SocketAddr, client: ClientConfig) -> Front {
        Front::without_tls_at(ANYWHERE, daemon, client)
    }

    /// The same at this address.
    pub fn without_tls_at(at: SocketAddr, daemon: SocketAddr, client: ClientConfig) -> Front {
        Front::start(at, daemon, Task::PutOn(Arc::new(client).into()))
    }

    fn start(at: SocketAddr, daemon: SocketAddr, task: Task) -> Front {
        let runtime = Runtime::new().expect("threads can be started");
        let listener = runtime
            .block_on(TcpListener::bind(at))
            .expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(task.clone(), client, daemon));
            }
        });
        Front {
            address,
            _runtime: runtime,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

/// How a connection ends is the client's business.
async fn pass_on(task: Task, client: TcpStream, daemon: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    socket2::SockRef::from(&client).set_send_buffer_size(BUFFER as usize)?;
    let socket = match daemon.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    // Before it connects, or a larger window was told already.
    socket.set_recv_buffer_size(BUFFER)?;
    let daemon = socket.connect(daemon).await?;
    daemon.set_nodelay(true)?;
    match task {
        Task::TakeOff(acceptor) => join(acceptor.accept(client).await?, daemon).await,
        Task::PutOn(connector) => {
            let name = ServerName::try_from("localhost").expect("a name");
            join(client, connector.connect(name, daemon).await?).await
        }
    }
}

async fn join(
    mut one: impl AsyncRead + AsyncWrite + Unpin,
    mut other: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    copy_bidirectional(&mut one, &mut other).await.map(drop)
}
