"""The `websockets` library of Python against the daemon at WALCAST_URL. The last line counts."""

import asyncio
import json
import os
import traceback
import urllib.request

import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

BASE = os.environ["WALCAST_URL"]
FEED = BASE.replace("http", "ws") + "/ws/remediation"
PATIENCE = 60


# Every case runs with what the library offers of itself, and without.
compression = "deflate"


def connect(address, **options):
    return websockets.asyncio.client.connect(address, **{"compression": compression, **options})


def insert(details):
    body = json.dumps({"ts": "now", "details": details}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{BASE}/api/feeds/remediation/events", body, headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["ids"][0]


async def close_code(socket):
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


async def rows_come_live_and_again_by_resuming():
    async with connect(FEED) as live:
        row = await asyncio.to_thread(insert, "é")
        assert json.loads(await live.recv())["event"]["id"] == row
    async with connect(f"{FEED}?since={row - 1}") as resumed:
        frames = [json.loads(await resumed.recv()) for _ in range(3)]
    assert [frame["type"] for frame in frames] == ["hello", "remediation_event", "live"], frames
    assert frames[1]["event"]["details"] == "é"


async def the_handshake_agrees_on_the_subprotocol_and_on_compression_where_it_is_offered():
    async with connect(FEED, subprotocols=["walcast.v1"]) as socket:
        assert socket.subprotocol == "walcast.v1"
        agreed = socket.response.headers.get("Sec-WebSocket-Extensions")
        wanted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        assert agreed == (wanted if compression else None), agreed


async def rows_are_the_same_whatever_is_offered():
    """The sizes and parameters of Autobahn's cases 12 and 13, by what walcast sends: it echoes nothing."""
    before = await asyncio.to_thread(insert, "first")
    words = "".join(chr(97 + n * n % 23) for n in range(600))
    texts = [words[:size] for size in (0, 16, 64, 256, 400, 500)] + ["é" * 490, "\0" * 400]
    for text in texts:
        await asyncio.to_thread(insert, text)

    async def rows(socket):
        messages = [await socket.recv() for _ in range(len(texts) + 2)]
        return messages[1:]

    async with connect(f"{FEED}?since={before}", compression=None) as socket:
        plain = await rows(socket)
    assert [json.loads(row)["event"]["details"] for row in plain[:-1]] == texts
    offers = [
        ClientPerMessageDeflateFactory(server, client, bits, client_bits)
        for server in (False, True)
        for client in (False, True)
        for bits in (None, 8, 9, 10, 12, 15)
        for client_bits in (None, True, 9, 15)
    ]
    for offer in offers:
        async with connect(f"{FEED}?since={before}", compression=None, extensions=[offer]) as socket:
            assert socket.protocol.extensions, offer.get_request_params()
            assert await rows(socket) == plain, offer.get_request_params()
            for length in (4, 64, 1000, 4000):
                await socket.send("x" * length)
            await socket.send("ping")
            assert await socket.recv() == "pong"
    # The first that can be had: the library's own rule for several offers.
    several = [ClientPerMessageDeflateFactory(True, True, 9), ClientPerMessageDeflateFactory()]
    async with connect(f"{FEED}?since={before}", compression=None, extensions=several) as socket:
        assert await rows(socket) == plain


async def pings_of_both_kinds_are_answered():
    async with connect(FEED) as socket:
        await (await socket.ping("there?"))
        await socket.send("ping\n")
        assert await socket.recv() == "pong"
        await socket.send(["pi", "n", "g"])
        assert await socket.recv() == "pong"
        pongs = [await socket.ping() for _ in range(500)]
        await pongs[-1]
        await socket.send('{"type":"ping"}')
        assert await socket.recv() == '{"type":"pong"}'


async def a_close_is_answered_with_its_own_code():
    for code in [1000, 1001, 3000, 4321]:
        socket = await connect(FEED)
        await socket.close(code, "bye")
        assert socket.protocol.close_rcvd.code == code, socket.protocol.close_rcvd
        assert socket.protocol.close_rcvd_then_sent is False


async def messages_too_large_end_the_connection_with_1009():
    for size in [4097, 70_000, 3 << 20]:
        async with connect(FEED) as socket:
            await socket.send("x" * 4096)
            await socket.send("x" * size)
            code = await close_code(socket)
            assert code == 1009, (size, code)


async def too_many_messages_end_the_connection_with_1008():
    async with connect(FEED) as socket:
        for _ in range(100):
            await socket.send("x")
        assert await close_code(socket) == 1008


CASES = [
    rows_come_live_and_again_by_resuming,
    the_handshake_agrees_on_the_subprotocol_and_on_compression_where_it_is_offered,
    rows_are_the_same_whatever_is_offered,
    pings_of_both_kinds_are_answered,
    a_close_is_answered_with_its_own_code,
    messages_too_large_end_the_connection_with_1009,
    too_many_messages_end_the_connection_with_1008,
]

failed = 0
for compression in ["deflate", None]:
    for case in CASES:
        try:
            asyncio.run(asyncio.wait_for(case(), PATIENCE))
            print("ok", case.__name__, f"compression={compression}")
        except Exception:
            failed += 1
            print("FAILED", case.__name__, f"compression={compression}")
            traceback.print_exc()
print(f"{2 * len(CASES) - failed} passed, {failed} failed, 0 skipped")
