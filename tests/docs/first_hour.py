#!/usr/bin/env python3
"""The first hour of somebody new: from a fresh clone, with the commands that the README gives, to rows on a live page.

tests/docs/first_hour.py [WORD...]

What is committed is cloned. The build directory is the checkout's, so that this takes seconds; FIRST_HOUR=release builds as the
README says, otherwise without optimisation. Says how long it took from the clone to the first row on the page.
"""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from harness import PATIENCE, ROOT, TARGET, Documentation, Skipped, Tests, free_port, get, place, wait_until

tests = Tests()
test = tests.test
README = "README.md"
documentation = Documentation(README)
# A build of all there is, where nothing was built before.
BUILDING = 1800


class Newcomer:
    """A clone, and a shell in it. The port is another than the README's, since that may be taken."""

    # Where the clone is; one for all tests, so that it is built once.
    home = Path()

    def __init__(self):
        self.clone = self.home / "walcast"
        subprocess.run(["git", "clean", "-fdxq"], cwd=self.clone, check=True)
        self.port = free_port()
        self.environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET.resolve()), "WALCAST_LISTEN": f"127.0.0.1:{self.port}"}
        self.environment["WALCAST_STATE_DIR"] = str(self.clone / "state")
        self.url = f"http://127.0.0.1:{self.port}/"

    def command(self, line):
        line = re.sub(r"\s+# .*", "", line).replace("127.0.0.1:8010", f"127.0.0.1:{self.port}")
        if os.environ.get("FIRST_HOUR") != "release":
            line = line.replace("cargo run --release", "cargo run --quiet")
        return line

    def run(self, line):
        subprocess.run(self.command(line), shell=True, check=True, cwd=self.clone, env=self.environment, timeout=BUILDING)

    @contextlib.contextmanager
    def in_another_terminal(self, line, out=None):
        options = {"stdin": subprocess.DEVNULL, "stdout": out, "start_new_session": True}
        process = subprocess.Popen(self.command(line), shell=True, cwd=self.clone, env=self.environment, **options)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE)
            # What the shell or cargo started may take longer to end than they do.
            wait_until("all it started has ended", lambda: not is_group(process.pid))

    @contextlib.contextmanager
    def serving(self, line):
        with self.in_another_terminal(line) as process:
            end = time.monotonic() + BUILDING
            while not self.answers():
                assert process.poll() is None and time.monotonic() < end, f"{line} serves nothing"
                time.sleep(0.05)
            yield

    def answers(self):
        with contextlib.suppress(OSError):
            return get(f"{self.url}readyz")[0] == 200


def is_group(group):
    """Whether a process of this group is still there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Page:
    """The dashboard in a browser."""

    def __init__(self, newcomer):
        command = ["node", ROOT / "tests/browser/sees.mjs", newcomer.url]
        self.browser = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.stdin.close()
        self.browser.wait(PATIENCE)
        self.browser.stdout.close()

    def shows(self, text):
        self.browser.stdin.write(f"{text}\n")
        assert self.browser.stdout.readline() == f"{text}\n", f"the page does not show {text}"


def lines(containing):
    """The commands of the README's shell snippets that contain a text."""
    shells = [snippet for snippet in documentation.all if snippet.language == "sh"]
    return [line for snippet in shells for line in snippet.text.splitlines() if containing in line]


@test
def the_quick_start():
    serve = next(line for line in lines("cargo run --release") if "cargo run --release --" not in line)
    (watch,), (write,) = lines(" tail ws://"), lines(" emit ")
    writer = documentation.snippet(README, "python", "def record(")
    me = Newcomer()
    seen = me.home / "seen"
    with me.serving(serve), Page(me) as page:
        with open(seen, "w") as out, me.in_another_terminal(watch, out):
            wait_until("tail has subscribed", lambda: '"subscribers":2' in get(f"{me.url}api/feeds")[1].replace(" ", ""))
            me.run(write)
            wait_until("tail has shown the rows", lambda: len(seen.read_text().splitlines()) == 20)
            page.shows("20")
            print(f"from the clone to the first rows on the page: {time.monotonic() - cloned_at:.0f} s")
        call = 'record("OfMyOwn", "acme", "rotate", "success", "freed 3 GiB")'
        subprocess.run([sys.executable, "-c", writer + call], cwd=me.clone, check=True)
        page.shows("OfMyOwn")


def unseen(database):
    """A database that has nothing to do with walcast gets one more row; gives what stands in it."""
    customer = f"Customer {time.monotonic_ns()}"
    with contextlib.closing(sqlite3.connect(database)) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS orders(id INTEGER PRIMARY KEY, customer TEXT, state TEXT)")
        db.execute("INSERT INTO orders(customer, state) VALUES (?, 'new')", [customer])
    return customer


@test
def a_database_it_never_saw_by_configuration():
    serve = next(line for line in lines("cargo run --release") if "cargo run --release --" not in line)
    me = Newcomer()
    unseen(me.clone / "app.db")
    (me.clone / "walcast.toml").write_text('database = "app.db"\n\n[feeds.orders]\ntable = "orders"\n')
    with me.serving(f"{me.command(serve)} -- --config walcast.toml"), Page(me) as page:
        page.shows(unseen(me.clone / "app.db"))


@test
def a_database_it_never_saw_by_its_name():
    """In each way the README names."""
    ways = [each for each in lines("app.db") if re.search(r"(cargo run --release --|walcast) (serve )?app\.db", each)]
    if not ways:
        raise Skipped("the README names none")
    for line in ways:
        me = Newcomer()
        unseen(me.clone / "app.db")
        with me.serving(re.sub(r"^walcast(?= )", "cargo run --release --", line)), Page(me) as page:
            page.shows(unseen(me.clone / "app.db"))


if __name__ == "__main__":
    with place() as Newcomer.home:
        cloned_at = time.monotonic()
        subprocess.run(["git", "clone", "--quiet", ROOT, Newcomer.home / "walcast"], check=True)
        tests.main()
