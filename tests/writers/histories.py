"""Random histories of writes to captured tables, as SQL that any writer can run, and what their logs must come to."""

import json
import random
import sqlite3
import subprocess
from dataclasses import dataclass

VALUES = ["NULL", "1", "2", "3", "'a'", "'A'", "'b'", "x'00ff'", "1.5", "'it''s'"]
KEYS = ["1", "2", "3", "4", "'a'", "'A'", "'b'", "1.0", "NULL"]
# Of an integer primary key no text: where a later row of an INSERT OR IGNORE has one, SQLite keeps the earlier ones only if the table
# has no trigger at all.
IDS = ["1", "2", "3", "4", "1.0", "NULL"]
# What old versions do to a file by themselves, without any capture: they garble it. Histories leave the first two out; where the third comes
# about, there is nothing to be compared.
GARBLING = [
    # The entry of a row that leaves a partial index stays in it.
    (
        "3.8.2",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); CREATE UNIQUE INDEX u ON t(a) WHERE b = 1; INSERT INTO t VALUES (1, 'x', 1);"
        "UPDATE OR REPLACE t SET b = 2;",
    ),
    # A rowid is given to two rows where an INSERT of several has one without and then one with it.
    ("3.8.6", "CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'x'); INSERT INTO t VALUES (NULL, 'y'), (2, 'z');"),
    # And where a trigger on a row that REPLACE deletes inserts another one.
    *(
        (
            version,
            "PRAGMA recursive_triggers = 1; CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE);"
            "CREATE TRIGGER again AFTER DELETE ON t BEGIN INSERT INTO t(a) VALUES ('again'); END;"
            "INSERT INTO t VALUES (1, 'x'), (2, 'y'); REPLACE INTO t VALUES (2, 'z');",
        )
        for version in ("3.8.2", "3.8.6")
    ),
]
OR = ["", "", "OR REPLACE", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ROLLBACK", "OR ABORT"]


@dataclass(frozen=True)
class Table:
    """A table to be written to, under the name t."""

    ddl: str
    columns: tuple
    key: tuple
    # The first SQLite that knows all that the table is made of.
    since: tuple = (3, 8, 2)
    before: str = ""
    # What ON CONFLICT may name.
    targets: tuple = ()
    modes: tuple = ("keys", "filters", "full")
    # Statements on other tables that change this one, each with places for values.
    others: tuple = ()


TABLES = {
    "integer": Table("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c)", ("id", "a", "b", "c"), ("id",), targets=("id",)),
    "unique": Table("CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b, c, UNIQUE(b, c))", ("id", "a", "b", "c"), ("id",), targets=("id", "a", "b, c")),
    "text": Table("CREATE TABLE t(k TEXT PRIMARY KEY COLLATE NOCASE, a UNIQUE COLLATE NOCASE, b)", ("k", "a", "b"), ("k",), targets=("k", "a")),
    "untyped": Table("CREATE TABLE t(k PRIMARY KEY, a, b)", ("k", "a", "b"), ("k",), targets=("k",)),
    # Its first version, 3.8.2, hands triggers the values of such a table before their types are applied.
    "without_rowid": Table(
        "CREATE TABLE t(a TEXT, k INT, b UNIQUE, c, PRIMARY KEY (k, a)) WITHOUT ROWID", ("k", "a", "b", "c"), ("k", "a"), since=(3, 8, 3), targets=("k, a", "b")
    ),
    "defaults": Table("CREATE TABLE t(id INTEGER PRIMARY KEY, a NOT NULL DEFAULT 'a' UNIQUE, b)", ("id", "a", "b"), ("id",), targets=("id", "a")),
    "clauses": Table("CREATE TABLE t(id INTEGER PRIMARY KEY ON CONFLICT REPLACE, a UNIQUE ON CONFLICT REPLACE, b)", ("id", "a", "b"), ("id",)),
    # 3.8.2 garbles the index, see GARBLING.
    "partial": Table(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c); CREATE UNIQUE INDEX u ON t(a) WHERE b = 1", ("id", "a", "b", "c"), ("id",), since=(3, 8, 3)
    ),
    "expression": Table(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b, c); CREATE UNIQUE INDEX u ON t(lower(a), b)", ("id", "a", "b", "c"), ("id",), since=(3, 9)
    ),
    "generated": Table(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b, g TEXT AS (a || '-' || b) STORED UNIQUE)", ("id", "a", "b"), ("id",), since=(3, 31)
    ),
    "cascades": Table(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b INT REFERENCES t(id) ON DELETE CASCADE)",
        ("id", "a", "b"),
        ("id",),
        before="PRAGMA foreign_keys = ON",
        targets=("id", "a"),
    ),
    "moving": Table(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b INT REFERENCES t(id) ON DELETE SET NULL ON UPDATE CASCADE)",
        ("id", "a", "b"),
        ("id",),
        before="PRAGMA foreign_keys = ON",
        targets=("id", "a"),
        modes=("keys", "filters"),
    ),
    "triggers": Table(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b); CREATE TRIGGER mine AFTER INSERT ON t BEGIN UPDATE t SET b = 'seen' WHERE id = NEW.id; END;"
        "CREATE TRIGGER other AFTER DELETE ON t WHEN OLD.a = 'b' BEGIN INSERT OR IGNORE INTO t(a, b) VALUES ('again', 1); END",
        ("id", "a", "b"),
        ("id",),
        targets=("id", "a"),
    ),
    "children": Table(
        "CREATE TABLE p(k INT PRIMARY KEY, n); INSERT INTO p VALUES (1, 'a'), (2, 'b'), (3, 'c');"
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT REFERENCES p(k) ON DELETE CASCADE ON UPDATE CASCADE, b UNIQUE, "
        "c INT REFERENCES p(k) ON DELETE SET NULL ON UPDATE SET NULL)",
        ("id", "a", "b", "c"),
        ("id",),
        before="PRAGMA foreign_keys = ON",
        targets=("id", "b"),
        others=(
            "DELETE FROM p WHERE k = {}",
            "UPDATE OR IGNORE p SET k = {} WHERE k = {}",
            "INSERT OR REPLACE INTO p VALUES ({}, 'again')",
        ),
    ),
    "filled by triggers": Table(
        "CREATE TABLE p(k INT PRIMARY KEY, n); CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b);"
        "CREATE TRIGGER filled AFTER INSERT ON p BEGIN INSERT OR REPLACE INTO t(a, b) VALUES (NEW.k, NEW.n); END;"
        "CREATE TRIGGER emptied AFTER DELETE ON p BEGIN DELETE FROM t WHERE a = OLD.k; UPDATE OR IGNORE t SET b = OLD.n; END",
        ("id", "a", "b"),
        ("id",),
        targets=("id", "a"),
        others=("DELETE FROM p WHERE k = {}", "INSERT OR REPLACE INTO p VALUES ({}, {})", "INSERT INTO p SELECT id, b FROM t WHERE id <> {}"),
    ),
    "odd names": Table(
        'CREATE TABLE t("or\'der" INTEGER PRIMARY KEY, "a b" UNIQUE, "d""q", "é")', ('"or\'der"', '"a b"', '"d""q"', '"é"'), ('"or\'der"',), targets=('"a b"',)
    ),
}


