#!/usr/bin/env python3
"""Clients for the service tests, with nothing but the standard library.

client.py follow PATH [PORT]  follows a feed across reconnects; prints the id of every row, and "live" when caught up
client.py knock               opens new connections without a pause until stdin closes; prints what became of them as JSON
client.py get PATH [WHERE]    prints status and body of one request; WHERE is a port, or the path of a Unix socket
"""

import base64
import collections
import json
import os
import socket
import struct
import sys
import threading
import time

ADDRESS = ("127.0.0.1", 8010)
# Longer than any restart; a client that waits in the kernel's queue is not refused.
PATIENCE = 60


class CutOff(ConnectionError):
    """Accepted, but not answered."""


def connect(where=None):
    if where is None:
        return socket.create_connection(ADDRESS, PATIENCE)
    if where.isdigit():
        return socket.create_connection((ADDRESS[0], int(where)), PATIENCE)
    unix = socket.socket(socket.AF_UNIX)
    unix.settimeout(PATIENCE)
    unix.connect(where)
    return unix


def request(stream, path, headers=""):
    data = b""
    try:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        while b"\r\n\r\n" not in data:
            chunk = stream.recv(65536)
            if not chunk:
                raise CutOff("closed without an answer")
            data += chunk
    except (BrokenPipeError, ConnectionResetError) as error:
        raise CutOff(str(error)) from error
    head, _, rest = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


def get(path, where=None):
    with connect(where) as stream:
        status, body = request(stream, path, "Connection: close\r\n")
        while chunk := stream.recv(65536):
            body += chunk
    return status, body.decode().strip()


def open_websocket(path, port):
    stream = connect(port)
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    status, rest = request(stream, path, upgrade)
    if status != 101:
        raise ConnectionError(f"answered {status}")
    return stream, rest


def texts(stream, buffer):
    """The text frames until the connection ends. The server's frames are neither masked nor fragmented."""
    def need(count):
        nonlocal buffer
        while len(buffer) < count:
            chunk = stream.recv(65536)
            if not chunk:
                raise ConnectionError("ended")
            buffer += chunk
        taken, buffer = buffer[:count], buffer[count:]
        return taken

    while True:
        first, length = need(2)
        if length == 126:
            length, = struct.unpack(">H", need(2))
        elif length == 127:
            length, = struct.unpack(">Q", need(8))
        payload = need(length)
        if first & 15 == 8:
            return
        if first & 15 == 1:
            yield json.loads(payload)


def follow(path, port=None):
    position, epoch = "earliest", None
    while True:
        try:
            query = f"?since={position}" + (f"&epoch={epoch}" if epoch else "")
            stream, rest = open_websocket(path + query, port)
            with stream:
                for message in texts(stream, rest):
                    kind = message["type"]
                    if kind in ("hello", "reset"):
                        if epoch and epoch != message["epoch"]:
                            print("reset", flush=True)
                        epoch = message["epoch"]
                    elif kind == "live":
                        print("live", flush=True)
                    elif "event" in message:
                        position = message["event"]["id"]
                        print(position, flush=True)
        except OSError as error:
            print(f"reconnecting: {error}", file=sys.stderr, flush=True)
        time.sleep(0.05)


def knock():
    counts, lock, stop = collections.Counter(), threading.Lock(), threading.Event()

    def knocker():
        while not stop.is_set():
            begun = time.monotonic()
            try:
                outcome = str(get("/healthz")[0])
            except CutOff:
                outcome = "cut off"
            except OSError as error:
                outcome = f"{type(error).__name__}: {error}"
            with lock:
                counts[outcome] += 1
                counts["longest_ms"] = max(counts["longest_ms"], int(1000 * (time.monotonic() - begun)))
            time.sleep(0.002)

    threads = [threading.Thread(target=knocker) for _ in range(8)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(counts))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["follow", path, *port]:
            follow(path, *port)
        case ["knock"]:
            knock()
        case ["get", path, *where]:
            print(*get(path, *where))
        case _:
            sys.exit(__doc__)
