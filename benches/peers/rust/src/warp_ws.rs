//! warp's own WebSockets: a task and a channel for each client.

mod poll;

use futures_util::{SinkExt as _, StreamExt as _};
use poll::{Arguments, Clients};
use warp::Filter as _;
use warp::ws::{Message, WebSocket};

#[tokio::main]
async fn main() {
    let arguments = Arguments::read("warp 0.4 ws");
    let clients = Clients::default();
    clients.follow(arguments.db);
    let ready = warp::path!("readyz").map(|| "ok");
    let subscribe =
        warp::path!("ws" / "remediation")
            .and(warp::ws())
            .map(move |ws: warp::ws::Ws| {
                let clients = clients.clone();
                ws.on_upgrade(move |socket| serve(socket, clients))
            });
    warp::serve(ready.or(subscribe)).run(arguments.listen).await;
}

async fn serve(socket: WebSocket, clients: Clients) {
    let mut rows = clients.join();
    let (mut out, mut input) = socket.split();
    let send = async {
        while let Some(text) = rows.recv().await {
            if out.send(Message::text(&*text)).await.is_err() {
                return;
            }
        }
    };
    let receive = async { while let Some(Ok(_)) = input.next().await {} };
    tokio::select! { () = send => {}, () = receive => {} }
}
