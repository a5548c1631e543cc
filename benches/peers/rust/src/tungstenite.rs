//! tokio-tungstenite on a bare listener: a task and a channel for each client.

mod poll;

use poll::{Arguments, Clients, relay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::read("tokio-tungstenite 0.28");
    let clients = Clients::default();
    clients.follow(arguments.db);
    let listener = TcpListener::bind(arguments.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, clients.clone()));
    }
}

async fn serve(mut stream: TcpStream, clients: Clients) {
    let mut start = [0; 10];
    if stream.peek(&mut start).await.is_ok() && start.starts_with(b"GET /ready") {
        let _ = stream.read(&mut [0; 1024]).await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(answer).await;
        return;
    }
    // Before the handshake is answered: a row that comes with the answer must not be lost.
    let rows = clients.join();
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    relay(socket, rows, |text| Message::text(text)).await;
}
