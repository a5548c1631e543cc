"""What tests of migrations stand on: a captured table, a daemon that keeps it captured, and what became of both."""

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
from harness import BINARY, PATIENCE, Daemon, Skipped, snippets, wait_until  # noqa: E402


def tool(name):
    try:
        __import__(name)
    except ImportError as error:
        raise Skipped(f"{name} is not installed: run tests/writers/run") from error


def program(here, text, *arguments):
    """A program of its own, as a migration is."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text), *arguments], cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def write(database, sql):
    with sqlite3.connect(database, timeout=PATIENCE) as connection:
        connection.executescript(sql)
    connection.close()


def one(database, sql):
    connection = sqlite3.connect(database, timeout=PATIENCE)
    try:
        return connection.execute(sql).fetchone()[0]
    finally:
        connection.close()


def generation(database):
    return one(database, "SELECT generation FROM _walcast_capture")


def status(database):
    return subprocess.run([BINARY, "capture", "status", "--db", database], capture_output=True, text=True, check=False)


def whole_or_told(here, migrate):
    """Migrates while a daemon keeps the table captured, and writes before and after."""
    database = here / "events.db"
    (here / "walcast.toml").write_text(f'database = "{database}"\n[feeds.shop_order]\ncapture = "keys"\n')
    with Daemon(here, "--config", "walcast.toml"):
        before = generation(database)
        write(database, "INSERT INTO shop_order(note) VALUES ('before')")
        migrate()
        kept = status(database).returncode == 0 and generation(database) == before
        if kept:
            assert one(database, "SELECT count(*) FROM _walcast_shop_order WHERE op = 'c'") >= 1
        else:
            wait_until("it is captured anew", lambda: status(database).returncode == 0 and generation(database) != before)
        log = one(database, "SELECT count(*) FROM _walcast_shop_order")
        write(database, "INSERT INTO shop_order(note) VALUES ('after'); UPDATE shop_order SET note = 'later' WHERE note = 'after'")
        assert one(database, "SELECT count(*) FROM _walcast_shop_order") == log + 2
    return kept


def manual(containing, language="python"):
    """The one snippet of the manual that contains a text."""
    (found,) = [s.text for s in snippets("docs/capture.md") if s.language == language and containing in s.text]
    return found


def printed(here, install, remove):
    """The SQL as the manual has it printed. That of the removal is of a file in which the table is captured."""
    database = here / "events.db"
    capture = lambda *words: subprocess.run([BINARY, "capture", *words, "--db", database], check=True, capture_output=True, text=True).stdout  # noqa: E731
    (here / install).write_text(capture("install", "shop_order", "--print"))
    capture("install", "shop_order")
    (here / remove).write_text(capture("remove", "shop_order", "--print"))
    capture("remove", "shop_order")