class History:
    """Statements that are the same for the same seed."""

    def __init__(self, name, seed, version):
        self.table = TABLES[name]
        self.random = random.Random(f"{name} {seed}")
        self.version = version
        self.depth = 0

    def value(self, column):
        if column not in self.table.key:
            return self.random.choice(VALUES)
        return self.random.choice(IDS if "INTEGER PRIMARY KEY" in self.table.ddl else KEYS)

    def row(self):
        return "(" + ", ".join(self.value(column) for column in self.table.columns) + ")"

    def where(self):
        column = self.random.choice(self.table.columns)
        return self.random.choice([f"WHERE {column} = {self.value(column)}", f"WHERE {column} IS NOT {self.value(column)}", ""])

    def insert(self):
        rows = "VALUES " + ", ".join(self.row() for _ in range(self.random.choice(self.counts())))
        columns = ", ".join(self.table.columns)
        if self.random.random() < 0.1:
            # Read first: of a table that is written to while it is read, the order of rows may depend on there being a trigger.
            rows = f"SELECT {columns} FROM t {self.where()} ORDER BY {columns} LIMIT 2"
        either = self.random.choice(OR)
        sql = f"INSERT {either} INTO t({columns}) {rows}"
        if not either and self.table.targets and self.version >= (3, 24) and self.random.random() < 0.5:
            target = self.random.choice(self.table.targets)
            where = " WHERE 1" if "SELECT" in rows and "WHERE" not in rows else ""
            sql = sql.replace(" ORDER BY", f"{where} ORDER BY")
            sql += f" ON CONFLICT({target}) DO " + self.random.choice(["NOTHING", f"UPDATE SET {self.assignments()}"])
        return sql + self.returning()

    def counts(self):
        """Of 3.8.6 see GARBLING."""
        return [1] if self.version == (3, 8, 6) else [1, 1, 2, 3]

    def returning(self):
        is_asked = self.version >= (3, 35) and self.random.random() < 0.1
        return f" RETURNING {self.random.choice(self.table.columns)}" if is_asked else ""

    def assignments(self):
        columns = self.random.sample(self.table.columns, self.random.choice([1, 1, 2]))
        return ", ".join(f"{column} = {self.value(column)}" for column in columns)

    def update(self):
        # Of several rows for one, which is taken is not said.
        values = "FROM (SELECT 1 AS one) " if self.version >= (3, 33) and self.random.random() < 0.1 else ""
        return f"UPDATE {self.random.choice(OR)} t SET {self.assignments()} {values}{self.where()}{self.returning()}"

    def delete(self):
        return f"DELETE FROM t {self.where()}{self.returning()}"

    def other(self):
        if not self.table.others:
            return self.update()
        sql = self.random.choice(self.table.others)
        return sql.format(*(self.random.choice(["1", "2", "3", "4"]) for _ in range(sql.count("{}"))))

    def transaction(self):
        if self.depth == 0:
            self.depth = 1
            return "SAVEPOINT s"
        end = self.random.choice(["RELEASE s", "ROLLBACK", "ROLLBACK TO s"])
        self.depth = int(end == "ROLLBACK TO s")
        return end

    def statements(self, count):
        kinds = [self.insert] * 6 + [self.update] * 4 + [self.delete] * 2 + [self.transaction] * 2 + [self.other] * 2
        return [self.random.choice(kinds)() for _ in range(count)]


