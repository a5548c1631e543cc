"""What the tests of the documentation stand on: its snippets, the real daemon, and a WebSocket client without packages."""

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = Path(os.environ.get("WALCAST_BIN", TARGET / "debug/walcast"))
# How long anything may take before a test fails: a bound for a busy machine, not a promise.
PATIENCE = 90
# A token of walcast's own, or a JWT, with its secret: no log tells one.
CREDENTIAL = re.compile(r"wct_[a-z0-9]{8}_[\w-]{16}|eyJ[\w-]*\.[\w-]+\.[\w-]{16}")

TABLE = """CREATE TABLE IF NOT EXISTS remediation_events(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL,
    alertname TEXT, tenant TEXT, action TEXT, status TEXT, details TEXT)"""


# --- tests


class Skipped(Exception):
    """Something that the test needs is not there; the text says what."""


class Tests:
    """The tests of one file; `test` adds one, `main` runs those whose name contains a word of the command line."""

    def __init__(self):
        self.functions = []

    def test(self, function):
        self.functions.append(function)
        return function

    def main(self):
        words = sys.argv[1:]
        passed = failed = skipped = 0
        for function in self.functions:
            name = function.__name__
            if words and not any(word in name for word in words):
                continue
            begun = time.monotonic()
            try:
                function()
            except Skipped as reason:
                skipped += 1
                print(f"SKIPPED {name}: {reason}")
            except Exception:
                failed += 1
                print(f"FAILED {name}\n{traceback.format_exc()}")
            else:
                passed += 1
                print(f"ok {name} ({time.monotonic() - begun:.1f} s)")
            sys.stdout.flush()
        print(f"{passed} passed, {failed} failed, {skipped} skipped")
        sys.exit(failed > 0)


def wait_until(what, condition):
    """Waits for a condition to give something true, and gives that."""
    end = time.monotonic() + PATIENCE
    while True:
        if found := condition():
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE} s until {what}")
        time.sleep(0.02)


# --- what is written


@dataclass(frozen=True)
class Snippet:
    file: str
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.file}:{self.line}"


