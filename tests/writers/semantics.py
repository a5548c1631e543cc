#!/usr/bin/env python3
"""Random histories of writes, by writers of other languages and other versions of SQLite, to captured tables: what each writer is
told is the same as without capture, so are the rows, and the log comes to them.

tests/writers/semantics.py [WORD...]   only tests whose name contains one of the words; HISTORIES=n of each kind
"""

import os
import shutil
import sqlite3
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
from drivers import Java, Node, Python, Shell, need, old_shell  # noqa: E402
from harness import BINARY, Tests, place  # noqa: E402
from histories import GARBLING, TABLES, History, capture_sql, check, remove_capture, schema  # noqa: E402

tests = Tests()
test = tests.test
HISTORIES = int(os.environ.get("HISTORIES", "3"))
STATEMENTS = 40


def prepare(folder, name, mode):
    """A file with the captured table, and its twin without."""
    table = TABLES[name]
    twin, captured = folder / "twin.db", folder / "captured.db"
    with sqlite3.connect(twin) as connection:
        connection.executescript(table.ddl)
    connection.close()
    shutil.copy(twin, captured)
    recorded = [column for column in table.columns if column not in table.key]
    arguments = ["--full"] if mode == "full" else ["--filter", recorded[0].strip('"').replace('""', '"')] if mode == "filters" else []
    connection = sqlite3.connect(captured)
    connection.executescript(capture_sql(BINARY, captured, *arguments))
    connection.close()
    return captured, twin, recorded


def histories_of(writer, seeds):
    for name, table in TABLES.items():
        if writer.version < table.since:
            continue
        for mode in table.modes:
            for seed in seeds:
                one_history(writer, name, mode, seed)


def one_history(writer, name, mode, seed):
    table = TABLES[name]
    with place() as folder:
        captured, twin, recorded = prepare(folder, name, mode)
        # Whether the disk has it all is no matter here, and to wait for that takes nine tenths of the time.
        pragmas = ["PRAGMA synchronous = OFF", f"PRAGMA recursive_triggers = {seed % 2}", *filter(None, [table.before])]
        if writer.version >= (3, 31):
            pragmas.append("PRAGMA trusted_schema = OFF")
        statements = pragmas + History(name, seed, writer.version).statements(STATEMENTS)
        try:
            said, alone = writer.outcomes(captured, statements), writer.outcomes(twin, statements)
            if writer.version < (3, 9) and is_garbled(alone + writer.outcomes(twin, ["PRAGMA integrity_check"])):
                return
            if writer.version < (3, 9) and "WITHOUT ROWID" in table.ddl:
                # Of the changes of such a table these versions do not always tell the number.
                said, alone = errors_of(said), errors_of(alone)
            # Without any trigger, REPLACE lets rows in that break a foreign key on their own table; with one it does not.
            if refusals(said) != refusals(alone):
                return
            assert said == alone, f"the writer is told otherwise:\n{first_difference(said, alone, statements)}"
            check(captured, twin, table, mode == "full", recorded)
            remove_capture(BINARY, captured)
            assert schema(captured) == schema(twin), "something is left of the capture"
        except AssertionError as error:
            script = ";\n".join(statements)
            raise AssertionError(f"{name}, {mode}, seed {seed}: {error}\n{script}") from error


def refusals(said):
    """What foreign keys refused, and where."""
    lines = enumerate(said.splitlines())
    # The shell gives errors with the numbers of their lines, after what it prints.
    return [line if "near line" in line else (n, line) for n, line in lines if "FOREIGN KEY" in line]


def errors_of(said):
    return "\n".join(line for line in said.splitlines() if line.startswith("Error"))


def first_difference(said, alone, statements):
    pairs = zip(said.splitlines(), alone.splitlines(), strict=False)
    return next((f"{n}: {a} | {b}" for n, (a, b) in enumerate(pairs) if a != b), "one ends early") + f"\nof {len(statements)}"


@test
def by_python():
    histories_of(Python(), range(HISTORIES))


@test
def by_the_sqlite3_shell():
    need("sqlite3")
    histories_of(Shell("sqlite3"), range(100, 100 + HISTORIES))


@test
def by_the_oldest_sqlite():
    histories_of(old_shell("3.8.2"), range(200, 200 + HISTORIES))


@test
def by_an_old_sqlite():
    histories_of(old_shell("3.8.6"), range(250, 250 + HISTORIES))


@test
def old_versions_garble_files_without_any_trigger():
    for version, script in GARBLING:
        said = old_shell(version).outcomes(":memory:", [script + "PRAGMA integrity_check"])
        assert is_garbled(said), f"{version}: {said}"


def is_garbled(said):
    return any(sign in said for sign in ("wrong # of entries", "out of order", "malformed", "ended by signal"))


@test
def by_better_sqlite3():
    histories_of(Node(), range(300, 300 + HISTORIES))


@test
def by_sqlite_jdbc():
    with Java() as java:
        histories_of(java, range(400, 400 + HISTORIES))


if __name__ == "__main__":
    tests.main()
