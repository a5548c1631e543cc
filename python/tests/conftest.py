"""The real daemon on a real file, and a real writer beside it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from readers import Take, take, take_async

ROOT = Path(__file__).parents[2]
SCHEMA = """CREATE TABLE IF NOT EXISTS remediation_events(id INTEGER PRIMARY KEY AUTOINCREMENT, ts TEXT NOT NULL,
    alertname TEXT, tenant TEXT, action TEXT, status TEXT, details TEXT)"""


def binary() -> str:
    named = os.environ.get("WALCAST_BIN")
    found = [named] if named else [ROOT / "target" / kind / "walcast" for kind in ("release", "debug")]
    for path in found:
        if Path(path).exists():
            return str(path)
    pytest.fail("no daemon: cargo build, or name one in WALCAST_BIN")


# A token of walcast's own, or a JWT, with its secret: no log tells one.
CREDENTIAL = re.compile(r"wct_[a-z0-9]{8}_[\w-]{16}|eyJ[\w-]*\.[\w-]+\.[\w-]{16}")


class Daemon:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "walcast.db"
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self.options: list[str] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/remediation"

    def start(self) -> None:
        """Starts it, on the same port as before where there was one, and waits for its address."""
        command = [binary(), "--db", str(self.database), "--listen", f"127.0.0.1:{self.port}"]
        command += ["--state-dir", str(self.directory / "state"), *self.options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=self.directory)
        assert self.process.stderr is not None
        log = ""
        for line in self.process.stderr:
            log += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        pytest.fail(f"the daemon ended: {log}")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            _, log = self.process.communicate()
            self.process = None
            assert not CREDENTIAL.search(log), f"a credential is in the log:\n{log}"

    def insert(self, *names: str, tenant: str = "acme", first: int | None = None) -> None:
        """Commits a row for each name, on a connection of its own; the first with this id, if one is given."""
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            connection.execute(SCHEMA)
            for offset, name in enumerate(names):
                row_id = None if first is None else first + offset
                connection.execute(
                    "INSERT INTO remediation_events(id, ts, alertname, tenant) VALUES (?, '2026-01-01', ?, ?)",
                    (row_id, name, tenant),
                )

    def remove_database(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)


class Guarded(Daemon):
    """One that asks for tokens."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.tokens = directory / "tokens.toml"
        configuration = directory / "walcast.toml"
        configuration.write_text(
            f'[auth]\ntokens = "{self.tokens}"\n[feeds.remediation]\ntable = "remediation_events"\n'
        )
        self.options = ["--config", str(configuration)]

    def token(self, name: str, *grant: str) -> str:
        """Makes a token that reads the feed."""
        return self.command("add", name, "--feed", "remediation", *grant)

    def command(self, verb: str, *arguments: str) -> str:
        """Runs `walcast token`; returns what it printed last."""
        command = [binary(), "token", verb, *arguments, "--tokens", str(self.tokens)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    daemon.start()
    yield daemon
    daemon.stop(signal.SIGKILL)


@pytest.fixture(params=[take, take_async], ids=["plain", "asyncio"])
def taking(request: pytest.FixtureRequest) -> Take:
    return request.param


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path)
    yield guarded
    guarded.stop(signal.SIGKILL)
