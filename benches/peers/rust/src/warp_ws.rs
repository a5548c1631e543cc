//! warp's own WebSockets: a task and a channel for each client.

mod poll;

use poll::{Arguments, Clients, relay};
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
    let rows = clients.join();
    relay(socket, rows, |text| Message::text(text)).await;
}
