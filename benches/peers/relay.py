"""A WebSocket server of the `websockets` library which gives rows to all connections by its own `broadcast`."""
import http
from collections.abc import Iterable

from websockets.asyncio.server import Server, broadcast, serve


def ready(connection, request):
    if request.path == "/readyz":
        return connection.respond(http.HTTPStatus.OK, "ok\n")


async def subscribe(socket) -> None:
    await socket.wait_closed()


def server(host: str, port: int) -> serve:
    return serve(subscribe, host, port, process_request=ready, compression=None)


def send(relay: Server, messages: Iterable[str]) -> None:
    for text in messages:
        broadcast(relay.connections, text)
