#!/usr/bin/env python3
"""The receivers of the manual, in Python and in Node, with the libraries of Standard Webhooks: they take what the daemon posts,
and nothing that was changed on its way.

Run with a Python that has standardwebhooks; `node` finds it beside this file.
"""

import os
import pathlib
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "docs"))

from harness import PATIENCE, Daemon, Documentation, Tests, free_port, place, wait_until  # noqa: E402

tests = Tests()
test = tests.test
PAGE = "docs/webhooks.md"
documentation = Documentation(PAGE)


class Receiver:
    """A receiver of the manual in a process of its own, which listens; `lines` are what it printed."""

    def __init__(self, command, here, port):
        self.errors = here / "receiver.errors"
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.port = port
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        self.lines.extend(line.rstrip("\n") for line in iter(self.process.stdout.readline, ""))

    def __enter__(self):
        # Before the daemon is started: that could be given the port which was free.
        wait_until("it listens", lambda: listens(self.port))
        return self

    def __exit__(self, failure, *_):
        self.process.kill()
        self.process.wait()
        if failure:
            print(f"the receiver printed {self.lines}, and {self.errors.read_text(errors='replace')!r}")


def listens(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def pays(here, *states):
    with sqlite3.connect(here / "shop.db", timeout=PATIENCE) as db:
        db.execute("CREATE TABLE IF NOT EXISTS orders(id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT)")
        db.executemany("INSERT INTO orders(state) VALUES (?)", [(state,) for state in states])
    db.close()


def forged(port):
    """The answer to what somebody else posts."""
    head = {"webhook-id": "e:1", "webhook-timestamp": "1700000000", "webhook-signature": "v1,AAAA"}
    body = b'{"feed":"orders","epoch":"e","rows":[{"type":"orders_event","event":{"id":99}}]}'
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/walcast", body, head), timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def takes_what_is_posted(start):
    """`start` writes a receiver that listens on a port, and gives the command that runs it."""
    with place() as here:
        port = free_port()
        make = next(line for line in documentation.snippet(PAGE, "sh", "whsec_").splitlines() if "whsec_" in line)
        subprocess.run(make, shell=True, check=True, cwd=here, timeout=PATIENCE)
        (here / "walcast.toml").write_text(documentation.snippet(PAGE, "toml", "[sinks.billing]").replace(":9000", f":{port}"))
        command = start(here, port)
        with Receiver(command, here, port) as receiver, Daemon(here, "--config", "walcast.toml"):
            pays(here, "new", "paid", "new", "paid")
            wait_until("the paid ones came", lambda: len(receiver.lines) == 2)
            assert forged(port) == 401
            pays(here, "paid")
            wait_until("one more came", lambda: len(receiver.lines) == 3)
            assert receiver.lines == ["order 2 is paid", "order 4 is paid", "order 5 is paid"], receiver.lines


@test
def python():
    def start(here, port):
        (here / "receiver.py").write_text(documentation.snippet(PAGE, "python", "reached = {}").replace("9000", str(port)))
        return [sys.executable, "receiver.py"]

    takes_what_is_posted(start)


@test
def node():
    # Beside its packages, or it would not find them.
    file = HERE / f".receiver-{os.getpid()}.mjs"

    def start(here, port):
        file.write_text(documentation.snippet(PAGE, "js", "new Webhook(").replace("9000", str(port)))
        return ["node", str(file)]

    try:
        takes_what_is_posted(start)
    finally:
        file.unlink(missing_ok=True)


@test
def python_of_changes():
    table = ['r {"id": 2}: 1 held', 'r {"id": 3}: 2 held']
    changes = ['u {"id": 1}: 3 held', 'd {"id": 2}: 2 held', 'd {"id": 3}: 1 held']
    with place() as here:
        port = free_port()
        make = next(line for line in documentation.snippet(PAGE, "sh", "whsec_").splitlines() if "whsec_" in line)
        subprocess.run(make, shell=True, check=True, cwd=here, timeout=PATIENCE)
        text = documentation.snippet(PAGE, "toml", "[sinks.billing]").replace(":9000", f":{port}")
        recorded = '[feeds.orders]\ncapture = "keys"\ncapture_filters = ["state"]\n'
        (here / "walcast.toml").write_text(text.replace("[feeds.orders]\n", recorded).replace("where", 'since = "earliest"\nwhere'))
        receiver = documentation.snippet(PAGE, "python", "orders.clear()")
        (here / "receiver.py").write_text(receiver.replace("9000", str(port)))
        pays(here, "new", "paid", "paid")
        with Receiver([sys.executable, "receiver.py"], here, port) as receiver, Daemon(here, "--config", "walcast.toml"):
            wait_until("the table came", lambda: in_order(table, receiver.lines))
            with sqlite3.connect(here / "shop.db", timeout=PATIENCE) as db:
                db.execute("UPDATE orders SET state = 'paid' WHERE id = 1")
                db.execute("UPDATE orders SET state = 'refunded' WHERE id = 2")
                db.execute("DELETE FROM orders WHERE id = 3")
            db.close()
            wait_until("the changes came", lambda: in_order(table + changes, receiver.lines))
            assert receiver.lines[-1] == changes[-1], receiver.lines


def in_order(wanted, lines):
    """Returns whether the lines hold the wanted ones in this order: what was not answered in time is posted again."""
    rest = iter(lines)
    return all(line in rest for line in wanted)


@test
def what_is_posted_looks_as_the_manual_shows():
    """The body that is shown, word for word but for the epoch."""
    import http.server

    bodies = []

    class Keeps(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Keeps)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with place() as here:
        make = next(line for line in documentation.snippet(PAGE, "sh", "whsec_").splitlines() if "whsec_" in line)
        subprocess.run(make, shell=True, check=True, cwd=here, timeout=PATIENCE)
        text = documentation.snippet(PAGE, "toml", "[sinks.billing]").replace(":9000", f":{server.server_port}")
        (here / "walcast.toml").write_text(text.replace("where", 'since = "earliest"\nwhere'))
        with sqlite3.connect(here / "shop.db") as db:
            db.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT)")
            db.execute("INSERT INTO orders VALUES (41, 'paid'), (42, 'new'), (43, 'paid')")
        db.close()
        with Daemon(here, "--config", "walcast.toml"):
            wait_until("it was posted", lambda: bodies)
    shown = documentation.snippet(PAGE, "json", '"rows"').strip()
    assert re.sub(r'"epoch":"[^"]*"', "", bodies[0]) == re.sub(r'"epoch":"[^"]*"', "", shown), bodies[0]
    server.shutdown()


if __name__ == "__main__":
    tests.main()
