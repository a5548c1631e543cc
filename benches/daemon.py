"""A daemon that is measured, and sockets of its clients."""

import contextlib
import re
import resource
import socket
import subprocess
import tempfile
import time
from pathlib import Path


class Daemon:
    """A daemon in a directory of its own."""

    def __init__(self, walcast):
        self.walcast = walcast
        self.place = tempfile.TemporaryDirectory(prefix="walcast-bench-")
        self.here = Path(self.place.name)
        self.database = self.here / "events.db"
        # How its clients speak TLS, where they do.
        self.client = None

    def start(self, lines, port=0):
        """Starts it with these lines of configuration beside those that say where it is."""
        config, log = self.here / "walcast.toml", self.here / "log"
        config.write_text(f'database = "{self.database}"\nlisten = "127.0.0.1:{port}"\nstate_dir = "{self.here}/state"\n{lines}')
        with open(log, "wb") as out:
            self.process = subprocess.Popen([self.walcast, "serve", "--config", config], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        end = time.monotonic() + 30
        while not (found := re.search(r"https?://127\.0\.0\.1:(\d+)", log.read_text())):
            assert self.process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.01)
        self.port = int(found[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.place.cleanup()

    def upgraded(self, path, headers="", source=None):
        """A socket that has its upgrade, and the head of the answer. `source`: the address of loopback it comes from."""
        stream = socket.create_connection(("127.0.0.1", self.port), 30, source)
        if self.client:
            stream = self.client.wrap_socket(stream)
        stream.sendall(upgrade(path, self.port, headers))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stream.recv(4096)
        assert b" 101 " in head, head
        return stream, head

    def processes(self):
        """The ids of what is measured."""
        return [self.process.pid]

    def cpu(self):
        """Processor time of all its threads, seconds."""
        spent = 0
        for process in self.processes():
            for task in Path(f"/proc/{process}/task").glob("*/schedstat"):
                # A thread may have ended meanwhile.
                with contextlib.suppress(OSError):
                    spent += int(task.read_text().split()[0])
        return spent / 1e9

    def memory(self):
        """What it holds in memory, KiB, without what its processes share."""
        texts = [Path(f"/proc/{process}/smaps_rollup").read_text() for process in self.processes()]
        return sum(int(re.search(r"^Pss: +(\d+) kB", text, re.M)[1]) for text in texts)


def raise_descriptor_limit():
    """As many descriptors as this process, and those it starts, may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def source(number):
    """The address of loopback from which this client comes: one has not enough ports for all."""
    return (f"127.0.0.{2 + number % 200}", 0)


def upgrade(path, port, headers=""):
    """Bytes that ask for an upgrade to WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    ).encode()
