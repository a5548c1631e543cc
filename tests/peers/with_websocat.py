#!/usr/bin/env python3
"""websocat and curl as those who hold a token use them: each gets its own rows, live too, and is ended when it is revoked.

Run with a Python beside which websocat is installed.
"""

import contextlib
import json
import pathlib
import re
import sqlite3
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "docs"))

from harness import BINARY, PATIENCE, Daemon, Tests, place  # noqa: E402

tests = Tests()
test = tests.test
WEBSOCAT = pathlib.Path(sys.executable).parent / "websocat"


def token(here, verb, name, *grant):
    command = [BINARY, "token", verb, name, *grant, "--config", here / "walcast.toml"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout.strip()


def order(database, *customers):
    with contextlib.closing(sqlite3.connect(database, timeout=PATIENCE)) as db, db:
        db.executemany("INSERT INTO orders(customer) VALUES (?)", [(customer,) for customer in customers])


@contextlib.contextmanager
def shop():
    """A daemon with orders of two customers, and a token of acme's."""
    with place() as here:
        database = here / "events.db"
        (here / "walcast.toml").write_text(
            f'database = "{database}"\n[auth]\ntokens = "{here}/tokens.toml"\n[feeds.orders]\nscope = {{ customer = "claim:customer" }}\n'
        )
        with contextlib.closing(sqlite3.connect(database)) as db, db:
            db.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, customer TEXT)")
        order(database, "acme", "globex", "acme")
        made = token(here, "add", "acme", "--feed", "orders", "--where", "customer=acme")
        with Daemon(here, "--config", "walcast.toml") as walcast:
            yield here, walcast, made


def follows(here, walcast, *presented):
    """websocat is sent the rows of acme, those that come too, and the close when the token is revoked."""
    url = f"ws://127.0.0.1:{walcast.port}/ws/orders?since=earliest"
    command = ["timeout", str(PATIENCE), WEBSOCAT, "--exit-on-eof", *presented, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            frames = [json.loads(process.stdout.readline()) for _ in range(4)]
            assert [frame["type"] for frame in frames] == ["hello", "orders_event", "orders_event", "live"], frames
            assert [frame["event"]["id"] for frame in frames[1:3]] == [1, 3]
            order(walcast.database, "globex", "acme")
            assert json.loads(process.stdout.readline())["event"]["id"] == 5
            token(here, "revoke", "acme")
            assert process.stdout.readline() == "", "it ends with the token"
            assert process.wait(PATIENCE) == 0, "it is closed, not given up"
        finally:
            process.kill()


@test
def websocat_with_a_header():
    with shop() as (here, walcast, made):
        follows(here, walcast, f"--header=Authorization: Bearer {made}")


@test
def websocat_with_a_subprotocol():
    with shop() as (here, walcast, made):
        follows(here, walcast, "--protocol", f"walcast.v1, walcast.bearer.{made}")


@test
def curl():
    with shop() as (here, walcast, made):
        # From a file, so that the token is not in the list of processes.
        (here / "header").write_text(f"Authorization: Bearer {made}\n")

        def asked(path, *options):
            command = ["curl", "-sS", "--max-time", str(PATIENCE), *options, f"http://127.0.0.1:{walcast.port}{path}"]
            return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout

        own = json.loads(asked("/api/feeds/orders/events", "-H", f"@{here}/header"))
        assert [item["id"] for item in own["items"]] == [3, 1] and own["total"] == 2, own
        refused = json.loads(asked("/api/feeds/orders/events"))
        assert refused["error"]["code"] == "token_missing", refused
        command = ["curl", "-sSN", "--max-time", str(PATIENCE), "-H", f"@{here}/header", f"http://127.0.0.1:{walcast.port}/sse/orders?since=earliest"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
            try:
                ids = []
                while len(ids) < 2:
                    ids += [int(found) for found in re.findall(r'"event":\{"id":(\d+)', stream.stdout.readline())]
                assert ids == [1, 3], ids
                token(here, "revoke", "acme")
                assert any('"code":4501' in line for line in stream.stdout), "it is told why it ends"
                assert stream.wait(PATIENCE) == 0
            finally:
                stream.kill()


if __name__ == "__main__":
    tests.main()