def snippets(file):
    """The fenced blocks of a Markdown file."""
    found, language, begun, lines = [], None, 0, []
    for number, line in enumerate((ROOT / file).read_text().splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            language, begun, lines = line[3:].strip(), number, []
        else:
            found.append(Snippet(file, begun, language, "\n".join(lines) + "\n"))
            language = None
    return found


class Documentation:
    """All snippets, and which of them a test has asked for."""

    def __init__(self, *files):
        self.all = [snippet for file in files for snippet in snippets(file)]
        self.asked = set()

    def snippet(self, file, language, containing):
        """The one snippet of that language which contains a text."""
        found = [s for s in self.all if (s.file, s.language) == (file, language) and containing in s.text]
        assert len(found) == 1, f"{len(found)} {language} snippets of {file} contain {containing!r}"
        self.asked.add(found[0])
        return found[0].text

    @staticmethod
    def text(file):
        """The whole text of a file."""
        return (ROOT / file).read_text()


# --- the daemon


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Daemon:
    """The real daemon on a directory of its own."""

    # How it is asked; with `https` there is a `context` that says whom to believe.
    scheme, context = "http", None
    subcommand, host = "serve", "127.0.0.1"

    def __init__(self, place, *arguments, database="events.db", port=0, environment=None):
        self.place = Path(place)
        self.database = self.place / database
        self.arguments = arguments
        self.port = port
        self.environment = {**os.environ, **(environment or {})}
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, failure, *_):
        if failure:
            log = (self.place / "walcast.log").read_text(errors="replace")
            print(f"the daemon's log ends with:\n{log[-4000:]}")
        self.stop()

    def start(self):
        log = self.place / "walcast.log"
        command = [BINARY, self.subcommand, "--listen", f"{self.host}:{self.port}", "--state-dir", self.place / "state", *self.arguments]
        if "--config" not in self.arguments:
            command += ["--db", self.database]
        with open(log, "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.place, env=self.environment)

        def address():
            text = log.read_text(errors="replace")
            assert self.process.poll() is None, f"the daemon ended: {text}"
            return re.search(rf"{self.scheme}://{re.escape(self.host)}:(\d+)", text)

        self.port = int(wait_until("the daemon says its address", address)[1])
        wait_until("the daemon is ready", lambda: self.answers("/readyz") or self.answers("/healthz"))

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        log = (self.place / "walcast.log").read_text(errors="replace")
        assert not CREDENTIAL.search(log), f"a credential is in the log:\n{log}"

    def answers(self, path):
        try:
            return self.get(path)[0] == 200
        except OSError:
            return False

    def get(self, path, headers=()):
        return get(f"{self.scheme}://{self.host}:{self.port}{path}", headers, self.context)


def get(url, headers=(), context=None):
    """Status and text of an answer, whatever the status is."""
    request = urllib.request.Request(url, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


@contextlib.contextmanager
def place():
    with tempfile.TemporaryDirectory(prefix="walcast-docs-") as directory:
        yield Path(directory)


# --- sockets


class WebSocket:
    """A client that reads text frames. The daemon's frames are neither masked nor fragmented."""

    def __init__(self, port, path, host=None, origin=None, more=(), address="127.0.0.1"):
        self.stream = socket.create_connection((address, port), PATIENCE)
        key = base64.b64encode(os.urandom(16)).decode()
        headers = [f"GET {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", "Connection: Upgrade", "Upgrade: websocket"]
        headers += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        if origin:
            headers.append(f"Origin: {origin}")
        headers += [f"{name}: {value}" for name, value in dict(more).items()]
        self.stream.sendall(("\r\n".join(headers) + "\r\n\r\n").encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.status = int(head.split()[1])
        self.head = head.decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def cut(self):
        """Ends the connection for a thread that reads from it, too."""
        with contextlib.suppress(OSError):
            self.stream.shutdown(socket.SHUT_RDWR)

    def _more(self):
        chunk = self.stream.recv(65536)
        if not chunk:
            raise ConnectionError(f"ended after {self.buffer!r}")
        self.buffer += chunk

    def frame(self):
        """The next text frame, from JSON."""
        while True:
            frame, self.buffer = first_frame(self.buffer)
            if frame is None:
                self._more()
            elif frame[0] & 0x0F == 1:
                return json.loads(frame[1:])
            elif frame[0] & 0x0F == 8:
                raise ConnectionError(f"closed: {frame[1:]!r}")
            elif frame[0] & 0x0F == 9:
                # A pong; its mask is all zeros.
                self.stream.sendall(bytes([0x8A, 0x80 | len(frame) - 1, 0, 0, 0, 0]) + frame[1:])


def first_frame(data):
    """The first byte of a frame and its payload together, None while it is not whole, and what follows."""
    if len(data) < 2:
        return None, data
    length, begins = data[1] & 0x7F, 2
    if length > 125:
        size = 2 if length == 126 else 8
        length, begins = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
    if len(data) < begins + length:
        return None, data
    return data[:1] + data[begins : begins + length], data[begins + length :]


class Relay:
    """Passes connections on to the daemon. While `cuts` is above 0, a connection ends after the daemon's first frame; with
    `refuses` above 0 it is answered with 502, as by a proxy whose daemon is away."""

    def __init__(self, port):
        self.to = port
        self.cuts = self.refuses = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            if self.refuses > 0:
                self.refuses -= 1
                client.recv(65536)
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            server = socket.create_connection(("127.0.0.1", self.to), PATIENCE)
            with server:
                threading.Thread(target=pass_on, args=[client, server], daemon=True).start()
                server.settimeout(None)
                if self.cuts > 0:
                    self._first_frame(server, client)
                    self.cuts -= 1
                else:
                    pass_on(server, client)
                # Closing alone would wait for the thread that reads.
                client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _first_frame(server, client):
        data = b""
        while True:
            chunk = server.recv(65536)
            if not chunk:
                return
            data += chunk
            head, separator, frames = data.partition(b"\r\n\r\n")
            frame, rest = first_frame(frames)
            if separator and frame:
                client.sendall(data[: len(data) - len(rest)])
                return

    def close(self):
        self.listener.close()


def pass_on(source, sink):
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