def capture_sql(binary, database, *arguments):
    """The statements that `walcast capture install --print` gives."""
    run = subprocess.run(
        [binary, "capture", "install", "--db", database, "t", "--print", *arguments], check=True, capture_output=True, text=True
    )
    return run.stdout


def remove_capture(binary, database):
    subprocess.run([binary, "capture", "remove", "--db", database, "t"], check=True, capture_output=True)


def schema(database):
    connection = sqlite3.connect(database)
    try:
        return connection.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY rowid").fetchall()
    finally:
        connection.close()


def rows(connection, table, columns):
    """The rows by key, each value with its type, for 1 and 1.0 are equal in Python."""
    wanted = ", ".join(f"quote({column})" for column in columns)
    return connection.execute(f"SELECT {wanted} FROM {table}").fetchall()


def folded(connection, table, is_full, recorded):
    """What whoever applies the log to an empty table holds: the row of each key, or None where only keys are logged. Every old value
    that the log tells must be the one that is held."""
    keys = len(table.key)
    names = [f"k{n}" for n in range(keys)] + [f"old_k{n}" for n in range(keys)]
    kept = [name.strip('"').replace('""', '"') for name in recorded]
    if is_full:
        names += [quoted(f"before:{name}") for name in kept] + [quoted(f"after:{name}") for name in kept]
    held = {}
    columns = ", ".join(f"quote({name})" for name in names)
    log = connection.execute(f"SELECT op, moved, {columns} FROM _walcast_t ORDER BY seq").fetchall()
    for op, moved, *values in log:
        key, old_key = tuple(values[:keys]), tuple(values[keys : 2 * keys])
        before, after = values[2 * keys : 2 * keys + len(kept)], values[2 * keys + len(kept) :]
        assert op in "cud", op
        if op != "c":
            was = held.pop(old_key if moved else key, None)
            # What is held under a NULL is held under a key that several rows may have.
            if is_full and "NULL" not in key + old_key[: keys * bool(moved)]:
                assert was == before, (op, key, was, before)
        elif is_full and "NULL" not in key:
            assert key not in held, (op, key, held[key])
        if op != "d":
            held[key] = after if is_full else None
    return held


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def check(captured, twin, table, is_full, recorded):
    """The captured table is as its twin without capture, and its log comes to what it holds."""
    captured, twin = sqlite3.connect(captured), sqlite3.connect(twin)
    columns = (*table.key, *recorded)
    there = rows(captured, "t", columns)
    assert sorted(there) == sorted(rows(twin, "t", columns)), "the captured table holds other rows than it would without"
    held = folded(captured, table, is_full, recorded)
    keys = len(table.key)
    expected = {tuple(row[:keys]): list(row[keys:]) if is_full else None for row in there}
    without_null = lambda rows: {key: row for key, row in rows.items() if "NULL" not in key}  # noqa: E731
    if without_null(held) != without_null(expected):
        log = captured.execute("SELECT * FROM _walcast_t ORDER BY seq").fetchall()
        raise AssertionError(json.dumps({"held": str(held), "expected": str(expected), "log": str(log[-30:])}, indent=1))
